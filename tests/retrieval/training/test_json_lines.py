"""Lines of JSON: an object, or an error that says where and what to do."""

import pytest

from common import DataError
from retrieval.training.json_lines import parse_object


@pytest.mark.parametrize("line", ['{"é": [1, null]}\n', '{"é": [1, null]}'.encode()])
def test_a_line_holds_an_object(line):
    assert parse_object(line, "a.jsonl:1", "give another") == {"é": [1, None]}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "is no JSON"),
        (b"\xff{}", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ("", "is no JSON"),
        ("[]", "is no object"),
    ],
    ids=["cut", "no UTF-8", "deep", "empty", "list"],
)
def test_what_is_none_is_told_with_its_place_and_the_next_step(line, reason):
    with pytest.raises(DataError, match=rf"^a\.jsonl:3: {reason}.*; give another$"):
        parse_object(line, "a.jsonl:3", "give another")
