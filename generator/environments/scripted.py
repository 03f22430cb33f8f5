"""A prover that plays a script: it proves what a table says, and fails, waits and dies where the table says so.

It serves tests of searches and of the commands around them, and shows how small an environment may be.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from common import NO_GOALS, ConfigError, DataError
from generator.environments.base import (
    BrokenEnvironmentError,
    CannotStartError,
    ErrorKind,
    ProofFinished,
    ProofState,
    Statement,
    TacticError,
    TacticResult,
    Theorem,
    Verdict,
)
from generator.environments.simple import SimpleEnvironment
from retrieval.training.options import check_types

_KEYS = ("delay_s", "error", "kind", "broken", "kill", "once", "then")


@dataclass(frozen=True)
class Effect:
    """What happens before a result.

    Attributes:
        delay_s: seconds to wait
        error: message of a TacticError; of a CannotStartError where a proof begins
        kind: of the TacticError
        broken: message of a BrokenEnvironmentError
        kill: the process kills itself (SIGKILL)
        once: a file that is made before the process waits or dies; while it is there, `then` is all that happens
        then: the result
    """

    delay_s: float = 0.0
    error: str | None = None
    kind: ErrorKind = "error"
    broken: str | None = None
    kill: bool = False
    once: str | None = None
    then: str = NO_GOALS


class ScriptedEnvironment(SimpleEnvironment):
    """Plays a script."""

    def __init__(self, script: Mapping[str, Any] | str | Path, calls_path: str | None = None) -> None:
        """Read the script.

        Args:
            script: a mapping, or a JSON file of it, with `starts`, a state by name of a theorem or text of a statement
                (`file_path:full_name` comes before the name alone), and `tactics`, what tactics do by the state.
                A result is the text of a state, "no goals", or a mapping of fields of `Effect`
            calls_path: file to which every call adds a line: the process, the call, its argument

        Raises:
            ConfigError: if it is no such script
        """
        table = script if isinstance(script, Mapping) else _read(Path(script))
        starts, by_state = _object(table.get("starts", {}), "starts"), _object(table.get("tactics", {}), "tactics")
        self._starts = {name: _effect(value, f"starts of {name!r}") for name, value in starts.items()}
        self._tactics = {
            (state, tactic): _effect(value, f"tactic {tactic!r}")
            for state, tactics in by_state.items()
            for tactic, value in _object(tactics, f"tactics of {state!r}").items()
        }
        self._calls_path = calls_path
        self._theorem = ""

    def start(self, theorem: Theorem | Statement) -> ProofState:
        """Return the first state of a theorem."""
        name = theorem.full_name if isinstance(theorem, Theorem) else theorem.text
        path = theorem.file_path if isinstance(theorem, Theorem) else ""
        self._theorem = name
        self._tell("start", f"{path}:{name}")
        effect = self._starts.get(f"{path}:{name}") or self._starts.get(name)
        if effect is None:
            raise CannotStartError(f"the script has no theorem {name}")
        result = self._play(effect)
        if isinstance(result, TacticError):
            raise CannotStartError(result.message)
        return result if isinstance(result, ProofState) else ProofState(result.pp)

    def run_tactic(self, state: ProofState, tactic: str) -> TacticResult:
        """Return what the script says of a tactic; one that it does not name fails."""
        self._tell("run_tactic", tactic)
        effect = self._tactics.get((state.pp, tactic))
        return TacticError(f"unknown tactic '{tactic}'") if effect is None else self._play(effect)

    def check(self, theorem: Theorem | Statement, script: Sequence[str]) -> Verdict:
        """Run a whole proof."""
        verdict = super().check(theorem, script)
        self._tell("check", self._theorem)
        return verdict

    def _play(self, effect: Effect) -> TacticResult:
        if effect.once is None or not os.path.exists(effect.once):
            if effect.once is not None:
                Path(effect.once).touch()
            time.sleep(effect.delay_s)
            if effect.kill:
                os.kill(os.getpid(), signal.SIGKILL)
            if effect.broken is not None:
                raise BrokenEnvironmentError(f"{self._theorem}: {effect.broken}")
            if effect.error is not None:
                return TacticError(effect.error, effect.kind)
        return ProofFinished() if effect.then == NO_GOALS else ProofState(effect.then)

    def _tell(self, call: str, argument: str) -> None:
        if self._calls_path is not None:
            with open(self._calls_path, "a", encoding="utf-8") as file:
                file.write(f"{os.getpid()} {call} {argument}\n")


def _read(path: Path) -> Mapping[str, Any]:
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"script {path}: {reason}; give a JSON file with starts and tactics") from error
    return _object(table, f"script {path}")


def _object(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{what}: is {str(value)[:60]!r}; it must be a mapping")
    return value


def _effect(value: Any, where: str) -> Effect:
    if isinstance(value, str):
        return Effect(then=value)
    if isinstance(value, ProofState | ProofFinished):
        return Effect(then=value.pp)
    if isinstance(value, TacticError):
        return Effect(error=value.message, kind=value.kind)
    if isinstance(value, Effect):
        return value
    if not isinstance(value, Mapping) or not set(value) <= set(_KEYS):
        raise ConfigError(f"{where} is {str(value)[:60]!r}; it must be a text, or have keys among {', '.join(_KEYS)}")
    if value.get("kind", "error") not in get_args(ErrorKind):
        raise ConfigError(f"{where} has kind {value['kind']!r}; there are {', '.join(get_args(ErrorKind))}")
    try:
        check_types(Effect, value, where)
    except DataError as error:
        raise ConfigError(str(error)) from error
    return Effect(**value)
