"""Figures of what became of problems and proposals: by groups of problems, by the rank of what holds, by verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from generator.domains.base import KINDS
from generator.domains.results import Result, file_name
from generator.domains.tally import in_order
from generator.domains.writer_metrics import Totals
from retrieval.training.charts import Chart, GroupedShares, Histogram, Lines, Parts, Series, Share, rank_histogram

_PROBLEMS = "problems"
_BUDGETS = (1, 10, 50)
_TITLES = {"timeout": "timed out", "error": "checker failed"}


def group_charts(results: Sequence[Result], labels: Sequence[str]) -> dict[str, Chart]:
    """Return shares solved by group, a chart for each kind of group.

    Of one result there are several budgets; several results are compared at the largest that all have.
    """
    kinds = dict.fromkeys(kind for result in results for kind in result.metrics.get("by_group") or {})
    return {f"by_{file_name(kind)}": chart for kind in kinds if (chart := _group_chart(kind, results, labels)).counts}


def _group_chart(kind: str, results: Sequence[Result], labels: Sequence[str]) -> GroupedShares:
    tables = {
        label: result.metrics["by_group"][kind]
        for result, label in zip(results, labels, strict=True)
        if kind in (result.metrics.get("by_group") or {})
    }
    groups = in_order({group for table in tables.values() for group in table})
    budgets = [b for b in _BUDGETS if all(f"solved@{b}" in row for table in tables.values() for row in table.values())]
    counts = tuple(max(table.get(group, {"num": 0})["num"] for table in tables.values()) for group in groups)
    if len(tables) == 1:
        [table] = tables.values()
        shares = {f"solved@{b}": tuple(_share(table.get(group), b) for group in groups) for b in budgets}
        ylabel = "problems solved"
    else:
        last = budgets[-1]
        shares = {label: tuple(_share(table.get(group), last) for group in groups) for label, table in tables.items()}
        ylabel = f"problems solved within {last}"
    return GroupedShares(f"Solved by {kind}", _PROBLEMS, kind, ylabel, tuple(groups), counts, shares)


def _share(row: Mapping[str, Any] | None, budget: int) -> Share:
    if row is None:
        return Share.of(0, 0)
    if f"interval@{budget}" in row:
        return Share(row[f"solved@{budget}"], *row[f"interval@{budget}"])
    return Share.of(row[f"solved@{budget}"] * row["num"], row["num"])  # of a file from before there were intervals


def rank_charts(results: Sequence[Result], labels: Sequence[str]) -> dict[str, Chart]:
    """Return, for each result, how many problems had their first program that holds at which rank."""
    charts: dict[str, Chart] = {}
    for result, label in zip(results, labels, strict=True):
        counts = (result.metrics.get("first_verified") or {}).get("counts")
        if counts and result.metrics["budget"] > 1:
            num_at_rank = [0] * (result.metrics["budget"] + 1)
            for rank, count in counts:
                num_at_rank[rank - 1] = count
            num_at_rank[-1] = result.metrics["num_problems"] - sum(num_at_rank)
            name = "first_verified" if len(results) == 1 else f"first_verified_{file_name(label)}"
            charts[name] = _ranks(num_at_rank, "" if len(results) == 1 else f", {label}")
    return charts


def _ranks(num_at_rank: Sequence[int], whose: str = "") -> Histogram:
    return rank_histogram(
        num_at_rank, title=f"Rank of the first verified{whose}", what=_PROBLEMS, xlabel="rank among the proposals"
    )


def verdict_charts(results: Sequence[Result], labels: Sequence[str]) -> dict[str, Chart]:
    """Return what the checker said of proposals; none where nothing was proposed."""
    counts = [result.metrics.get("verdicts") or {} for result in results]
    rows = [(label, each) for label, each in zip(labels, counts, strict=True) if sum(each.values())]
    if not rows:
        return {}
    parts = {
        _TITLES.get(kind, kind): tuple(each.get(kind, 0) / sum(each.values()) for _, each in rows) for kind in KINDS
    }
    num_of = [sum(each.values()) for _, each in rows]
    undecided = [(each.get("timeout", 0) + each.get("error", 0)) / sum(each.values()) for _, each in rows]
    notes = tuple(f"undecided {100 * share:.1f}%" for share in undecided) if any(undecided) else ()
    titles = "What became of proposals", "proposals", "share (%)"
    return {"verdicts": Parts(*titles, tuple(label for label, _ in rows), notes, parts, sum(num_of))}


# ------------------------------------------------------------------------------------------------
# In training


def training_charts(totals: Totals, by_group: Sequence[tuple[str, str, float, float]]) -> dict[str, Chart]:
    """Return the figures of an evaluation in training by their names; none if nothing was counted.

    Args:
        totals: what was counted
        by_group: of each problem and kind of group: kind, group, and the shares solved with one proposal and with all
    """
    num, budget = round(totals.counts["problems"]), len(totals.solved)
    if not num:
        return {}
    charts: dict[str, Chart] = {"first_verified": _ranks(totals.num_at_rank)} if budget > 1 else {}
    budgets = tuple(range(1, budget + 1))
    series = [Series("verified", budgets, tuple(totals.solved))]
    if totals.at_most != totals.solved:
        series.append(Series("if all undecided held", budgets, tuple(totals.at_most), dashes="dotted", like="verified"))
    if totals.counts["told"]:
        series.append(Series("verified and general", budgets, tuple(totals.general), dashes="dashed", like="verified"))
    if budget > 1:
        titles = "Solved within a budget", _PROBLEMS, "proposals for a problem", "problems solved"
        charts["solved"] = Lines(*titles, tuple(series), num, is_share=True, is_log_x=True)
    for kind in dict.fromkeys(each[0] for each in by_group):
        rows = [each for each in by_group if each[0] == kind]
        groups = in_order({group for _, group, _, _ in rows})
        members = [[each for each in rows if each[1] == group] for group in groups]
        counts = tuple(map(len, members))
        shares = {
            "solved@1": tuple(Share.of(sum(first for _, _, first, _ in part), len(part)) for part in members),
            f"solved@{budget}": tuple(Share.of(sum(last for _, _, _, last in part), len(part)) for part in members),
        }
        titles = f"Solved by {kind}", _PROBLEMS, kind, "problems solved"
        charts[f"solved_by_{file_name(kind)}"] = GroupedShares(*titles, tuple(groups), counts, shares)
    return charts
