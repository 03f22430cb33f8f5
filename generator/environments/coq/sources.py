"""A tree of Coq sources: where a file is, with which options Coq reads it, and where a theorem's proof begins."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from common import ConfigError
from generator.environments.base import CannotStartError, Statement, Theorem
from generator.environments.coq.declarations import declarations, declared_name, without_proofs
from generator.environments.coq.guard import RefusedError, guarded_statement
from generator.environments.coq.sentences import (
    OpenTextError,
    Sentence,
    iterate_sentences,
    offset_of,
    position_of,
    split_sentences,
)

_PROJECT_FILES = ("_CoqProject", "_RocqProject")


@dataclass(frozen=True)
class Context:
    """Where a proof begins, in any process.

    Attributes:
        file_path: relative to the root; of a free statement a name that no file has
        text: of a free statement, with its header; empty for a file
        offset: of the statement
    """

    file_path: str
    text: str
    offset: int

    @property
    def place(self) -> tuple[str, str]:
        """What theorems share that one process can serve one after the other."""
        return self.file_path, self.text


@dataclass(frozen=True)
class Source:
    """A file, or the text around a free statement.

    Attributes:
        path: where it lies, or would lie
        text: what it says
        options: for Coq
        dotted_name: of the file as a library of Coq, empty if unknown
    """

    path: Path
    text: str
    options: tuple[str, ...]
    dotted_name: str = ""

    @cached_property
    def sentences(self) -> list[Sentence]:
        """All sentences.

        Raises:
            CannotStartError: if one does not end
        """
        try:
            return split_sentences(self.text)
        except OpenTextError as error:
            raise CannotStartError(f"{self.path}: {error}") from error

    @cached_property
    def skipped(self) -> list[Sentence]:
        """Sentences without the proofs that can be skipped."""
        return without_proofs(self.sentences)

    def number_at(self, offset: int) -> int:
        """Return the number of the sentence that begins at an offset."""
        return next(number for number, each in enumerate(self.sentences) if each.start == offset)


class SourceTree:
    """The standard library, or a project.

    Args:
        root: folder that paths of theorems are relative to; None is the standard library
        library: root of the standard library
        options: for Coq, beside those of the project
    """

    def __init__(self, root: str | None, library: Path, options: Sequence[str] = ()) -> None:
        self.root = library.absolute() if root is None else Path(root).resolve()
        if not self.root.is_dir():
            raise ConfigError(f"root is {str(self.root)!r}, which is no folder; give the root of a Coq project")
        self._options = tuple(options)
        self._project = _project_file(self.root)
        self._sources: dict[str, Source] = {}

    def source(self, file_path: str) -> Source:
        """Return a file of the tree.

        Raises:
            CannotStartError: if it cannot be read
        """
        if file_path not in self._sources:
            self._sources[file_path] = self._read(file_path)
        return self._sources[file_path]

    def source_of(self, context: Context) -> Source:
        """Return what a context stands in."""
        if context.text:
            return Source(self.root / context.file_path, context.text, self._options_for_statements())
        return self.source(context.file_path)

    def context_of(self, theorem: Theorem | Statement) -> Context:
        """Return where the proof of a theorem begins.

        Raises:
            CannotStartError: if there is no such theorem, or more than one
        """
        if isinstance(theorem, Statement):
            return _statement_context(theorem)
        source = self.source(theorem.file_path)
        sentence = _by_position(source, theorem) if theorem.start else _by_name(source, theorem)
        return Context(theorem.file_path, "", sentence.start)

    def _read(self, file_path: str) -> Source:
        path = self._locate(file_path)
        try:
            text = path.read_bytes().decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CannotStartError(f"{file_path}: {error}") from error
        options, dotted_name = self._options_of(path)
        return Source(path, text, (*options, *self._options), dotted_name)

    def _locate(self, file_path: str) -> Path:
        for folder in (self.root, self.root / "user-contrib"):
            path = folder / file_path
            if path.is_file() and ".." not in Path(file_path).parts and path.is_relative_to(folder):
                return path
        raise CannotStartError(
            f"{file_path} is not under {self.root}; sources of the standard library come with libcoq-stdlib, "
            "and those of a project with its root"
        )

    def _options_of(self, path: Path) -> tuple[tuple[str, ...], str]:
        """Return Coq's options for a file, and the name of its library."""
        if self._project is not None:
            options, folders = self._project
            return options, _library_name(path, folders)
        parts = path.relative_to(self.root).with_suffix("").parts
        if parts[0] == "theories":
            return ("-noinit",) if parts[1] == "Init" else (), ".".join(("Coq", *parts[1:]))
        if parts[0] == "user-contrib":
            # mathcomp is several libraries
            depth = 2 if parts[1] == "mathcomp" and len(parts) > 3 else 1
            name = ".".join(parts[1 : 1 + depth])
            return ("-R", str(self.root.joinpath(*parts[: 1 + depth])), name), ".".join(parts[1:])
        return ("-Q", str(self.root), ""), ".".join(parts)

    def _options_for_statements(self) -> tuple[str, ...]:
        if self._project is not None:
            return (*self._project[0], *self._options)
        plain = not (self.root / "theories").is_dir()
        return (*(("-Q", str(self.root), "") if plain else ()), *self._options)


