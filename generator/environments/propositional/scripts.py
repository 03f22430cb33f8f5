"""Proof scripts: tactics run in the environment, with the states around each of them."""

from collections.abc import Sequence
from dataclasses import dataclass

from common import DataError
from generator.environments.base import ProofFinished, TacticError
from generator.environments.propositional.environment import PropositionalState, run_tactic
from generator.environments.propositional.lemma_use import LemmaIndex
from generator.environments.propositional.strategy import next_tactic


@dataclass(frozen=True, slots=True)
class Step:
    """A tactic and the states around it, printed."""

    state_before: str
    tactic: str
    state_after: str


def write_script(
    state: PropositionalState, lemmas: LemmaIndex, max_steps: int, max_state_bytes: int
) -> list[Step] | None:
    """Return the steps that the strategy takes from `state` to the end of the proof.

    None if the strategy has no tactic, comes back to an earlier state, or exceeds a limit.
    """
    steps: list[Step] = []
    seen = set()
    while len(steps) < max_steps:
        if state in seen or len(state.pp.encode()) > max_state_bytes:
            return None
        seen.add(state)
        tactic = next_tactic(state.goals[0], lemmas)
        if tactic is None:
            return None
        result = run_tactic(state, tactic)
        if isinstance(result, TacticError):
            return None
        steps.append(Step(state.pp, tactic, result.pp))
        if isinstance(result, ProofFinished):
            return steps
        state = result
    return None


def replay(state: PropositionalState, tactics: Sequence[str]) -> list[Step]:
    """Run tactics one after the other.

    Raises:
        DataError: naming the tactic that fails or comes after the end of the proof
    """
    steps: list[Step] = []
    current: PropositionalState | ProofFinished = state
    for tactic in tactics:
        if isinstance(current, ProofFinished):
            raise DataError(f"'{tactic}' comes after the end of the proof")
        result = run_tactic(current, tactic)
        if isinstance(result, TacticError):
            raise DataError(f"'{tactic}': {result.message}\n{current.pp}")
        steps.append(Step(current.pp, tactic, result.pp))
        current = result
    return steps
