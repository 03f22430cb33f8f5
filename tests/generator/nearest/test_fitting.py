"""What a candidate applies, rewrites with and introduces is held against the goal."""

from __future__ import annotations

import random

import pytest

from generator.nearest.fitting import FITS, GOALS, Fitting, Target
from generator.nearest.statements import stated, tokens

GOAL = "a b c : nat\nH : a = b\nIH : forall k, k <= c -> a + k <= b + k\n⊢ a * b + c = c + a * b"
LEMMAS = {
    "add_comm": "Lemma add_comm : forall n m, n + m = m + n.",
    "Nat.le_refl": "Lemma le_refl : forall n, n <= n.",
    "mul_0": "Lemma mul_0 n : n * 0 = 0.",
    "eq_iff": "Lemma eq_iff n m : n <= m /\\ m <= n <-> n = m.",
}


def fitting(goal: str = GOAL) -> Fitting:
    return Fitting(goal, {name: stated(code) for name, code in LEMMAS.items()})


def of(tactic: str, goal: str = GOAL) -> dict[str, float]:
    return {name: value for name, value in zip(FITS, fitting(goal).features(tactic), strict=True) if value}


@pytest.mark.parametrize(
    ("tactic", "fits"),
    [
        ("apply add_comm", 1),
        ("now apply (add_comm _ c); auto", 1),
        ("intros; exact @add_comm", 1),
        ("apply eq_iff", 1),  # one side of it
        ("apply Nat.le_refl", -1),
        ("apply mul_0", -1),
        ("exact H", -1),
        ("auto", None),
        ("apply unknown", None),
        ("apply add_comm in H", None),  # is not applied to the goal
    ],
)
def test_a_conclusion_that_is_applied_fits_the_whole_goal(tactic: str, fits: int | None) -> None:
    found = of(tactic)
    assert found.get("applies what fits") == fits and found.get("applies") == (None if fits is None else 1)
    assert "rewrites" not in found


@pytest.mark.parametrize(
    ("tactic", "fits"),
    [
        ("rewrite add_comm", 1),
        ("rewrite <- H", 1),
        ("rewrite !H; auto", 1),
        ("rw [add_comm]", 1),
        ("rw [← H]", 1),
        ("rewrite mul_0", -1),
        ("rewrite (add_comm a) in H", -1),  # there is no sum in H
        ("rewrite H in IH", 1),
    ],
)
def test_a_side_that_is_rewritten_fits_a_part(tactic: str, fits: int) -> None:
    found = of(tactic)
    assert (found["rewrites what is there"], found["rewrites"]) == (fits, 1) and "applies" not in found


def test_what_the_goal_lacks_and_the_goal_itself_are_known() -> None:
    assert of("apply Nat.le_refl")["share of its constants that the goal lacks"] == pytest.approx(1 / 2)
    assert "share of its constants that the goal lacks" not in of("apply add_comm")
    assert of("exact H", "a b : nat\nH : a = b\n⊢ a = b")["applies the goal itself"] == 1


def test_names_that_are_introduced_are_counted_against_the_goal() -> None:
    goal = "k : nat\n⊢ forall n, n = k -> k = n"
    assert not {"introduces more than is there", "introduces names that are taken"} & set(of("intros n Hn", goal))
    assert of("intros n Hn k", goal)["introduces more than is there"] == 1
    assert of("intro k; auto", goal)["introduces names that are taken"] == 1


def test_the_kinds_of_goal_and_of_a_named_hypothesis_are_known() -> None:
    assert of("destruct H")["names a hypothesis that is equation"] == 1
    assert of("apply IH")["names a hypothesis that is universal"] == 1
    assert not [name for name in of("destruct add_comm") if name.startswith("names")]
    of_goal = dict(zip(GOALS, fitting("n : nat\nH : n = n\n⊢ n = n").of_goal(), strict=True))
    assert {name for name, value in of_goal.items() if value} == {
        "goal is equation",
        "both sides are the same",
        "goal is a hypothesis",
    }


def test_a_lemma_that_may_be_applied_or_rewritten_with_fits() -> None:
    fits = {name: fitting().fits(name) for name in (*LEMMAS, "unknown")}
    assert fits == {"add_comm": True, "Nat.le_refl": False, "mul_0": False, "eq_iff": True, "unknown": False}


@pytest.mark.parametrize(
    ("pattern", "there", "whole", "part"),
    [
        ("x + x", "a * b + a * b", True, True),
        ("x + x", "a + b", False, False),
        ("x + x", "( f a ) + f a", True, True),  # parentheses do not matter where they stand around all of it
        ("f x", "g ( f ( h a ) )", False, True),
        ("f x", "f ( a", False, False),  # no balanced part
        ("x", "a", False, False),  # it would match everything
        ("f x = y", "f a b = c", True, True),
    ],
)
def test_the_same_name_means_the_same_part(pattern: str, there: str, whole: bool, part: bool) -> None:
    target, bound = Target(tokens(there)), frozenset("xy")
    assert (target.is_like(tokens(pattern), bound), target.has(tokens(pattern), bound)) == (whole, part)


def test_odd_texts_have_features_too() -> None:
    pieces = [
        "forall",
        "(",
        ")",
        "x",
        "y",
        "=",
        "->",
        ",",
        ":",
        ":=",
        "⊢",
        "\n",
        "apply",
        "rewrite",
        "in",
        "~",
        "[",
        "%",
    ]
    pieces += ["intros", "<-", ".", "#[", "Lemma", "exists", "{", "}", "∀", "\n\n", "H", "'", "@", "é", "1"]
    draw = random.Random(0)
    for _ in range(2000):
        goal, code, tactic = (" ".join(draw.choices(pieces, k=draw.randrange(25))) for _ in range(3))
        fitted = Fitting(goal, {"x": stated(f"Lemma x : {code}"), "y": stated(code)})
        assert len(fitted.features(tactic)) == len(FITS) and len(fitted.of_goal()) == len(GOALS)


def test_a_search_that_would_take_for_ever_or_run_too_deep_ends() -> None:
    names = [f"v{number}" for number in range(2000)]
    target = Target(tokens("a + " * 140 + "a"))
    assert not target.has(tokens(" + ".join(names)), frozenset(names))
    assert not target.has(tokens("+".join(f" x{number} y{number} " for number in range(40)) + "+ b"), frozenset(names))
    many = frozenset(f"{kind}{number}" for kind in "xy" for number in range(40))
    assert target.has(tokens("+".join(f" x{number} " for number in range(40))), many)
    target.has(tokens("+".join(f" x{number} y{number} " for number in range(40)) + "+ x0"), many)
