"""A small prover for intuitionistic propositional logic in Lean 4's language.

States print as Lean prints them, tactics have Lean's syntax and effect, and what Lean would reject is rejected. It also
rejects some tactics that Lean accepts, which `tactics` lists.
"""

from dataclasses import dataclass, field

from generator.environments.base import ProofFinished, ProofState, TacticError, TacticResult, Theorem
from generator.environments.propositional.declarations import Declaration, FindConstant, parse_signature
from generator.environments.propositional.goals import MAX_LINE_WIDTH, Goal, print_goals
from generator.environments.propositional.lemma_files import Library, lemma_library
from generator.environments.propositional.tactics import FAILURES, apply_tactic


@dataclass(frozen=True)
class PropositionalState(ProofState):
    """Open goals, and what finds the declarations that may be used in them."""

    goals: tuple[Goal, ...] = field(compare=False)
    find_constant: FindConstant = field(compare=False, repr=False)


class PropositionalEnvironment:
    """Proofs of the theorems of a library, each from what stands before it.

    Args:
        library: where theorems and lemmas come from, by default the lemmas of this package
    """

    def __init__(self, library: Library | None = None) -> None:
        """Choose the library."""
        self._library = lemma_library() if library is None else library

    def start(self, theorem: Theorem) -> PropositionalState:
        """Return the state in which the proof of `theorem` begins.

        Raises:
            LookupError: if the library has no such theorem
        """
        place = self._library.find(theorem.full_name)
        if place is None or place[0] != theorem.file_path or place[1].statement is None:
            raise LookupError(f"{theorem.file_path} declares no theorem {theorem.full_name}")
        path, source_theorem = place
        find_constant = self._library.accessible_constants(path, source_theorem.start)
        assert source_theorem.statement is not None
        return _state([source_theorem.statement.initial_goal()], find_constant)

    def start_statement(self, signature: str) -> PropositionalState:
        """Return the first state for a statement such as `(p q : Prop) (h : p ∧ q) : q ∧ p`.

        Every declaration of the library may be used.

        >>> print(PropositionalEnvironment().start_statement("(p q : Prop) (h : p ∧ q) : q ∧ p").pp)
        p q : Prop
        h : p ∧ q
        ⊢ q ∧ p

        Raises:
            SyntaxProblem: if the statement is outside the fragment
        """
        goal = parse_signature("", signature).initial_goal()
        return _state([goal], self._find_any)

    def _find_any(self, full_name: str) -> Declaration | None:
        place = self._library.find(full_name)
        return None if place is None else place[1].statement

    def run_tactic(self, state: ProofState, tactic: str) -> TacticResult:
        """Run one tactic on the first goal of a state that this environment returned."""
        if not isinstance(state, PropositionalState):
            raise TypeError(f"expected a state of this environment, got {type(state).__name__}")
        return run_tactic(state, tactic)


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
    result = _state(goals, state.find_constant)
    if any(len(line) > MAX_LINE_WIDTH for line in result.pp.splitlines()):
        return TacticError(f"a line of the state would exceed {MAX_LINE_WIDTH} characters")
    return result


def _state(goals: list[Goal], find_constant: FindConstant) -> PropositionalState:
    return PropositionalState(print_goals(goals), tuple(goals), find_constant)
