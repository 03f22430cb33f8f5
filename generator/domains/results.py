"""What an evaluation leaves behind: `<writer>.jsonl`, every proposal, and `<writer>.json`, the figures.

A line of the first is a problem: its spec, the program it was drawn with, and `tries`, each
[program, log_prob, verdict, seconds], in the order of the proposals.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common import DataError, check_positive
from generator.domains.base import KINDS, Domain, Problem
from generator.domains.solved import Curves, SolvedCurve, all_samples, first_solved, within
from generator.domains.synthesize import Outcome, Synthesizer, Try
from generator.domains.writers import Writer
from retrieval.training.files import write_json, writing_file

FORMAT_VERSION = 1
_SHOWN = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)  # budgets, in metrics and tables

Metrics = dict[str, Any]


def evaluate_writer(
    writer: Writer,
    domain: Domain[Any, Any],
    problems: Sequence[Problem],
    synthesizer: Synthesizer,
    path: Path,
    options: Mapping[str, Any],
    progress: Callable[[Iterable[Outcome]], Iterable[Outcome]] = lambda outcomes: outcomes,
) -> Metrics:
    """Let a writer solve problems, and write what came of it.

    Args:
        writer: proposes
        domain: that judges
        problems: to solve
        synthesizer: the search of this writer
        path: of the files, without their endings
        options: that results are to name
        progress: passes outcomes on

    Returns:
        The metrics, as `<path>.json` has them.
    """
    check_positive(num_problems=len(problems))
    tally = Tally(writer, domain, synthesizer)
    with writing_file(path.with_suffix(".jsonl")) as part, part.open("w", encoding="utf-8") as file:
        found = progress(synthesizer.solve([problem.spec for problem in problems]))
        for problem, outcome in zip(problems, found, strict=True):
            file.write(_line(problem, outcome))
            tally.add(problem, outcome)
    metrics = {
        "format_version": FORMAT_VERSION,
        "domain": domain.name,
        "writer": writer.name,
        "options": dict(options),
        **tally.metrics(problems),
    }
    write_json(path.with_suffix(".json"), _plain(metrics))
    return metrics


def _line(problem: Problem, outcome: Outcome) -> str:
    tries = [
        [
            each.program,
            round(each.log_prob, 5),
            each.verdict.kind,
            round(each.verdict.seconds * (not each.is_repeat), 7),
        ]
        for each in outcome.tries
    ]
    record = {**asdict(problem), "solved_at": outcome.solved_at, "ending": outcome.ending, "tries": tries}
    return json.dumps(record, ensure_ascii=True) + "\n"


class Tally:
    """Counts outcomes one after another: millions of proposals need not stay in memory."""

    def __init__(self, writer: Writer, domain: Domain[Any, Any], search: Synthesizer) -> None:
        self.writer, self.domain, self.search = writer, domain, search
        # all samples of a problem serve Pass@k, if each is drawn like the others
        self.has_all = not search.stop_at_first and search.charge_repeats and writer.is_independent
        self.rows: list[Curves] = []
        self.kinds, self.endings = Counter[str](), Counter[str]()
        self.num_new = self.num_exact = 0
        self.seconds_writing = self.seconds_checking = 0.0
        self.distance = Distance(self.has_all)

    def add(self, problem: Problem, outcome: Outcome) -> None:
        """Count an outcome."""
        self.rows.append((all_samples if self.has_all else first_solved)([outcome], self.search.budget)[0])
        self.kinds.update(each.verdict.kind for each in outcome.tries)
        self.endings[outcome.ending] += 1
        self.num_new += sum(not each.is_repeat for each in outcome.tries)
        self.num_exact += bool(outcome.tries) and outcome.tries[0].program == problem.program
        self.seconds_writing += outcome.seconds_writing
        self.seconds_checking += outcome.seconds_checking
        if self.writer.tells_probability and (posterior := self.domain.posterior(outcome.spec)) is not None:
            self.distance.add(outcome.tries, posterior)

    def metrics(self, problems: Sequence[Problem]) -> Metrics:
        """Return the figures of an evaluation; the problems are those that were counted."""
        rows, num_tries, budget = np.array(self.rows), self.kinds.total(), self.search.budget
        curve = SolvedCurve.of(rows)
        return {
            "num_problems": len(problems),
            "budget": budget,
            "estimator": "pass@k of the whole budget" if self.has_all else "first that holds",
            **{f"solved@{b}": curve.share[b - 1] for b in _SHOWN if b <= budget},
            "num_proposals": num_tries,
            "verdicts": {kind: self.kinds[kind] for kind in KINDS},
            "endings": dict(self.endings),
            "valid_syntax": 1 - self.kinds["malformed"] / max(1, num_tries),
            "distinct": self.num_new / max(1, num_tries),
            "exact_match@1": self.num_exact / len(problems),
            **_losses(self.writer, self.domain, problems),
            **self.distance.metrics(),
            "seconds": {
                "writing": self.seconds_writing,
                "checking": self.seconds_checking,
                "per_solved": (self.seconds_writing + self.seconds_checking) / max(1, self.endings["solved"]),
            },
            "by_group": _by_group(self.domain, problems, rows),
            "curve": asdict(curve),
            "exact_curve": self._exact(problems),
        }

    def _exact(self, problems: Sequence[Problem]) -> Metrics | None:
        """The curve that the writer's own probabilities give, without chance, where they are known."""
        chances = [self.writer.success_probability(problem.spec) for problem in problems]
        known = [chance for chance in chances if chance is not None]
        return asdict(SolvedCurve.of(within(known, self.search.budget))) if len(known) == len(chances) else None


