"""Instruct data: prompt/completion examples in JSON Lines, as ntp-toolkit writes them.

Each line is an object with texts `prompt` and `completion`, and perhaps `task`, `prompt_name` and an object
`metadata`; or with a state and a tactic, see generator.data.state_lines. Files may be packed with gzip. They are read
line by line into text columns, so that an example costs no Python object until it is asked for, and forked workers
share all of it.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from glob import glob, has_magic
from pathlib import Path
from typing import Any, BinaryIO, cast, overload

import numpy as np
from tqdm import tqdm

from common import ConfigError, DataError
from generator.data.state_lines import PromptWriter, UnusableLine
from retrieval.leandojo.json_list import depth, what_is_extreme
from retrieval.leandojo.text_column import TextColumn, digest_of
from retrieval.training.datamodule import SPLITS

DataPath = str | list[str] | dict[str, str | list[str]]

_SPLIT_OF_WORD = {
    "train": "train", "training": "train", "test": "test", "testing": "test",
    "val": "val", "dev": "val", "valid": "val", "validation": "val",
}  # fmt: skip
_SUFFIX = re.compile(r"\.jsonl(\.gz)?$", re.IGNORECASE)
_EMPTY = {"completion": "examples with an empty completion", "prompt": "examples with an empty prompt"}
_BROKEN = "broken lines"
_MAX_DEPTH = 50  # of metadata
_GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class InstructRecord:
    """One line of instruct data.

    Attributes:
        task: what is asked for, such as "tactic_prediction"
        prompt: what the model reads
        prompt_name: the template that the data says it was written with
        completion: what the model learns to write
        metadata: whatever else the data says of the example
        place: file:line
    """

    task: str
    prompt: str = field(repr=False)
    prompt_name: str
    completion: str
    metadata: dict[str, Any] = field(repr=False)
    place: str


class InstructRecords(Sequence[InstructRecord]):
    """The examples of one split, in the order of its files.

    Attributes:
        paths: the files
        left_out: how many lines were left out, by reason
        first_left_out: file and line of the first one of each reason, and what is wrong with it
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        """Start empty; users call `load`."""
        self.paths = list(paths)
        self.left_out: Counter[str] = Counter()
        self.first_left_out: dict[str, str] = {}
        self._prompts, self._completions, self._metadata = TextColumn(), TextColumn(), TextColumn()
        self._names: dict[str, int] = {}  # tasks and prompt names, of which there are few
        self._numbers = array("i")  # task, prompt_name, file, line

    @classmethod
    def load(
        cls,
        paths: Sequence[str | Path],
        *,
        skip_invalid: bool = False,
        progress: bool = True,
        writer: PromptWriter = PromptWriter(),
    ) -> InstructRecords:
        """Read files of examples.

        Args:
            paths: the files, .jsonl or .jsonl.gz
            skip_invalid: count lines that are broken instead of raising
            progress: show a progress bar where reading takes more than a second
            writer: makes prompts of lines that hold a state and a tactic

        Raises:
            ConfigError: if there are lines without prompts, and no template to write them with
            DataError: if a file is missing or is no JSON Lines, or a line is broken
        """
        records = cls([Path(path) for path in paths])
        total = sum(path.stat().st_size for path in records.paths if path.is_file())
        with tqdm(total=total, desc="read examples", unit="B", unit_scale=True, delay=1, disable=not progress) as bar:
            for number, path in enumerate(records.paths):
                for line_nb, line in _lines(path, bar):
                    records._add(line, number, line_nb, skip_invalid, writer)
        return records

    def _add(self, line: bytes, file: int, line_nb: int, skip_invalid: bool, writer: PromptWriter) -> None:
        place = f"{self.paths[file]}:{line_nb}"
        try:
            record = parse_line(line, writer)
        except ConfigError as error:
            raise ConfigError(f"{place}: {error}") from None
        except UnusableLine as error:
            return self._leave_out(str(error), place)
        except DataError as error:
            if not skip_invalid:
                raise DataError(f"{place}: {error}; correct the line, or set skip_invalid to leave it out") from None
            return self._leave_out(_BROKEN, f"{place}: {error}")
        for name, reason in _EMPTY.items():
            if not record[name].decode().strip():
                return self._leave_out(reason, place)
        self._prompts.append(record["prompt"])
        self._completions.append(record["completion"])
        self._metadata.append(record["metadata"])
        names = (record[name].decode() for name in ("task", "prompt_name"))
        task, prompt_name = (self._names.setdefault(name, len(self._names)) for name in names)
        self._numbers.fromlist([task, prompt_name, file, line_nb])
        return None

    def _leave_out(self, reason: str, what: str) -> None:
        self.left_out[reason] += 1
        self.first_left_out.setdefault(reason, what)

    def __len__(self) -> int:
        return len(self._prompts)

    @overload
    def __getitem__(self, index: int) -> InstructRecord: ...
    @overload
    def __getitem__(self, index: slice) -> list[InstructRecord]: ...
    def __getitem__(self, index: int | slice) -> InstructRecord | list[InstructRecord]:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        index = range(len(self))[index]
        task, prompt_name, file, line_nb = self._numbers[4 * index : 4 * index + 4]
        names = list(self._names)
        return InstructRecord(
            task=names[task],
            prompt=self._prompts[index],
            prompt_name=names[prompt_name],
            completion=self._completions[index],
            metadata=json.loads(self._metadata[index] or "{}"),
            place=f"{self.paths[file]}:{line_nb}",
        )

    def first_of_each_name(self) -> list[InstructRecord]:
        """Return the first record of each prompt_name."""
        names = np.frombuffer(self._numbers, dtype=np.int32)[1::4]
        return [self[int(first)] for first in sorted(np.unique(names, return_index=True)[1])]

    @property
    def num_bytes(self) -> int:
        """Bytes of prompts and completions."""
        return len(self._prompts.joined) + len(self._completions.joined)

    def digest(self) -> bytes:
        """Return a hash of all that the records say."""
        columns = [part for c in (self._prompts, self._completions, self._metadata) for part in (c.joined, c.bounds)]
        return digest_of(*columns, self._numbers, repr((self.paths, list(self._names))).encode())

    def summary(self) -> str:
        """Say in one line what the files hold and what was left out."""
        files = ", ".join(map(str, self.paths[:3])) + (f" and {len(self.paths) - 3} more" if self.paths[3:] else "")
        notes = [f"{files}: {len(self):,} examples"]
        notes += [f"left out: {n:,} {what} (first {self.first_left_out[what]})" for what, n in self.left_out.items()]
        return "; ".join(notes)


