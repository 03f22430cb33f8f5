"""Sentences of Coq are found as Coq finds them."""

from pathlib import Path

import pytest

from generator.environments.coq.sentences import (
    OpenTextError,
    Sentence,
    offset_of,
    position_of,
    split_sentences,
)

PROJECT = Path(__file__).parents[3] / "fixtures" / "coq_project" / "theories"


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("", []),
        (" (* nothing. *) \n", []),
        ("Qed.", ["Qed."]),
        ("apply x.1. auto.", ["apply x.1.", "auto."]),
        ("rewrite p.(fst).\nauto.", ["rewrite p.(fst).", "auto."]),
        ("auto...\nauto.", ["auto...", "auto."]),
        (
            'Notation "{ x , .. , y }" := (a x .. (a y b) ..). A.',
            ['Notation "{ x , .. , y }" := (a x .. (a y b) ..).', "A."],
        ),
        ("- auto. -- auto. + { auto. } * auto.", ["-", "auto.", "--", "auto.", "+", "{", "auto.", "}", "*", "auto."]),
        ("2: { auto. } [x]:{ auto. }", ["2: {", "auto.", "}", "[x]:{", "auto.", "}"]),
        ("2: auto. all:auto.", ["2: auto.", "all:auto."]),
        ('f "a. ""b. (*". g.', ['f "a. ""b. (*".', "g."]),
        ('(* "*)" still. *) g (* a (* b. *) . *).', ["g (* a (* b. *) . *)."]),
        ("forall x.\tP.\r\nQ.", ["forall x.", "P.", "Q."]),
        ("Lemma größer : α.β. Qed.", ["Lemma größer : α.β.", "Qed."]),
    ],
    ids=range(14),
)
def test_sentences_end_where_coq_ends_them(text: str, sentences: list[str]) -> None:
    found = split_sentences(text)
    assert [each.text for each in found] == sentences
    assert all(text[each.start : each.end] == each.text for each in found)


@pytest.mark.parametrize(
    "text", ["auto", "auto. (* a", 'auto "a.', '(* "a *) auto.', "a. (* (* *) b.", "x ..", "auto.a"]
)
def test_what_does_not_end_is_an_error_that_says_where(text: str) -> None:
    with pytest.raises(OpenTextError, match=r"line 1, column \d+"):
        split_sentences(text)


def test_a_whole_file() -> None:
    text = (PROJECT / "Basics.v").read_text(encoding="utf-8")
    sentences = split_sentences(text)
    first = 'Ltac text := idtac "a. b ""c."" (*".'
    start = text.index(first)
    assert sentences[0] == Sentence(start, start + len(first), first)
    assert sentences[-1].text == "Proof (fun e => eq_sym e)."
    assert sum(each.text == "Qed." for each in sentences) == text.count("Qed.")


def test_positions_count_code_points_from_one() -> None:
    text = "αβ.\nγ x.\n"
    for offset in range(len(text) + 1):
        assert offset_of(text, position_of(text, offset)) == offset
    assert position_of(text, text.index("x")) == (2, 3)
    assert offset_of(text, (5, 1)) is None and offset_of(text, (1, 0)) is None and offset_of(text, (3, 9)) is None
