"""Which theorems are searched: those of a split, of a file of names, or a statement."""

from __future__ import annotations

import difflib
import fnmatch
import hashlib
import random
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from common import ConfigError, DataError, check_choice, check_positive
from generator.environments.base import Statement, Theorem
from retrieval.leandojo.json_list import JsonListReader
from retrieval.leandojo.theorem_fields import as_object, position_field, text_field

Goal: TypeAlias = Theorem | Statement
Choice: TypeAlias = Literal["md5", "random", "first"]

_PLACE = re.compile(r"\d+:\d+")


@dataclass(frozen=True)
class TheoremOptions:
    """Which theorems are searched.

    Attributes:
        data_path: a split of LeanDojo Benchmark 4's layout, such as data/random/val.json, or the folder of splits
        split: train, val or test, where data_path is a folder
        names_path: file of theorems, one a line: a full name that is looked up in data_path, or without data_path the
            file, the full name, and perhaps line:column, separated by blanks. A line that begins with # is a remark
        statement: what is to be proved instead, as it stands behind a theorem's name
        header: source before the statement, which is trusted, such as imports
        statement_name: name under which the proof of the statement is written
        num_theorems: search so many of them; null for all
        choice: which: md5 takes the first in the order of md5(file_path:full_name), as ReProver does; random draws with
            seed; first takes them as they come
        file_filter: leaves out theorems of other files; a pattern such as theories/Lists/*
    """

    data_path: Path | None = None
    split: str = "test"
    names_path: Path | None = None
    statement: str | None = None
    header: str = ""
    statement_name: str = "searched_statement"
    num_theorems: int | None = None
    choice: Choice = "md5"
    file_filter: str | None = None

    def __post_init__(self) -> None:
        check_choice("choice", self.choice, get_args(Choice))
        check_positive(num_theorems=self.num_theorems)


def load_theorems(options: TheoremOptions, seed: int = 0) -> list[Goal]:
    """Return the theorems to search, each once, in the order of their files.

    Args:
        options: which
        seed: of choice "random"

    Raises:
        ConfigError: if the options name no theorems, or fit none
        DataError: if a file is missing or broken, or a name in it is unknown
    """
    if options.statement is not None:
        if options.data_path is not None or options.names_path is not None:
            raise ConfigError("statement is to be proved alone; leave out data_path and names_path")
        return [Statement(options.statement, options.header, options.statement_name)]
    if options.data_path is None and options.names_path is None:
        raise ConfigError("there is nothing to prove; give data_path (a split), names_path, or a statement")
    found = list(dict.fromkeys(_all_theorems(options)))
    if options.file_filter is not None:
        found = [theorem for theorem in found if fnmatch.fnmatchcase(theorem.file_path, options.file_filter)]
    if not found:
        where = options.names_path or options.data_path
        fits = f" whose file fits file_filter {options.file_filter!r}" if options.file_filter is not None else ""
        raise DataError(f"{where}: holds no theorems{fits}")
    return [*in_file_order(choose(found, options.num_theorems, options.choice, seed))]


def choose(theorems: Sequence[Theorem], num_theorems: int | None, choice: Choice, seed: int) -> list[Theorem]:
    """Return so many of the theorems; see `TheoremOptions`.

    Source of md5: `_get_theorems_from_files` in ReProver's prover/evaluate.py.
    """
    theorems = list(theorems)
    if choice == "md5":
        theorems.sort(key=lambda theorem: hashlib.md5(_md5_text(theorem), usedforsecurity=False).hexdigest())
    elif choice == "random":
        random.Random(f"{seed} theorems").shuffle(theorems)
    return theorems[:num_theorems]


def _md5_text(theorem: Theorem) -> bytes:
    return f"{theorem.file_path}:{theorem.full_name}".encode(errors="surrogatepass")


