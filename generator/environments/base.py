"""The protocol of proof assistants: a tactic is run on a state, and gives a state, a finished proof, or an error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, Self, TypeAlias

from common import NO_GOALS, NextstepError

ErrorKind: TypeAlias = Literal["error", "refused", "timeout", "memory", "crash"]


@dataclass(frozen=True)
class ProofState:
    """Open goals, printed as the proof assistant prints them.

    Two states are equal, and hash alike, when their text is equal: that is what search deduplicates by.
    Environments derive from this class to carry what they need to go on; such fields do not compare.
    """

    pp: str


@dataclass(frozen=True)
class ProofFinished:
    """No goals are left."""

    pp: str = NO_GOALS


@dataclass(frozen=True)
class TacticError:
    """The proof assistant rejects the tactic, which is common in proof search, and so a value and no exception.

    Attributes:
        message: what the proof assistant says
        kind: "error" of the tactic itself; "refused" before the proof assistant saw it; "timeout"; "memory"; "crash" if
            the proof assistant died of it
    """

    message: str
    kind: ErrorKind = field(default="error", compare=False)


TacticResult: TypeAlias = ProofState | ProofFinished | TacticError


@dataclass(frozen=True)
class Theorem:
    """A theorem of a source tree.

    Attributes:
        file_path: relative to the root of its project
        full_name: as the proof assistant knows it
        start: line and column where its statement begins, from 1; needed where a name stands twice in a file, and by
            generators that retrieve premises
    """

    file_path: str
    full_name: str
    start: tuple[int, int] | None = None


@dataclass(frozen=True)
class Statement:
    """A theorem that stands in no file.

    Attributes:
        text: what is to be proved, as one would write it behind the theorem's name
        header: trusted source before it, such as imports
        name: under which a proof is written
    """

    text: str
    header: str = ""
    name: str = "searched_statement"


@dataclass(frozen=True)
class Verdict:
    """What the proof assistant says of a whole proof, checked from nothing.

    Attributes:
        accepted: whether it proves the theorem, with no more axioms than allowed
        message: why not
    """

    accepted: bool
    message: str = ""


class CannotStartError(NextstepError, LookupError):
    """A theorem's proof cannot begin: no such theorem, or its file is refused. Search discards it with the reason."""


class BrokenEnvironmentError(NextstepError):
    """The channel to the proof assistant broke and could not be restored; names the theorem. Another call may work."""


class Environment(Protocol):
    """A proof assistant. A tactic that fails is a `TacticError`; exceptions are for broken connections and for bugs.

    Not for several threads at once: one environment a worker.
    """

    suffix: str  # of its source files, such as ".v"

    def start(self, theorem: Theorem | Statement) -> ProofState:
        """Return the state in which the proof of `theorem` begins.

        Raises:
            CannotStartError: if the environment does not know the theorem, or cannot begin its proof
            BrokenEnvironmentError: if the proof assistant dies of it again and again
        """
        ...

    def run_tactic(self, state: ProofState, tactic: str) -> TacticResult:
        """Run one tactic on the first goal of `state`, which stays usable, as do all states that came before.

        A proof assistant that dies is started again and brought back to `state`; the tactic that killed it is a
        `TacticError` of kind "crash".

        Raises:
            BrokenEnvironmentError: if it cannot be brought back
        """
        ...

    def check(self, theorem: Theorem | Statement, script: Sequence[str]) -> Verdict:
        """Prove `theorem` from nothing with the tactics of `script`; this alone is what counts as proved."""
        ...

    def source(self, proofs: Sequence[tuple[Theorem | Statement, Sequence[str]]]) -> dict[str, str]:
        """Write proofs as source files that the proof assistant accepts whole.

        Returns:
            Text of each file by its name; theorems of one file of the project come into one file.
        """
        ...

    def close(self) -> None:
        """Stop the proof assistant; the environment may be closed twice, and is not used afterwards."""
        ...

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close it."""
        self.close()