def _by_position(source: Source, theorem: Theorem) -> Sentence:
    assert theorem.start is not None
    line, column = theorem.start
    offset = offset_of(source.text, (line, column))
    sentence = next((each for each in source.sentences if each.start == offset), None)
    where = f"{theorem.file_path}:{line}:{column}"
    if sentence is None:
        raise CannotStartError(f"{where}: no sentence begins there; is the file of another version?")
    name = declared_name(sentence.text)
    if name is not None and name != theorem.full_name.rsplit(".", 1)[-1]:
        raise CannotStartError(f"{where}: {name} stands there, and not {theorem.full_name}")
    return sentence


def _by_name(source: Source, theorem: Theorem) -> Sentence:
    """Return the sentence that declares a name, in full, or as much of its end as is unique."""
    full = [(f"{source.dotted_name}.{each.name}".lstrip("."), each) for each in declarations(source.sentences)]
    found = [each for name, each in full if name == theorem.full_name]
    found = found or [each for name, each in full if name.endswith(f".{theorem.full_name}")]
    where = f"{theorem.file_path}: {theorem.full_name}"
    if not found:
        raise CannotStartError(f"{where} is not declared there; a theorem without a name of its own needs its position")
    sentences = [source.sentences[each.number] for each in found]
    if len(sentences) > 1:
        lines = ", ".join(str(position_of(source.text, each.start)[0]) for each in sentences)
        raise CannotStartError(f"{where} stands there on lines {lines}; give the position of one")
    return sentences[0]


def _statement_context(statement: Statement) -> Context:
    try:
        written = guarded_statement(statement.text)
        sentence = f"Lemma {statement.name} {written}."
        first = next(iterate_sentences(sentence))
        if declared_name(sentence) != statement.name or first.end != len(sentence):
            raise RefusedError(f"{statement.name!r} is no name")
        header = statement.header.strip()
        split_sentences(header)
    except (RefusedError, OpenTextError) as error:
        raise CannotStartError(f"{statement.name}: {error}") from error
    before = f"{header}\n" if header else ""
    return Context("searched_statement.v", f"{before}{sentence}\n", len(before))


def _project_file(root: Path) -> tuple[tuple[str, ...], dict[Path, str]] | None:
    """Return the options of _CoqProject, and the logical name of each folder, if there is one."""
    path = next((root / name for name in _PROJECT_FILES if (root / name).is_file()), None)
    if path is None:
        return None
    words = iter(shlex.split(path.read_text(encoding="utf-8"), comments=True))
    options: list[str] = []
    folders: dict[Path, str] = {}
    for word in words:
        try:
            if word in ("-R", "-Q"):
                folder, name = (root / next(words)).resolve(), next(words)
                folders[folder] = name
                options += [word, str(folder), name]
            elif word == "-I":
                options += [word, str((root / next(words)).resolve())]
            elif word == "-arg":
                options += shlex.split(next(words))
        except StopIteration:
            raise ConfigError(f"{path}: {word} is not followed by what it takes") from None
    return tuple(options), folders


def _library_name(path: Path, folders: dict[Path, str]) -> str:
    path = path.resolve()
    for folder in sorted(folders, key=lambda each: len(each.parts), reverse=True):
        if path.is_relative_to(folder):
            parts = path.relative_to(folder).with_suffix("").parts
            return ".".join([folders[folder], *parts] if folders[folder] else parts)
    return path.stem
