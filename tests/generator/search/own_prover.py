"""Provers of a user's own, which workers import by their class paths."""

from __future__ import annotations

import time
from collections.abc import Sequence

from generator.environments import ProofState, Statement, TacticResult, Theorem, Verdict
from generator.environments.scripted import ScriptedEnvironment


class WithABug(ScriptedEnvironment):
    """Raises what no prover should raise, at one theorem."""

    def run_tactic(self, state: ProofState, tactic: str) -> TacticResult:
        """See `Environment.run_tactic`."""
        if self._theorem == "a2":
            raise RuntimeError("a bug of the prover")
        return super().run_tactic(state, tactic)


class Hanging(ScriptedEnvironment):
    """Hangs when a proof is checked."""

    def check(self, theorem: Theorem | Statement, script: Sequence[str]) -> Verdict:
        """See `Environment.check`."""
        time.sleep(600)
        return super().check(theorem, script)


class Refusing(ScriptedEnvironment):
    """Cannot be made."""

    def __init__(self, script: str) -> None:
        from common import ConfigError

        raise ConfigError("the prover is not installed; apt-get install prover")
