"""The real Coq: tactics without end, processes that are killed, and who may use an environment."""

import os
import signal
import subprocess
import threading
import time
import tracemalloc
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from generator.environments.base import BrokenEnvironmentError, ProofFinished, Statement, TacticError, Theorem
from generator.environments.coq import CoqEnvironment, CoqState
from tests.generator.environments.coq.real_coq import ADD, BOTH, FORK, error, run

pytestmark = pytest.mark.coq


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


def test_a_check_that_prints_for_ever_does_not_fill_our_memory(coq: CoqEnvironment) -> None:
    tracemalloc.start()
    try:
        printing = 'do 20000 idtac "' + "x" * 1000 + '"'
        assert coq.check(Statement("True"), [printing, "exact I"]).accepted
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


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


def test_a_killed_coq_does_not_make_a_proof_fail_its_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of a check: of coqtop, and of the coqidetop that is asked whether its axioms were there."""
    (tmp_path / "a.v").write_text("Axiom same : 1 = 2.\nLemma x : 1 = 2.\n")
    with CoqEnvironment(str(tmp_path)) as environment:
        start, commands = environment._confinement.start, []

        def start_and_kill(command: Sequence[str], *args: Any, **options: Any) -> subprocess.Popen[bytes]:
            commands.append(Path(command[0]).name)
            process = start(command, *args, **options)
            if len(commands) % 2 or always:
                while not Path(f"/proc/{process.pid}/comm").read_text().startswith("coq"):  # its limits are set first
                    time.sleep(0.001)
                process.send_signal(signal.SIGKILL)
            return process

        monkeypatch.setattr(environment._confinement, "start", start_and_kill)
        always = False
        assert environment.check(Theorem("a.v", "x"), ["exact same"]).accepted
        assert commands == ["coqtop", "coqtop", "coqidetop.opt", "coqidetop.opt"]
        always = True
        verdict = environment.check(Theorem("a.v", "x"), ["exact same"])
        assert not verdict.accepted and verdict.message == "coqtop ended with signal SIGKILL"


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
