"""The table of features says of each candidate what its name promises."""

from __future__ import annotations

import numpy as np
import pytest

from generator.nearest.evidence import Evidence
from generator.nearest.features import CANDIDATE, MAX_CANDIDATES, STATE, Table, Uses, describe

GOAL = "n : nat\nHn : n = 0\n⊢ forall m, add n m = m"
USES = Uses({"intros m": 6, "rewrite H9": 1}, {"intros m": 3, "auto": 1}, {"add": 9, "H9": 1, "lemma": 40})


def evidence(num: int, **columns: list[float]) -> Evidence:
    """K steps, the first the nearest."""
    given = {name: np.array(values, dtype=np.float32) for name, values in columns.items()}
    falling = np.linspace(0.9, 0.1, num).astype(np.float32)
    names = ("near", "state", "goal", "shape", "whole", "name", "same_file", "same_folder")
    return Evidence(np.arange(num), **{name: given.get(name, falling) for name in names})


def table(tactics: list[str], written: list[str] | None = None, **columns: list[float]) -> Table:
    return describe(evidence(len(tactics), **columns), tactics, written or tactics, GOAL, USES)


def of(found: Table, tactic: str) -> dict[str, float]:
    return dict(zip(CANDIDATE, found.candidates[found.tactics.index(tactic)].tolist(), strict=True))


def test_there_is_a_row_for_each_distinct_candidate_and_a_number_for_each_feature() -> None:
    found = table(["auto", "intros m", "auto"])
    assert found.tactics == ["auto", "intros m"]
    assert found.candidates.shape == (2, len(CANDIDATE)) and found.state.shape == (len(STATE),)
    assert np.isfinite(found.candidates).all() and np.isfinite(found.state).all()
    assert len(set(CANDIDATE)) == len(CANDIDATE) and len(set(STATE)) == len(STATE)


def test_votes_of_the_steps_that_propose_a_candidate_are_added() -> None:
    found = table(["auto", "intros m", "auto"], same_file=[0, 1, 0])
    auto, intros = of(found, "auto"), of(found, "intros m")
    assert np.exp(auto["share by state"]) + np.exp(intros["share by state"]) == pytest.approx(1, abs=1e-3)
    assert np.expm1(auto["steps"]) == pytest.approx(2) and np.expm1(intros["first step"]) == pytest.approx(1)
    assert np.expm1(auto["steps in the file"]) == 0 and np.expm1(intros["steps in the file"]) == pytest.approx(1)
    assert auto["greatest state"] == pytest.approx(0.9) and intros["below the best state"] == pytest.approx(-0.4)
    assert auto["below the best share by all"] == 0 > intros["below the best share by all"]
    assert auto["place by state"] == 0 and np.expm1(intros["place by state"]) == pytest.approx(1)


def test_uses_are_those_that_are_given() -> None:
    found = of(table(["intros m", "auto"], ["intros k", "auto"]), "intros m")
    assert np.expm1(found["uses"]) == pytest.approx(6) and np.expm1(found["uses in the file"]) == pytest.approx(3)
    assert found["frequency in the file"] == pytest.approx(3 / 9) and found["is adapted"] == 1
    assert of(table(["auto"]), "auto")["is adapted"] == 0


def test_names_are_looked_for_in_the_goal() -> None:
    missing = of(table(["rewrite H9"]), "rewrite H9")
    assert missing["names that are unknown"] == 2  # "rewrite" and H9: no name stands in three tactics
    assert missing["names of hypotheses that are not there"] == 1
    there = of(table(["rewrite Hn"]), "rewrite Hn")
    assert there["hypotheses"] == 1 and there["names of hypotheses that are not there"] == 0
    assert of(table(["unfold add"]), "unfold add")["unfolds what is there"] == pytest.approx(1 / 3)
    assert of(table(["unfold mul"]), "unfold mul")["unfolds what is there"] == 0
    assert of(table(["intros m"]), "intros m")["introduces what stands there"] == 1


def test_only_the_most_voted_for_are_kept() -> None:
    found = table([f"t{number}" for number in range(MAX_CANDIDATES + 50)])
    assert found.tactics == [f"t{number}" for number in range(MAX_CANDIDATES)]


@pytest.mark.parametrize("goal", ["", "⊢", "no turnstile", "⊢ forall", "a : b :\n⊢ c\n\nd"])
def test_odd_goals_have_features_too(goal: str) -> None:
    found = describe(evidence(2), ["", "((("], ["", "((("], goal, Uses({}, {}, {}))
    assert np.isfinite(found.candidates).all() and np.isfinite(found.state).all()
