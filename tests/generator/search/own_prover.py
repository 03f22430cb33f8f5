"""Provers of a user's own, which workers import by their class paths."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence

from generator.environments import (
    CannotStartError,
    ProofFinished,
    ProofState,
    SimpleEnvironment,
    Statement,
    TacticError,
    TacticResult,
    Theorem,
    Verdict,
)
from generator.environments.coq import CoqEnvironment
from generator.environments.scripted import ScriptedEnvironment


class Even(SimpleEnvironment):
    """Proves that numbers are even."""

    def start(self, theorem: Theorem | Statement) -> ProofState:
        """See `Environment.start`."""
        if isinstance(theorem, Theorem) or not theorem.text.isdecimal():
            raise CannotStartError(f"{theorem} is no number")
        return ProofState(theorem.text)

    def run_tactic(self, state: ProofState, tactic: str) -> TacticResult:
        """See `Environment.run_tactic`."""
        number = int(state.pp)
        if tactic == "zero" and number == 0:
            return ProofFinished()
        if tactic == "minus_two" and number >= 2:
            return ProofState(str(number - 2))
        return TacticError(f"{tactic} does not apply to {number}")


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


class WithBrokenFiles(ScriptedEnvironment):
    """Cannot be made, since a file that it reads is broken."""

    def __init__(self, script: str) -> None:
        from common import DataError

        raise DataError("A.v:3: is broken")


class KilledCoq(CoqEnvironment):
    """Coq whose process is killed again and again, before a tactic runs."""

    num_calls = num_kills = 0

    def run_tactic(self, state: ProofState, tactic: str) -> TacticResult:
        """See `Environment.run_tactic`."""
        KilledCoq.num_calls += 1
        if KilledCoq.num_calls % 3 == 0:
            for pid in self.pids:
                os.kill(pid, signal.SIGKILL)
                KilledCoq.num_kills += 1
        return super().run_tactic(state, tactic)
