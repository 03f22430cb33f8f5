"""Problems on disk: a folder with {train,val,test}.jsonl, and domain.json, which says what they were drawn from.

A line is {"spec": ..., "program": ...}. While the folder is made, `shards/` holds the problems of ranges of numbers,
each file whole or not there, so that what was interrupted goes on where it stopped.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tqdm import tqdm

from common import ConfigError, DataError, check_positive
from generator.domains import make_domain
from generator.domains.base import Domain, Problem, SpecError
from retrieval.training.datamodule import Split
from retrieval.training.files import one_at_a_time, write_json, writing_file
from retrieval.training.json_lines import parse_object

FORMAT_VERSION = 1
CARD = "domain.json"
_SHARDS = "shards"
_MAX_SHARD = 5000  # problems; of a small split, as many as it has

DEFAULT_SIZES: Mapping[Split, int] = {"train": 20_000, "val": 500, "test": 1000}  # of what training draws by itself

Card = dict[str, Any]


def write_problem_files(
    domain: Domain[Any, Any], folder: Path, sizes: Mapping[Split, int], seed: int, num_workers: int = 1
) -> Card:
    """Make a folder of problems, or finish one; nothing is done where it is whole.

    What is written does not depend on the number of workers, nor on interruptions.

    Args:
        domain: to draw from
        folder: to write to
        sizes: problems of each split
        seed: of the draws
        num_workers: processes

    Returns:
        What domain.json says: among others how many held-out specifications are in train too.

    Raises:
        ConfigError: if a number is out of range, or the folder holds something else
    """
    check_positive(num_workers=num_workers, **{f"num_{split}": size for split, size in sizes.items()})
    card: Card = {
        "format_version": FORMAT_VERSION,
        "domain": domain.name,
        "domain_options": asdict(domain.options),
        "seed": seed,
        "sizes": dict(sizes),
    }
    folder.parent.mkdir(parents=True, exist_ok=True)
    with one_at_a_time(folder):
        found = _begun(folder, card)
        if found is not None and found["complete"]:
            return found
        write_json(folder / CARD, {**card, "complete": False})
        card |= domain.write_splits(folder, sizes, seed, num_workers) or _write_splits(
            domain, folder, sizes, seed, num_workers
        )
        write_json(folder / CARD, {**card, "complete": True})
        shutil.rmtree(folder / _SHARDS, ignore_errors=True)
    return {**card, "complete": True}


def _begun(folder: Path, card: Card) -> Card | None:
    """What is there of a folder that is made with the same settings; ConfigError for any other."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return None
    found = read_card(folder)
    if found is None:
        raise ConfigError(f"output_dir {folder} holds something else; give a new folder")
    other = [name for name, value in card.items() if found.get(name) != value]
    if other:
        raise ConfigError(
            f"output_dir {folder} was made with {', '.join(f'{name} {found.get(name)}' for name in other)}, and now "
            f"{', '.join(f'{name} is {card[name]}' for name in other)}; give another folder, or remove it"
        )
    return found


class _Shards:
    """Files of ranges of numbers, made by several processes."""

    def __init__(self, domain: Domain[Any, Any], folder: Path, seed: int, num_workers: int) -> None:
        self.domain, self.folder, self.seed = domain, folder, seed
        # nothing of this process's threads is needed in a worker, and to import torch anew takes seconds
        self.pool = ProcessPoolExecutor(num_workers, get_context("fork")) if num_workers > 1 else None

    def __enter__(self) -> _Shards:
        return self

    def __exit__(self, *_: object) -> None:
        if self.pool is not None:
            self.pool.shutdown(cancel_futures=True)

    def problems(self, split: Split, first: int, count: int, size: int) -> Iterator[Problem]:
        """Problems of `count` shards of a size from number `first` on; those that are missing are made."""
        wanted = [(number, self.folder / f"{split}-{number:05d}.jsonl") for number in range(first, first + count)]
        tasks = [
            (self.domain.name, asdict(self.domain.options), self.seed, split, number * size, size, path)
            for number, path in wanted
            if not path.exists()
        ]
        done = map(_make_shard, tasks) if self.pool is None else self.pool.map(_make_shard, tasks)
        for _ in tqdm(done, total=len(tasks), desc=f"drawing {split}", unit="shard", disable=len(tasks) < 2):
            pass
        for _, path in wanted:
            yield from read_problems(path, self.domain)


def _make_shard(task: tuple[str, dict[str, Any], int, Split, int, int, Path]) -> None:
    name, options, seed, split, first, size, path = task
    domain = make_domain(name, options)
    _write(path, (domain.problem(seed, split, index) for index in range(first, first + size)))


