"""What a prover of one's own need not write: whole proofs checked by running them again, and written as text."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Self

from generator.environments.base import (
    CannotStartError,
    ProofFinished,
    ProofState,
    Statement,
    TacticError,
    TacticResult,
    Theorem,
    Verdict,
)


class ReplayingEnvironment(ABC):
    """An environment in two methods, `start` and `run_tactic`; see `Environment` for what each promises.

    A prover that can check a whole proof by other means than its own tactics does so in `check`: that is what counts.
    """

    suffix = ".txt"

    @abstractmethod
    def start(self, theorem: Theorem | Statement) -> ProofState:
        """Return the state in which the proof of `theorem` begins, or raise CannotStartError."""

    @abstractmethod
    def run_tactic(self, state: ProofState, tactic: str) -> TacticResult:
        """Run one tactic on a state, which stays usable."""

    def check(self, theorem: Theorem | Statement, script: Sequence[str]) -> Verdict:
        """Run the proof once more, from its start."""
        try:
            state: TacticResult = self.start(theorem)
        except CannotStartError as error:
            return Verdict(False, str(error))
        for tactic in script:
            if not isinstance(state, ProofState):
                return Verdict(False, f"{tactic!r} comes after the end of the proof")
            state = self.run_tactic(state, tactic)
            if isinstance(state, TacticError):
                return Verdict(False, f"{tactic!r}: {state.message}")
        if isinstance(state, ProofFinished):
            return Verdict(True)
        return Verdict(False, f"goals are left:\n{state.pp}" if isinstance(state, ProofState) else "")

    def source(self, proofs: Sequence[tuple[Theorem | Statement, Sequence[str]]]) -> dict[str, str]:
        """Write each theorem's name, or its statement's text, and its tactics indented below it, in one file."""
        blocks = []
        for theorem, script in proofs:
            title = theorem.text if isinstance(theorem, Statement) else f"{theorem.file_path}: {theorem.full_name}"
            blocks.append("".join(f"{line}\n" for line in [title, *(f"  {tactic}" for tactic in script)]))
        return {f"proofs{self.suffix}": "\n".join(blocks)}

    def close(self) -> None:  # noqa: B027 - a prover without a process has nothing to stop
        """Do nothing."""

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close it."""
        self.close()
