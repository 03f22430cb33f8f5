"""LeanDojo's Dojo as an environment, for those who still have it.

LeanDojo 4.20 of 2025 is its last release, and does not work with today's Lean (lean-dojo/LeanDojo#250): what was traced
for ReProver still runs. For other Leans see `generator.environments.lean`. `pip install -e '.[dojo]'` wants Python
below 3.13; LeanDojo wants elan, GITHUB_ACCESS_TOKEN in the environment, and the traced repository in its cache, or it
traces it, which takes hours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common import check_positive
from generator.environments.base import (
    BrokenEnvironmentError,
    CannotStartError,
    Environment,
    ErrorKind,
    ProofFinished,
    ProofState,
    Statement,
    TacticError,
    TacticResult,
    Theorem,
    Verdict,
)
from generator.environments.lean.refusals import refusal
from generator.environments.lean.source_files import indented
from retrieval.training.extras import import_extra

_ATTEMPTS = 3
# LeanDojo's check does not tell axioms, and this tactic brings one of its own
_TRUSTS_THE_COMPILER = "native_decide"


@dataclass(frozen=True)
class DojoState(ProofState):
    """Open goals, and how to come to them; `inner` is LeanDojo's TacticState of the Dojo number `dojo`."""

    theorem: Theorem = field(compare=False, repr=False)
    script: tuple[str, ...] = field(compare=False, repr=False)
    inner: Any = field(compare=False, repr=False)
    dojo: int = field(compare=False, repr=False)


