"""Formulas print as Lean prints them and read back as themselves."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generator.environments.propositional.formulas import (
    FALSE,
    TRUE,
    And,
    Atom,
    Formula,
    Iff,
    Implies,
    Not,
    Or,
    atoms,
    parse_formula,
    size,
    substitute,
    unfold_all,
)
from generator.environments.propositional.syntax import SyntaxProblem

p, q, r = Atom("p"), Atom("q"), Atom("r")


def _compound(inner: st.SearchStrategy[Formula]) -> st.SearchStrategy[Formula]:
    binary = st.sampled_from([And, Or, Implies, Iff])
    return st.builds(Not, inner) | st.builds(lambda kind, left, right: kind(left, right), binary, inner, inner)


formulas = st.recursive(st.sampled_from([p, q, r, TRUE, FALSE]), _compound, max_leaves=10)


@given(formulas)
def test_a_printed_formula_reads_back(formula: Formula) -> None:
    assert parse_formula(str(formula)) == formula


@pytest.mark.parametrize(
    ("formula", "text"),
    [
        (And(p, And(q, r)), "p ∧ q ∧ r"),
        (And(And(p, q), r), "(p ∧ q) ∧ r"),
        (Or(Or(p, q), r), "(p ∨ q) ∨ r"),
        (Implies(p, Implies(q, r)), "p → q → r"),
        (Implies(Implies(p, q), r), "(p → q) → r"),
        (Implies(Or(p, q), r), "p ∨ q → r"),
        (Or(p, Implies(q, r)), "p ∨ (q → r)"),
        (Or(And(p, q), r), "p ∧ q ∨ r"),
        (And(p, Or(q, r)), "p ∧ (q ∨ r)"),
        (And(Not(p), q), "¬p ∧ q"),
        (Not(And(p, q)), "¬(p ∧ q)"),
        (Not(Not(p)), "¬¬p"),
        (Not(Implies(p, FALSE)), "¬(p → False)"),
        (Implies(Not(p), TRUE), "¬p → True"),
        (Iff(p, And(q, r)), "p ↔ q ∧ r"),
        (Iff(Iff(p, q), r), "(p ↔ q) ↔ r"),
        (Iff(p, Iff(q, r)), "p ↔ (q ↔ r)"),
        (Iff(Implies(p, q), r), "p → q ↔ r"),
        (Implies(p, Iff(q, r)), "p → (q ↔ r)"),
    ],
)
def test_parentheses_stand_where_lean_puts_them(formula: Formula, text: str) -> None:
    assert str(formula) == text


def test_extra_parentheses_and_spaces_are_read() -> None:
    assert parse_formula(" ((p)∧(¬ q)) ") == And(p, Not(q))


@pytest.mark.parametrize(
    "text", ["", "p q", "p ∧", "(p", "p)", "p ↔ q ↔ r", "∧ p", "p = q", "h.1", "fun", "Prop", "p\n∧ q", "∀ p, p"]
)
def test_what_is_not_a_formula_is_refused(text: str) -> None:
    with pytest.raises(SyntaxProblem):
        parse_formula(text)


def test_equal_parts_under_different_connectives_differ() -> None:
    assert len({And(p, q), Or(p, q), Implies(p, q), Iff(p, q), And(p, q)}) == 4


def test_substitution_is_simultaneous() -> None:
    assert substitute(And(p, Not(q)), {"p": q, "q": p}) == And(q, Not(p))


def test_negation_is_implication_of_false() -> None:
    assert unfold_all(And(Not(p), Not(Not(q)))) == And(Implies(p, FALSE), Implies(Implies(q, FALSE), FALSE))


def test_atoms_come_from_left_to_right_and_size_counts_everything() -> None:
    formula = parse_formula("q ∧ ¬p → q ∨ True")
    assert list(atoms(formula)) == ["q", "p", "q"]
    assert size(formula) == 8
