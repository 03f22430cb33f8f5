"""What a checker says of a proposal. Nothing heavy is imported here: processes that only check start with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

VerdictKind = Literal["verified", "rejected", "malformed", "timeout", "error"]
KINDS: tuple[VerdictKind, ...] = get_args(VerdictKind)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the checker says of a proposal.

    Attributes:
        kind: "verified" holds; "rejected" is a program that does not; "malformed" is none; "timeout" was not decided in
            time, and is no "rejected"; "error": the checker itself failed
        message: why, in a line
        seconds: that the check took
        is_general: of a program that holds, whether it is as general as the specification allows, such as a solution
            of a differential equation with all its constants; None where a domain makes no such difference
    """

    kind: VerdictKind
    message: str = ""
    seconds: float = field(default=0.0, compare=False)
    is_general: bool | None = None

    @property
    def holds(self) -> bool:
        """Whether the program was verified."""
        return self.kind == "verified"

    @property
    def is_undecided(self) -> bool:
        """Whether nothing was found out: the program may hold or not."""
        return self.kind in ("timeout", "error")


class MalformedError(ValueError):
    """A text is no program of the domain; the checker's verdict says so."""
