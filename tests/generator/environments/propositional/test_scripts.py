"""Scripts: tactics run one after the other, and the strategy's own proofs."""

import pytest

from common import DataError
from generator.environments import PropositionalEnvironment
from generator.environments.propositional.lemma_files import lemma_library
from generator.environments.propositional.lemma_use import LemmaIndex
from generator.environments.propositional.scripts import replay, write_script

SWAP = "(p q : Prop) (hpq : p ∧ q) : q ∧ p"


def test_a_script_is_replayed_with_the_state_before_and_after_each_tactic() -> None:
    state = PropositionalEnvironment().start_statement(SWAP)
    first, second = replay(state, ["rcases hpq with ⟨hp, hq⟩", "exact ⟨hq, hp⟩"])
    assert first.state_before == state.pp and first.state_after == second.state_before
    assert second.state_after == "no goals"


@pytest.mark.parametrize(
    ("tactics", "message"),
    [
        (["constructor", "exact hp"], "'exact hp': unknown identifier 'hp'\n"),
        (["exact ⟨hpq.2, hpq.1⟩", "trivial"], "'trivial' comes after the end of the proof"),
    ],
)
def test_a_tactic_that_does_not_go_on_is_named(tactics: list[str], message: str) -> None:
    with pytest.raises(DataError) as error:
        replay(PropositionalEnvironment().start_statement(SWAP), tactics)
    assert str(error.value).startswith(message)


def test_the_strategy_writes_a_proof_that_replays_and_keeps_its_limits() -> None:
    state, lemmas = (
        PropositionalEnvironment().start_statement("(p q : Prop) : p ∨ q → q ∨ p"),
        LemmaIndex(lemma_library()),
    )
    steps = write_script(state, lemmas, max_steps=8, max_state_bytes=200)
    assert steps is not None and replay(state, [step.tactic for step in steps]) == steps
    assert write_script(state, lemmas, max_steps=len(steps) - 1, max_state_bytes=200) is None
    assert write_script(state, lemmas, max_steps=8, max_state_bytes=10) is None
