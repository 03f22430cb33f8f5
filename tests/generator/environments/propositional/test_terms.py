"""Terms read and print."""

import pytest

from generator.environments.propositional.syntax import SyntaxProblem, TokenReader
from generator.environments.propositional.terms import (
    Apply,
    Field,
    Lambda,
    Name,
    Term,
    contains_hole,
    print_term,
    read_term,
)


def parse_term(text: str) -> Term:
    reader = TokenReader(text)
    term = read_term(reader)
    reader.expect_end()
    return term


@pytest.mark.parametrize(
    "text",
    [
        "h",
        "h.1",
        "h.1.2",
        "(h x).mp",
        "or_comm.mp h",
        "And.intro h.1 (f h.2)",
        "⟨a, b, fun x => x⟩",
        "⟨⟩",
        "fun x _ => Or.inl (g x)",
        "Or.elim h (fun x => Or.inr x) Or.inl",
        "Iff.refl _",
        "⟨?_, ?_⟩",
        "not_and'.mp h₁",
        "True.intro",
    ],
)
def test_a_term_prints_as_it_was_written(text: str) -> None:
    assert print_term(parse_term(text)) == text


def test_structure_of_applications_and_fields() -> None:
    assert parse_term("f (g x) h.1") == Apply(Name("f"), (Apply(Name("g"), (Name("x"),)), Field(Name("h"), "1")))
    assert parse_term("h.mp.foo") == Name("h.mp.foo")
    assert parse_term("fun x y => x") == Lambda(("x", "y"), Name("x"))


@pytest.mark.parametrize(
    "text",
    ["", "f .1", "h.3", "h.12", "f fun x => x", "(h", "⟨a b, ⟩", "fun => x", "h with", "?_x", "a ∧ b", "by simp"],
)
def test_what_is_not_a_term_is_refused(text: str) -> None:
    with pytest.raises(SyntaxProblem):
        parse_term(text)


def test_holes_are_found_everywhere() -> None:
    assert all(map(contains_hole, map(parse_term, ["?_", "⟨h, ?_⟩", "f (g ?_)", "fun x => ?_", "(f ?_).1"])))
    assert not contains_hole(parse_term("fun x => ⟨x, f _⟩"))
