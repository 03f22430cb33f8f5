"""The results of a run on disk: a line for each theorem, in a file that the same command goes on with."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, BinaryIO, Self

from common import ConfigError, DataError
from generator.environments.base import Statement, Theorem
from generator.search.loop import SearchResult
from generator.search.theorems import Goal
from retrieval.training.files import lock_rows, write_errors
from retrieval.training.json_lines import parse_object
from retrieval.training.options import check_types

RESULTS = "results.jsonl"  # in the folder of a run
FORMAT_VERSION = 1
_FORMAT = "nextstep search results"
_OUTCOMES = ("proved", "failed", "open", "discarded")
_ADVICE = "check the path, permissions, and room on the disk"

_REMOVE = "remove the line, or the file"  # what a user does about a broken line


def hash_of(theorems: Iterable[Goal]) -> str:
    """Return a hash of which theorems are searched, whatever their order."""
    lines = sorted(json.dumps(goal_record(theorem), sort_keys=True) for theorem in theorems)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def goal_record(theorem: Goal) -> dict[str, Any]:
    """Return a theorem as JSON has it."""
    if isinstance(theorem, Statement):
        return {"statement": theorem.text, "header": theorem.header, "name": theorem.name}
    start = None if theorem.start is None else list(theorem.start)
    return {"file_path": theorem.file_path, "full_name": theorem.full_name, "start": start}


def goal_of(record: Mapping[str, Any]) -> Goal:
    """Return the theorem of a record; KeyError, TypeError or ValueError if it is none."""
    if "statement" in record:
        return Statement(str(record["statement"]), str(record["header"]), str(record["name"]))
    start = record["start"]
    place = None if start is None else (int(start[0]), int(start[1]))
    return Theorem(str(record["file_path"]), str(record["full_name"]), place)


def result_record(result: SearchResult) -> dict[str, Any]:
    """Return a result as JSON has it."""
    record = asdict(result) | {"theorem": goal_record(result.theorem), "errors": dict(result.errors)}
    seconds = {name: round(record[name], 4) for name in ("model_s", "environment_s", "total_s", "start_s", "check_s")}
    return record | seconds


def result_of(record: Mapping[str, Any]) -> SearchResult:
    """Return the result of a record; KeyError, TypeError, ValueError or DataError if it is none."""
    names = {each.name for each in fields(SearchResult)}
    known = {name: value for name, value in record.items() if name in names}
    if record["status"] not in _OUTCOMES or (record["status"] == "proved") != (record["proof"] is not None):
        raise ValueError("its status and its proof do not fit together")
    proof = None if record["proof"] is None else tuple(map(str, record["proof"]))
    states = tuple(map(str, record.get("proof_states", ())))  # not in files of before they were kept
    if states and len(states) != len(proof or ()):
        raise ValueError(f"it has {len(states)} states for the {len(proof or ())} tactics of its proof")
    read = {"theorem": goal_of(record["theorem"]), "proof": proof, "proof_states": states}
    check_types(SearchResult, {k: v for k, v in known.items() if k not in (*read, "errors")}, "it")
    return SearchResult(**known | read)


def read_results(folder: Path) -> tuple[dict[str, Any], list[SearchResult]]:
    """Return what says which run a folder is of, and its results so far.

    Raises:
        DataError: if they are missing or broken
    """
    path = folder / RESULTS
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; give the output_dir of generator.search.prove") from error
    lines = content[: content.rfind(b"\n") + 1].splitlines()
    header = parse_object(lines[0], f"{path}:1", _REMOVE) if lines else {}
    if header.get("format") != _FORMAT:
        raise DataError(f"{path}: holds no results of a search; give the output_dir of generator.search.prove")
    return header, [result for _, result in _results_in(lines, path)]


def _results_in(lines: Sequence[bytes], path: Path) -> Iterator[tuple[str, SearchResult]]:
    """Yield the results behind the first line, each with its place."""
    for number, line in enumerate(lines[1:], start=2):
        where = f"{path}:{number}"
        record = parse_object(line, where, _REMOVE)
        try:
            yield where, result_of(record)
        except (IndexError, KeyError, TypeError, ValueError, DataError) as error:
            raise DataError(f"{where}: is no result ({error}); {_REMOVE}") from error


class ResultsFile:
    """Results of one run, appended one by one, each on the disk before the next theorem counts as done.

    The first line says what the run is. A line that was cut off, as a killed process leaves it, is removed when the
    file is opened, and its theorem is searched again.

    Attributes:
        path: of the file
        results: what is in it, in its order
    """

    def __init__(self, path: Path, run: Mapping[str, Any], theorems: Iterable[Goal]) -> None:
        """Open the file of a run, or begin it; nobody else may write to it meanwhile.

        Args:
            path: of the file
            run: what tells this run from others, as JSON
            theorems: of the run

        Raises:
            ConfigError: if it holds results of another run, or another process writes it
            DataError: if it is broken, or cannot be written
        """
        self.path, self.results = path, list[SearchResult]()
        header = {"format": _FORMAT, "format_version": FORMAT_VERSION, **run}
        with write_errors(str(path), _ADVICE):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: BinaryIO = open(path, "a+b")
        try:
            lock_rows(self._file, self.path)
            self._read(json.loads(json.dumps(header)), set(theorems))
        except BaseException:
            self._file.close()
            raise

    def append(self, result: SearchResult) -> None:
        """Write a result, whole and to the disk.

        Raises:
            DataError: if the system refuses
        """
        self._write(result_record(result))
        self.results.append(result)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _write(self, record: Mapping[str, Any]) -> None:
        line = json.dumps(record, ensure_ascii=False).encode(errors="backslashreplace") + b"\n"
        with write_errors(str(self.path), _ADVICE):
            self._file.write(line)
            self._file.flush()
            os.fsync(self._file.fileno())

    def _read(self, header: dict[str, Any], theorems: set[Goal]) -> None:
        self._file.seek(0)
        content = self._file.read()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            self._file.truncate(len(whole))
        lines = whole.splitlines()
        if not lines:
            self._write(header)
            return
        found = parse_object(lines[0], f"{self.path}:1", _REMOVE)
        if len(lines) == 1 and found.get("format") == header["format"]:  # a run that came to nothing, by a wrong option
            self._file.truncate(0)
            self._write(header)
            return
        self._check_header(found, header)
        seen = set[Goal]()
        for where, result in _results_in(lines, self.path):
            if result.theorem not in theorems or result.theorem in seen:
                what = "stands there twice" if result.theorem in seen else "is not of this run"
                raise DataError(f"{where}: {result.theorem} {what}; {_REMOVE}")
            seen.add(result.theorem)
            self.results.append(result)

    def _check_header(self, found: dict[str, Any], header: dict[str, Any]) -> None:
        if found.get("format") != header["format"]:
            raise ConfigError(f"{self.path}: holds no results of a search; give another output_dir")
        there, here = _flat(found), _flat(header)
        for name in [*here, *(name for name in there if name not in here)]:
            if there.get(name) != here.get(name):
                raise ConfigError(
                    f"{self.path}: holds results of another run: its {name} is {_short(there.get(name))}, that of this "
                    f"run {_short(here.get(name))}; give another output_dir, or remove the file"
                )


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The fields of nested objects by dotted names."""
    found: dict[str, Any] = {}
    for name, inner in value.items():
        found |= _flat(inner, f"{prefix}{name}.") if isinstance(inner, dict) else {f"{prefix}{name}": inner}
    return found


def _short(value: Any) -> str:
    text = "not set" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:60]}..."
