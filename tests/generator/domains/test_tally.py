"""The figures of an evaluation, from outcomes made by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from generator.domains.base import Problem
from generator.domains.results import evaluate_writer, judge_gold, table
from generator.domains.synthesize import Synthesizer
from generator.domains.tally import first_ranks
from generator.domains.writers import Writer
from tests.generator.domains.marked import Marked, Told, measured


def test_ranks_of_the_first_verified(tmp_path: Path) -> None:
    metrics = measured(
        tmp_path, {"1": ["yes"], "2": ["no", "?", "yes!", "yes"], "3": ["no"] * 9 + ["yes"], "4": ["no"]}
    )
    assert metrics["first_verified"] == {
        "num": 3,
        "mean": pytest.approx(14 / 3),
        "median": 3.0,
        "counts": [[1, 1], [3, 1], [10, 1]],
    }
    assert [metrics[f"solved@{b}"] for b in (1, 2, 5, 10)] == [0.25, 0.25, 0.5, 0.75]
    assert first_ranks({}) == {"num": 0, "mean": None, "median": None, "counts": []}


def test_every_candidate_is_checked_and_stays_what_the_model_wrote(tmp_path: Path) -> None:
    """Where greedy is right, the beam is checked all the same, and no reference stands in for a hypothesis."""
    metrics = measured(tmp_path, {"1": ["yes, otherwise", "no", "yes", "yes"]})
    [row] = map(json.loads, (tmp_path / "told.jsonl").read_text().splitlines())
    assert [each[0] for each in row["tries"]] == ["yes, otherwise", "no", "yes", "yes"]
    assert row["program"] == "yes" and metrics["num_proposals"] == 4
    assert metrics["exact_match@1"] == 0 and metrics["exact_match@2"] == 0 and metrics["exact_match@5"] == 1.0


def test_what_is_undecided_is_not_wrong_and_bounds_the_truth(tmp_path: Path) -> None:
    metrics = measured(
        tmp_path,
        {"1": ["late", "no", "yes"], "2": ["no", "boom", "late"], "3": ["yes", "late"], "4": ["no", "no", "no"]},
    )
    assert [metrics[f"solved@{b}"] for b in (1, 2, 5)] == [0.25, 0.25, 0.5]
    assert [metrics[f"at_most@{b}"] for b in (1, 2, 5)] == [0.5, 0.75, 0.75]
    assert metrics["at_most_curve"][:3] == [0.5, 0.75, 0.75]
    assert metrics["unsolved_and_undecided"] == 0.25
    assert metrics["shares"]["timeout"] == pytest.approx(3 / 11) and metrics["shares"]["error"] == pytest.approx(1 / 11)


def test_without_anything_undecided_the_bound_is_the_share(tmp_path: Path) -> None:
    metrics = measured(tmp_path, {"1": ["no", "yes"], "2": ["no"]})
    assert metrics["at_most_curve"] is None and metrics["at_most@2"] == metrics["solved@2"] == 0.5


def test_verified_and_general_are_counted_apart(tmp_path: Path) -> None:
    programs = {"1": ["yes", "all"], "2": ["all"], "3": ["yes", "yes!"], "4": ["no"]}
    metrics = measured(tmp_path, programs)
    assert (metrics["solved@1"], metrics["general@1"], metrics["general@2"]) == (0.75, 0.25, 0.5)
    rows = [json.loads(line)["tries"] for line in (tmp_path / "told.jsonl").read_text().splitlines()]
    assert [each[4:] for each in rows[0]] == [[False], [True]] and rows[3][0][4:] == []
    first = measured(tmp_path, programs, name="first", stop_at_first=True)
    assert "general@1" not in first and "exact_match@2" not in first, "the search went no further to find out"


def test_samples_count_alike_in_all_figures(tmp_path: Path) -> None:
    class Samples(Told):
        is_independent, is_beam = True, False

    writer, domain = Samples({"1": ["late", "no", "yes", "all"]}), Marked()
    search = Synthesizer(writer, domain, 4, stop_at_first=False)
    metrics = evaluate_writer(writer, domain, [Problem("1", "yes")], search, tmp_path / "x", {})
    assert metrics["solved@1"] == 0.5 and metrics["at_most@1"] == 0.75
    assert metrics["general@1"] == metrics["exact_match@1"] + 0.25 == 0.25


def test_groups_come_by_their_numbers_with_intervals(tmp_path: Path) -> None:
    programs = {str(spec): ["yes" if spec % 2 else "no", "yes"] for spec in (0, 1, 3, 5, 12, 13)}
    groups = measured(tmp_path, programs, budget=10)["by_group"]["operators"]
    assert list(groups) == ["1-2", "3-9", "10 or more"]
    assert groups["3-9"]["solved@1"] == 1.0 and groups["1-2"]["solved@1"] == 0.5 and groups["1-2"]["num"] == 2
    low, high = groups["1-2"]["interval@1"]
    assert 0.05 < low < 0.15 and 0.85 < high < 0.95 and groups["1-2"]["solved@10"] == 1.0


def test_all_proposals_of_a_group_are_checked_together(tmp_path: Path) -> None:
    domain, programs = Marked(), {"1": ["no", "yes", "no"], "2": ["yes", "?"]}
    search = Synthesizer(Told(programs), domain, 5, stop_at_first=False)
    outcomes = list(search.solve(list(programs)))
    assert domain.calls == [[("1", "no"), ("1", "yes"), ("2", "yes"), ("2", "?")]]
    assert [each.verdict.kind for each in outcomes[0].tries] == ["rejected", "verified", "rejected"]
    assert [each.is_repeat for each in outcomes[0].tries] == [False, False, True]


def test_what_the_checker_misses_of_the_own_programs_is_known() -> None:
    problems = [Problem("1", "yes"), Problem("2", "late"), Problem("3", "yes"), Problem("4", "no")]
    gold = judge_gold(Marked(), problems)
    assert gold["num"] == 4 and gold["pass_rate"] == 0.5
    assert gold["verdicts"] == {"verified": 2, "rejected": 1, "malformed": 0, "timeout": 1, "error": 0}


def test_the_table_tells_only_what_there_is(tmp_path: Path) -> None:
    plain = measured(tmp_path, {"1": ["no", "yes"]}, name="plain")
    assert "undecided" not in table([plain]) and "timeout" not in table([plain])
    late = measured(tmp_path, {"1": ["late", "all"]}, name="late")
    solved, fates = table([plain, late]).split("\n\n")
    assert solved.splitlines()[0].startswith("| writer | solved@1 | solved@2 |")
    assert "| late | 0.0 | 2.0 | 2.0 | 50.00 | 100.0 | 100.0 |" in fates
    assert len({line.count("|") for line in fates.splitlines()}) == 1


def test_a_writer_says_whether_it_is_a_beam() -> None:
    assert not Writer.is_beam and Told({}).is_beam