def _write_splits(
    domain: Domain[Any, Any], folder: Path, sizes: Mapping[Split, int], seed: int, num_workers: int
) -> Card:
    with _Shards(domain, folder / _SHARDS, seed, num_workers) as shards:
        problems = {split: _write_split(domain, folder, shards, split, size) for split, size in sizes.items()}
    return {"leaks": {split: domain.leaks(problems["train"], problems[split]) for split in sizes if split != "train"}}


def _write_split(domain: Domain[Any, Any], folder: Path, shards: _Shards, split: Split, size: int) -> list[Problem]:
    """The first problems of a split, each specification once where splits are disjoint."""

    def endless() -> Iterator[Problem]:
        shard_size = min(size, _MAX_SHARD)
        first, count = 0, -(-size // shard_size)
        while True:
            yield from shards.problems(split, first, count, shard_size)
            first, count = first + count, max(1, count // 4)

    numbered = domain.distinct(endless())
    problems = [next(numbered) for _ in range(size)]
    _write(folder / f"{split}.jsonl", problems)
    return problems


def _write(path: Path, problems: Iterable[Problem]) -> None:
    with writing_file(path) as part, part.open("w", encoding="utf-8") as file:
        for problem in problems:
            file.write(line_of(problem))


def line_of(problem: Problem) -> str:
    """Return the line that a problem is in a file."""
    return json.dumps(asdict(problem), ensure_ascii=False) + "\n"


def read_card(folder: Path) -> Card | None:
    """Return what domain.json of a folder says; None where there is none.

    Raises:
        DataError: if it is broken, or of another version
    """
    path = folder / CARD
    if not path.is_file():
        return None
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(card, dict) or not isinstance(card.get("domain"), str) or "complete" not in card:
            raise ValueError("it does not name a domain")
    except (OSError, RecursionError, ValueError) as error:
        raise DataError(f"{path} is broken ({error}); generate the folder again") from error
    if card.get("format_version") != FORMAT_VERSION:
        raise DataError(f"{path}: format version {card.get('format_version')}; this program reads {FORMAT_VERSION}")
    return card


def read_split(folder: Path, split: Split, domain: Domain[Any, Any]) -> list[Problem]:
    """Return the problems of a split of a folder.

    Raises:
        DataError: if it is of another domain, not finished, broken, or not there
    """
    card = read_card(folder)
    if card is None:
        raise DataError(f"data_path {folder}: no {CARD}; make one with `python -m generator.domains generate`")
    check_same_domain(folder / CARD, card, domain)
    if not card["complete"]:
        raise DataError(f"data_path {folder} is not finished; run the `generate` that made it again")
    problems, sizes = list(read_problems(folder / f"{split}.jsonl", domain)), card.get("sizes")
    size = sizes.get(split) if isinstance(sizes, dict) else None
    if len(problems) != size:
        raise DataError(
            f"{folder / f'{split}.jsonl'} has {len(problems):,} problems, and {CARD} says {size}; generate it again"
        )
    return problems


def check_same_domain(path: Path, card: Mapping[str, Any], domain: Domain[Any, Any]) -> None:
    """Raise DataError if a file is of another domain, which is not akin to this one."""
    if card.get("domain") not in (domain.name, *domain.akin):
        raise DataError(
            f"{path} is of domain {card.get('domain')}, not {domain.name}; give --domain {card.get('domain')}"
        )


def read_problems(path: Path, domain: Domain[Any, Any]) -> Iterator[Problem]:
    """Yield the problems of a file.

    Raises:
        DataError: naming the line that is none, or has a specification that is none of the domain
    """
    for number, record in read_records(path):
        texts = [record.get(name) for name in ("spec", "program")]
        if not all(isinstance(text, str) for text in texts):
            raise DataError(f'{path}:{number}: give an object with the texts "spec" and "program"')
        problem = Problem(*map(str, texts))
        try:
            domain.read_spec(problem.spec)
        except SpecError as error:
            raise DataError(f"{path}:{number}: {error}") from error
        yield problem


def read_records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the objects of JSON lines with the numbers of their lines; blank lines are skipped.

    Raises:
        DataError: if the file is missing, or naming the line that is no object
    """
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                yield number, parse_object(line, f"{path}:{number}", "remove the line, or make the file again")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; give a file of JSON lines") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is no UTF-8 ({error.reason})") from error


def describe(card: Card) -> str:
    """Say in lines what a folder holds, and what of it is in train too."""
    lines = [f"{split}: {card['sizes'][split]:,} problems" for split in card["sizes"]]
    for split, shares in card.get("leaks", {}).items():
        lines.append(
            f"{split} specifications that are in train too: {100 * shares['same_text']:.1f}% as the same text, "
            f"{100 * shares['same_meaning']:.1f}% saying the same"
        )
    return "\n".join(lines)
