"""The shape of prefix words, as sympy's reader has it, without sympy."""

from __future__ import annotations

import random
import re

import pytest

from generator.domains.base import MalformedError
from generator.domains.symbolic.prefix import to_expression
from generator.domains.symbolic.vocabulary import WORDS
from generator.domains.symbolic.words import check_words, normal


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "there are no words"),
        ("add x", "operands that are missing: 1"),
        ("mul add x", "operands that are missing: 2"),
        ("x x", "ends with word 1, and 1 more follow"),
        ("INT+", "no digits follow 'INT+'"),
        ("add INT- x", "no digits follow 'INT-'"),
        ("add 3 x", "'3' cannot stand here"),
        ("add x INT+ 1 2 3 x", "ends with word 6"),
        ("<s>", "'<s>' cannot stand here"),
        ("__import__('os')", "none of the 91 words"),
    ],
)
def test_what_is_wrong_is_named(text: str, reason: str) -> None:
    with pytest.raises(MalformedError, match=re.escape(reason)):
        check_words(text.split())


def test_it_agrees_with_the_reader_of_expressions() -> None:
    """A few words at random: what one refuses for its shape, the other does."""
    rng = random.Random(0)
    words = [word for word in WORDS if not word.startswith("<")]
    num_whole = 0
    for _ in range(4000):
        drawn = [rng.choice(["x", "add", "INT+", "1", "sin", rng.choice(words)]) for _ in range(rng.randint(1, 6))]
        try:
            check_words(drawn)
        except MalformedError:
            with pytest.raises(MalformedError):
                to_expression(drawn)
        else:
            num_whole += 1
            try:
                to_expression(drawn)
            except MalformedError as error:
                assert "makes no sense" in str(error) or "bits" in str(error), drawn
    assert num_whole > 200


def test_spaces_are_made_single() -> None:
    assert normal("  add x\t x\n") == "add x x"
