"""The commands `import` and `export`: from a file in the published format to a folder of problems, and back."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from common import ConfigError, check_choice, check_positive
from generator.domains.base import Domain
from generator.domains.choices import DomainChoice
from generator.domains.problem_files import CARD, FORMAT_VERSION, describe, line_of, read_split
from generator.domains.symbolic.files import Parts, opened, split_lines
from generator.domains.symbolic.options import TASKS
from retrieval.training.datamodule import SPLITS, Split
from retrieval.training.files import write_json, writing_file, writing_folder
from retrieval.training.options import flat_options


@flat_options
def import_(
    path: Path,
    output_dir: Path,
    choice: DomainChoice = DomainChoice("prim_fwd"),
    num_train: int | None = None,
    num_held_out: int = 5000,
    seed: int = 0,
) -> None:
    """Make a folder of problems, as `generate` does, from a file in the published format.

    Lines are `count|problem<TAB>answer`, in prefix words, the most frequent first; the count may be missing. Lines that
    are none are left out, counted and named. val and test take lines that lie close at the head of the file and
    ever farther apart, without those whose problem is in train; every split is shuffled.

    Args:
        path: the file, or a .gz of it
        output_dir: folder to make
        choice: which task the file is of
        num_train: problems of train, drawn from all; all by default
        num_held_out: lines for val, and for test
        seed: of the order, and of the draw
    """
    domain = _task(choice)
    check_positive(num_train=num_train, num_held_out=num_held_out)
    with opened(path, domain.name) as lines:
        parts = split_lines(lines.marks, num_held_out, num_train, seed)
        with writing_folder(output_dir) as folder:
            for split, numbers in parts.lines.items():
                with (folder / f"{split}.jsonl").open("w", encoding="utf-8") as file:
                    file.writelines(line_of(lines[number]) for number in tqdm(numbers, desc=split, unit="problem"))
            card = _card(domain, parts, seed, num_held_out)
            card["imported"] = {"file": path.name, "lines": len(lines), "left_out": dict(lines.faults.counts)}
            write_json(folder / CARD, card)
        print("\n".join([*lines.faults.lines(), describe(card)]))
    print(
        f"left out: {parts.num_leaked:,} lines of val and test whose problem is in train too, {parts.num_repeated:,} "
        "whose problem is in their own split"
    )


def _card(domain: Domain[Any, Any], parts: Parts, seed: int, num_held_out: int) -> dict[str, Any]:
    nothing = {"same_text": 0.0, "same_meaning": 0.0}
    return {
        "format_version": FORMAT_VERSION,
        "domain": domain.name,
        "domain_options": asdict(domain.options),
        "seed": seed,
        "sizes": {split: len(numbers) for split, numbers in parts.lines.items()},
        "leaks": {"val": nothing, "test": nothing},
        "num_held_out": num_held_out,
        "num_leaked": parts.num_leaked,
        "num_repeated": parts.num_repeated,
        "complete": True,
    }


@flat_options
def export(
    data_path: Path,
    output: Path,
    choice: DomainChoice = DomainChoice("prim_fwd"),
    splits: Iterable[str] = ("train",),
    counts: bool = True,
) -> None:
    """Write problems of a folder as a file in the published format, `count|problem<TAB>answer`.

    Args:
        data_path: folder that `generate` or `import` made
        output: file to write; compressed if its name ends in .gz
        choice: which task the folder is of
        splits: of the folder, one after another
        counts: begin lines with `1|`, as trainers of the published files expect
    """
    domain = _task(choice)
    names = list(splits)
    for split in names:
        check_choice("splits", split, SPLITS)
    with writing_file(output) as part, _writer(part, output.suffix == ".gz") as file:
        num_written = sum(_write(file, data_path, split, domain, counts) for split in SPLITS if split in names)
    print(f"{output}: {num_written:,} problems")


def _writer(path: Path, compressed: bool) -> IO[str]:
    return gzip.open(path, "wt", encoding="utf-8") if compressed else path.open("w", encoding="utf-8")


def _write(file: IO[str], folder: Path, split: Split, domain: Domain[Any, Any], counts: bool) -> int:
    problems = read_split(folder, split, domain)
    for problem in problems:
        file.write(f"{'1|' * counts}{problem.spec}\t{problem.program}\n")
    return len(problems)


def _task(choice: DomainChoice) -> Domain[Any, Any]:
    if choice.domain not in TASKS:
        raise ConfigError(f"domain is {choice.domain}; files of this format are of {', '.join(TASKS)}")
    return choice.make()
