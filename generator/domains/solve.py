"""The commands `solve`, `inspect` and `check`: single problems, in the terminal."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from common import Candidate, ConfigError, DataError, check_positive
from generator.domains.base import KINDS, Domain, MalformedError, Problem, SpecError, Verdict
from generator.domains.choices import DomainChoice, ModelChoice, ProblemChoice, SearchChoice, baseline_writers
from generator.domains.problem_files import read_records
from generator.domains.synthesize import Outcome
from generator.domains.writers import Writer
from retrieval.training.options import flat_options
from retrieval.training.shown import shown

_BAR = 40  # characters


@flat_options
def solve(
    spec: str | None = None,
    model: ModelChoice = ModelChoice(),
    problems: ProblemChoice = ProblemChoice(),
    search: SearchChoice = SearchChoice(budget=20, batch_size=20, stop_at_first=True),
    writer: str = "",
    num_train: int = 5000,
    max_shown: int = 30,
) -> None:
    """Solve one specification, and show the proposals as they come and the first that holds.

    Args:
        spec: text of the specification, as a user writes it too where the domain reads that (x*cos(x)); without one,
            the first problem of the split is taken
        model: which, unless a baseline is named
        problems: which domain, and what baselines learn from
        search: how
        writer: a baseline of the domain, instead of a model
        num_train: problems that a baseline learns from, if it does
        max_shown: proposals to print, at most

    Raises:
        SystemExit: with status 1 if no proposal holds
    """
    check_positive(max_shown=max_shown)
    domain = problems.make()
    text = problems.of_split(domain, problems.split, 1)[0].spec if spec is None else domain.spec_of_user(spec.strip())
    domain.read_spec(text)
    if writer and model.ckpt_path:
        raise ConfigError("both writer and ckpt_path are given; give one of them")
    if not writer and not model.ckpt_path:
        names = ", ".join(domain.baselines()) or "none"
        raise ConfigError(f"give a model (ckpt_path), or a writer; domain {domain.name} has {names}")
    made = (
        baseline_writers([writer], domain, problems, num_train)[writer]
        if writer
        else model.writer(search, problems.seed)
    )
    print(f"{shown(text)}\n\n{shown(domain.show(text))}\n", flush=True)
    # a baseline may have none that says something
    start, listening = time.perf_counter(), _Listening(made, tells=made.tells_probability or not writer)
    outcome = search.synthesizer(listening, _Reporting(domain, max_shown, listening.log_probs))(text)
    print(_ending(domain, outcome, search.budget, listening.log_probs, time.perf_counter() - start))
    if not outcome.is_solved:
        sys.exit(1)


class _Listening(Writer):
    """A writer, and the log-probabilities of what it has proposed."""

    def __init__(self, writer: Writer, *, tells: bool) -> None:
        self.writer, self.name, self.tells = writer, writer.name, tells
        self.log_probs: dict[str, float] = {}

    def propose(self, specs: Sequence[str], first: int, count: int) -> list[list[Candidate]]:
        """See `Writer.propose`."""
        found = self.writer.propose(specs, first, count)
        if self.tells:
            self.log_probs.update(candidate for candidates in found for candidate in candidates)
        return found


class _Reporting:
    """A checker that prints what it is asked."""

    def __init__(self, domain: Domain[Any, Any], max_shown: int, log_probs: Mapping[str, float]) -> None:
        self.domain, self.max_shown, self.log_probs, self.num = domain, max_shown, log_probs, 0

    def check_all(self, pairs: Sequence[tuple[str, str]]) -> list[Verdict]:
        """Judge, and print."""
        verdicts = self.domain.check_all(pairs)
        for (_, program), verdict in zip(pairs, verdicts, strict=True):
            self.num += 1
            if self.num <= self.max_shown or verdict.holds:
                print(verdict_row(self.domain, program, verdict, self.log_probs.get(program)), flush=True)
            elif self.num == self.max_shown + 1:
                print("  ...", flush=True)
        return verdicts


def verdict_row(domain: Domain[Any, Any], program: str, verdict: Verdict, log_prob: float | None = None) -> str:
    """Return a proposal and what became of it, in a line."""
    mark = {"verified": "+", "rejected": "-", "malformed": "?", "timeout": "~", "error": "!"}[verdict.kind]
    reason = f"  {verdict.message}" if verdict.message else ""
    # what was not decided in time may take as long to write in another way
    text = domain.for_user(program) if verdict.kind in ("verified", "rejected") else program
    text = text if text.isprintable() else repr(text)[1:-1]
    probability = "" if log_prob is None else f"{log_prob:8.2f}  "
    return shown(f"  {mark} {probability}{text:<12} {verdict.kind}{reason}")


def _ending(
    domain: Domain[Any, Any], outcome: Outcome, budget: int, log_probs: Mapping[str, float], seconds: float
) -> str:
    time_taken = f"in {seconds:.1f} s, of which {outcome.seconds_checking:.1f} s to check"
    if outcome.program is not None:
        tried = "the first proposal" if outcome.num_samples == 1 else f"proposal {outcome.num_samples}"
        picture = shown(domain.show(outcome.spec, outcome.program))
        told = _told(outcome, log_probs.get(outcome.program))
        return f"\nsolved by {tried}{told}, {time_taken}\n\n{picture}"
    if outcome.ending == "no_more" and not outcome.tries:
        return "\nnot solved: the writer proposes nothing"
    reason = {
        "no_more": f"the writer has no more than {len(outcome.tries)} proposals",
        "repeats": "the writer only repeats itself",
    }.get(outcome.ending, f"the budget of {budget} proposals is spent")
    counts = Counter(each.verdict.kind for each in outcome.tries)
    return f"\nnot solved: {reason} ({_kinds(counts)}), {time_taken}"


def _kinds(counts: Counter[Any]) -> str:
    return ", ".join(f"{counts[kind]:,} {kind}" for kind in KINDS if counts[kind])


def _told(outcome: Outcome, log_prob: float | None) -> str:
    repeats = sum(each.is_repeat for each in outcome.tries)
    told = [] if log_prob is None else [f"log-probability {log_prob:.2f}"]
    told += [f"{repeats} of them repeats"] if repeats else []
    return f" ({', '.join(told)})" if told else ""


@flat_options
def inspect(problems: ProblemChoice = ProblemChoice(num_problems=100), num_shown: int = 3) -> None:
    """Show problems of a split: some as pictures, of all how long they are and in which groups.

    Args:
        problems: which
        num_shown: pictures
    """
    domain = problems.make()
    found = problems.problems(domain)
    for number, problem in enumerate(found[: max(0, num_shown)]):
        print(f"problem {number}: {shown(problem.spec)} -> {shown(problem.program)}\n")
        print(shown(domain.show(problem.spec, problem.program)), end="\n\n")
    print("\n\n".join(_counted(domain, found)))


def _counted(domain: Domain[Any, Any], problems: Sequence[Problem]) -> Iterable[str]:
    yield _histogram("bytes of the specification", _lengths(len(problem.spec.encode()) for problem in problems))
    yield _histogram("bytes of the program", _lengths(len(problem.program.encode()) for problem in problems))
    groups: dict[str, Counter[str]] = {}
    for problem in problems:
        for kind, group in domain.groups(domain.read_spec(problem.spec)).items():
            groups.setdefault(kind, Counter())[group] += 1
    for kind, counts in groups.items():
        yield _histogram(kind, dict(sorted(counts.items(), key=lambda item: (len(item[0]), item[0]))))


def _lengths(lengths: Iterable[int]) -> dict[str, int]:
    """Counts of lengths, in at most ten groups of equal width."""
    found = list(lengths)
    low, width = min(found), max(1, -(-(max(found) - min(found) + 1) // 10))
    counts = Counter((length - low) // width for length in found)
    ends = [(low + k * width, low + (k + 1) * width - 1) for k in range(max(counts) + 1)]
    return {f"{a}" if a == b else f"{a}-{b}": counts[k] for k, (a, b) in enumerate(ends)}


def _histogram(title: str, counts: dict[str, int]) -> str:
    most, width = max(counts.values(), default=1), max(map(len, counts), default=0)
    rows = [f"  {label:>{width}}  {'#' * round(_BAR * n / most):<{_BAR}} {n:,}" for label, n in counts.items()]
    return "\n".join([title, *rows])


@flat_options
def check(
    choice: DomainChoice = DomainChoice(),
    spec: str | None = None,
    program: str | None = None,
    path: Path | None = None,
) -> None:
    """Judge given programs, without any model: one, or those of a file.

    Args:
        choice: which domain
        spec: a specification, as `solve` takes it
        program: an answer to it, written in the same way
        path: JSON lines with "spec" and "program", such as `generate` writes; the verdicts are counted, and those that
            do not hold are printed with their lines

    Raises:
        SystemExit: with status 1 if one does not hold
    """
    domain = choice.make()
    if (spec is None) != (program is None) or (spec is None) == (path is None):
        raise ConfigError("give either spec and program, or path")
    if spec is not None and program is not None:
        sys.exit(0 if _check_one(domain, domain.spec_of_user(spec.strip()), program.strip()) else 1)
    counts: Counter[str] = Counter()
    assert path is not None
    for number, record in read_records(path):
        texts = [record.get(name) for name in ("spec", "program")]
        if not all(isinstance(text, str) for text in texts):
            raise DataError(f'{path}:{number}: give an object with the texts "spec" and "program"')
        try:
            verdict = domain.check(*map(str, texts))
        except SpecError as error:
            raise DataError(f"{path}:{number}: {error}") from error
        counts[verdict.kind] += 1
        if not verdict.holds:
            print(f"{path}:{number}:{verdict_row(domain, str(texts[1]), verdict)}")
    print(_kinds(counts) or "no lines")
    if counts.total() != counts["verified"]:
        sys.exit(1)


def _check_one(domain: Domain[Any, Any], spec: str, program: str) -> bool:
    try:
        program = domain.program_of_user(program)
    except MalformedError as error:  # the reason may go on with lines that show where
        reason, *lines = str(error).split("\n")
        print("\n".join([verdict_row(domain, program, Verdict("malformed", reason)), *map(shown, lines)]))
        return False
    verdict = domain.check(spec, program)
    print(verdict_row(domain, program, verdict))
    if verdict.kind != "malformed":
        print("\n" + shown(domain.show(spec, program)))
    return verdict.holds
