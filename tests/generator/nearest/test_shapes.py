"""States that differ in the names of variables alone have one shape; names of the library stay."""

from __future__ import annotations

from pathlib import Path

import pytest

from common import Context
from generator.nearest.evidence import EvidenceIndex
from generator.nearest.shapes import goal_shape, state_shape
from tests.generator.nearest.lookup_fakes import make_lookup, write_library


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("n m : nat\n⊢ n + m = m + n", "a b : nat\n⊢ a + b = b + a"),
        ("⊢ forall n m : nat, n + m = m + n", "⊢ forall x y : nat, x + y = y + x"),
        ("⊢ forall (n : nat) (l : list nat), rev l = l", "⊢ forall (k : nat) (xs : list nat), rev xs = xs"),
        ("A : Type\n⊢ ∀ x : A, x = x", "B : Type\n⊢ ∀ y : B, y = y"),
        ("⊢ exists k, P k /\\ Q k", "⊢ exists n, P n /\\ Q n"),
    ],
)
def test_names_of_variables_do_not_matter(one: str, other: str) -> None:
    assert goal_shape(one) == goal_shape(other)
    assert state_shape(one).count("v") <= goal_shape(one).count("v")  # what the goal binds stays in a whole shape


def test_names_of_the_library_and_symbols_do() -> None:
    state = "n : nat\n⊢ n + 0 = n"
    assert goal_shape(state) == "⊢ v + 0 = v"
    assert goal_shape(state) != goal_shape("n : nat\n⊢ n * 0 = n") != goal_shape("n : nat\n⊢ Nat.mul n 0 = n")
    assert "Nat.mul" in goal_shape("n : nat\n⊢ Nat.mul n 0 = n")


def test_types_that_a_bound_name_stands_in_front_of_are_no_variables() -> None:
    assert goal_shape("⊢ forall n : nat, n = n") == "⊢ forall v : nat, v = v"


def test_a_whole_shape_has_the_types_of_hypotheses_but_those_of_one_word() -> None:
    state = "n : nat\nH : n = 0\nIH : forall k, k < n -> P k\n⊢ P n"
    assert state_shape(state) == "v = 0 forall k, k < v -> P k ⊢ P v"


def test_only_the_first_goal_counts() -> None:
    assert goal_shape("⊢ a\n\nx : nat\n⊢ x = b") == state_shape("⊢ a\n\nx : nat\n⊢ x = b") == "⊢ a"


@pytest.mark.parametrize("state", ["", "⊢", "no turnstile", "⊢ forall", "⊢ forall , a", "a : b :\n⊢ c", "λ x ↦ x"])
def test_odd_states_have_shapes_too(state: str) -> None:
    assert isinstance(goal_shape(state), str) and isinstance(state_shape(state), str)


def test_a_step_of_the_same_shape_is_as_near_as_can_be(tmp_path: Path) -> None:
    lookup = make_lookup(write_library(tmp_path))
    index = EvidenceIndex.of(lookup.steps, lookup.index)
    state = "x y : nat\n⊢ x * y = y * x"
    context = Context("New.v", "new", None, state)
    found = index.nearest(context, state, lookup.visible(context), 10)
    tactics = lookup.steps.tactics(found.numbers)
    place = tactics.index("induction m")  # of n * m = m * n
    assert found.shape[place] == pytest.approx(1, abs=1e-3) and found.shape[place] == found.shape.max()
    assert found.state[place] < 0.9
