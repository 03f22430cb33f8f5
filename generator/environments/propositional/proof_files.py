"""Proofs as Lean files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from generator.environments.base import Statement, Theorem
from generator.environments.propositional.declarations import Position, SourceTheorem
from generator.environments.propositional.lemma_files import Library
from generator.environments.propositional.prelude import PRELUDE_PATH
from generator.environments.propositional.statements import read_statement, write_signature

Proof: TypeAlias = tuple[Theorem | Statement, Sequence[str]]
ConstantsOf: TypeAlias = Callable[[Theorem | Statement, Sequence[str]], set[str]]
"""Full names of the library that a proof looks up."""


def write_sources(proofs: Sequence[Proof], library: Library, constants_of: ConstantsOf) -> dict[str, str]:
    """Return the text of each file by its name, see `PropositionalEnvironment.source`."""
    scripts: dict[str, dict[str, Sequence[str]]] = {}  # of theorems, by file and name
    statements: list[tuple[Statement, Sequence[str]]] = []
    for theorem, script in proofs:
        if isinstance(theorem, Theorem):
            scripts.setdefault(theorem.file_path, {})[theorem.full_name] = script
        else:
            statements.append((theorem, script))
    files = {path: _library_file(path, found, library, constants_of) for path, found in scripts.items()}
    for statement, script in statements:
        files[_free_name(statement.name, files)] = _statement_file(statement, script, library, constants_of)
    return files


def _free_name(name: str, taken: dict[str, str]) -> str:
    number, free = 1, f"{name}.lean"
    while free in taken:
        number, free = number + 1, f"{name}_{number + 1}.lean"
    return free


def _statement_file(statement: Statement, script: Sequence[str], library: Library, constants_of: ConstantsOf) -> str:
    places = [library.find(name) for name in constants_of(statement, script)]
    paths = {PRELUDE_PATH, *(place[0] for place in places if place is not None)}
    signature = write_signature(read_statement(statement.text))
    return f"{_imports(paths)}\n{_declaration(f'theorem {statement.name} {signature} :=', script)}"


def _library_file(path: str, scripts: dict[str, Sequence[str]], library: Library, constants_of: ConstantsOf) -> str:
    file = next(file for file in library.files if file.path == path)
    theorems: dict[str, tuple[Position, str]] = {}  # where it stands, and its source
    waiting = list(scripts)
    while waiting:
        name = waiting.pop()
        place = library.find(name)
        if name in theorems or place is None or place[0] != path:
            continue
        script = scripts.get(name) or _own_script(place[1])
        text = _declaration(place[1].code, script) if name in scripts else _own_text(place[1])
        theorems[name] = (place[1].start, text)
        waiting += constants_of(Theorem(path, name), script)
    return "\n".join([_imports(file.imports), *(text for _, text in sorted(theorems.values()))])


def _own_script(theorem: SourceTheorem) -> list[str]:
    """The tactics of the library's proof; a term `t` is proved by `exact t`."""
    return [f"exact {' '.join(theorem.proof.split())}"] if theorem.tactics is None else theorem.tactics


def _own_text(theorem: SourceTheorem) -> str:
    separator = " " if theorem.code.endswith("=") else ""
    return f"{theorem.code}{separator}{theorem.proof}\n"


def _declaration(code: str, script: Sequence[str]) -> str:
    return "\n".join([f"{code} by", *(f"  {tactic.strip()}" for tactic in script), ""])


def _imports(paths: Iterable[str]) -> str:
    return "".join(f"import {path.removesuffix('.lean').replace('/', '.')}\n" for path in sorted(paths))
