"""The commands `generate`, `baseline` and `evaluate`: problems on disk, and how well writers solve them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from common import ConfigError
from generator.domains.choices import (
    DomainChoice,
    ModelChoice,
    ProblemChoice,
    SearchChoice,
    baseline_writers,
    recorded,
)
from generator.domains.problem_files import describe, write_problem_files
from generator.domains.results import Metrics, evaluate_writer, file_name, table
from generator.domains.synthesize import Outcome
from generator.domains.writers import Writer
from retrieval.training.options import flat_options


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
) -> None:
    """Let baselines of a domain solve problems.

    A table is printed; every proposal and all figures are written, two files for each writer, for `plot` to read.

    Args:
        output_dir: folder to write to
        problems: which
        search: how
        writers: names; all of the domain by default
        num_train: problems that writers learn from, if they do
    """
    domain = problems.make()
    names = list(writers) or list(domain.baselines())
    if not names:
        raise ConfigError(f"domain {domain.name} has no baselines; `evaluate` takes a model")
    made = baseline_writers(names, domain, problems, num_train)
    _evaluate_all(output_dir, problems, search, made.values(), {"num_train": num_train})


@flat_options
def evaluate(
    output_dir: Path,
    model: ModelChoice = ModelChoice(),
    problems: ProblemChoice = ProblemChoice(),
    search: SearchChoice = SearchChoice(),
) -> None:
    """Let a model solve problems.

    A table is printed; every proposal and all figures are written, for `plot` to read. Samples and beams compare at
    equal budget: run it once with each, and another name.

    Args:
        output_dir: folder to write to
        model: which
        problems: which
        search: how
    """
    problems.make()  # what is wrong with it is told before a model is loaded
    _evaluate_all(output_dir, problems, search, [model.writer(search, problems.seed)], recorded(model))


def _evaluate_all(
    output_dir: Path,
    choice: ProblemChoice,
    search: SearchChoice,
    writers: Iterable[Writer],
    options: Mapping[str, Any],
) -> None:
    domain = choice.make()
    problems = choice.problems(domain)
    told = {**recorded(choice, search), **options}
    rows: list[Metrics] = []
    for writer in writers:
        path = output_dir / file_name(writer.name)
        synthesizer = search.synthesizer(writer, domain)

        def progress(outcomes: Iterable[Outcome], name: str = writer.name) -> Iterator[Outcome]:
            yield from tqdm(outcomes, total=len(problems), desc=name, unit="problem", mininterval=1)

        rows.append(evaluate_writer(writer, domain, problems, synthesizer, path, told, progress))
    print(table(rows))
    print(f"\n{len(problems):,} problems; every proposal and all figures: {output_dir}")
