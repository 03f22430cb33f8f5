"""Figures of what became of problems and proposals hold what was counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from generator.domains.base import PublishedCurve, Verdict
from generator.domains.fates import training_charts
from generator.domains.figures import result_charts
from generator.domains.results import Result
from generator.domains.writer_metrics import WriterMetrics
from retrieval.training.charts import GroupedShares, Histogram, Lines, Parts
from tests.generator.domains.marked import measured

PROGRAMS = {"1": ["yes"], "3": ["no", "late", "all"], "12": ["?", "boom"], "13": ["no", "yes", "no"]}


def result(folder: Path, name: str = "told", budget: int = 10, **options: Any) -> Result:
    return Result(folder / f"{name}.json", measured(folder, PROGRAMS, budget, name, **options))


def test_one_result_is_shown_by_budget_in_each_group(tmp_path: Path) -> None:
    chart = result_charts([result(tmp_path)])["by_operators"]
    assert isinstance(chart, GroupedShares)
    assert chart.labels == ("1-2", "3-9", "10 or more") and chart.counts == (1, 1, 2)
    assert {name: [share.value for share in shares] for name, shares in chart.shares.items()} == {
        "solved@1": [1.0, 0.0, 0.0],
        "solved@10": [1.0, 1.0, 0.5],
    }


def test_results_are_compared_at_a_budget_that_all_have(tmp_path: Path) -> None:
    chart = result_charts([result(tmp_path, "wide"), result(tmp_path, "narrow", 1)])["by_operators"]
    assert isinstance(chart, GroupedShares) and chart.ylabel == "problems solved within 1"
    assert list(chart.shares) == ["wide", "narrow"]


def test_files_from_before_there_were_intervals_and_ranks_are_drawn(tmp_path: Path) -> None:
    new = result(tmp_path)
    old = {name: new.metrics[name] for name in ("writer", "num_problems", "budget", "curve", "verdicts", "domain")}
    group = {"num": 4, "solved@1": 0.5, "solved@10": 0.75}
    charts = result_charts([Result(new.path, {**old, "by_group": {"operators": {"1-2": group}}})])
    assert set(charts) == {"solved", "by_operators", "verdicts"}
    shares = charts["by_operators"].shares["solved@1"]  # type: ignore[union-attr]
    assert shares[0].value == 0.5 and 0.1 < shares[0].low < 0.2


def test_ranks_and_verdicts_are_those_of_the_proposals(tmp_path: Path) -> None:
    charts = result_charts([result(tmp_path)])
    ranks, verdicts = charts["first_verified"], charts["verdicts"]
    assert isinstance(ranks, Histogram) and ranks.counts == (1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 1)
    assert isinstance(verdicts, Parts) and verdicts.num == 9 and verdicts.notes == ("undecided 22.2%",)
    assert verdicts.parts["timed out"] == (pytest.approx(1 / 9),) and verdicts.parts["verified"] == (
        pytest.approx(3 / 9),
    )
    assert sum(part[0] for part in verdicts.parts.values()) == pytest.approx(1)


def test_the_bound_and_the_general_ones_have_dashes_that_the_legend_tells_once(tmp_path: Path) -> None:
    theirs = PublishedCurve("model", "theirs", {1: 0.9, 50: 1})
    solved = result_charts([result(tmp_path, "a"), result(tmp_path, "b")], [theirs])["solved"]
    assert isinstance(solved, Lines)
    named = [(each.name, each.dashes, each.like) for each in solved.series]
    assert named == [
        ("a", "", ""),
        ("if all undecided held", "dotted", "a"),
        ("verified and general", "dashed", "a"),
        ("b", "", ""),
        ("", "dotted", "b"),
        ("", "dashed", "b"),
        ("theirs", "", ""),
    ]
    assert solved.series[1].y[:3] == (0.25, 1.0, 1.0) and solved.series[-1].x == (1,), "as far as the budget goes"


def test_beams_of_several_widths_are_dots_beside_the_widest(tmp_path: Path) -> None:
    results = [result(tmp_path, f"m_beam{width}", width, beam=width) for width in (1, 2, 10)]
    charts = result_charts(results)
    solved = charts["solved"]
    assert isinstance(solved, Lines) and solved.xlabel == "candidates of a beam search"
    line, *_, dots = solved.series
    assert (line.name, dots.name) == ("m_beam10", "m, a beam of each width") and dots.is_filled
    assert (dots.x, dots.y, dots.like) == ((1, 2, 10), (0.25, 0.5, 0.75), "m_beam10")
    assert set(charts) == {"solved", "by_operators", "verdicts", "first_verified"}, "the others are of the widest alone"


def test_the_figures_of_training_show_what_was_counted() -> None:
    verdicts = [
        [Verdict("verified", is_general=False), Verdict("verified", is_general=True)],
        [Verdict("timeout"), Verdict("rejected")],
        [Verdict("rejected"), Verdict("verified", is_general=False)],
    ]
    metrics = WriterMetrics(2, is_beam=True)
    metrics.observe(verdicts, [["a", "b"], ["c", "d"], ["e", "f"]], ["a", "x", "y"])
    values = metrics.values()
    assert values["solved@1"] == pytest.approx(1 / 3) and values["solved@2"] == pytest.approx(2 / 3)
    assert (
        values["solved_at_most@2"] == 1.0 and values["general@1"] == 0 and values["general@2"] == pytest.approx(1 / 3)
    )
    assert values["first_verified"] == 1.5 and values["exact_match"] == pytest.approx(1 / 3)
    assert values["timeout"] == pytest.approx(1 / 6) and values["error"] == values["malformed"] == 0
    charts = training_charts(metrics.totals(), [("operators", "3-4", 1.0, 1.0), ("operators", "1-2", 0.0, 1.0)])
    ranks, solved, groups = (charts[name] for name in ("first_verified", "solved", "solved_by_operators"))
    assert isinstance(ranks, Histogram) and ranks.counts == (1, 1, 1)
    assert isinstance(solved, Lines)
    np.testing.assert_allclose([each.y for each in solved.series], [[1 / 3, 2 / 3], [2 / 3, 1], [0, 1 / 3]])
    assert isinstance(groups, GroupedShares) and groups.labels == ("1-2", "3-4")
    assert [share.value for share in groups.shares["solved@2"]] == [1.0, 1.0]
    assert training_charts(WriterMetrics(2).totals(), []) == {}
