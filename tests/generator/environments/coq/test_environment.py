"""The real Coq: states, branches, limits, restarts, soundness; in one process of each kind where that can be."""

import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from generator.environments.base import (
    BrokenEnvironmentError,
    CannotStartError,
    ProofFinished,
    ProofState,
    Statement,
    TacticError,
    TacticResult,
    Theorem,
)
from generator.environments.coq import CoqEnvironment, CoqState
from generator.environments.coq.guard import RefusedError, guarded
from generator.environments.coq.session import FailedError
from tests.generator.environments.coq import hostile

pytestmark = pytest.mark.coq

PROJECT = Path(__file__).parents[3] / "fixtures" / "coq_project"
BASICS = "theories/Basics.v"
DOUBLE = "simpl; f_equal; apply plus_n_O"
FORK = multiprocessing.get_context("fork")  # another way to start imports torch again
ADD = Statement("forall n m : nat, n + m = m + n")
ADD_PROOF = "induction n; intros m; simpl; [apply plus_n_O | rewrite IHn; apply plus_n_Sm]"
BOTH = Statement("forall A B : Prop, A -> B -> A /\\ B")


@pytest.fixture(scope="module")
def coq() -> Iterator[CoqEnvironment]:
    """One for the standard library and free statements, with a short time limit."""
    with CoqEnvironment(timeout_s=2.0, max_processes=2) as environment:
        yield environment


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CoqEnvironment]:
    """One for a user's project, whose first file is compiled, since the second imports it."""
    root = tmp_path_factory.mktemp("project") / "with space"
    shutil.copytree(PROJECT, root)
    compile_with_coqc(root / BASICS, "-R", str(root / "theories"), "Small")
    with CoqEnvironment(str(root), timeout_s=5.0, max_processes=2) as environment:
        yield environment


def compile_with_coqc(file: Path, *options: str) -> None:
    done = subprocess.run(["coqc", "-q", "-w", "none", *options, file], capture_output=True, text=True, cwd=file.parent)
    assert done.returncode == 0, done.stderr


def run(environment: CoqEnvironment, theorem: Theorem | Statement, *script: str) -> TacticResult:
    result: TacticResult = environment.start(theorem)
    for tactic in script:
        assert isinstance(result, ProofState), result
        result = environment.run_tactic(result, tactic)
    return result


def error(result: TacticResult) -> TacticError:
    assert isinstance(result, TacticError), result
    return result


# ------------------------------------------------------------------------------------------------- states


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


# ----------------------------------------------------------------------------------------------- theorems


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


# ---------------------------------------------------------------------------------------------- soundness


@pytest.mark.parametrize(
    "tactic", ["exact_no_check I", "fix H 1; exact H", "vm_cast_no_check I", "intros; exact_no_check I"]
)
def test_what_the_kernel_refuses_is_no_proof(coq: CoqEnvironment, tactic: str) -> None:
    false = Statement("forall n : nat, n = S n")
    assert error(run(coq, false, tactic)).message.startswith("Qed: ")
    assert not coq.check(false, [tactic]).accepted
    assert run(coq, ADD, ADD_PROOF) == ProofFinished()  # the process goes on


def test_admitted_goals_are_no_proof_even_if_hidden(project: CoqEnvironment) -> None:
    later = Theorem(BASICS, "later")
    assert error(run(project, later, "hidden")).message.startswith("it leaves a goal unproved")
    assert error(run(project, later, "exists 3; split; [reflexivity | hidden]")).kind == "error"
    assert not project.check(later, ["hidden"]).accepted


def test_incomplete_and_refused_scripts_are_not_accepted(coq: CoqEnvironment) -> None:
    for script in ([], ["intros n m"], ["auto", "Admitted."], ["apply foo"], ["auto", "auto", "admit"]):
        verdict = coq.check(ADD, script)
        assert not verdict.accepted and verdict.message
    assert not coq.check(Theorem("theories/Lists/None.v", "x"), ["auto"]).accepted


