"""A library of Lean files: the theorems in them, and which may be used where."""

import graphlib
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from common import DataError
from generator.environments.propositional.declarations import (
    Declaration,
    FindConstant,
    Position,
    SourceTheorem,
    parse_theorems,
)
from generator.environments.propositional.prelude import PRELUDE_PATH, built_in_declarations

_IMPORT = re.compile(r"^import (\S+)\s*$", re.MULTILINE)


@dataclass(frozen=True)
class SourceFile:
    """One Lean file. `path` and `imports` are relative to the library's root, with forward slashes."""

    path: str
    source: str
    imports: tuple[str, ...]
    theorems: tuple[SourceTheorem, ...]

    @classmethod
    def parse(cls, path: str, source: str) -> "SourceFile":
        """Read a file.

        Raises:
            DataError: naming file and line where it is outside the fragment
        """
        imports = imported_files(source)
        parse = built_in_declarations(source) if path == PRELUDE_PATH else parse_theorems(source, path)
        return cls(path, source, imports, tuple(parse))


class Library:
    """Files in import order, each after those it imports.

    Args:
        files: the files, in any order

    Raises:
        DataError: for an import that is missing or circular, and for a name that is declared twice
    """

    def __init__(self, files: Iterable[SourceFile]) -> None:
        """Sort the files and index their theorems."""
        by_path = {file.path: file for file in files}
        self.files = [by_path[path] for path in _import_order(by_path)]
        self._closures: dict[str, frozenset[str]] = {}
        self._places: dict[str, tuple[str, SourceTheorem]] = {}
        for file in self.files:
            self._closures[file.path] = frozenset(file.imports).union(*(self._closures[path] for path in file.imports))
            for theorem in file.theorems:
                if theorem.full_name in self._places:
                    other = self._places[theorem.full_name][0]
                    raise DataError(f"{file.path}: {theorem.full_name} is declared in {other} too; rename one of them")
                self._places[theorem.full_name] = (file.path, theorem)

    @classmethod
    def load(cls, root: Path) -> "Library":
        """Read every Lean file under `root`.

        Raises:
            DataError: naming the file that cannot be used
        """
        paths = sorted(root.rglob("*.lean"))
        if not paths:
            raise DataError(f"{root}: no Lean files here; give the folder that holds Logic/Prelude.lean")
        return cls(
            SourceFile.parse(path.relative_to(root).as_posix(), path.read_text(encoding="utf-8")) for path in paths
        )

    def find(self, full_name: str) -> tuple[str, SourceTheorem] | None:
        """Return the theorem of a name with the path of its file, or None."""
        return self._places.get(full_name)

    def accessible_constants(self, path: str, position: Position) -> FindConstant:
        """Return the function that finds what may be used at a place by its full name.

        That is every declaration of the files imported there, directly or not, and those above it in its file.
        """
        closure = self._closures[path]
        places = self._places

        def find_constant(full_name: str) -> Declaration | None:
            place = places.get(full_name)
            if place is None or not (place[0] in closure or (place[0] == path and place[1].end <= position)):
                return None
            return place[1].statement

        return find_constant

    def constants_of(self, paths: Collection[str]) -> FindConstant:
        """Return the function that finds what may be used where these files are imported."""
        imported = frozenset(paths).union(*(self._closures[path] for path in paths))

        def find_constant(full_name: str) -> Declaration | None:
            place = self._places.get(full_name)
            return place[1].statement if place is not None and place[0] in imported else None

        return find_constant


def imported_files(source: str) -> tuple[str, ...]:
    """Return the paths of the files that a source imports, relative to the library's root."""
    return tuple(module.replace(".", "/") + ".lean" for module in _IMPORT.findall(source))


@cache
def lemma_library() -> Library:
    """Return the lemmas that come with this package."""
    return Library.load(Path(__file__).parent / "lemmas")


def _import_order(files: Mapping[str, SourceFile]) -> list[str]:
    for file in files.values():
        for path in file.imports:
            if path not in files:
                raise DataError(f"{file.path}: imports {path}, which is not in the library; add the file")
    sorter = graphlib.TopologicalSorter({path: sorted(files[path].imports) for path in sorted(files)})
    try:
        return list(sorter.static_order())
    except graphlib.CycleError as error:
        raise DataError(f"circular imports: {' -> '.join(error.args[1])}; remove one of them") from error
