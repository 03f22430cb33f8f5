"""What an evaluation leaves behind: `<writer>.jsonl`, every proposal, and `<writer>.json`, the figures.

A line of the first is a problem, see `unfinished`: what the writer wrote, never the problem's own program in its place.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from common import DataError, check_positive
from generator.domains.base import KINDS, Domain, Problem
from generator.domains.synthesize import Outcome, Synthesizer
from generator.domains.tally import SHOWN, Metrics, Tally
from generator.domains.unfinished import UnfinishedRows
from generator.domains.writers import Writer
from retrieval.training.charts import Share
from retrieval.training.files import write_json

FORMAT_VERSION = 1


def evaluate_writer(
    writer: Writer,
    domain: Domain[Any, Any],
    problems: Sequence[Problem],
    synthesizer: Synthesizer,
    path: Path,
    options: Mapping[str, Any],
    progress: Callable[[Iterable[Outcome], int], Iterable[Outcome]] = lambda outcomes, _: outcomes,
    gold: Metrics | None = None,
) -> Metrics:
    """Let a writer solve problems, and write what came of it; one that was interrupted goes on where it stopped.

    Args:
        writer: proposes
        domain: that judges
        problems: to solve
        synthesizer: the search of this writer
        path: of the files, without their endings
        options: that results are to name, and one that goes on must share
        progress: passes outcomes on; the number is that of those that were there before
        gold: what the checker says of the problems' own programs, see `judge_gold`

    Returns:
        The metrics, as `<path>.json` has them.

    Raises:
        ConfigError: if what was interrupted had other options
    """
    check_positive(num_problems=len(problems))
    domain.expect(problems)
    rows_path, metrics_path = Path(f"{path}.jsonl"), Path(f"{path}.json")
    about = {"format_version": FORMAT_VERSION, "domain": domain.name, "writer": writer.name, **_identity(options)}
    tally = Tally(writer, domain, synthesizer)
    with UnfinishedRows(rows_path, about, problems, synthesizer.charge_repeats) as rows:
        num_done = len(rows.outcomes)
        new = synthesizer.solve([problem.spec for problem in problems[num_done:]])
        for number, outcome in enumerate(progress(chain(rows.outcomes, new), num_done)):
            if number >= num_done:
                rows.append(problems[number], outcome)
            tally.add(problems[number], outcome)
        metrics = {
            "format_version": FORMAT_VERSION,
            "domain": domain.name,
            "writer": writer.name,
            "options": dict(options),
            **({} if gold is None else {"gold": gold}),
            **tally.metrics(problems),
        }
        write_json(metrics_path, _plain(metrics))
        rows.finish()
    return metrics


def _identity(options: Mapping[str, Any]) -> Metrics:
    """The options that decide what comes out."""
    others = ("device", "group_size", "trained_on", "train_size")
    return {name: value for name, value in options.items() if name not in others}


def judge_gold(domain: Domain[Any, Any], problems: Sequence[Problem]) -> Metrics:
    """Return how many problems' own programs the checker accepts, by the verdict and in all.

    What is less than all of them is the checker's fault, and no model can be better by more than chance.
    """
    verdicts = domain.gold_verdicts(problems)
    counts = {kind: sum(verdict.kind == kind for verdict in verdicts) for kind in KINDS}
    return {"num": len(verdicts), "pass_rate": counts["verified"] / max(1, len(verdicts)), "verdicts": counts}


def _plain(value: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


# ------------------------------------------------------------------------------------------------
# Reading


@dataclass(frozen=True)
class Result:
    """The metrics of a writer, read from a file.

    Attributes:
        path: of the file
        metrics: as `evaluate_writer` returned them
    """

    path: Path
    metrics: Metrics

    @property
    def writer(self) -> str:
        """The name of the writer."""
        return str(self.metrics["writer"])

    @property
    def domain(self) -> str:
        """The domain that its problems are of."""
        return str(self.metrics["domain"])

    @property
    def beam(self) -> int | None:
        """How wide the beam search was; None if it was none."""
        beam = self._option("beam")
        return beam if type(beam) is int else None

    @property
    def base(self) -> str:
        """The name of the writer without the width of its beam, which `evaluate --beams` adds."""
        return self.writer.removesuffix(f"_beam{self.beam}")

    @property
    def trained_on(self) -> str | None:
        """What the model was trained on, where that is known."""
        found = self._option("trained_on")
        return None if found is None else str(found)

    @property
    def train_size(self) -> int | None:
        """How many problems the model was trained on, where that is known."""
        size = self._option("train_size")
        return size if type(size) is int and size > 0 else None

    def share(self, budget: int) -> Share | None:
        """Return the share of problems solved within a budget with its band; None beyond the budget of the result."""
        if budget > self.metrics["budget"]:
            return None
        curve = self.metrics["curve"]
        return Share(*(float(curve[part][budget - 1]) for part in ("share", "low", "high")))

    def _option(self, name: str) -> Any:
        options = self.metrics.get("options")
        return options.get(name) if isinstance(options, Mapping) else None


def read_results(paths: Iterable[Path], domain: Domain[Any, Any] | None) -> list[Result]:
    """Read files of metrics, and all those of folders.

    Args:
        paths: of files and folders
        domain: of all results; None if they may be of several

    Raises:
        DataError: if one is missing, broken, or of another domain
    """
    results = [_read_result(path, domain) for path in _files(paths)]
    if not results:
        raise DataError("there are no results; give files that `baseline` or `evaluate` wrote, or their folders")
    return results


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            inside = sorted(each for each in path.glob("*.json") if each.with_suffix(".jsonl").exists())
            if not inside:
                raise DataError(f"{path} holds no results; give a folder that `baseline` or `evaluate` wrote")
            yield from inside
        else:
            yield path


def _read_result(path: Path, domain: Domain[Any, Any] | None) -> Result:
    try:
        metrics = json.loads(path.read_text(encoding="utf-8"))
        version, name = metrics["format_version"], metrics["domain"]
        _check_drawable(metrics)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; give a file that `baseline` or `evaluate` wrote") from error
    except (KeyError, RecursionError, TypeError, ValueError) as error:
        raise DataError(f"{path} is no result of `baseline` or `evaluate` ({error})") from error
    if version != FORMAT_VERSION:
        raise DataError(f"{path}: format version {version}, but this program reads version {FORMAT_VERSION}")
    if domain is not None and name != domain.name:
        raise DataError(
            f"{path} is a result of domain {name}, not {domain.name}; give --domain {name}, or --across for results of "
            "several domains"
        )
    return Result(path, metrics)


def _check_drawable(metrics: Metrics) -> None:
    """Raise an error unless what figures show is there, and of numbers."""
    curve, calibration, budget = metrics["curve"], metrics.get("calibration", []), metrics["budget"]
    if type(budget) is not int or type(metrics["num_problems"]) is not int or type(metrics["writer"]) is not str:
        raise ValueError("budget, num_problems or writer is none")
    if not all(type(curve[part]) is list and len(curve[part]) == budget for part in ("share", "low", "high")):
        raise ValueError("its curve has not a share for each budget")
    numbers = [each for part in ("share", "low", "high") for each in curve[part]]
    numbers += [each[part] for each in calibration for part in ("count", "proposed", "posterior")]
    numbers += [metrics["total_variation"]] if calibration else []
    numbers += [metrics[each] for each in ("nll", "nll_floor") if metrics.get(each) is not None]
    if not all(type(each) in (int, float) and math.isfinite(each) for each in numbers):
        raise ValueError("one of its figures is no number")


def file_name(writer: str) -> str:
    """Return the name of a writer as that of a file."""
    return re.sub(r"[^\w.-]+", "_", writer).strip(".") or "writer"


def table(results: Iterable[Metrics]) -> str:
    """Write results as Markdown tables, shares in percent: what was solved, and what became of proposals."""
    rows = list(results)
    budgets = [b for b in SHOWN if any(b <= row["budget"] for row in rows)]
    solved = [["writer", *(f"solved@{b}" for b in budgets), "valid syntax", "nats a program"]]
    for row in rows:
        shares = [f"{100 * row['curve']['share'][b - 1]:.1f}" if b <= row["budget"] else "" for b in budgets]
        loss = "" if row.get("nll") is None else f"{row['nll']:.2f}"
        if row.get("num_impossible"):
            loss = f"{row['num_impossible']:,} impossible"
        solved.append([row["writer"], *shares, f"{100 * row['valid_syntax']:.1f}", loss])
    return f"{_markdown(solved)}\n\n{_markdown(_fates(rows))}"


def _fates(rows: Sequence[Metrics]) -> list[list[str]]:
    """What became of proposals; what no writer has is left out."""
    columns: dict[str, list[str]] = {
        "writer": [row["writer"] for row in rows],
        "exact match": [f"{100 * row['exact_match@1']:.1f}" for row in rows],
        "rank of the first verified: mean": [_number(row["first_verified"]["mean"]) for row in rows],
        "median": [_number(row["first_verified"]["median"]) for row in rows],
    }
    for kind in ("malformed", "timeout", "error"):
        if any(row["verdicts"][kind] for row in rows):
            columns[kind] = [f"{100 * row['shares'][kind]:.2f}" for row in rows]
    if any(row["at_most_curve"] for row in rows):
        columns["solved, if all undecided held"] = [
            f"{100 * (row['at_most_curve'] or row['curve']['share'])[-1]:.1f}" for row in rows
        ]
    if any("general_curve" in row for row in rows):
        columns["verified and general"] = [
            f"{100 * row['general_curve'][-1]:.1f}" if "general_curve" in row else "" for row in rows
        ]
    return [list(columns), *map(list, zip(*columns.values(), strict=True))]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|---|" + "--:|" * (len(rows[0]) - 1), *lines[1:]])