def test_axioms_that_were_there_are_allowed_unless_named(project: CoqEnvironment) -> None:
    by_magic, script = Theorem(BASICS, "by_magic"), ["destruct magic"]
    assert project.check(by_magic, script).accepted
    root = str(project.sources.root)
    with CoqEnvironment(root, allowed_axioms=[]) as strict:
        assert error(run(strict, by_magic, *script)).message == "Qed: axiom magic is not allowed"
        assert strict.check(by_magic, script).message == "axiom magic is not allowed"
        assert run(strict, Theorem(BASICS, "also"), "intros a b; apply one") == ProofFinished()
        assert strict.check(Theorem(BASICS, "also"), ["intros a b; apply one"]).accepted
    with CoqEnvironment(root, allowed_axioms=["Small.Basics.magic"]) as lenient:
        assert run(lenient, by_magic, *script) == ProofFinished()
        assert lenient.check(by_magic, script).accepted


def test_what_a_tactic_prints_is_no_verdict(coq: CoqEnvironment) -> None:
    assert not coq.check(Statement("False"), ['idtac "Closed under the global context"']).accepted


def test_the_name_of_an_axiom_that_is_a_keyword_now(tmp_path: Path) -> None:
    text = "Axiom rem : nat -> nat -> nat. Axiom same : forall a b, rem a b = 0.\n"
    text += 'Infix "rem" := rem (at level 40).\nLemma zero : 1 rem 2 = 0. Proof. apply same. Qed.\n'
    (tmp_path / "a.v").write_text(text)
    with CoqEnvironment(str(tmp_path)) as environment:
        assert environment.check(Theorem("a.v", "zero"), ["apply same"]).accepted


# ----------------------------------------------------------------------------------------------- hostility


