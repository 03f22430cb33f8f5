"""What the figures of results hold: losses against their floors, calibration of texts."""

import math
from pathlib import Path

import pytest

from generator.domains.base import Verdict
from generator.domains.distance import Distance
from generator.domains.figures import result_charts
from generator.domains.results import Result
from generator.domains.synthesize import Try


def result(name, nll, floor, **others):
    curve = {part: (0.5,) for part in ("share", "low", "high")}
    metrics = {"writer": name, "nll": nll, "nll_floor": floor, "num_problems": 3, "budget": 1, "curve": curve}
    return Result(Path("runs") / name / "x.json", {**metrics, **others})


def test_the_floor_is_a_line_where_all_results_are_of_the_same_problems():
    chart = result_charts([result("a", 3.0, 2.8), result("b", 4.0, 2.8)])["loss"]
    assert [level for _, level in chart.levels] == [2.8] and chart.labels == ("a", "b")
    assert [(series.x, series.y) for series in chart.series] == [((0, 1), (3.0, 4.0))]


def test_each_loss_has_the_floor_of_its_own_problems():
    """A mean of floors would show a writer below the least possible."""
    chart = result_charts([result("a", 2.7, 2.6), result("b", 4.0, 2.8), result("c", 5.0, None)])["loss"]
    losses, floors = chart.series
    assert not chart.levels and (losses.x, losses.y) == ((0, 1, 2), (2.7, 4.0, 5.0))
    assert (floors.x, floors.y, floors.is_dots) == ((0, 1), (2.6, 2.8), True) and floors.name.startswith("least")


def test_no_figure_without_anything_to_show():
    assert set(result_charts([result("a", None, 2.8)])) == {"solved"}
    assert result_charts([result("a", 2.9, None)])["loss"].levels == ()


def tries(*pairs):
    return [Try(program, log_prob, Verdict("verified"), i, False) for i, (program, log_prob) in enumerate(pairs, 1)]


def test_a_text_of_several_sequences_of_tokens_has_the_probability_of_the_likeliest():
    distance, half = Distance(has_all=True), math.log(0.5)
    distance.add(tries(("a", half), ("b", half), ("a", -17.0), ("b", half)), {"a": 0.5, "b": 0.5})
    metrics = distance.metrics()
    [calibration] = metrics["calibration"]
    assert calibration == {"count": 4, "proposed": pytest.approx(0.5), "posterior": pytest.approx(0.5)}
    assert metrics["total_variation"] == metrics["total_variation_of_frequencies"] == pytest.approx(0.0)


def test_proposals_too_rare_for_a_bin_count_in_the_distance_alone():
    distance = Distance(has_all=True)
    distance.add(tries(("a", 0.0), ("b", -20.0)), {"a": 1.0})
    metrics = distance.metrics()
    assert [each["count"] for each in metrics["calibration"]] == [1] and metrics["total_variation"] == 0.5


def test_the_distance_is_the_mass_that_is_proposed_too_often():
    distance = Distance(has_all=True)
    distance.add(
        tries(("a", math.log(0.75)), ("a", math.log(0.75)), ("a", math.log(0.75)), ("b", math.log(0.25))), {"b": 1.0}
    )
    assert distance.metrics()["total_variation"] == pytest.approx(0.75)
