"""Lean itself, where it is installed: see `COMMAND`."""

import importlib.util
import shutil

import pytest

from generator.environments.base import ProofFinished, Statement, TacticError, Theorem, Verdict
from generator.environments.lean import LeanEnvironment
from tests.generator.environments.lean.lean_fakes import FILE, SWAP

COMMAND = (
    "install elan, then: pip install -e '.[lean]' && pytest -m lean tests/generator/environments/lean "
    "(LeanInteract fetches and builds its REPL the first time, which takes minutes and the network)"
)


@pytest.fixture(scope="module")
def real_lean():
    if shutil.which("lake") is None or importlib.util.find_spec("lean_interact") is None:
        pytest.skip(COMMAND)
    with LeanEnvironment() as environment:
        yield environment


@pytest.mark.lean
def test_real_lean_prints_states_as_the_built_in_prover_does(real_lean):
    from generator.environments import PropositionalEnvironment

    ours = PropositionalEnvironment()
    for tactics in (["constructor"], ["refine ⟨?_, h.1⟩"], ["rcases h with ⟨hp, hq⟩", "constructor"]):
        expected, state = ours.start_statement(SWAP.text), real_lean.start(SWAP)
        for tactic in tactics:
            assert state.pp == expected.pp
            expected, state = ours.run_tactic(expected, tactic), real_lean.run_tactic(state, tactic)
        assert state.pp == expected.pp


@pytest.mark.lean
def test_real_lean_accepts_proofs_and_nothing_else(real_lean):
    assert real_lean.check(SWAP, ["constructor", "exact h.2", "exact h.1"]) == Verdict(True)
    assert not real_lean.check(SWAP, ["constructor", "exact h.2"]).accepted
    classical = Statement("(p : Prop) : p ∨ ¬p")
    assert real_lean.check(classical, ["exact Classical.em p"]).accepted
    assert not real_lean.check(Statement(": (10 : Nat) < 11"), ["native_decide"]).accepted
    assert isinstance(real_lean.run_tactic(real_lean.start(SWAP), "exact h"), TacticError)


@pytest.mark.lean
def test_real_lean_survives_a_tactic_without_end(real_lean):
    real_lean._tactic_timeout_s = 5.0
    state = real_lean.start(SWAP)
    result = real_lean.run_tactic(
        state, "set_option maxHeartbeats 0 in set_option maxRecDepth 100000 in repeat (have := h)"
    )
    assert isinstance(result, TacticError)
    assert isinstance(real_lean.run_tactic(state, "exact ⟨h.2, h.1⟩"), ProofFinished)


@pytest.mark.lean
def test_real_lean_finds_theorems_in_a_file(real_lean, tmp_path):
    (tmp_path / "Foo.lean").write_text(FILE.replace("import Mathlib.Logic.Basic\n", ""), encoding="utf-8")
    real_lean._root = tmp_path
    theorem = Theorem("Foo.lean", "Foo.last")
    assert real_lean.start(theorem).pp == "p q : Prop\nh : p ∨ q\n⊢ q ∨ p"
    assert real_lean.check(theorem, ["exact Or.symm h"]) == Verdict(True)
