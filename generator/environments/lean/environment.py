"""Lean 4 through LeanInteract: tactics run on the proof states of its REPL, and whole proofs as commands.

The REPL has accepted wrong proofs in its tactic mode (leanprover-community/repl#44); only `check` counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from common import ConfigError, check_positive
from generator.environments.base import (
    BrokenEnvironmentError,
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
from generator.environments.lean.refusals import refusal
from generator.environments.lean.session import LeanDied, ReplSession
from generator.environments.lean.source_files import SourceTheorem, find, indented, theorems_of, with_proofs
from generator.interface.goal_states import render_state

_ATTEMPTS = 3  # to get an answer from a REPL that dies
_MAX_STATES = 20_000  # that a REPL keeps before the next theorem gets another one: it frees none
_AXIOMS = re.compile(r"depends on axioms: \[([^\]]*)\]")
_NO_AXIOMS = "does not depend on any axioms"

AnyTheorem = Theorem | Statement
_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class LeanState(ProofState):
    """Open goals, and how to come to them."""

    theorem: AnyTheorem = field(compare=False, repr=False)
    script: tuple[str, ...] = field(compare=False, repr=False)


@dataclass(frozen=True)
class _Place:
    """Where a theorem is proved: in the environment after `before`, by writing `declaration` and a proof."""

    before: str
    declaration: str
    name: str
    is_statement: bool


class LeanEnvironment(Environment):
    """Theorems of a Lake project, or statements by themselves.

    Args:
        project: folder of a Lake project that is built; files of theorems are relative to it
        lean_version: toolchain where there is no project, such as "v4.19.0"; the newest, if None
        imports: modules for statements without a header, such as Mathlib
        tactic_timeout_s: of one tactic; a check has it once for each tactic and once more
        start_timeout_s: of what stands before a theorem, its imports among it
        memory_limit_mb: address space of Lean; None for no limit
        allowed_axioms: which a proof may depend on
        repl_path: folder of a built REPL, instead of the one that LeanInteract fetches and builds
        lake_path: the command `lake`
        build: run `lake build` in the project first
    """

    suffix = ".lean"

    def __init__(
        self,
        project: str | None = None,
        lean_version: str | None = None,
        imports: Sequence[str] = (),
        tactic_timeout_s: float = 60.0,
        start_timeout_s: float = 600.0,
        memory_limit_mb: int | None = 16_384,
        allowed_axioms: Sequence[str] = ("propext", "Classical.choice", "Quot.sound"),
        repl_path: str | None = None,
        lake_path: str = "lake",
        build: bool = False,
    ) -> None:
        """Set the REPL up; see `ReplSession` for what is raised."""
        check_positive(tactic_timeout_s=tactic_timeout_s, start_timeout_s=start_timeout_s)
        if isinstance(imports, str) or isinstance(allowed_axioms, str):
            raise ConfigError("imports and allowed_axioms are lists of names")
        self._session = ReplSession(project, lean_version, memory_limit_mb, repl_path, lake_path, build)
        self._root = None if project is None else Path(project)
        self._header = "\n".join(f"import {module}" for module in imports)
        self._tactic_timeout_s, self._start_timeout_s = tactic_timeout_s, start_timeout_s
        self._allowed_axioms = frozenset(allowed_axioms)
        self._files: dict[str, tuple[str, list[SourceTheorem]]] = {}
        # what the REPL of now knows, by number
        self._environments: dict[str, int] = {}
        self._states: dict[tuple[AnyTheorem, tuple[str, ...]], int] = {}

    def start(self, theorem: AnyTheorem) -> LeanState:
        """See `Environment.start`."""
        if len(self._states) > _MAX_STATES:
            self._stop()
        try:
            return LeanState(self._persist(theorem, lambda: self._begin(theorem)), theorem, ())
        except LeanDied as death:
            raise CannotStartError(f"{_title(theorem)}: {death}") from death

    def run_tactic(self, state: ProofState, tactic: str) -> TacticResult:
        """See `Environment.run_tactic`."""
        if not isinstance(state, LeanState):
            raise TypeError(f"expected a state of this environment, got {type(state).__name__}")
        if reason := refusal(tactic):
            return TacticError(reason, "refused")
        try:
            number = self._persist(state.theorem, lambda: self._number_of(state.theorem, state.script))
        except LeanDied as death:
            raise BrokenEnvironmentError(f"{_title(state.theorem)}: on the way back to a state: {death}") from death
        try:
            return self._step(state.theorem, state.script, number, tactic)
        except LeanDied as death:
            return TacticError(str(death), death.kind)

    def check(self, theorem: AnyTheorem, script: Sequence[str]) -> Verdict:
        """See `Environment.check`: the declaration with its proof as a command, and then its axioms."""
        if not script:
            return Verdict(False, "there is no proof")
        for tactic in script:
            if reason := refusal(tactic):
                return Verdict(False, f"{tactic!r} is refused: {reason}")
        try:
            return self._persist(theorem, lambda: self._check(theorem, script))
        except LeanDied as death:
            return Verdict(False, str(death))

    def source(self, proofs: Sequence[tuple[AnyTheorem, Sequence[str]]]) -> dict[str, str]:
        """See `Environment.source`: files of the project with these proofs in them; one file for each header."""
        texts: dict[str, str] = {}
        of_file: dict[str, list[tuple[SourceTheorem, Sequence[str]]]] = {}
        of_header: dict[str, list[str]] = {}
        names: dict[str, int] = {}
        for theorem, script in proofs:
            if isinstance(theorem, Theorem):
                found = self._find_again(theorem)
                of_file.setdefault(theorem.file_path, []).append((found, script))
                continue
            names[theorem.name] = count = names.get(theorem.name, 0) + 1
            name = theorem.name if count == 1 else f"{theorem.name}_{count}"
            declaration = f"theorem {name} {theorem.text} := by\n{indented(script)}"
            of_header.setdefault(theorem.header or self._header, []).append(declaration)
        for path, replaced in of_file.items():
            texts[path] = with_proofs(self._files[path][0], replaced)
        for number, (header, declarations) in enumerate(of_header.items(), start=1):
            name = "statements.lean" if number == 1 else f"statements_{number}.lean"
            texts[name] = "\n\n".join([header, *declarations] if header else declarations) + "\n"
        return texts

    def close(self) -> None:
        """See `Environment.close`."""
        self._stop()

    # ------------------------------------------------------------------------------- one REPL's life

    def _run(self, request: Any, timeout_s: float) -> Any:
        if not self._session.is_running:
            timeout_s = max(timeout_s, self._start_timeout_s)
        try:
            return self._session.run(request, timeout_s)
        except LeanDied:
            self._stop()
            raise

    def _stop(self) -> None:
        self._session.stop()
        self._environments.clear()
        self._states.clear()

    def _persist(self, theorem: AnyTheorem, ask: Callable[[], _Answer]) -> _Answer:
        """Return what `ask` returns, from another REPL if one crashes.

        Raises:
            LeanDied: if time or memory was not enough, which another REPL would not change
            BrokenEnvironmentError: if it crashes again and again
        """
        attempt = 1
        while True:
            try:
                return ask()
            except LeanDied as death:
                if death.kind != "crash":
                    raise
                if attempt == _ATTEMPTS:
                    raise BrokenEnvironmentError(f"{_title(theorem)}: {attempt} times in turn: {death}") from death
                attempt += 1

    def _begin(self, theorem: AnyTheorem) -> str:
        """Put the theorem's `sorry` among the states; return its goal, printed."""
        place = self._place(theorem)
        answer = self._declare(place, " := by sorry", self._start_timeout_s)
        problem = _first_problem(self._session, answer)
        if problem is None and len(answer.sorries) != 1:
            problem = f"its statement leaves {len(answer.sorries)} goals"
        if problem is not None:
            raise CannotStartError(f"{_title(theorem)}: {problem}")
        [sorry] = answer.sorries
        self._states[theorem, ()] = sorry.proof_state
        return render_state([sorry.goal])

    def _number_of(self, theorem: AnyTheorem, script: tuple[str, ...]) -> int:
        """Number of a state in this REPL, which is brought there if it has not been."""
        if (theorem, ()) not in self._states:
            self._begin(theorem)
        known = next(n for n in range(len(script), -1, -1) if (theorem, script[:n]) in self._states)
        for n in range(known, len(script)):
            result = self._step(theorem, script[:n], self._states[theorem, script[:n]], script[n])
            if not isinstance(result, LeanState):
                raise BrokenEnvironmentError(
                    f"{_title(theorem)}: Lean was started again, and {script[n]!r} does not lead where it did: {result}"
                )
        return self._states[theorem, script]

    def _step(self, theorem: AnyTheorem, script: tuple[str, ...], number: int, tactic: str) -> TacticResult:
        answer = self._run(self._session.lean.ProofStep(tactic=tactic, proof_state=number), self._tactic_timeout_s)
        if problem := _first_problem(self._session, answer):
            return TacticError(problem)
        if answer.sorries:
            return TacticError("the tactic leaves a sorry")
        if answer.goals:
            self._states[theorem, (*script, tactic)] = answer.proof_state
            return LeanState(render_state(answer.goals), theorem, (*script, tactic))
        if answer.proof_status == "Completed":
            return ProofFinished()
        return TacticError(f"no goals are left, and the proof is not accepted: {answer.proof_status}")

    # ---------------------------------------------------------------------- declarations and their proofs

    def _check(self, theorem: AnyTheorem, script: Sequence[str]) -> Verdict:
        place = self._place(theorem)
        timeout_s = self._tactic_timeout_s * (len(script) + 1)
        answer = self._declare(place, f" := by\n{indented(script)}", timeout_s)
        if problem := _first_problem(self._session, answer):
            return Verdict(False, problem)
        if answer.sorries or any("declaration uses" in each.data for each in answer.messages):
            return Verdict(False, "the proof has a sorry in it")
        if len(answer.declarations) != 1:
            return Verdict(False, f"the proof makes {len(answer.declarations)} declarations; it must be one theorem")
        request = self._session.lean.Command(cmd=f"#print axioms {place.name}", env=answer.env)
        return self._judge_axioms(self._run(request, self._tactic_timeout_s))

    def _judge_axioms(self, answer: Any) -> Verdict:
        if problem := _first_problem(self._session, answer):
            return Verdict(False, f"its axioms are unknown: {problem}")
        said = " ".join(" ".join(message.data.split()) for message in answer.messages)
        if said.endswith(_NO_AXIOMS):
            return Verdict(True)
        listed = _AXIOMS.search(said)
        if listed is None:
            return Verdict(False, f"its axioms are unknown: {said!r}")
        others = {axiom.strip() for axiom in listed[1].split(",")} - self._allowed_axioms
        return Verdict(False, f"it depends on {', '.join(sorted(others))}") if others else Verdict(True)

    def _declare(self, place: _Place, proof: str, timeout_s: float) -> Any:
        environment = self._environment_after(place)
        request = self._session.lean.Command(cmd=f"{place.declaration}{proof}", env=environment, declarations=True)
        return self._run(request, timeout_s)

    def _environment_after(self, place: _Place) -> int | None:
        """Number of the environment in which a theorem stands; the REPL has read most of its file already."""
        text = place.before
        if not text.strip():
            return None
        if text not in self._environments:
            answer = self._run(self._session.lean.Command(cmd=text), self._start_timeout_s)
            problem = _first_problem(self._session, answer)
            # other theorems of a file may fail; its axioms tell whether one rests on them
            if problem is not None and (place.is_statement or isinstance(answer, self._session.lean_error)):
                raise CannotStartError(f"{place.name}: what stands before it is not accepted: {problem}")
            self._environments[text] = answer.env
        return self._environments[text]

    def _place(self, theorem: AnyTheorem) -> _Place:
        if isinstance(theorem, Statement):
            declaration = f"theorem {theorem.name} {theorem.text}"
            return _Place(theorem.header or self._header, declaration, theorem.name, True)
        found = self._find(theorem)
        before, declaration = found.split(self._files[theorem.file_path][0])
        return _Place(before, declaration, found.written_name, False)

    def _find_again(self, theorem: Theorem) -> SourceTheorem:
        try:
            return self._persist(theorem, lambda: self._find(theorem))
        except LeanDied as death:
            raise BrokenEnvironmentError(f"{_title(theorem)}: {death}") from death

    def _find(self, theorem: Theorem) -> SourceTheorem:
        return find(self._theorems_of(theorem.file_path), theorem)

    def _theorems_of(self, file_path: str) -> list[SourceTheorem]:
        if file_path not in self._files:
            if self._root is None:
                raise CannotStartError(f"{file_path}: a theorem of a file needs the option project, its folder")
            try:
                text = (self._root / file_path).read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise CannotStartError(f"{self._root / file_path} cannot be read: {error}") from error
            request = self._session.lean.Command(cmd=text, declarations=True)
            answer = self._run(request, self._start_timeout_s)
            if isinstance(answer, self._session.lean_error):
                raise CannotStartError(f"{file_path} is not accepted: {answer.message}")
            self._files[file_path] = text, theorems_of(text, answer.declarations)
        return self._files[file_path][1]


def _first_problem(session: ReplSession, answer: Any) -> str | None:
    """Return Lean's first error; None if it has none."""
    if isinstance(answer, session.lean_error):
        return str(answer.message).removeprefix("Lean error:\n").strip() or "Lean gives no reason"
    return next((message.data for message in answer.messages if message.severity == "error"), None)


def _title(theorem: AnyTheorem) -> str:
    return theorem.name if isinstance(theorem, Statement) else f"{theorem.full_name} of {theorem.file_path}"
