"""Files of lines `count|problem<TAB>answer`, as Lample & Charton published theirs: read, checked and split.

A published file has up to 88 million lines (tens of GB), the most frequent first: frequent ones are trivial, so that
its first lines are a biased sample. Here a line is 16 bytes, where it begins and a hash of its problem, and the file is
read where it lies.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import mmap
import shutil
import tempfile
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from common import DataError
from generator.domains.base import Problem
from generator.domains.symbolic.vocabulary import ARITY, DIGITS, LEAVES, MINUS, PLUS, UNKNOWN
from retrieval.training.datamodule import Split

Numbers = npt.NDArray[np.int64]

_NUM_EXAMPLES = 3  # lines of each kind of fault that are named
_CHANGE = {**{word: arity - 1 for word, arity in ARITY.items()}, **dict.fromkeys((*LEAVES, PLUS, MINUS), -1)}
_ORDER = {"ode1": "Y'", "ode2": "Y''"}


class LineError(ValueError):
    """A line is none of the format; the message is the kind of fault, one of few."""


def read_line(line: bytes, task: str = "") -> Problem:
    """Return the problem of a line, with or without a count, and with any end of line.

    >>> read_line(b"12|sub Y' x\\tmul div INT+ 1 INT+ 2 pow x INT+ 2\\r\\n").spec
    "sub Y' x"

    Args:
        line: of a file
        task: which the problem must be of; any by default

    Raises:
        LineError: if it is none
    """
    text = line.decode("utf-8", errors="replace").rstrip("\r\n")
    count, bar, rest = text.partition("|")
    if bar and not (count.isascii() and count.isdigit()):
        raise LineError("its count is no number")
    texts = (rest if bar else text).split("\t")
    if len(texts) != 2:
        raise LineError("it has no tab" if len(texts) == 1 else "it has more than one tab")
    spec, program = (each.split() for each in texts)
    _check_words(spec)
    _check_words(program)
    if task in _ORDER:
        if _ORDER[task] not in spec or (task == "ode1" and "Y''" in spec):
            raise LineError(f"its problem is none of {task}")
    elif task and (spec[:2] != ["sub", "Y'"] or any(word in UNKNOWN for word in spec[2:])):
        raise LineError(f"its problem is none of {task}")
    return Problem(" ".join(spec), " ".join(program))


def _check_words(words: list[str]) -> None:
    """Raise LineError unless words are one whole prefix expression."""
    wanted, in_number = 1, False
    for word in words:
        if word in DIGITS and in_number:
            continue
        if word not in _CHANGE:
            raise LineError("a digit stands alone" if word in DIGITS else "it has an unknown word")
        if not wanted:
            raise LineError("words follow the end of an expression")
        wanted += _CHANGE[word]
        in_number = word in (PLUS, MINUS)
    if wanted:
        raise LineError("an expression is not whole")


@dataclass
class Faults:
    """Lines that are left out.

    Attributes:
        path: of the file
        counts: how many, by the kind of fault
        examples: the first of them, as `file:line`
    """

    path: Path
    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, number: int) -> None:
        """Count the fault of a line."""
        self.counts[kind] += 1
        places = self.examples.setdefault(kind, [])
        if len(places) < _NUM_EXAMPLES:
            places.append(f"{self.path}:{number}")

    def lines(self) -> list[str]:
        """Say in lines what was left out."""
        return [
            f"left out: {count:,} lines, of which {kind}: {', '.join(self.examples[kind])}"
            + (" ..." if count > len(self.examples[kind]) else "")
            for kind, count in self.counts.most_common()
        ]


class LineFile:
    """The good lines of a file by number.

    Attributes:
        faults: the others
        starts: where each line begins, (N,)
        marks: a hash of each line's problem, (N,)
    """

    def __init__(self, path: Path, content: mmap.mmap, task: str, lines: Iterable[bytes]) -> None:
        self.path, self._content, self._task = path, content, task
        self.faults = Faults(path)
        starts, marks, place = array("q"), array("q"), 0
        for number, line in enumerate(lines, start=1):
            if line.strip():
                try:
                    mark = _mark(read_line(line, task).spec)
                except LineError as error:
                    self.faults.add(str(error), number)
                else:
                    starts.append(place)
                    marks.append(mark)
            place += len(line)
        if not starts:
            kinds = "; ".join(self.faults.lines()) or "it is empty"
            raise DataError(f"{path} has no line `count|problem<TAB>answer` of {task or 'any task'} ({kinds})")
        self.starts: Numbers = np.frombuffer(starts, np.int64)
        self.marks: Numbers = np.frombuffer(marks, np.int64)

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, number: int) -> Problem:
        self._content.seek(int(self.starts[number]))
        return read_line(self._content.readline(), self._task)


def _mark(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big", signed=True)


@contextmanager
def opened(path: Path, task: str = "") -> Iterator[LineFile]:
    """Give the block the lines of a file; of a .gz file, those of what it holds, which is unpacked for as long.

    Raises:
        DataError: if it cannot be read, or has no good line
    """
    with ExitStack() as stack:
        try:
            if path.suffix == ".gz":
                file: IO[bytes] = stack.enter_context(tempfile.TemporaryFile())
                shutil.copyfileobj(stack.enter_context(gzip.open(path)), file)
                file.seek(0)
            else:
                file = stack.enter_context(path.open("rb"))
            content = stack.enter_context(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except (OSError, EOFError, ValueError) as error:
            what = "is empty" if isinstance(error, ValueError) else getattr(error, "strerror", None) or error
            raise DataError(
                f"{path}: {what}; give a file of lines `count|problem<TAB>answer`, or such a .gz"
            ) from error
        yield LineFile(path, content, task, file)


# ------------------------------------------------------------------------------------------------
# Splits


def held_out_lines(total: int, size: int) -> dict[Split, Numbers]:
    """Return the lines, from 0 on, of val and test.

    Of 2 * size numbers floor(i ** alpha), which go from 1 to the last line, the odd ones are for val, the even ones for
    test: they lie close at the head, where the frequent lines are, and ever farther apart. A file has at least 2 * size
    lines.
    """
    alpha = math.log(total - 0.5) / math.log(2 * size)
    picked = np.floor(np.arange(1, 2 * size + 1) ** alpha).astype(np.int64)
    return {"val": picked[::2], "test": picked[1::2]}


@dataclass(frozen=True)
class Parts:
    """Which lines are in which split, in the order in which they are written.

    Attributes:
        lines: numbers of lines of each split
        num_leaked: lines of val and test that were left out, because their problem is in train (or val) too
        num_repeated: lines that were left out, because their problem is in the split already
    """

    lines: dict[Split, Numbers]
    num_leaked: int
    num_repeated: int


def split_lines(marks: Numbers, size: int, num_train: int | None, seed: int) -> Parts:
    """Split lines of a file that is sorted by frequency, and shuffle each split.

    Args:
        marks: hashes of the problems, (N,)
        size: lines of val, and of test, before those are left out that are in train too
        num_train: lines of train, drawn from all; all by default
        seed: of the order

    Raises:
        DataError: if there are not so many lines
    """
    if len(marks) < 2 * size + (num_train or 1):
        raise DataError(
            f"the file has {len(marks):,} good lines, too few for {size:,} of val, as many of test and "
            f"{num_train or 1:,} of train"
        )
    held_out = held_out_lines(len(marks), size)
    in_train = np.ones(len(marks), bool)
    in_train[np.concatenate(list(held_out.values()))] = False
    rng = np.random.default_rng(seed)
    candidates: dict[Split, Numbers] = {"train": np.flatnonzero(in_train), **held_out}
    chosen, taken = dict[Split, Numbers](), np.empty(0, np.int64)
    num_repeated = num_leaked = 0
    for split, numbers in candidates.items():
        new = numbers[~np.isin(marks[numbers], taken)]
        found, first = np.unique(marks[new], return_index=True)
        num_leaked += len(numbers) - len(new)
        num_repeated += len(new) - len(first)
        chosen[split], taken = new[first], np.concatenate([taken, found])
    lines: dict[Split, Numbers] = {}
    for split, numbers in chosen.items():
        lines[split] = rng.permutation(numbers)
    if num_train is not None and len(lines["train"]) < num_train:
        raise DataError(f"the file has {len(lines['train']):,} different problems for train, not {num_train:,}")
    lines["train"] = lines["train"][:num_train]
    return Parts(lines, num_leaked, num_repeated)
