"""The real Coq: states, branches, theorems where they stand, proofs as files."""

import pickle
from collections.abc import Sequence
from pathlib import Path

import pytest

from generator.environments.base import CannotStartError, ProofFinished, Statement, TacticError, Theorem
from generator.environments.coq import CoqEnvironment, CoqState
from tests.generator.environments.coq.real_coq import (
    ADD,
    ADD_PROOF,
    BASICS,
    BOTH,
    DOUBLE,
    FORK,
    compile_with_coqc,
    error,
    run,
)

pytestmark = pytest.mark.coq


def test_a_proof_step_by_step(coq: CoqEnvironment) -> None:
    state = coq.start(ADD)
    assert state.pp == "⊢ forall n m : nat, n + m = m + n"
    middle = run(coq, ADD, "intros n m", "induction n as [|k IH].")
    assert middle.pp == "m : nat\n⊢ 0 + m = m + 0\n\nk : nat\nm : nat\nIH : k + m = m + k\n⊢ S k + m = m + S k"
    assert run(coq, ADD, ADD_PROOF) == ProofFinished()


def test_states_stay_usable_after_others_were_tried(coq: CoqEnvironment) -> None:
    first = coq.start(BOTH)
    second = coq.run_tactic(first, "intros A B a b")
    assert isinstance(second, CoqState)
    left = coq.run_tactic(second, "split")
    assert error(coq.run_tactic(second, "nonsense")).message.startswith("The reference nonsense was not found")
    assert coq.run_tactic(first, "intros A B a b") == second
    assert coq.run_tactic(second, "split") == left
    assert coq.run_tactic(second, "auto") == ProofFinished()
    assert coq.run_tactic(first, "tauto") == ProofFinished()


def test_more_states_than_a_process_keeps() -> None:
    with CoqEnvironment(max_nodes=5) as environment:
        first = environment.start(BOTH)
        states = [first]
        for tactic in ["intros A", "intros B", "intros a", "intros b", "split"]:
            states.append(environment.run_tactic(states[-1], tactic))
        for _ in range(3):
            for before, tactic, after in zip(states, ["intros A", "intros B", "intros a"], states[1:], strict=False):
                assert environment.run_tactic(before, tactic) == after


def test_a_state_lives_on_in_another_process_and_environment(coq: CoqEnvironment) -> None:
    state = pickle.loads(pickle.dumps(run(coq, BOTH, "intros A B a b", "split")))
    with CoqEnvironment() as other:
        assert other.run_tactic(state, "all: assumption") == ProofFinished()


def test_selectors_three_dots_and_tactics_of_several_goals(coq: CoqEnvironment) -> None:
    split = run(coq, BOTH, "intros A B a b; split")
    assert isinstance(split, CoqState)
    swapped = coq.run_tactic(split, "2: exact b")
    assert isinstance(swapped, CoqState) and "\n\n" not in swapped.pp
    assert coq.run_tactic(split, "1-2: assumption") == ProofFinished()
    assert coq.run_tactic(split, "all: [> exact a | exact b ]") == ProofFinished()


def test_shelved_goals_come_back_when_nothing_else_is_left(coq: CoqEnvironment) -> None:
    theorem = Statement("exists n : nat, n = n")
    state = run(coq, theorem, "eexists", "reflexivity")
    assert isinstance(state, CoqState) and state.pp == "⊢ nat"
    script = ["eexists", "reflexivity", "exact 0"]
    assert run(coq, theorem, *script) == ProofFinished()
    assert coq.check(theorem, script).accepted
    text = coq.source([(theorem, script)])["statements.v"]
    assert "Unshelve." in text


def test_the_baselines_tactics_run_and_lia_needs_its_import(coq: CoqEnvironment) -> None:
    for tactic in ("auto", "intuition", "firstorder", "easy", "trivial"):
        assert isinstance(run(coq, ADD, tactic), CoqState | TacticError)
    assert "lia was not found" in error(run(coq, ADD, "lia")).message
    with_lia = Statement("(n m : nat) : n + m = m + n", "Require Import Lia.")
    assert coq.start(with_lia).pp == "n : nat\nm : nat\n⊢ n + m = m + n"
    assert run(coq, with_lia, "lia") == ProofFinished()


