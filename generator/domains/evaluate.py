"""The commands `generate`, `baseline` and `evaluate`: problems on disk, and how well writers solve them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from common import ConfigError
from generator.domains.base import Domain, Problem, Verdict
from generator.domains.choices import (
    DomainChoice,
    ModelChoice,
    ProblemChoice,
    SearchChoice,
    baseline_writers,
    recorded,
)
from generator.domains.problem_files import describe, write_problem_files
from generator.domains.results import evaluate_writer, file_name, judge_gold, table
from generator.domains.synthesize import Outcome
from generator.domains.tally import Metrics
from generator.domains.training_data import trained_on
from generator.domains.writers import Writer
from retrieval.training.options import flat_options
from retrieval.training.signals import Interrupted, interrupted_by_signals


@flat_options
def generate(
    output_dir: Path,
    choice: DomainChoice = DomainChoice(),
    num_train: int = 5000,
    num_val: int = 1000,
    num_test: int = 1000,
    seed: int = 0,
    num_workers: int = 1,
) -> None:
    """Draw problems of a domain into files.

    Run again after an interruption, it goes on where it stopped. How many held-out specifications are in train too is
    printed, and kept in domain.json.

    Args:
        output_dir: folder to make
        choice: which domain
        num_train: problems of train
        num_val: problems of val
        num_test: problems of test
        seed: of the draws
        num_workers: processes; what is drawn does not depend on it
    """
    sizes: Mapping[Any, int] = {"train": num_train, "val": num_val, "test": num_test}
    print(describe(write_problem_files(choice.make(), output_dir, sizes, seed, num_workers)))


@flat_options
def baseline(
    output_dir: Path,
    problems: ProblemChoice = ProblemChoice(),
    search: SearchChoice = SearchChoice(),
    writers: Sequence[str] = (),
    num_train: int = 5000,
    num_gold: int = 100,
) -> None:
    """Let baselines of a domain solve problems.

    A table is printed; every proposal and all figures are written, two files for each writer, for `plot` to read.

    Args:
        output_dir: folder to write to
        problems: which
        search: how
        writers: names; all of the domain by default
        num_train: problems that writers learn from, if they do
        num_gold: problems whose own program is judged first, as the checker may fail on it; 0 judges none
    """
    _check_num_gold(num_gold)
    domain = problems.make()
    names = list(writers) or list(domain.baselines())
    if not names:
        raise ConfigError(f"domain {domain.name} has no baselines; `evaluate` takes a model")
    made = baseline_writers(names, domain, problems, num_train).values()
    _evaluate_all(output_dir, problems, [(each, search) for each in made], {"num_train": num_train}, num_gold)


@flat_options
def evaluate(
    output_dir: Path,
    model: ModelChoice = ModelChoice(),
    problems: ProblemChoice = ProblemChoice(),
    search: SearchChoice = SearchChoice(),
    num_gold: int = 100,
) -> None:
    """Let a model solve problems.

    A table is printed; every proposal and all figures are written, for `plot` to read. Samples and beams compare at
    equal budget: run it once with each, and another name. What time-outs and errors of the checker leave undecided
    counts as not solved, with its share beside it. Run again after an interruption, it goes on where it stopped.

    Args:
        output_dir: folder to write to
        model: which
        problems: which
        search: how
        num_gold: problems whose own program is judged first, as the checker may fail on it; 0 judges none
    """
    _check_num_gold(num_gold)
    problems.make()  # what is wrong with it is told before a model is loaded
    loaded, found = model.load(), trained_on(model.ckpt_path)
    data = {name: recorded(model).get(name) or value for name, value in found.items()}
    writers = [(one.writer_of(loaded, each, problems.seed), each) for one, each in model.searches(search)]
    _evaluate_all(output_dir, problems, writers, {**recorded(model), **data}, num_gold)
    if note := _about_beams(model, search):
        print(note)


def _evaluate_all(
    output_dir: Path,
    choice: ProblemChoice,
    writers: Iterable[tuple[Writer, SearchChoice]],
    options: Mapping[str, Any],
    num_gold: int,
) -> None:
    """Let writers solve problems, each with its search; print and write what came of it."""
    domain = choice.make()
    problems = choice.problems(domain)
    gold = _judge_gold(domain, problems[:num_gold])
    checker, rows = Remembering(domain), list[Metrics]()
    for writer, search in writers:
        path = output_dir / file_name(writer.name)
        told = {**recorded(choice, search), "beam": search.budget if writer.is_beam else None, **options}
        synthesizer = search.synthesizer(writer, checker)
        bar = Progress(writer.name, len(problems))
        try:
            with interrupted_by_signals():
                rows.append(evaluate_writer(writer, domain, problems, synthesizer, path, told, bar, gold))
        except Interrupted as error:
            kept = f"{bar.num_done:,} of {len(problems):,} problems are kept; the same command goes on"
            print(f"\ninterrupted by {error}: {kept}", file=sys.stderr)
            raise
    print(table(rows))
    print(f"\n{len(problems):,} problems; every proposal and all figures: {output_dir}")


def _check_num_gold(num_gold: int) -> None:
    if num_gold < 0:
        raise ConfigError(f"num_gold is {num_gold}; it must be at least 0")


def _judge_gold(domain: Domain[Any, Any], problems: Sequence[Problem]) -> Metrics | None:
    if not problems:
        return None
    gold = judge_gold(domain, problems)
    others = [f"{count:,} {kind}" for kind, count in gold["verdicts"].items() if count and kind != "verified"]
    print(
        f"gold: of {gold['num']:,} problems' own programs the checker verifies {gold['pass_rate']:.1%}"
        + (f" ({', '.join(others)}); what it misses here, it misses of writers too" if others else ""),
        flush=True,
    )
    return gold


class Remembering:
    """A checker that judges a program for a specification once, whichever search asks.

    Attributes:
        is_slow: see `Domain`
    """

    def __init__(self, domain: Domain[Any, Any]) -> None:
        self.domain, self.is_slow = domain, domain.is_slow
        self._known: dict[tuple[str, str], Verdict] = {}

    def check_all(self, pairs: Sequence[tuple[str, str]]) -> list[Verdict]:
        """See `Domain.check_all`; where a check takes no time, nothing is remembered."""
        if not self.is_slow:
            return self.domain.check_all(pairs)
        new = list(dict.fromkeys(pair for pair in pairs if pair not in self._known))
        found = dict(zip(new, self.domain.check_all(new), strict=True)) if new else {}
        verdicts = [found[pair] if pair in found else replace(self._known[pair], seconds=0.0) for pair in pairs]
        self._known |= found
        return verdicts


class Progress:
    """A bar with the time that is left, and what was solved so far.

    Attributes:
        num_done: problems
    """

    def __init__(self, name: str, total: int) -> None:
        self.name, self.total, self.num_done = name, total, 0

    def __call__(self, outcomes: Iterable[Outcome], num_kept: int) -> Iterator[Outcome]:
        """Pass outcomes on, the first of which were there before."""
        num_solved = 0
        with tqdm(total=self.total, initial=num_kept, desc=self.name, unit="problem", mininterval=1) as bar:
            for number, outcome in enumerate(outcomes, start=1):
                num_solved += outcome.is_solved
                yield outcome
                self.num_done = number  # by now it is written
                if number > num_kept:
                    bar.set_postfix_str(f"{num_solved:,} solved, {num_solved / number:.1%}", refresh=False)
                    bar.update()


def _about_beams(model: ModelChoice, search: SearchChoice) -> str:
    if model.proposals != "beam" or model.beams or search.budget == 1:
        return ""
    return (
        f"solved@k counts the first k candidates of one beam of {search.budget}, which is not what a beam of k finds; "
        "--beams 1 10 50 searches with each"
    )