def _losses(writer: Writer, domain: Domain[Any, Any], problems: Sequence[Problem]) -> Metrics:
    """Negative log-likelihood of the hidden programs in nats, a program, and the least that any writer can have."""
    found = [writer.log_prob(problem.spec, problem.program) for problem in problems]
    known = [log_prob for log_prob in found if log_prob is not None]
    possible = [log_prob for log_prob in known if log_prob > -math.inf]
    floors = [domain.floor(problem.spec) for problem in problems]
    known_floors = [floor for floor in floors if floor is not None]
    return {
        "nll": -sum(possible) / len(possible) if possible and len(possible) == len(known) else None,
        "num_impossible": len(known) - len(possible) if known else None,
        "nll_floor": sum(known_floors) / len(floors) if len(known_floors) == len(floors) else None,
    }


class Distance:
    """How far proposals are from the true posterior.

    The total variation of distributions q and p is the mean of max(0, 1 - p / q) over samples of q: exact on average,
    whatever the number of samples. That of the samples' frequencies is above it by chance.

    A text may come from several sequences of tokens (those of ByT5 that stand for no byte are not written), and a
    log-probability is that of one: the likeliest that was drawn stands for the text.
    """

    _NUM_BINS, _PER_DECADE, _DECADES = 24, 4, 6

    def __init__(self, has_all: bool) -> None:
        """Start without a problem; a search that stops at the first that holds has one fair sample, its first."""
        self.has_all = has_all
        self.distances, self.of_frequencies = list[float](), list[float]()
        # of proposals by log10 of q, from 1e-6 on: how many, and the sums of their q and p
        self.sums = np.zeros((self._NUM_BINS, 3))

    def add(self, tries: Sequence[Try], posterior: Mapping[str, float]) -> None:
        """Count the proposals of a problem."""
        fair = tries if self.has_all else tries[:1]
        if not fair:
            return
        log_probs: dict[str, float] = {}
        for each in fair:
            log_probs[each.program] = max(each.log_prob, log_probs.get(each.program, -math.inf))
        p = np.array([posterior.get(each.program, 0.0) for each in fair])
        q = np.maximum(np.exp([log_probs[each.program] for each in fair]), 1e-300)
        self.distances.append(float(np.maximum(0, 1 - p / q).mean()))
        place = np.floor(self._PER_DECADE * (np.log10(q) + self._DECADES)).clip(max=self._NUM_BINS - 1).astype(int)
        sums = np.stack([np.ones_like(q), q, p], axis=1)
        np.add.at(self.sums, place[place >= 0], sums[place >= 0])
        if self.has_all:
            counts = Counter(each.program for each in fair)
            gap = sum(abs(counts[text] / len(fair) - posterior.get(text, 0.0)) for text in {*counts, *posterior})
            self.of_frequencies.append(gap / 2)

    def metrics(self) -> Metrics:
        """Return the distances and the bins that hold something; nothing without a problem."""
        if not self.distances:
            return {}
        frequencies = sum(self.of_frequencies) / len(self.of_frequencies) if self.of_frequencies else None
        return {
            "total_variation": sum(self.distances) / len(self.distances),
            "total_variation_of_frequencies": frequencies,
            "calibration": [
                {"count": int(count), "proposed": q / count, "posterior": p / count}
                for count, q, p in self.sums.tolist()
                if count
            ],
        }


def _by_group(domain: Domain[Any, Any], problems: Sequence[Problem], rows: Any) -> Metrics:
    """Shares solved with one proposal and with ten, by kind of group and group."""
    members: dict[str, dict[str, list[int]]] = {}
    for number, problem in enumerate(problems):
        for kind, group in domain.groups(domain.read_spec(problem.spec)).items():
            members.setdefault(kind, {}).setdefault(group, []).append(number)
    budgets = [b for b in (1, 10) if b <= rows.shape[1]]
    return {
        kind: {
            group: {"num": len(numbers), **{f"solved@{b}": float(rows[numbers, b - 1].mean()) for b in budgets}}
            for group, numbers in groups.items()
        }
        for kind, groups in members.items()
    }


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


def read_results(paths: Iterable[Path], domain: Domain[Any, Any]) -> list[Result]:
    """Read files of metrics, and all those of folders.

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


def _read_result(path: Path, domain: Domain[Any, Any]) -> Result:
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
    if name != domain.name:
        raise DataError(f"{path} is a result of domain {name}, not {domain.name}; compare results of one domain")
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
    """Write results as a Markdown table, shares in percent, with the standard error of the first."""
    rows = list(results)
    budgets = [b for b in _SHOWN if any(b <= row["budget"] for row in rows)]
    lines = [
        "| writer | " + " | ".join(f"solved@{b}" for b in budgets) + " | valid syntax | nats a program |",
        "|---|" + "--:|" * (len(budgets) + 2),
    ]
    for row in rows:
        shares = [f"{100 * row['curve']['share'][b - 1]:.1f}" if b <= row["budget"] else "" for b in budgets]
        loss = "" if row.get("nll") is None else f"{row['nll']:.2f}"
        if row.get("num_impossible"):
            loss = f"{row['num_impossible']:,} impossible"
        lines.append(f"| {row['writer']} | {' | '.join(shares)} | {100 * row['valid_syntax']:.1f} | {loss} |")
    return "\n".join(lines)