def test_theorems_of_one_file_share_a_process_forward_and_backward(coq: CoqEnvironment) -> None:
    lists = "theories/Lists/List.v"
    first = coq.start(Theorem(lists, "Coq.Lists.List.app_nil_r"))
    pids = coq.pids
    assert first.pp == "A : Type\nl : list A\n⊢ l ++ [] = l"
    second = coq.start(Theorem(lists, "app_assoc"))
    assert second.pp == "A : Type\nl : list A\nm : list A\nn : list A\n⊢ l ++ m ++ n = (l ++ m) ++ n"
    assert coq.run_tactic(first, "induction l; simpl; f_equal; auto") == ProofFinished()
    assert coq.run_tactic(second, "induction l; simpl; f_equal; auto") == ProofFinished()
    assert coq.pids == pids
    assert coq.check(Theorem(lists, "Coq.Lists.List.app_assoc"), ["induction l; simpl; f_equal; auto"]).accepted


def test_a_file_before_the_prelude(coq: CoqEnvironment) -> None:
    theorem = Theorem("theories/Init/Logic.v", "Coq.Init.Logic.iff_refl")
    assert run(coq, theorem, "unfold iff; split; intros H; exact H") == ProofFinished()
    assert coq.check(theorem, ["unfold iff; split; intros H; exact H"]).accepted


def test_skipped_proofs_give_the_same_states(project: CoqEnvironment) -> None:
    root = str(project.sources.root)
    with CoqEnvironment(root, skip_proofs=True) as skipping:
        for name in ("Outer.double", "also", "three_is", "later"):
            assert skipping.start(Theorem(BASICS, name)).pp == project.start(Theorem(BASICS, name)).pp


def test_theorems_of_a_project(project: CoqEnvironment) -> None:
    assert run(project, Theorem(BASICS, "Outer.double"), "intros n", DOUBLE) == ProofFinished()
    assert project.start(Theorem(BASICS, "Small.Basics.größer_π")).pp == "ε : nat\n⊢ ε <= S ε"
    values = run(project, Theorem(BASICS, "let_in"), "intros x y")
    assert values.pp == "x : nat := 3\ny : nat := 4\n⊢ x < y"
    used = Theorem("theories/Uses.v", "Small.Uses.double")
    assert run(project, used, "exact Outer.double") == ProofFinished()
    assert project.check(used, ["exact Outer.double"]).accepted
    assert project.check(Theorem(BASICS, "also"), ["intros a b", "apply one"]).accepted


@pytest.mark.parametrize(
    ("theorem", "message"),
    [
        (Theorem(BASICS, "four"), "no proof begins there"),
        (Theorem(BASICS, "magic"), "no proof begins there"),
        (Statement("foo = 1"), "The reference foo was not found"),
        (Statement("True", "Require Import Nowhere."), "Cannot find a physical path"),
    ],
    ids=range(4),
)
def test_what_cannot_begin_says_why(project: CoqEnvironment, theorem: Theorem | Statement, message: str) -> None:
    with pytest.raises(CannotStartError, match=message):
        project.start(theorem)
    assert not project.check(theorem, ["auto"]).accepted


def proofs_of_project() -> list[tuple[Theorem | Statement, Sequence[str]]]:
    return [
        (Theorem(BASICS, "Inner.double"), [DOUBLE]),
        (Theorem(BASICS, "Outer.double"), ["intros n", DOUBLE]),
        (Theorem(BASICS, "same"), ["intros a; apply one"]),
        (Theorem(BASICS, "also"), ["intros a b", "apply one"]),
        (Theorem(BASICS, "three"), ["eexists", "exact (eq_refl 3)"]),
        (Theorem(BASICS, "open_end"), ["induction n; auto"]),
        (Theorem(BASICS, "done"), ["congruence"]),
        (Statement("1 + 1 = 2"), ["reflexivity"]),
        (Statement("(n : nat) : n < S n", "Require Import Lia."), ["lia"]),
    ]


def test_files_with_proofs_are_accepted_whole_by_coqc(project: CoqEnvironment, tmp_path: Path) -> None:
    proofs = proofs_of_project()
    assert all(project.check(*proof).accepted for proof in proofs[4:6])
    files = project.source(proofs)
    assert sorted(files) == ["statements.v", BASICS]
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        compile_with_coqc(path, "-Q", str(tmp_path), "")
    assert f"( {DOUBLE} )." in files[BASICS] and "rewrite <- plus_n_O" not in files[BASICS]


def test_workers_are_processes_that_each_have_their_own() -> None:
    with FORK.Pool(2) as pool:
        assert pool.map(prove_in_worker, ["auto", "tauto"]) == ["no goals", "no goals"]


def prove_in_worker(tactic: str) -> str:
    with CoqEnvironment() as environment:
        return environment.run_tactic(environment.start(Statement("True")), tactic).pp  # type: ignore[union-attr]
