"""Where theorems stand in a Lean file, as Lean itself tells."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from generator.environments.base import CannotStartError, Theorem

# what belongs to the command that follows: `set_option maxHeartbeats 400000 in`
_OPENERS = "set_option|open|omit|include|variable|universe|attribute|local|scoped|unseal|seal"
_IN = re.compile(rf"(?:^(?:{_OPENERS})\b[^\n]*\bin[ \t]*\n\s*)+\Z", re.MULTILINE)


@dataclass(frozen=True)
class SourceTheorem:
    """A theorem in a text, by offsets.

    Attributes:
        names: under which it is known
        written_name: as its declaration has it
        start: line and column, from 1
        begin: of the declaration with its modifiers
        signature_end: where its statement ends and `:=` follows
        end: of its proof
    """

    names: frozenset[str]
    written_name: str
    start: tuple[int, int]
    begin: int
    signature_end: int
    end: int

    def split(self, text: str) -> tuple[str, str]:
        """Return what stands before the theorem, and its declaration up to the proof."""
        before = text[: self.begin]
        prefixed = _IN.search(before)
        cut = prefixed.start() if prefixed else self.begin
        return text[:cut].rstrip(), text[cut : self.signature_end]


def theorems_of(text: str, declarations: Iterable[Any]) -> list[SourceTheorem]:
    """Return the theorems of a file.

    Args:
        text: of the file
        declarations: LeanInteract's DeclarationInfo of each of its declarations
    """
    line_starts = [0, *(match.end() for match in re.finditer("\n", text))]

    def offset(position: Any) -> int:
        """Lean counts lines from 1 and columns from 0, in characters."""
        return int(line_starts[min(position.line, len(line_starts)) - 1] + position.column)

    return [
        SourceTheorem(
            names=_names(each.full_name, each.name, each.scope.curr_namespace),
            written_name=each.name,
            start=(each.range.start.line, each.range.start.column + 1),
            begin=offset(each.range.start),
            signature_end=offset(each.signature.range.finish),
            end=offset(each.value.range.finish),
        )
        for each in declarations
        if each.kind in ("theorem", "lemma") and each.value is not None
    ]


def _names(full_name: str, name: str, namespace: str) -> frozenset[str]:
    """Names of a declaration; the REPL does not always find the full one."""
    if name.startswith("_root_."):
        return frozenset({full_name, name.removeprefix("_root_.")})
    inside = "" if namespace in ("", "[anonymous]") else f"{namespace}."
    return frozenset({full_name, f"{inside}{name}"} if inside else {full_name, name})


def find(theorems: Sequence[SourceTheorem], wanted: Theorem) -> SourceTheorem:
    """Return the theorem of this name; its position decides between several.

    Raises:
        CannotStartError: if there is none, or several and none at the position
    """
    found = [each for each in theorems if wanted.full_name in each.names]
    if len(found) > 1:
        found = [each for each in found if each.start == wanted.start] or found
    if len(found) == 1:
        return found[0]
    where = f"{wanted.file_path} has {'no' if not found else len(found)} theorem{'s' * (len(found) > 1)}"
    places = " and ".join(f"{line}:{column}" for line, column in (each.start for each in found))
    advice = f", at {places}; give one of these as its start" if found else ""
    raise CannotStartError(f"{where} {wanted.full_name}{advice}")


def indented(script: Sequence[str]) -> str:
    """Write tactics under `by`, each on a line of its own."""
    lines = "\n".join(tactic.strip("\n") for tactic in script).split("\n")
    return "\n".join(f"  {line}" if line.strip() else "" for line in lines)


def with_proofs(text: str, proofs: Iterable[tuple[SourceTheorem, Sequence[str]]]) -> str:
    """Return a file's text with other proofs of some of its theorems."""
    for theorem, script in sorted(proofs, key=lambda proof: proof[0].begin, reverse=True):
        text = f"{text[: theorem.signature_end]} := by\n{indented(script)}{text[theorem.end :]}"
    return text
