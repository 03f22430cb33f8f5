"""What a proof rests on, as `Print Assumptions` lists it, and whether that is allowed."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

_CLOSED = "Closed under the global context"
_SECTION = "Section Variables:"


@dataclass(frozen=True)
class Assumption:
    """Something that a proof rests on.

    Attributes:
        name: of an axiom, or of what was taken on trust, such as a fixpoint whose guard was not checked
        line: as Coq prints it
        in_section: whether it is a variable of an open section, which is no axiom
    """

    name: str
    line: str
    in_section: bool


def read_assumptions(text: str) -> list[Assumption]:
    """Return what `Print Assumptions` lists."""
    found: list[Assumption] = []
    heading = ""
    for line in text.splitlines():
        begins = line[:1].strip() and not line.startswith((":", _CLOSED, "Fetching opaque proofs"))
        if begins and line.endswith(":") and " : " not in line and line[:1].isupper():
            heading = line
        elif begins:
            found.append(Assumption(line.split()[0], line.strip(), heading == _SECTION))
    return found


def beyond(assumptions: Iterable[Assumption], allowed: Collection[str]) -> list[Assumption]:
    """Return the axioms that are not allowed.

    Args:
        assumptions: of a proof
        allowed: names of axioms, with as many of their modules as one likes, or whole lines of `Print Assumptions`
    """
    return [each for each in assumptions if not each.in_section and not _is_allowed(each, allowed)]


def _is_allowed(assumption: Assumption, allowed: Collection[str]) -> bool:
    name = assumption.name
    return assumption.line in allowed or any(
        each == name or each.endswith(f".{name}") or name.endswith(f".{each}") for each in allowed
    )
