"""A small prover for intuitionistic propositional logic in Lean 4's language.

States print as Lean prints them, tactics have Lean's syntax and effect, and what Lean would reject is rejected. It also
rejects some tactics that Lean accepts, which `tactics` lists.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from common import ConfigError
from generator.environments.base import (
    CannotStartError,
    ProofFinished,
    ProofState,
    Statement,
    TacticError,
    TacticResult,
    Theorem,
)
from generator.environments.propositional.declarations import Declaration, FindConstant, SourceTheorem
from generator.environments.propositional.goals import MAX_LINE_WIDTH, Goal, print_goals
from generator.environments.propositional.lemma_files import Library, lemma_library
from generator.environments.propositional.proof_files import write_sources
from generator.environments.propositional.statements import read_header, read_statement
from generator.environments.propositional.syntax import SyntaxProblem
from generator.environments.propositional.tactics import FAILURES, apply_tactic
from generator.environments.simple import SimpleEnvironment


@dataclass(frozen=True)
class PropositionalState(ProofState):
    """Open goals, and what finds the declarations that may be used in them."""

    goals: tuple[Goal, ...] = field(compare=False)
    find_constant: FindConstant = field(compare=False, repr=False)


class PropositionalEnvironment(SimpleEnvironment):
    """Proofs of the theorems of a library, each from what stands before it, and of statements.

    A statement is what stands behind a theorem's name, `(p q : Prop) (h : p ∧ q) : q ∧ p`, or a formula alone,
    `p ∧ q → q ∧ p`, whose propositions are then bound by themselves. Its header may hold imports; without them, every
    declaration of the library may be used.
    """

    suffix = ".lean"

    def __init__(self, root: Library | str | Path | None = None) -> None:
        """Choose the library.

        Args:
            root: where theorems and lemmas come from: a folder of Lean files, such as the `lean` of a dataset of
                generator.environments.propositional_benchmark; by default the lemmas of this package

        Raises:
            ConfigError: if there is no such folder
            DataError: naming the file of the folder that cannot be used
        """
        if isinstance(root, str | Path):
            if not Path(root).is_dir():
                raise ConfigError(f"root is {str(root)!r}, which is no folder; give one of Lean files")
            root = Library.load(Path(root))
        self._library = lemma_library() if root is None else root

    def start(self, theorem: Theorem | Statement) -> PropositionalState:
        """Return the state in which the proof of `theorem` begins.

        Raises:
            CannotStartError: if the library has no such theorem, or the statement is outside the fragment
        """
        if isinstance(theorem, Theorem):
            path, found, declaration = self._find(theorem)
            find_constant = self._library.accessible_constants(path, found.start)
        else:
            try:
                declaration = read_statement(theorem.text)
                find_constant = read_header(theorem.header, self._library)
            except SyntaxProblem as problem:
                raise CannotStartError(f"{theorem.name}: {problem}") from problem
        return state_of([declaration.initial_goal()], find_constant)

    def start_statement(self, signature: str) -> PropositionalState:
        """Return the first state for a statement; the short way of tests and of those who generate theorems.

        >>> print(PropositionalEnvironment().start_statement("(p q : Prop) (h : p ∧ q) : q ∧ p").pp)
        p q : Prop
        h : p ∧ q
        ⊢ q ∧ p

        Raises:
            SyntaxProblem: if the statement is outside the fragment
        """
        return state_of([read_statement(signature).initial_goal()], read_header("", self._library))

    def _find(self, theorem: Theorem) -> tuple[str, SourceTheorem, Declaration]:
        place = self._library.find(theorem.full_name)
        if place is None or place[0] != theorem.file_path or place[1].statement is None:
            unknown = f"{theorem.file_path} declares no theorem {theorem.full_name}"
            raise CannotStartError(f"{unknown}; the folder of Lean files that does is option root")
        return place[0], place[1], place[1].statement

    def run_tactic(self, state: ProofState, tactic: str) -> TacticResult:
        """Run one tactic on the first goal of a state that this environment returned."""
        if not isinstance(state, PropositionalState):
            raise TypeError(f"expected a state of this environment, got {type(state).__name__}")
        return run_tactic(state, tactic)

    def source(self, proofs: Sequence[tuple[Theorem | Statement, Sequence[str]]]) -> dict[str, str]:
        """Write proofs as Lean files, which import those of the library.

        A file of the library keeps its name, and holds, beside the theorems proved, those above them that they need,
        with the library's proofs. A statement has a file of its own.

        Returns:
            Text of each file by its name.
        """
        return write_sources(proofs, self._library, self._constants_of)

    def _constants_of(self, theorem: Theorem | Statement, script: Sequence[str]) -> set[str]:
        """Full names of the library that a proof looks up."""
        first = self.start(theorem)
        found: set[str] = set()

        def find_constant(full_name: str) -> Declaration | None:
            declaration = first.find_constant(full_name)
            if declaration is not None:
                found.add(full_name)
            return declaration

        state: TacticResult = replace(first, find_constant=find_constant)
        for tactic in script:
            if isinstance(state, PropositionalState):
                state = run_tactic(state, tactic)
        return found


def run_tactic(state: PropositionalState, tactic: str) -> ProofFinished | PropositionalState | TacticError:
    """Run one tactic on the first goal of `state`."""
    first, *others = state.goals
    try:
        goals = apply_tactic(first, tactic, state.find_constant) + others
    except FAILURES as failure:
        return TacticError(str(failure))
    except RecursionError:
        return TacticError("maximum recursion depth has been reached")
    if not goals:
        return ProofFinished()
    result = state_of(goals, state.find_constant)
    if any(len(line) > MAX_LINE_WIDTH for line in result.pp.splitlines()):
        return TacticError(f"a line of the state would exceed {MAX_LINE_WIDTH} characters")
    return result


def state_of(goals: Sequence[Goal], find_constant: FindConstant) -> PropositionalState:
    """Return the state of these open goals."""
    return PropositionalState(print_goals(list(goals)), tuple(goals), find_constant)