class DojoEnvironment(Environment):
    """Theorems of a repository that LeanDojo has traced, one Dojo at a time.

    Statements that stand in no file are not for a Dojo, and are refused by `start`.
    """

    suffix = ".lean"

    def __init__(
        self,
        url: str,
        commit: str,
        timeout_s: int = 600,
        additional_imports: Sequence[str] = (),
        build_deps: bool = True,
    ) -> None:
        """Import LeanDojo and find the repository.

        Args:
            url: of the repository, as the data has it
            commit: of the repository
            timeout_s: of one interaction, a theorem's start included
            additional_imports: modules that tactics need, such as Aesop
            build_deps: whether the repository was traced with what it depends on

        Raises:
            ConfigError: if LeanDojo is not installed
        """
        check_positive(timeout_s=timeout_s)
        self._lean_dojo = import_extra("lean_dojo", "dojo", "the environment dojo")
        self._repo = self._lean_dojo.LeanGitRepo(url, commit)
        self._options = {
            "timeout": timeout_s,
            "additional_imports": list(additional_imports),
            "build_deps": build_deps,
        }
        self._theorem: Theorem | None = None
        self._open: Any = None  # the Dojo of that theorem
        self._first: DojoState | None = None
        self._number = 0  # of Dojos so far

    def start(self, theorem: Theorem | Statement) -> DojoState:
        """See `Environment.start`."""
        if not isinstance(theorem, Theorem):
            raise CannotStartError(f"{theorem.name}: a Dojo proves theorems of files; take the environment lean")
        if self._first is None or self._theorem != theorem:
            self._enter(theorem)
        assert self._first is not None
        return self._first

    def run_tactic(self, state: ProofState, tactic: str) -> TacticResult:
        """See `Environment.run_tactic`."""
        if not isinstance(state, DojoState):
            raise TypeError(f"expected a state of this environment, got {type(state).__name__}")
        if reason := _refusal(tactic):
            return TacticError(reason, "refused")
        try:
            return self._run(self._brought_back(state), tactic)
        except (self._lean_dojo.DojoTacticTimeoutError, self._lean_dojo.DojoCrashError) as error:
            self._leave()
            return TacticError(f"LeanDojo: {error or type(error).__name__}", self._kind(error))

    def check(self, theorem: Theorem | Statement, script: Sequence[str]) -> Verdict:
        """See `Environment.check`: LeanDojo's `check_proof`, which compiles the file with the proof in it.

        It does not tell axioms, so tactics that bring others than Lean's own are refused by their names.
        """
        if not isinstance(theorem, Theorem):
            return Verdict(False, "a Dojo proves theorems of files")
        for tactic in script:
            if reason := _refusal(tactic):
                return Verdict(False, f"{tactic!r} is refused: {reason}")
        if not script:
            return Verdict(False, "there is no proof")
        try:
            accepted = self._lean_dojo.check_proof(self._its(theorem), f"by\n{indented(script)}")
        except self._lean_dojo.DojoInitError as error:
            raise CannotStartError(f"{theorem.full_name} of {theorem.file_path}: {error}") from error
        return Verdict(True) if accepted else Verdict(False, "Lean rejects the file with this proof in it")

    def source(self, proofs: Sequence[tuple[Theorem | Statement, Sequence[str]]]) -> dict[str, str]:
        """See `Environment.source`. The files are the repository's own, as it was traced, with these proofs in them."""
        by_file: dict[str, list[tuple[Theorem, Sequence[str]]]] = {}
        for theorem, script in proofs:
            if isinstance(theorem, Theorem):
                by_file.setdefault(theorem.file_path, []).append((theorem, script))
        return {path: self._file_with(path, replaced) for path, replaced in by_file.items()}

    def close(self) -> None:
        """See `Environment.close`."""
        self._leave()

    def _file_with(self, file_path: str, proofs: Sequence[tuple[Theorem, Sequence[str]]]) -> str:
        """The text of a traced file in which some theorems have other proofs."""
        root = self._lean_dojo.get_traced_repo_path(self._repo, self._options["build_deps"])
        utils = import_extra("lean_dojo.utils", "dojo", "the environment dojo")
        json_path = utils.to_json_path(root, Path(file_path), self._repo)
        traced = self._lean_dojo.TracedFile.from_traced_file(root, json_path, self._repo)
        places = [traced.get_traced_theorem(self._its(theorem)).locate_proof() for theorem, _ in proofs]
        text, position = "", traced.lean_file.start_pos
        for (start, end), (_, script) in sorted(zip(places, proofs, strict=True), key=lambda each: each[0]):
            statement = traced.lean_file[position:start].rstrip()
            separator = " by\n" if statement.endswith(":=") else " := by\n"
            text, position = f"{text}{statement}{separator}{indented(script)}", end
        return f"{text}{traced.lean_file[position:]}"

    # ------------------------------------------------------------------------------------------- Dojos

    def _its(self, theorem: Theorem) -> Any:
        return self._lean_dojo.Theorem(self._repo, Path(theorem.file_path), theorem.full_name)

    def _enter(self, theorem: Theorem) -> None:
        self._leave()
        name = f"{theorem.full_name} of {theorem.file_path}"
        for attempt in range(1, _ATTEMPTS + 1):
            dojo = self._lean_dojo.Dojo(self._its(theorem), **self._options)
            try:
                entered, state = dojo.__enter__()
            except self._lean_dojo.DojoInitError as error:
                raise CannotStartError(f"{name}: {error}") from error
            except self._lean_dojo.DojoCrashError as error:
                if attempt == _ATTEMPTS:
                    raise BrokenEnvironmentError(f"{name}: {attempt} times in turn: {error}") from error
                continue
            self._number += 1
            self._open, self._theorem = entered, theorem
            self._first = DojoState(state.pp, theorem, (), state, self._number)
            return

    def _leave(self) -> None:
        dojo, self._open, self._theorem, self._first = self._open, None, None, None
        if dojo is not None:
            dojo.__exit__(None, None, None)

    def _brought_back(self, state: DojoState) -> DojoState:
        """Return a state in the Dojo of now: a Dojo that is gone took its states along."""
        if state.dojo == self._number and self._open is not None:
            return state
        back: TacticResult = self.start(state.theorem)
        for tactic in state.script:
            assert isinstance(back, DojoState)
            back = self._run(back, tactic)
            if not isinstance(back, DojoState):
                raise BrokenEnvironmentError(
                    f"{state.theorem.full_name} of {state.theorem.file_path}: Lean was started again, and {tactic!r} "
                    f"does not lead where it did: {back}"
                )
        assert isinstance(back, DojoState)
        return back

    def _run(self, state: DojoState, tactic: str) -> TacticResult:
        result = self._open.run_tac(state.inner, tactic)
        if isinstance(result, self._lean_dojo.ProofFinished):
            return ProofFinished()
        if isinstance(result, self._lean_dojo.TacticState):
            return DojoState(result.pp, state.theorem, (*state.script, tactic), result, state.dojo)
        return TacticError(getattr(result, "error", "the proof is given up"))

    def _kind(self, error: Exception) -> ErrorKind:
        if isinstance(error, self._lean_dojo.DojoTacticTimeoutError):
            return "timeout"
        return "memory" if getattr(error, "is_out_of_memory", False) else "crash"


def _refusal(tactic: str) -> str | None:
    if _TRUSTS_THE_COMPILER in tactic:
        return f"`{_TRUSTS_THE_COMPILER}` brings an axiom"
    return refusal(tactic)
