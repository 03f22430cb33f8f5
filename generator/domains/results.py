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
from generator.domains.solved import SolvedCurve, all_samples, first_solved, within
from generator.domains.synthesize import Outcome, Synthesizer
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
    outcomes: list[Outcome] = []
    with writing_file(path.with_suffix(".jsonl")) as part, part.open("w", encoding="utf-8") as file:
        found = progress(synthesizer.solve([problem.spec for problem in problems]))
        for problem, outcome in zip(problems, found, strict=True):
            file.write(_line(problem, outcome))
            outcomes.append(outcome)
    metrics = {
        "format_version": FORMAT_VERSION,
        "domain": domain.name,
        "writer": writer.name,
        "options": dict(options),
        **measure(writer, domain, problems, outcomes, synthesizer),
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


def measure(
    writer: Writer,
    domain: Domain[Any, Any],
    problems: Sequence[Problem],
    outcomes: Sequence[Outcome],
    search: Synthesizer,
) -> Metrics:
    """Return the figures of an evaluation."""
    has_all = not search.stop_at_first and search.charge_repeats and writer.is_independent
    rows = (all_samples if has_all else first_solved)(outcomes, search.budget)
    curve = SolvedCurve.of(rows)
    chances = [writer.success_probability(problem.spec) for problem in problems]
    exact = None if any(chance is None for chance in chances) else SolvedCurve.of(within(chances, search.budget))  # type: ignore[arg-type]
    tries = [each for outcome in outcomes for each in outcome.tries]
    kinds = Counter(each.verdict.kind for each in tries)
    num_tries = max(1, len(tries))
    writing, checking = sum(o.seconds_writing for o in outcomes), sum(o.seconds_checking for o in outcomes)
    pairs = list(zip(problems, outcomes, strict=True))
    return {
        "num_problems": len(problems),
        "budget": search.budget,
        "estimator": "pass@k of the whole budget" if has_all else "first that holds",
        **{f"solved@{b}": curve.share[b - 1] for b in _SHOWN if b <= search.budget},
        "num_proposals": len(tries),
        "verdicts": {kind: kinds[kind] for kind in KINDS},
        "endings": dict(Counter(outcome.ending for outcome in outcomes)),
        "valid_syntax": 1 - kinds["malformed"] / num_tries,
        "distinct": sum(not each.is_repeat for each in tries) / num_tries,
        "exact_match@1": sum(bool(o.tries) and o.tries[0].program == p.program for p, o in pairs) / len(pairs),
        **_losses(writer, domain, problems),
        **_distance(writer, domain, outcomes, has_all),
        "seconds": {
            "writing": writing,
            "checking": checking,
            "per_solved": (writing + checking) / max(1, sum(outcome.is_solved for outcome in outcomes)),
        },
        "by_group": _by_group(domain, problems, rows),
        "curve": asdict(curve),
        "exact_curve": None if exact is None else asdict(exact),
    }


def _losses(writer: Writer, domain: Domain[Any, Any], problems: Sequence[Problem]) -> Metrics:
    """Negative log-likelihood of the hidden programs in nats, a program, and the least that any writer can have."""
    found = [writer.log_prob(problem.spec, problem.program) for problem in problems]
    known = [log_prob for log_prob in found if log_prob is not None]
    possible = [log_prob for log_prob in known if log_prob > -math.inf]
    floors = [_entropy(domain.posterior(problem.spec)) for problem in problems]
    return {
        "nll": -sum(possible) / len(possible) if possible and len(possible) == len(known) else None,
        "num_impossible": len(known) - len(possible) if known else None,
        "nll_floor": None if any(math.isnan(floor) for floor in floors) else sum(floors) / len(floors),
    }


def _entropy(posterior: Mapping[str, float] | None) -> float:
    if posterior is None:
        return math.nan
    return -sum(p * math.log(p) for p in posterior.values() if p > 0)


def _distance(writer: Writer, domain: Domain[Any, Any], outcomes: Sequence[Outcome], has_all: bool) -> Metrics:
    """How far proposals are from the true posterior, where it is known.

    The total variation of distributions q and p is the mean of max(0, 1 - p / q) over samples of q: exact on average,
    whatever the number of samples. That of the samples' frequencies is above it by chance.
    """
    if not writer.tells_probability or domain.posterior(outcomes[0].spec) is None:
        return {}
    distances, of_frequencies = list[float](), list[float]()
    num_bins = 24
    sums = np.zeros((num_bins, 3))  # of proposals by log10 q from -6 to 0: how many, their q, their p
    for outcome in outcomes:
        posterior = domain.posterior(outcome.spec) or {}
        tries = outcome.tries if has_all else outcome.tries[:1]  # a search that stopped favours what holds
        if not tries:
            continue
        p = np.array([posterior.get(each.program, 0.0) for each in tries])
        q = np.exp([each.log_prob for each in tries])
        distances.append(float(np.maximum(0, 1 - p / np.maximum(q, 1e-300)).mean()))
        place = (4 * (np.log10(np.maximum(q, 1e-6)) + 6)).astype(int).clip(0, num_bins - 1)
        np.add.at(sums, place, np.stack([np.ones_like(q), q, p], axis=1))
        if has_all:
            counts = Counter(each.program for each in tries)
            gap = sum(abs(counts[text] / len(tries) - posterior.get(text, 0.0)) for text in {*counts, *posterior})
            of_frequencies.append(gap / 2)
    if not distances:
        return {}
    filled = sums[sums[:, 0] > 0]
    return {
        "total_variation": sum(distances) / len(distances),
        "total_variation_of_frequencies": sum(of_frequencies) / len(of_frequencies) if of_frequencies else None,
        "calibration": [
            {"count": int(count), "proposed": q / count, "posterior": p / count} for count, q, p in filled.tolist()
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
        shares = metrics["curve"]["share"]
        numbers = [
            metrics["num_problems"],
            metrics["budget"],
            *shares,
            *metrics["curve"]["low"],
            *metrics["curve"]["high"],
        ]
        if not all(type(each) in (int, float) for each in numbers) or len(shares) != metrics["budget"]:
            raise ValueError("its curve is none")
        metrics["writer"], metrics["options"]
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; give a file that `baseline` or `evaluate` wrote") from error
    except (KeyError, RecursionError, TypeError, ValueError) as error:
        raise DataError(f"{path} is no result of `baseline` or `evaluate` ({error})") from error
    if version != FORMAT_VERSION:
        raise DataError(f"{path}: format version {version}, but this program reads version {FORMAT_VERSION}")
    if name != domain.name:
        raise DataError(f"{path} is a result of domain {name}, not {domain.name}; compare results of one domain")
    return Result(path, metrics)


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
