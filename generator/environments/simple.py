"""The rest of an environment, for provers of one's own that have nothing to stop and no files to keep to."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from generator.environments.base import (
    CannotStartError,
    Environment,
    ProofFinished,
    ProofState,
    Statement,
    TacticError,
    TacticResult,
    Theorem,
    Verdict,
)


class SimpleEnvironment(Environment):
    """A prover of two methods: where a proof begins, and what a tactic does.

    A whole proof is checked by running it again, and is written as the tactics below the theorem's name. A prover that
    trusts its own states too much, or has a format of files, says more; see `Environment`.

        class Even(SimpleEnvironment):
            def start(self, theorem: Theorem | Statement) -> ProofState:
                return ProofState(theorem.text)

            def run_tactic(self, state: ProofState, tactic: str) -> TacticResult:
                number = int(state.pp)
                if tactic == "zero" and number == 0:
                    return ProofFinished()
                if tactic == "minus_two" and number >= 2:
                    return ProofState(str(number - 2))
                return TacticError(f"{tactic} does not apply to {number}")
    """

    suffix = ".txt"

    @abstractmethod
    def start(self, theorem: Theorem | Statement) -> ProofState:
        """See `Environment.start`."""

    @abstractmethod
    def run_tactic(self, state: ProofState, tactic: str) -> TacticResult:
        """See `Environment.run_tactic`."""

    def check(self, theorem: Theorem | Statement, script: Sequence[str]) -> Verdict:
        """Run a whole proof from its beginning."""
        try:
            state: ProofState | ProofFinished = self.start(theorem)
        except CannotStartError as error:
            return Verdict(False, str(error))
        for tactic in script:
            if isinstance(state, ProofFinished):
                return Verdict(False, f"'{tactic}' comes after the end of the proof")
            result = self.run_tactic(state, tactic)
            if isinstance(result, TacticError):
                return Verdict(False, f"'{tactic}': {result.message}")
            state = result
        if isinstance(state, ProofFinished):
            return Verdict(True)
        return Verdict(False, f"goals are left:\n{state.pp}")

    def source(self, proofs: Sequence[tuple[Theorem | Statement, Sequence[str]]]) -> dict[str, str]:
        """Write the proofs of a file one below the other."""
        files: dict[str, str] = {}
        for theorem, script in proofs:
            if isinstance(theorem, Theorem):
                path, title = theorem.file_path, f"{theorem.full_name}:"
            else:
                path, title = f"{theorem.name}{self.suffix}", f"{theorem.name}: {theorem.text}"
            files[path] = files.get(path, "") + "\n".join([title, *(f"  {tactic}" for tactic in script), ""])
        return files

    def close(self) -> None:
        """Do nothing: there is no process to stop."""
