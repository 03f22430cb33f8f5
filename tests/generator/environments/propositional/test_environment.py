"""The environment as proof search sees it, and its soundness."""

import random
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common import ConfigError, DataError
from generator.environments import (
    CannotStartError,
    Environment,
    ProofFinished,
    ProofState,
    PropositionalEnvironment,
    Statement,
    TacticError,
    Theorem,
    Verdict,
)
from generator.environments.propositional.environment import PropositionalState
from generator.environments.propositional.formulas import (
    And,
    Atom,
    Binary,
    Formula,
    Iff,
    Implies,
    Not,
    Or,
    Truth,
    atoms,
)
from generator.environments.propositional.goals import Goal
from generator.environments.propositional.intuitionistic import is_provable
from generator.environments.propositional.lemma_files import Library, SourceFile, lemma_library

WORDS = """intro exact apply refine constructor left right rcases exfalso contradiction assumption trivial have h h1 x
p q And.symm Or.inl mt absurd or_comm .1 .2 .mp ( ) ⟨ ⟩ , | : := => fun with ?_ _ ∧ ∨ → ¬ ↔ True False""".split()


def test_it_is_an_environment() -> None:
    environment: Environment = PropositionalEnvironment()
    state = environment.start(Theorem("Logic/Or.lean", "Or.symm"))
    assert state.pp == "a b : Prop\n⊢ a ∨ b → b ∨ a"
    after = environment.run_tactic(state, "intro h")
    assert isinstance(after, ProofState) and after.pp == "a b : Prop\nh : a ∨ b\n⊢ b ∨ a"
    assert environment.run_tactic(state, "intro a") == TacticError("the name 'a' is taken")
    assert state.pp == "a b : Prop\n⊢ a ∨ b → b ∨ a"  # and can be used again
    assert environment.run_tactic(after, "exact Or.elim h Or.inr Or.inl") == ProofFinished("no goals")


def test_states_are_equal_when_they_print_alike() -> None:
    environment = PropositionalEnvironment()
    first = environment.start_statement("(p : Prop) : p → p")
    again = PropositionalEnvironment().start_statement("(p : Prop) : p → (p)")
    other = environment.start_statement("(q : Prop) : q → q")
    assert first == again and hash(first) == hash(again) and len({first, again, other}) == 2


def test_a_statement_that_cannot_be_read_is_the_users_mistake() -> None:
    with pytest.raises(DataError, match="'q' is not bound"):
        PropositionalEnvironment().start_statement("(p : Prop) : q")


def test_unknown_theorems_and_foreign_states_are_the_callers_mistake() -> None:
    environment = PropositionalEnvironment()
    for theorem in (
        Theorem("Logic/And.lean", "mt"),
        Theorem("Logic/And.lean", "nope"),
        Theorem("Logic/Prelude.lean", "And"),
    ):
        with pytest.raises(CannotStartError, match=theorem.full_name):
            environment.start(theorem)
    for statement, reason in (
        (Statement("(p : Prop) : q"), "'q' is not bound"),
        (Statement("p →"), "expected a proposition"),
        (Statement("p", header="import Logic.Nope"), "Logic/Nope.lean, which is not in the library"),
        (Statement("p", header="import Logic.Or\naxiom h : False"), "and nothing else"),
    ):
        with pytest.raises(CannotStartError, match=reason):
            environment.start(statement)
    with pytest.raises(TypeError, match="ProofState"):
        environment.run_tactic(ProofState("⊢ True"), "trivial")


def test_a_formula_alone_is_a_statement_and_signs_may_be_those_of_a_keyboard() -> None:
    environment = PropositionalEnvironment()
    state = environment.start(Statement("P /\\ ~Q -> (Q <-> R) \\/ True"))
    assert state.pp == "P Q R : Prop\n⊢ P ∧ ¬Q → (Q ↔ R) ∨ True"


