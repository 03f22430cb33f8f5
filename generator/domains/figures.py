"""What the figures of a domain show: problems solved within a budget, the loss against its floor, calibration."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from generator.domains.base import PublishedCurve
from generator.domains.results import Result
from retrieval.training.charts import Lines, Series

_PROBLEMS = "problems"
_FLOOR = "least possible (entropy of the posterior)"


def result_charts(results: Sequence[Result], published: Sequence[PublishedCurve] = ()) -> dict[str, Lines]:
    """Return the figures of results by the names of their files; those that there is nothing to show in are left out.

    Args:
        results: of one domain
        published: curves of others
    """
    labels = labels_of(results)
    charts = {
        "solved": _solved(results, labels, published),
        "loss": _loss(results, labels),
        "calibration": _calibration(results, labels),
    }
    return {name: chart for name, chart in charts.items() if chart.series}


def labels_of(results: Sequence[Result]) -> list[str]:
    """Return the names of writers; where two have the same, with the folder of the result."""
    counts = Counter(result.writer for result in results)
    return [
        result.writer if counts[result.writer] == 1 else f"{result.writer} ({result.path.parent.name})"
        for result in results
    ]


def _solved(results: Sequence[Result], labels: Sequence[str], published: Sequence[PublishedCurve]) -> Lines:
    series = list[Series]()
    for result, label in zip(results, labels, strict=True):
        curve = result.metrics["curve"]
        budgets = tuple(range(1, len(curve["share"]) + 1))
        series.append(Series(label, budgets, tuple(curve["share"]), tuple(curve["low"]), tuple(curve["high"])))
    last, is_named = max(result.metrics["budget"] for result in results), False
    label_of = {result.writer: label for result, label in reversed(list(zip(results, labels, strict=True)))}
    for curve in published:
        points = [(budget, share) for budget, share in curve.points.items() if budget <= last]
        x, y = tuple(budget for budget, _ in points), tuple(share for _, share in points)
        if curve.writer in label_of:  # dots of the line's colour, which one word explains for all
            series.append(Series("" if is_named else "published", x, y, is_dots=True, like=label_of[curve.writer]))
            is_named = True
        elif curve.writer == "model":
            series.append(Series(curve.label, x, y, is_dots=True))
    return Lines(
        "Solved within a budget",
        _PROBLEMS,
        "proposals for a problem",
        "problems solved",
        tuple(series),
        _num(results),
        is_share=True,
        is_log_x=True,
    )


def _loss(results: Sequence[Result], labels: Sequence[str]) -> Lines:
    rows = [(label, result.metrics) for label, result in zip(labels, results, strict=True)]
    known = [(label, metrics) for label, metrics in rows if metrics.get("nll") is not None]
    floors = {place: m["nll_floor"] for place, (_, m) in enumerate(known) if m.get("nll_floor") is not None}
    is_level = len(known) == len(floors) and len({round(floor, 6) for floor in floors.values()}) == 1
    losses = Series("losses" if floors and not is_level else "", *_places(dict(enumerate(m["nll"] for _, m in known))))
    series = [replace(losses, is_dots=True)] if known else []
    if floors and not is_level:  # of other problems each
        series.append(Series(_FLOOR, *_places(floors), is_dots=True))
    return Lines(
        "Loss on the hidden programs",
        _PROBLEMS,
        "",
        "nats a program",
        tuple(series),
        _num(results),
        labels=tuple(label for label, _ in known),
        levels=((_FLOOR, floors[0]),) if is_level else (),
    )


def _places(values: Mapping[int, float]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return tuple(values), tuple(values.values())


def _calibration(results: Sequence[Result], labels: Sequence[str]) -> Lines:
    series = list[Series]()
    for result, label in zip(results, labels, strict=True):
        bins = [each for each in result.metrics.get("calibration", []) if each["count"] >= 20 and each["posterior"] > 0]
        if len(bins) > 1:
            x, y = tuple(each["proposed"] for each in bins), tuple(each["posterior"] for each in bins)
            distance = result.metrics["total_variation"]
            series.append(Series(f"{label} (TV {distance:.2f})", x, y))
    return Lines(
        "Proposals and the posterior",
        _PROBLEMS,
        "probability of being proposed",
        "probability given the spec",
        tuple(series),
        _num(results),
        is_log_x=True,
        is_log_y=True,
        has_diagonal=True,
    )


def training_chart(losses: Mapping[str, Sequence[tuple[int, float]]], floor: float | None) -> Lines:
    """Return the losses of a run by step against the least possible.

    Args:
        losses: steps and nats a token, by name
        floor: nats a token; None where it is not known
    """
    series = [
        Series(name, tuple(s for s, _ in rows), tuple(y for _, y in rows)) for name, rows in losses.items() if rows
    ]
    return Lines(
        "Loss in training",
        "logged points",
        "step",
        "nats a token",
        tuple(series),
        sum(len(each.x) for each in series),
        levels=() if floor is None else (("least possible", floor),),
    )


def _num(results: Sequence[Result]) -> Any:
    return max(result.metrics["num_problems"] for result in results)