# ------------------------------------------------------------------------------------------------
# Lines


def foreign_content(start: bytes) -> str | None:
    """Say what a file is if its first bytes show that it is no JSON Lines."""
    start = start.lstrip(b"\xef\xbb\xbf \t\r\n")
    if start.startswith(b"<"):
        return "it is an HTML page, not the data; download again, from the address with /resolve/ in place of /blob/"
    if start.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer, not the data; run `git lfs pull`"
    if start.startswith(b"["):
        return "it is one JSON list; write each of its elements on a line of its own"
    return None


def _lines(path: Path, bar: Any) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that are not blank, with their numbers from 1."""
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    with open(path, "rb") as file:
        packed = file.read(2) == _GZIP_MAGIC
        file.seek(0)
        stream = cast(BinaryIO, gzip.GzipFile(fileobj=file)) if packed else file
        line_nb = num_shown = 0  # bytes that the bar shows as read
        is_first = True
        try:
            for line_nb, line in enumerate(stream, start=1):
                if line.strip():
                    if is_first and (what := foreign_content(line)):
                        raise DataError(f"{path}: {what}")
                    is_first = False
                    yield line_nb, line
                if line_nb % 1000 == 0:
                    bar.update(file.tell() - num_shown)
                    num_shown = file.tell()
        except (EOFError, OSError, zlib.error) as error:
            raise DataError(f"{path}: cannot be read behind line {line_nb}: {error}; download it again") from error
        bar.update(file.tell() - num_shown)


def parse_line(line: bytes, writer: PromptWriter = PromptWriter()) -> dict[str, bytes]:
    """Return the five fields of a line, metadata as JSON; the message of a DataError says what is wrong with it."""
    try:
        record = json.loads(line.rstrip())
    except json.JSONDecodeError as error:
        raise DataError(f"broken JSON: {error.msg} at character {error.pos}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"not UTF-8 at byte {error.start}") from None
    except (RecursionError, ValueError) as error:
        raise DataError(f"JSON that cannot be read: {what_is_extreme(error)}") from None
    if not isinstance(record, dict):
        raise DataError(f"it is {_shown(record)}, not an object with prompt and completion")
    record = writer.write(record)
    texts = {name: _text(record, name) for name in ("task", "prompt", "prompt_name", "completion")}
    metadata = record.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise DataError(f"field 'metadata' must be an object, but is {_shown(metadata)}")
    if depth(metadata) > _MAX_DEPTH:  # where it is read again less of the stack may be left
        raise DataError(f"field 'metadata' is nested over {_MAX_DEPTH} deep")
    texts["metadata"] = json.dumps(metadata, ensure_ascii=False) if metadata else ""
    try:
        return {name: text.encode() for name, text in texts.items()}
    except UnicodeEncodeError as error:
        raise DataError(f"half a surrogate pair in {error.object[:60]!r}") from None


def _shown(value: object) -> str:
    return repr(str(value)[:60]) if depth(value) <= _MAX_DEPTH else "something nested too deep"


def _text(record: Mapping[str, Any], name: str) -> str:
    value = record.get(name)
    if value is None and name in ("task", "prompt_name"):
        return ""
    if not isinstance(value, str):
        found = f"is {_shown(value)}" if name in record else f"there are only {', '.join(record) or 'none'}"
        raise DataError(f"field {name!r} must be a text, but {found}")
    return value


# ------------------------------------------------------------------------------------------------
# Files of a split


def split_of(path: str | Path) -> str | None:
    """Return train, val or test for the file of a split; None for any other.

    >>> split_of("state_tactic_dev.jsonl.gz"), split_of("README.md")
    ('val', None)
    """
    stem, num_suffixes = _SUFFIX.subn("", Path(path).name)
    words = [_SPLIT_OF_WORD[w] for w in re.split(r"[^a-z]+", stem.lower()) if w in _SPLIT_OF_WORD]
    return words[-1] if words and num_suffixes else None


def find_split_files(data_path: DataPath, split: str) -> list[Path]:
    """Return the files of a split, in the order of their names; none if there are none.

    Args:
        data_path: a folder; a file or a glob; several of these; or a mapping from splits to any of these. Without
            a mapping the name of a file says its split: it has one of the words train, dev, val, valid, validation,
            test.
        split: train, val or test

    Raises:
        ConfigError: if a mapping has another key than the splits
        DataError: if there is no such file, or the same file both packed and unpacked
    """
    if isinstance(data_path, Mapping):
        unknown = [name for name in data_path if _SPLIT_OF_WORD.get(name) is None]
        if unknown:
            raise ConfigError(f"data_path has the key {unknown[0]!r}; its keys are {', '.join(SPLITS)}")
        entries = [entry for name, entry in data_path.items() if _SPLIT_OF_WORD[name] == split]
        files = [path for entry in entries for path in _expand(entry)]
    else:
        files = [path for path in _expand(data_path) if split_of(path) == split]
    by_stem: dict[str, Path] = {}
    for path in files:
        other = by_stem.setdefault(_SUFFIX.sub("", str(path)), path)
        if other != path:
            raise DataError(f"{other} and {path} are the same file, packed and unpacked; remove one")
    return list(by_stem.values())


def _expand(entry: str | list[str]) -> list[Path]:
    """Return the files that paths, folders and globs name."""
    found: list[Path] = []
    for text in [entry] if isinstance(entry, str | Path) else entry:
        path = Path(text)
        if path.is_dir():
            found += sorted(p for p in path.iterdir() if p.is_file() and _SUFFIX.search(p.name))
        elif has_magic(str(text)) and not path.exists():
            found += sorted(Path(p) for p in glob(str(text), recursive=True))
        elif path.is_file():
            found.append(path)
        else:
            raise DataError(f"data_path {text}: there is no such file or folder")
    return found
