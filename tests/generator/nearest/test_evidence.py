"""Steps are near by their states, goals, theorems' names and files, and only what may be looked up is found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from common import Context
from generator.nearest.evidence import (
    FILE_WEIGHT,
    GOAL_WEIGHT,
    NAME_WEIGHT,
    SHAPE_WEIGHT,
    Evidence,
    EvidenceIndex,
    last_part,
)
from generator.nearest.generator import NearestTacticGenerator
from tests.generator.nearest.lookup_fakes import ADD, AND, make_lookup, write_library


@pytest.fixture(scope="module")
def lookup(tmp_path_factory: pytest.TempPathFactory) -> NearestTacticGenerator:
    return make_lookup(write_library(tmp_path_factory.mktemp("library")))


@pytest.fixture(scope="module")
def index(lookup: NearestTacticGenerator) -> EvidenceIndex:
    return EvidenceIndex.of(lookup.steps, lookup.index)


def find(index: EvidenceIndex, lookup: NearestTacticGenerator, context: Context, number: int = 10) -> Evidence:
    return index.nearest(context, context.state, lookup.visible(context), number)


def test_the_weighted_sum_of_all_evidence_says_which_are_the_nearest(
    index: EvidenceIndex, lookup: NearestTacticGenerator
) -> None:
    found = find(index, lookup, Context("A.v", "Coq.mul", (50, 1), ADD[0][0]))
    total = found.state + GOAL_WEIGHT * found.goal + SHAPE_WEIGHT * (found.shape + found.whole)
    total += NAME_WEIGHT * found.name + FILE_WEIGHT * found.same_file
    assert found.near.tolist() == pytest.approx(total.tolist())
    assert found.near.tolist() == sorted(found.near.tolist(), reverse=True)
    assert lookup.steps.tactic(int(lookup.steps.tactic_of[found.numbers[0]])) == "induction n"
    names = [last_part(lookup.steps.name(int(lookup.steps.theorem_of[number]))) for number in found.numbers]
    assert [found.name[place] > 0.99 for place in range(len(names))] == [name == "mul" for name in names]
    in_file = [lookup.steps.file_of_step[number] == lookup.steps.file_number("A.v") for number in found.numbers]
    assert found.same_file.tolist() == [float(each) for each in in_file]
    assert found.same_folder.tolist() == [1.0] * len(found.numbers)  # A.v, B.v and C.v lie in one


def test_the_theorem_itself_and_what_may_not_be_looked_up_is_not_found(
    index: EvidenceIndex, lookup: NearestTacticGenerator
) -> None:
    own = find(index, lookup, Context("A.v", "add", (1, 1), ADD[0][0]))
    assert not {0, 1} & set(own.numbers.tolist())
    nothing = index.nearest(Context("A.v", "add", None, ADD[0][0]), ADD[0][0], np.zeros(6, dtype=np.bool_), 10)
    assert nothing.numbers.tolist() == []


def test_a_name_or_a_file_alone_makes_no_step_near(index: EvidenceIndex, lookup: NearestTacticGenerator) -> None:
    assert find(index, lookup, Context("A.v", "add", (9, 9), "∀∀∀")).numbers.tolist() == []


def test_no_more_are_found_than_asked_for(index: EvidenceIndex, lookup: NearestTacticGenerator) -> None:
    assert len(find(index, lookup, Context("A.v", "x", (9, 9), AND[0][0]), number=2).numbers) == 2


def test_the_last_part_of_a_name_is_compared() -> None:
    assert last_part("Coq.ZArith.BinInt.Z.add_comm") == "add_comm" and last_part("alone") == "alone"


def test_a_folder_is_that_of_the_path(tmp_path: Path) -> None:
    lookup = make_lookup(write_library(tmp_path))
    found = find(EvidenceIndex.of(lookup.steps, lookup.index), lookup, Context("elsewhere/A.v", "x", None, ADD[0][0]))
    assert not found.same_folder.any() and not found.same_file.any()
