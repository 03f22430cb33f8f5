"""Searches of the same theorems side by side: `python -m generator.search.compare --runs A B ... --output_path ...`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from common import ConfigError, DataError, check_positive
from generator.environments.base import Theorem
from generator.search.loop import SearchResult
from generator.search.results import read_results
from generator.search.summary import Summary
from generator.search.theorems import Goal
from retrieval.training.charts import Lines, Series, Share
from retrieval.training.commands import parse_arguments, run
from retrieval.training.drawing import check_drawing, draw, to_png
from retrieval.training.files import writing_file

_ROUNDING = 1e-2  # seconds


@dataclass(frozen=True)
class Row:
    """A run, as one of several.

    Attributes:
        name: what it is called
        results: of all its theorems that are done
        max_seconds: that each search had; None for no limit
    """

    name: str
    results: Sequence[SearchResult]
    max_seconds: float | None

    @property
    def searched(self) -> list[SearchResult]:
        """Those that were not discarded."""
        return [result for result in self.results if result.status != "discarded"]

    @property
    def proved(self) -> list[SearchResult]:
        """Those with a proof."""
        return [result for result in self.results if result.status == "proved"]

    @property
    def proved_theorems(self) -> set[Goal]:
        """Of which there is a proof."""
        return {result.theorem for result in self.proved}

    def share(self, of: Callable[[SearchResult], float], at_most: float) -> float:
        """Share of the searched theorems whose proof took at most so many states or seconds, as `of` says; NaN of none.

        This is what a smaller limit would have given: a search does the same until then.
        """
        return Share.of(sum(of(result) <= at_most for result in self.proved), len(self.searched)).value

    def num_cut_off(self, of: Callable[[SearchResult], float], at: float) -> int:
        """Searches that another limit ended before so many states or seconds, which might have proved more."""
        return sum(result.status == "open" and of(result) < at - _ROUNDING for result in self.results)


def num_states(result: SearchResult) -> float:
    """States whose tactics were tried until the proof."""
    return float(result.num_expansions)


def seconds(result: SearchResult) -> float:
    """Seconds of search until the proof."""
    return result.search_s


def compare(
    runs: Sequence[Path],
    names: Sequence[str] = (),
    output_path: Path | None = None,
    at_states: Sequence[int] = (1, 4, 16, 64),
    at_seconds: Sequence[float] = (1.0, 2.0, 5.0, 10.0),
    depth: int = 2,
) -> None:
    """Compare runs of generator.search.prove over the same theorems, as Markdown tables and a figure.

    The tables say how many theorems each run proves, within how many states tried and seconds of search, in which
    folders, and how its tactics failed. Each curve is that of one run: what a smaller limit would have given.

    Args:
        runs: output_dir of each
        names: of the runs, in their order; by default those of their folders
        output_path: PNG file of Pass@1 by states tried and by seconds; none by default
        at_states: limits on states tried to tell Pass@1 for
        at_seconds: limits on seconds
        depth: folders of a path by which theorems are counted together

    Raises:
        ConfigError: if the runs are of different theorems, or an option is wrong
        DataError: if a file is missing or broken, or the figure cannot be written
    """
    check_positive(depth=depth)
    rows = read_rows(runs, names)
    print("\n\n".join(report(rows, at_states, at_seconds, depth)))
    for folder in runs:
        if refused := _num_refused(folder):
            print(f"\n{folder}: {refused} of these proofs did not hold when they were checked again")
    if output_path is not None:
        check_drawing()
        charts = [curve(rows, num_states, "states tried"), curve(rows, seconds, "seconds of search")]
        with writing_file(output_path) as part:
            part.write_bytes(to_png(np.hstack([draw(chart, limits_of(rows)) for chart in charts])))
        print(f"\nfigure: {output_path}")


def read_rows(runs: Sequence[Path], names: Sequence[str] = ()) -> list[Row]:
    """Return the runs of folders, in their order.

    Raises:
        ConfigError: if there is none, names are missing, or the theorems differ
        DataError: if results are missing or broken
    """
    if not runs:
        raise ConfigError("runs is empty; give output folders of generator.search.prove")
    if names and len(names) != len(runs):
        raise ConfigError(f"there are {len(names)} names for {len(runs)} runs; give one for each")
    rows, theorems = list[Row](), list[object]()
    for folder, name in zip(runs, names or [folder.name for folder in runs], strict=True):
        header, results = read_results(folder)
        rows.append(Row(name, results, header.get("search", {}).get("max_seconds")))
        theorems.append(header.get("theorems"))
        if theorems[-1] != theorems[0]:
            raise ConfigError(f"{folder} is a search of other theorems than {runs[0]}; compare runs over the same")
        if (left := header.get("num_theorems", len(results)) - len(results)) > 0:
            raise ConfigError(f"{folder}: {left} of its theorems are not searched yet; finish it by the same command")
    return rows


def limits_of(rows: Sequence[Row]) -> str:
    """Say how many seconds the searches had, "" if none had a limit."""
    limits = sorted({row.max_seconds for row in rows if row.max_seconds is not None})
    return f"{' or '.join(f'{limit:g}' for limit in limits)} s each" if limits else ""


def report(rows: Sequence[Row], at_states: Sequence[int], at_seconds: Sequence[float], depth: int) -> list[str]:
    """Return the tables, as Markdown."""
    return [
        _totals(rows),
        _within(rows, num_states, at_states, "states"),
        _within(rows, seconds, at_seconds, "seconds"),
        _by_folder(rows, depth),
        _errors(rows),
    ]


def curve(rows: Sequence[Row], of: Callable[[SearchResult], float], xlabel: str) -> Lines:
    """Return Pass@1 by a limit on states or seconds, a step at each proof, up to the most that a search took."""
    least = min((of(result) for row in rows for result in row.proved), default=1.0)
    most = max((of(result) for row in rows for result in row.searched), default=1.0)
    series = []
    for row in rows:
        places, heights = [least], [100 * row.share(of, least)]
        for place in sorted({of(result) for result in row.proved} - {least} | {most}):
            places += [place, place]
            heights += [heights[-1], 100 * row.share(of, place)]
        series.append(Series(row.name, tuple(places), tuple(heights)))
    title, num = f"Pass@1 by {xlabel}", len(rows[0].searched)
    return Lines(title, "theorems", f"{xlabel}, at most", "proved (%)", tuple(series), num, is_log_x=True)


def _totals(rows: Sequence[Row]) -> str:
    titles = (
        *("", "Pass@1", "95% interval", "proved, failed, open, discarded", "no other row proves"),
        *("states tried", "tactics run", "seconds of search", "generator's share"),
    )
    lines = []
    for row in rows:
        summary = Summary(row.results)
        share, counts = summary.pass_at_1, summary.counts
        others = set[Goal]().union(*(other.proved_theorems for other in rows if other is not row))
        search_s = sum(result.search_s for result in row.results)
        model_s = sum(result.model_s for result in row.results)
        lines.append(
            [
                row.name,
                f"{100 * share.value:.1f}%",
                f"{100 * share.low:.1f} to {100 * share.high:.1f}",
                ", ".join(map(str, counts.values())),
                f"{len(row.proved_theorems - others)}" if len(rows) > 1 else "",
                f"{sum(result.num_expansions for result in row.results):,}",
                f"{sum(result.num_calls for result in row.results):,}",
                f"{search_s:,.0f}",
                f"{100 * model_s / search_s:.0f}%" if search_s else "",
            ]
        )
    if len(rows) > 1:
        everywhere = set[Goal]().union(*(row.proved_theorems for row in rows))
        share = Share.of(len(everywhere), len(rows[0].searched))
        lines.append(["any of them", f"{100 * share.value:.1f}%", *[""] * (len(titles) - 2)])
    return _table(titles, lines)


def _within(rows: Sequence[Row], of: Callable[[SearchResult], float], limits: Sequence[float], unit: str) -> str:
    titles = [f"Pass@1 (%) within so many {unit} (searches cut off before)", *(f"{limit:g}" for limit in limits)]
    cells = [
        [f"{100 * row.share(of, limit):.1f} ({row.num_cut_off(of, limit)})".removesuffix(" (0)") for limit in limits]
        for row in rows
    ]
    return _table(titles, [[row.name, *line] for row, line in zip(rows, cells, strict=True)])


def _by_folder(rows: Sequence[Row], depth: int) -> str:
    totals = Counter(_folder(result.theorem, depth) for result in rows[0].results)
    lines = []
    for folder, total in sorted(totals.items()):
        found = [sum(_folder(theorem, depth) == folder for theorem in row.proved_theorems) for row in rows]
        lines.append([folder, f"{total}", *map(str, found)])
    return _table(["proved in", "theorems", *(row.name for row in rows)], lines)


def _errors(rows: Sequence[Row]) -> str:
    by_row = [Counter[str]() for _ in rows]
    for row, counts in zip(rows, by_row, strict=True):
        for result in row.results:
            counts.update(result.errors)
    kinds = sorted(set().union(*by_row))
    lines = []
    for row, counts in zip(rows, by_row, strict=True):
        num_calls = max(1, sum(result.num_calls for result in row.results))
        lines.append([row.name, *(f"{100 * counts[kind] / num_calls:.1f}" for kind in kinds)])
    return _table(["tactics that failed (% of those run)", *kinds], lines)


def _folder(theorem: Goal, depth: int) -> str:
    parts = PurePosixPath(theorem.file_path).parent.parts[:depth] if isinstance(theorem, Theorem) else ()
    return "/".join(parts) or "."


def _table(titles: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    marks = ["---", *["--:"] * (len(titles) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (titles, marks, *lines))


def _num_refused(folder: Path) -> int:
    """Proofs that a run refused at its end."""
    path = folder / "summary.json"
    try:
        summary: Any = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        return sum(summary.get("refused_by_reason", {}).values())
    except (AttributeError, OSError, TypeError, ValueError) as error:
        raise DataError(f"{path}: is not what a search writes ({error}); run it again") from error


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line; `args` replaces it in tests."""
    compare(**parse_arguments(compare, args))


def cli() -> None:
    """Run the command."""
    run(main)


if __name__ == "__main__":
    cli()