def in_file_order(theorems: Iterable[Theorem]) -> Iterator[Theorem]:
    """Yield theorems file by file, and in each as they stand there: a prover goes forward through it once."""
    by_file = defaultdict[str, list[Theorem]](list)
    for theorem in theorems:
        by_file[theorem.file_path].append(theorem)
    for path in sorted(by_file):
        yield from sorted(by_file[path], key=lambda theorem: theorem.start or (0, 0))


def label(theorem: Goal) -> str:
    """How a theorem is called on the screen."""
    if isinstance(theorem, Statement):
        return theorem.name
    return f"{theorem.file_path}:{theorem.full_name}"


def find_theorem(theorems: Sequence[Goal], name: str) -> Goal:
    """Return the theorem of a full name, or of file and full name with a colon between.

    Raises:
        ConfigError: if there is none, or several
    """
    found = [each for each in theorems if name in (label(each), _name(each))]
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError(f"{name} stands at several places; give one of {', '.join(map(label, found))}")
    nearest = difflib.get_close_matches(name, [_name(each) for each in theorems], n=3)
    hint = f"did you mean {', '.join(nearest)}?" if nearest else "give a full name as the data has it"
    raise ConfigError(f"there is no theorem {name} among the {len(theorems):,} that the options name; {hint}")


def _name(theorem: Goal) -> str:
    return theorem.name if isinstance(theorem, Statement) else theorem.full_name


# ------------------------------------------------------------------------------------------------
# Files


def split_file(data_path: Path, split: str) -> Path:
    """Return the file of a split, given as file or as folder and name.

    Raises:
        DataError: if there is none
    """
    if data_path.is_dir():
        path = data_path / f"{split}.json"
        if not path.is_file():
            there_are = ", ".join(sorted(each.stem for each in data_path.glob("*.json"))) or "no splits"
            raise DataError(f"{data_path}: there is no {split}.json; there are {there_are}")
        return path
    if not data_path.is_file():
        raise DataError(f"{data_path}: there is no such file or folder; give a split such as data/random/val.json")
    return data_path


def read_split(path: Path) -> Iterator[Theorem]:
    """Yield the theorems of a split, in its order, those without traced tactics included.

    Raises:
        DataError: naming file and theorem where it is broken
    """
    with open(path, "rb", buffering=0) as file:
        for number, record in enumerate(JsonListReader(path, file, lambda _: None)):
            try:
                yield theorem_of(as_object(record, "a theorem"))
            except DataError as error:
                raise DataError(f"{path}: theorem {number}{error}") from None


def theorem_of(record: dict[str, Any]) -> Theorem:
    start = None if record.get("start") is None else position_field(record, "start")
    return Theorem(text_field(record, "file_path"), text_field(record, "full_name"), start)


def _all_theorems(options: TheoremOptions) -> Iterator[Theorem]:
    if options.data_path is None:
        assert options.names_path is not None
        yield from _located_names(options.names_path)
        return
    theorems = read_split(split_file(options.data_path, options.split))
    if options.names_path is None:
        yield from theorems
        return
    by_name = defaultdict[str, list[Theorem]](list)
    for theorem in theorems:
        by_name[theorem.full_name].append(theorem)
    for number, line in _lines(options.names_path):
        if line not in by_name:
            raise DataError(f"{options.names_path}:{number}: {options.data_path} has no theorem {line}")
        yield from by_name[line]


def _located_names(path: Path) -> Iterator[Theorem]:
    for number, line in _lines(path):
        words = line.split()
        if len(words) not in (2, 3) or (len(words) == 3 and not _PLACE.fullmatch(words[2])):
            raise DataError(
                f"{path}:{number}: {line!r} is not a file, a full name, and perhaps line:column; names "
                "alone are looked up in data_path, so give that too"
            )
        line_nb, _, column_nb = words[2].partition(":") if len(words) == 3 else ("", "", "")
        yield Theorem(words[0], words[1], (int(line_nb), int(column_nb)) if line_nb else None)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines that say something, with their numbers."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: {error}; give a text file with a theorem in each line") from error
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip() and not line.startswith("#"):
            yield number, line.strip()
