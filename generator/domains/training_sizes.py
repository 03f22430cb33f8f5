"""Figures over what models were trained on: the matrix of training and test domains, and the number of problems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from common import DataError
from generator.domains import DOMAINS
from generator.domains.base import PublishedCurve
from generator.domains.results import Result
from retrieval.training.charts import Chart, Lines, Matrix, Series

_BUDGETS = (1, 10, 50)
_UNKNOWN = "not told"

Across = Mapping[str, Mapping[str, Mapping[int, float]]]  # of others: shares by test domain, training and budget


def train_size_chart(results: Sequence[Result], published: Sequence[PublishedCurve] = ()) -> Lines | None:
    """Return shares solved by the number of training problems; None unless models of two sizes are there.

    Args:
        results: of one or several domains
        published: of the one domain, by the number of training problems, with one proposal
    """
    known = [result for result in results if result.train_size is not None]
    if len({result.train_size for result in known}) < 2:
        return None
    domains = list(dict.fromkeys(result.domain for result in known))
    budgets = [b for b in _BUDGETS if len(domains) == 1 or b == 1]
    series = [
        made
        for domain in domains
        for budget in budgets
        for name, rows in _by_training([each for each in known if each.domain == domain], budget).items()
        if (made := _series(f"{name}{domain if len(domains) > 1 else f'solved@{budget}'}", rows, budget)) is not None
    ]
    series += [
        Series(f"{curve.label}, beam 1", tuple(curve.points), tuple(curve.points.values()), is_dots=True)
        for curve in published
        if len(domains) == 1
    ]
    return Lines(
        "Solved by size of training",
        "problems of a test",
        "problems of training",
        "problems solved" if len(domains) == 1 else "problems solved with one proposal",
        tuple(series),
        max(result.metrics["num_problems"] for result in known),
        is_share=True,
        is_log_x=True,
    )


def _by_training(results: Sequence[Result], budget: int) -> dict[str, list[Result]]:
    """Results that reach a budget by what names the training, where there is a choice; of beams the width itself."""
    reached = _nearest(results, budget)
    kinds = dict.fromkeys(result.trained_on for result in reached)
    return {
        "" if len(kinds) == 1 else f"trained on {kind or _UNKNOWN}, ": [r for r in reached if r.trained_on == kind]
        for kind in kinds
    }


def _series(name: str, results: Sequence[Result], budget: int) -> Series | None:
    rows = [
        (result.train_size or 0, share)
        for result in sorted(results, key=lambda result: result.train_size or 0)
        if (share := result.share(budget)) is not None
    ]
    sizes = [size for size, _ in rows]
    if len(set(sizes)) < len(sizes):
        raise DataError(
            f"two results are of models trained on {next(s for s in sizes if sizes.count(s) > 1):,} problems ({name}); "
            "give one of each size"
        )
    if not rows:
        return None
    value, low, high = zip(*((share.value, share.low, share.high) for _, share in rows), strict=True)
    return Series(name, tuple(sizes), value, low, high)


def _nearest(results: Sequence[Result], budget: int) -> list[Result]:
    """Results that reach a budget; of beams of several widths, the narrowest that does."""
    found: dict[tuple[str, str, str, int | None], Result] = {}
    for result in results:
        key = (str(result.path.parent), result.base, str(result.trained_on), result.train_size)
        if result.metrics["budget"] >= budget:
            best = found.get(key)
            if best is None or result.metrics["budget"] < best.metrics["budget"]:
                found[key] = result
    return list(found.values())


def matrix_charts(results: Sequence[Result], published: Across) -> dict[str, Chart]:
    """Return, for each budget that a result reaches, shares solved by what models were trained and tested on.

    Args:
        results: of several domains
        published: shares of others, which stand in parentheses

    Raises:
        DataError: if two results are of the same training and test
    """
    charts: dict[str, Chart] = {}
    for budget in _BUDGETS:
        cells: dict[tuple[str, str], float] = {}
        reached = _nearest(results, budget)
        for result in reached:
            share, key = result.share(budget), (result.trained_on or result.writer, result.domain)
            if key in cells:
                raise DataError(
                    f"{result.path}: another result is of a model trained on {key[0]} and tested on {key[1]} too; give "
                    "one of each, or name them with evaluate --trained_on"
                )
            if share is not None:
                cells[key] = share.value
        if cells:
            num = max(result.metrics["num_problems"] for result in reached)
            charts[f"matrix_{budget}"] = _matrix(f"Solved with {_proposals(budget)}", cells, published, budget, num)
    return charts


def published_charts(published: Across) -> dict[str, Chart]:
    """Return the matrices of others."""
    charts: dict[str, Chart] = {}
    for budget in _BUDGETS:
        cells = {
            (training, test): shares[budget]
            for test, rows in published.items()
            for training, shares in rows.items()
            if budget in shares
        }
        if cells:
            charts[f"matrix_published_{budget}"] = _matrix(f"Published, beam {budget}", cells, {}, budget, 5000)
    return charts


def _proposals(budget: int) -> str:
    return f"{budget} proposal{'s' * (budget > 1)}"


def _matrix(title: str, cells: Mapping[tuple[str, str], float], published: Across, budget: int, num: int) -> Matrix:
    order = list(DOMAINS)
    rows, columns = (list(dict.fromkeys(key[i] for key in cells)) for i in (0, 1))
    columns.sort(key=lambda test: order.index(test) if test in order else len(order))
    # in one order, so that the diagonal is where training and test are of the same kind
    rows.sort(key=lambda row: (columns.index(row) if row in columns else len(columns), row))
    others = tuple(tuple(published.get(test, {}).get(row, {}).get(budget) for test in columns) for row in rows)
    return Matrix(
        title,
        "problems of a test",
        "tested on",
        "trained on",
        tuple(row.replace("+", " +\n") for row in rows),
        tuple(columns),
        tuple(tuple(cells.get((row, test)) for test in columns) for row in rows),
        others if any(each is not None for row in others for each in row) else (),
        num,
    )