def test_a_header_of_imports_says_what_a_statement_may_use() -> None:
    environment = PropositionalEnvironment()
    tactic = "exact or_comm"
    anything = environment.start(Statement("a ∨ b ↔ b ∨ a"))
    without = environment.start(Statement("a ∨ b ↔ b ∨ a", header="import Logic.Or\n"))
    assert environment.run_tactic(anything, tactic) == ProofFinished()
    assert isinstance(environment.run_tactic(without, tactic), TacticError)


def test_a_whole_proof_is_checked_from_nothing() -> None:
    theorem = Theorem("Logic/Or.lean", "Or.symm")
    with PropositionalEnvironment() as environment:
        proof = ["intro h", "exact Or.elim h Or.inr Or.inl"]
        assert environment.check(theorem, proof) == Verdict(True)
        assert environment.check(Statement("P -> P"), ["intro h", "exact h"]) == Verdict(True)
        for script, reason in (
            (proof[:1], "goals are left"),
            ([*proof, "trivial"], "'trivial' comes after the end"),
            (["intro h", "exact h"], "'exact h': "),
            ([], "goals are left"),
        ):
            verdict = environment.check(theorem, script)
            assert not verdict.accepted and reason in verdict.message
        assert "no theorem nope" in environment.check(Theorem("Logic/Or.lean", "nope"), proof).message
    environment.close()  # twice is once


def test_proofs_become_files_that_hold_what_they_need() -> None:
    environment, lemmas = PropositionalEnvironment(), lemma_library()
    proofs = [
        (Theorem("Logic/OrComm.lean", "or_comm"), ["exact ⟨Or.symm, Or.symm⟩"]),
        (Theorem("Logic/OrComm.lean", "or_right_comm"), lemma_proof("or_right_comm")),
        (Theorem("Logic/Or.lean", "Or.symm"), ["intro h", "exact Or.elim h Or.inr Or.inl"]),
        (Statement("(p q : Prop) (h : p ∧ q) : q ∧ p", name="swap"), ["exact h.symm"]),
        (Statement("P -> P", name="swap"), ["intro h", "exact h"]),
    ]
    files = environment.source(proofs)
    assert sorted(files) == ["Logic/Or.lean", "Logic/OrComm.lean", "swap.lean", "swap_2.lean"]
    names = [theorem.full_name for theorem in SourceFile.parse("x", files["Logic/OrComm.lean"]).theorems]
    assert names == ["or_comm", "or_assoc", "or_right_comm"]  # the second is needed by the third
    imports = "import Logic.And\nimport Logic.Prelude\n"
    assert files["swap.lean"] == f"{imports}\ntheorem swap (p q : Prop) (h : p ∧ q) : q ∧ p := by\n  exact h.symm\n"
    for name in ("Logic/OrComm.lean", "swap.lean"):  # and the prover accepts them whole
        kept = [file for file in lemmas.files if not {name, "Logic/OrComm.lean"} & {file.path, *file.imports}]
        whole = Library([*kept, SourceFile.parse(name, files[name])])
        for theorem in (theorem for file in whole.files if file.path == name for theorem in file.theorems):
            script = theorem.tactics or [f"exact {' '.join(theorem.proof.split())}"]
            assert PropositionalEnvironment(whole).check(Theorem(name, theorem.full_name), script).accepted


def lemma_proof(name: str) -> list[str]:
    """The library's proof as a script."""
    place = lemma_library().find(name)
    assert place is not None
    return place[1].tactics or [f"exact {' '.join(place[1].proof.split())}"]


def test_a_library_may_be_a_folder(tmp_path: Path) -> None:
    for file in lemma_library().files:
        (tmp_path / file.path).parent.mkdir(exist_ok=True)
        (tmp_path / file.path).write_text(file.source, encoding="utf-8")
    environment = PropositionalEnvironment(str(tmp_path))
    assert environment.start(Theorem("Logic/Or.lean", "Or.symm")).pp == "a b : Prop\n⊢ a ∨ b → b ∨ a"
    with pytest.raises(ConfigError, match="no folder"):
        PropositionalEnvironment(tmp_path / "missing")


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join))
def test_any_text_gets_an_answer_and_no_answer_loses_soundness(tactic: str) -> None:
    environment = PropositionalEnvironment()
    state = environment.start_statement("(p q : Prop) (h : p ∧ q) : (q → p) ∧ (p ∨ q)")
    result = environment.run_tactic(state, tactic)
    assert isinstance(result, PropositionalState | ProofFinished | TacticError)


