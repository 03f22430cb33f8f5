"""The protocol of proof assistants: a tactic is run on a state, and gives a state, a finished proof, or an error."""

from dataclasses import dataclass
from typing import Protocol, TypeAlias

from common import NO_GOALS


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
    """The proof assistant rejects the tactic, which is common in proof search, and so a value and no exception."""

    message: str


TacticResult: TypeAlias = ProofState | ProofFinished | TacticError


@dataclass(frozen=True)
class Theorem:
    """Which theorem to prove: its file, relative to the root of its project, and its full name."""

    file_path: str
    full_name: str


class Environment(Protocol):
    """A proof assistant. A tactic that fails is a `TacticError`; exceptions are for broken connections and for bugs."""

    def start(self, theorem: Theorem) -> ProofState:
        """Return the state in which the proof of `theorem` begins.

        Raises:
            LookupError: if the environment does not know the theorem
        """
        ...

    def run_tactic(self, state: ProofState, tactic: str) -> TacticResult:
        """Run one tactic on the first goal of `state`, which stays usable."""
        ...
