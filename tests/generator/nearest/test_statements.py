"""Lemmas and hypotheses are read as what they bind and what they conclude, in Coq's writing and in Lean's."""

from __future__ import annotations

import pytest

from generator.nearest.statements import KINDS, kind_of, number_bound, read, stated, stated_type, tokens


@pytest.mark.parametrize(
    ("code", "bound", "conclusion"),
    [
        ("Lemma add_comm : forall n m, n + m = m + n.", "n m", "n + m = m + n"),
        ("Lemma add_comm (n m : nat) {k} : n + m = m + n.", "n m k", "n + m = m + n"),
        ("Theorem le (x:R) : forall y:R, x <= y -> (y <= x -> x = y).", "x y", "x = y"),
        ("#[local]\nDefinition even n m : Even (n * m) -> Even m := fun H => H.", "n m", "Even m"),
        ("Lemma find `(E : Eq A) x : forall y,\n (find x y <-> x = y)%nat. (* said *)", "E x y", "find x y <-> x = y"),
        ("theorem add_comm (a b : ℕ) : a + b = b + a := by omega", "a b", "a + b = b + a"),
        ("@[simp] protected theorem le_of (h : a ≤ b) : ∀ c, c ≤ a → c ≤ b :=", "h c a b", "c ≤ b"),
        ("Lemma inj : injective f.", "f", "injective f"),  # a section binds f
        ("Lemma ex : forall x, exists y, x = y -> P y.", "x", "exists y , x = y -> P y"),  # no arrow of its own
    ],
)
def test_a_declaration_binds_names_and_concludes(code: str, bound: str, conclusion: str) -> None:
    found = stated(code)
    assert found is not None
    assert found.conclusion == tuple(conclusion.split())
    assert set(bound.split()) <= found.bound
    assert not found.bound & set("+ = <= ≤ Even injective nat ℕ R A Eq".split())


@pytest.mark.parametrize(
    "code",
    [
        "",
        ".",
        "Lemma",
        "#[local",
        "Inductive T : Prop := a : T.",
        "Ltac x := auto.",
        "Definition one := 1.",
        "foo : bar",
    ],
)
def test_what_declares_nothing_with_a_type_is_not_read(code: str) -> None:
    assert stated(code) is None


def test_sides_are_those_of_the_relation_outside_of_parentheses() -> None:
    assert stated_type("f (a = b) = g c").sides == (("f", "(", "a", "=", "b", ")"), ("g", "c"))
    assert stated_type("forall x, P x -> x == 0").sides == (("x",), ("0",))
    equivalence = stated_type("a = b <-> b = a")
    assert equivalence.sides == (("a", "=", "b"), ("b", "=", "a")) and equivalence.is_equivalence
    assert stated_type("a < b").sides is stated_type("a =").sides is stated_type("").sides is None
    assert not stated_type("(a <-> b) = c").is_equivalence


def test_constants_are_what_is_not_bound() -> None:
    found = stated_type("forall x, S (x + 0) = S x")
    assert found.constants_of(found.conclusion) == ("S", "+", "0", "=", "S")


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("x = y -> y = x", "implication"),
        ("A /\\ B <-> B /\\ A", "equivalence"),
        ("A \\/ B /\\ C", "disjunction"),
        ("a <= b", "order"),
        ("a == b", "equality"),
        ("~ P", "negation"),
        ("False", "absurdity"),
        ("∃ x, P x", "existential"),
        ("forall x, P x", "universal"),
        ("Even (a = b)", "other"),
        ("", "other"),
    ],
)
def test_a_statement_is_of_the_kind_of_its_weakest_symbol(said: str, kind: str) -> None:
    assert kind_of(tokens(said)) == kind and kind in KINDS


def test_names_and_premises_in_front_of_the_conclusion_are_counted() -> None:
    assert number_bound(tokens("forall (x y : nat) z, x = y -> P z -> forall w, Q w")) == 6
    assert number_bound(tokens("x = y")) == number_bound(()) == number_bound(tokens("forall")) == 0


def test_long_statements_are_read_as_far_as_is_needed() -> None:
    said = read(tokens("A -> " * 20_000 + "B"))
    assert len(said.conclusion) <= 2000
