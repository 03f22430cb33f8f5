"""What the figures of a domain show: problems solved within a budget, the loss against its floor, calibration."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from generator.domains.base import PublishedCurve
from generator.domains.fates import group_charts, rank_charts, verdict_charts
from generator.domains.results import Result
from generator.domains.training_sizes import train_size_chart
from retrieval.training.charts import Chart, Lines, Series

_PROBLEMS = "problems"
_FLOOR = "least possible (entropy of the posterior)"


def result_charts(
    results: Sequence[Result],
    published: Sequence[PublishedCurve] = (),
    published_sizes: Sequence[PublishedCurve] = (),
) -> dict[str, Chart]:
    """Return the figures of results by the names of their files; those that there is nothing to show in are left out.

    Args:
        results: of one domain
        published: curves of others
        published_sizes: the same by the number of training problems
    """
    labels = labels_of(results)
    lines = {
        "solved": _solved(results, labels, published),
        "loss": _loss(results, labels),
        "calibration": _calibration(results, labels),
        "train_size": train_size_chart(results, published_sizes),
    }
    narrower = _narrower(results)
    widest = [result for result in results if result not in narrower]
    of_widest = [label for result, label in zip(results, labels, strict=True) if result not in narrower]
    return {
        **{name: chart for name, chart in lines.items() if chart is not None and chart.series},
        **group_charts(widest, of_widest),
        **rank_charts(widest, of_widest),
        **verdict_charts(widest, of_widest),
    }


def labels_of(results: Sequence[Result]) -> list[str]:
    """Return the names of writers; where two have the same, with the folder of the result."""
    counts = Counter(result.writer for result in results)
    return [
        result.writer if counts[result.writer] == 1 else f"{result.writer} ({result.path.parent.name})"
        for result in results
    ]


def _solved(results: Sequence[Result], labels: Sequence[str], published: Sequence[PublishedCurve]) -> Lines:
    series, narrower = list[Series](), _narrower(results)
    for result, label in zip(results, labels, strict=True):
        if result not in narrower:
            curve = result.metrics["curve"]
            budgets = tuple(range(1, len(curve["share"]) + 1))
            series.append(Series(label, budgets, tuple(curve["share"]), tuple(curve["low"]), tuple(curve["high"])))
            series += _bounds(label, result.metrics, named={each.name for each in series})
    series += _beams(results, labels)
    last, is_named = max(result.metrics["budget"] for result in results), False
    label_of = {result.writer: label for result, label in reversed(list(zip(results, labels, strict=True)))}
    for curve in published:
        points = [(budget, share) for budget, share in curve.points.items() if budget <= last]
        x, y = tuple(budget for budget, _ in points), tuple(share for _, share in points)
        if curve.writer in label_of and curve.writer != "model":  # dots of the line's colour, one word for all
            series.append(Series("" if is_named else "published", x, y, is_dots=True, like=label_of[curve.writer]))
            is_named = True
        elif curve.writer == "model":
            series.append(Series(curve.label, x, y, is_dots=True))
    is_beam = all(result.beam for result in results)
    return Lines(
        "Solved within a budget",
        _PROBLEMS,
        "candidates of a beam search" if is_beam else "proposals for a problem",
        "problems solved",
        tuple(series),
        _num(results),
        is_share=True,
        is_log_x=True,
    )


def _bounds(label: str, metrics: Mapping[str, Any], named: Collection[str]) -> list[Series]:
    """What a curve would be if everything undecided held, and how much of it is by programs that are general.

    The dashes are the same for all writers, and the legend has them once.
    """
    kinds: tuple[tuple[str, str, Literal["dotted", "dashed"]], ...] = (
        ("at_most_curve", "if all undecided held", "dotted"),
        ("general_curve", "verified and general", "dashed"),
    )
    found = list[Series]()
    for key, name, dashes in kinds:
        curve = metrics.get(key)
        if curve and curve != list(metrics["curve"]["share"]):
            x = tuple(range(1, len(curve) + 1))
            found.append(Series("" if name in named else name, x, tuple(curve), like=label, dashes=dashes))
    return found


def _beams(results: Sequence[Result], labels: Sequence[str]) -> list[Series]:
    """Dots for beam searches of several widths, each with what all its candidates solve."""
    found = list[Series]()
    for base, rows in _by_base(results).items():
        if len(rows) > 1:
            rows = sorted(rows, key=lambda row: int(row.metrics["budget"]))
            x = tuple(row.metrics["budget"] for row in rows)
            ends = {part: tuple(row.metrics["curve"][part][-1] for row in rows) for part in ("share", "low", "high")}
            like = labels[list(results).index(rows[-1])]
            name = f"{base}, a beam of each width"
            found.append(
                Series(name, x, ends["share"], ends["low"], ends["high"], is_dots=True, is_filled=True, like=like)
            )
    return found


def _by_base(results: Sequence[Result]) -> dict[str, list[Result]]:
    """Results of searches with beams of several widths, by the name that they share."""
    found: dict[str, list[Result]] = {}
    for result in results:
        if result.base != result.writer:
            found.setdefault(f"{result.path.parent}\0{result.base}", []).append(result)
    return {name.split("\0")[1] if len(found) == 1 else name.replace("\0", "/"): rows for name, rows in found.items()}


def _narrower(results: Sequence[Result]) -> list[Result]:
    """Those of several widths that are not the widest."""
    return [
        row
        for rows in _by_base(results).values()
        for row in rows
        if row.metrics["budget"] < max(each.metrics["budget"] for each in rows)
    ]


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