def test_hostile_tactics_are_refused_and_write_nothing(
    coq: CoqEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    state = coq.start(ADD)
    scratch = coq._confinement.folder
    before = sorted(scratch.rglob("*"))
    assert len(hostile.REFUSED) >= 50
    for tactic in hostile.REFUSED:
        assert error(coq.run_tactic(state, tactic)).kind == "refused"
    # what the list of commands did not know of would be refused by Coq's grammar
    session, _ = next(reversed(coq._sessions.values()))
    for tactic in hostile.COMMANDS:
        with pytest.raises(FailedError):
            session.go_to(state.context.offset, ())
            session.step((), f"( {tactic.removesuffix('.')} ).")
    assert not list(tmp_path.iterdir()) and sorted(scratch.rglob("*")) == before
    assert run(coq, ADD, ADD_PROOF) == ProofFinished()


def test_no_commands_word_begins_a_tactic_that_coq_knows(coq: CoqEnvironment) -> None:
    for tactic in ("intros", "set (x := 1)", "pose proof I", "change (0 + 0) with 0", "Nat.order", "BinInt.Z.order"):
        try:
            guarded(tactic)
        except RefusedError:
            pytest.fail(f"{tactic} is refused")


# -------------------------------------------------------------------------------------------------- limits


@pytest.mark.parametrize(
    "tactic",
    [
        "repeat (pose 0)",
        "let rec f := f in f",
        "try (let rec f _ := f () in f ())",
        "assert (H : Nat.pow 2 40 = 3) by (vm_compute; reflexivity)",
        "let x := eval compute in (Nat.pow 9 9) in idtac",
    ],
)
def test_tactics_that_go_on_for_ever_end(coq: CoqEnvironment, monkeypatch: pytest.MonkeyPatch, tactic: str) -> None:
    state = coq.start(ADD)
    session, _ = next(reversed(coq._sessions.values()))
    monkeypatch.setattr(session, "_timeout_s", 0.5)
    begin = time.monotonic()
    result = error(coq.run_tactic(state, tactic))
    assert result.kind in ("timeout", "memory") and time.monotonic() - begin < 30
    monkeypatch.undo()
    assert isinstance(coq.run_tactic(state, "intros n m"), CoqState)


def test_tactics_that_eat_memory_end() -> None:
    with CoqEnvironment(timeout_s=60, memory_gb=0.5) as environment:
        state = environment.start(Statement("True"))
        assert (
            error(environment.run_tactic(state, "let n := eval vm_compute in (Nat.pow 10 9) in idtac")).kind == "memory"
        )
        assert environment.run_tactic(state, "exact I") == ProofFinished()


def test_a_tactic_that_prints_for_ever_does_not_fill_our_memory(
    coq: CoqEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("generator.environments.coq.channel._MAX_ANSWER", 2**20)
    result = error(run(coq, ADD, 'do 100000 idtac "' + "x" * 1000 + '"'))
    assert result.kind == "memory" and "1,048,576 bytes" in result.message
    assert isinstance(run(coq, ADD, "intros n m"), CoqState)


def test_interrupts_at_any_moment_leave_the_states_right() -> None:
    with CoqEnvironment() as environment:
        first = environment.start(ADD)
        second = environment.run_tactic(first, "intros n m")
        assert isinstance(second, CoqState)
        (session, _), *_ = environment._sessions.values()
        for number in range(60):
            session._timeout_s = 0.0002 * number
            result = environment.run_tactic(second, "do 30 (induction m; [|clear IHm]); idtac")
            assert isinstance(result, CoqState | TacticError)
            session._timeout_s = 10.0
            assert environment.run_tactic(first, "intros n m") == second


# -------------------------------------------------------------------------------------------------- deaths


def test_a_killed_coq_is_started_again_where_it_was(coq: CoqEnvironment) -> None:
    state = run(coq, BOTH, "intros A B a b", "split")
    assert isinstance(state, CoqState)
    for pid in coq.pids:
        os.kill(pid, signal.SIGKILL)
    assert coq.run_tactic(state, "all: assumption") == ProofFinished()


def test_a_coq_killed_in_the_middle_of_a_tactic(coq: CoqEnvironment) -> None:
    state = coq.start(BOTH)
    pid = coq.pids[-1]
    timer = threading.Timer(0.2, lambda: os.kill(pid, signal.SIGKILL))
    timer.start()
    result = coq.run_tactic(state, "repeat (pose 0)")
    timer.join()
    assert error(result).kind == "timeout"  # of the second try: the tactic did not kill it
    assert coq.run_tactic(state, "tauto") == ProofFinished()


def test_a_file_that_changed_in_the_meantime_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.v").write_text("Lemma x : True.\nProof. auto. Qed.\n")
    with CoqEnvironment(str(tmp_path)) as environment:
        state = environment.start(Theorem("a.v", "x"))
    (tmp_path / "a.v").write_text("(* new *) Lemma x : True.\nProof. auto. Qed.\n")
    with CoqEnvironment(str(tmp_path)) as environment, pytest.raises(BrokenEnvironmentError, match="x: .*has changed"):
        environment.run_tactic(state, "auto")


def search_for_ever(pids: Connection) -> None:
    """Use an environment from a thread, which starts its process."""
    environment = CoqEnvironment(timeout_s=600)

    def work() -> None:
        state = environment.start(Statement("True"))
        pids.send(environment.pids[0])
        environment.run_tactic(state, "repeat (pose 0)")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def test_coq_does_not_outlive_its_parent_though_a_thread_started_it() -> None:
    ours, theirs = FORK.Pipe()
    parent = FORK.Process(target=search_for_ever, args=(theirs,))
    parent.start()
    pid = ours.recv()
    parent.kill()
    parent.join()
    for _ in range(100):
        if not Path(f"/proc/{pid}").exists() or "zombie" in Path(f"/proc/{pid}/status").read_text():
            return
        time.sleep(0.05)
    pytest.fail("coqidetop goes on")


def use_in_a_fork(environment: CoqEnvironment, said: Connection) -> None:
    try:
        environment.start(Statement("True"))
    except RuntimeError as told:
        said.send(str(told))


def test_an_environment_is_not_used_in_a_fork_of_its_process() -> None:
    with CoqEnvironment() as environment:
        ours, theirs = FORK.Pipe()
        child = FORK.Process(target=use_in_a_fork, args=(environment, theirs))
        child.start()
        assert "make one in each worker" in ours.recv()
        child.join()
        assert run(environment, Statement("True"), "exact I") == ProofFinished()


# ------------------------------------------------------------------------------------------------- sources


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