def holds(formula: Formula, values: dict[str, bool]) -> bool:
    """Evaluate a formula by truth tables."""
    if isinstance(formula, Atom):
        return values[formula.name]
    if isinstance(formula, Not):
        return not holds(formula.body, values)
    if isinstance(formula, Binary):
        left, right = holds(formula.left, values), holds(formula.right, values)
        return {And: left and right, Or: left or right, Implies: not left or right, Iff: left == right}[type(formula)]
    return isinstance(formula, Truth)


def is_tautology(formula: Formula) -> bool:
    """Tell whether the formula holds under every valuation."""
    names = sorted(set(atoms(formula)))
    return all(
        holds(formula, dict(zip(names, values, strict=True))) for values in product([False, True], repeat=len(names))
    )


CANDIDATES = """intro h2|exact h|exact h1|exact h h1|exact h1 h|apply h|apply h1|constructor|left|right|exfalso|trivial
|assumption|contradiction|rcases h with h | h|rcases h1 with h1 | h1|rcases h with ⟨h, h3⟩|rcases h1 with ⟨h1, h3⟩
|have h4 := h h1|have h4 := h1 h|exact h.1|exact h.2|exact h.mp h1|exact h.mpr h1|exact Or.inl h|exact mt h
|refine ⟨?_, ?_⟩|exact ⟨h, h1⟩|apply mt h|exact absurd h h1|exact h.symm|apply And.symm|apply or_comm.mp
|apply Or.elim h|refine fun x => ?_|exact Or.elim h (fun x => x) (fun x => x)|apply not_not_intro|exact h1 (h h2)"""


def test_whatever_is_proved_is_true_and_goals_that_prove_their_state_are_sound() -> None:
    """Random play: a finished proof proves a tautology, and a tactic never turns an unprovable goal provable."""
    rng = random.Random(0)
    tactics = [tactic.strip() for tactic in CANDIDATES.replace(" | h", " / h").split("|")]
    tactics = [tactic.replace(" / h", " | h") for tactic in tactics]
    environment, num_finished, num_steps = PropositionalEnvironment(), 0, 0
    connectives = [And, Or, Implies, Iff]

    def formula(depth: int) -> Formula:
        if depth == 0:
            return Atom(rng.choice("pq"))
        kind = rng.choice([*connectives, Not])
        return Not(formula(depth - 1)) if kind is Not else kind(formula(depth - 1), formula(depth - 1))

    for _ in range(500):
        first, second, target = formula(rng.randrange(3)), formula(1), formula(rng.randrange(3))
        whole = Implies(first, Implies(second, target))
        state = environment.start_statement(f"(p q : Prop) (h : {first}) (h1 : {second}) : {target}")
        for _ in range(12):
            result = environment.run_tactic(state, rng.choice(tactics))
            if isinstance(result, TacticError):
                continue
            num_steps += 1
            if isinstance(result, ProofFinished):
                num_finished += 1
                assert is_tautology(whole), str(whole)
                assert is_provable([], whole), str(whole)
                break
            assert isinstance(result, PropositionalState)
            if all(_is_goal_provable(state_goal) for state_goal in result.goals):
                assert all(_is_goal_provable(state_goal) for state_goal in state.goals), (state.pp, result.pp)
            state = result
    assert num_finished > 30 and num_steps > 500


def _is_goal_provable(goal: Goal) -> bool:
    return is_provable([h.type for h in goal.hypotheses if not isinstance(h.type, str)], goal.target)
