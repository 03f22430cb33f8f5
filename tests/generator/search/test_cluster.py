"""Workers on a Ray cluster: on a stand-in of this process, and on a local one, skipped where ray is not installed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from common import ConfigError, DataError
from generator.environments.base import Theorem
from generator.interface.tactic_generator import TacticGenerator
from generator.search.cluster import RayWorkers, _plain
from generator.search.options import SearchOptions
from generator.search.prove import ProofRun, main
from generator.search.remote_generator import GeneratorFailedError
from generator.search.schedule import Job
from generator.search.shared_generator import SharedGenerator
from generator.search.workers import WorkerSetup
from retrieval.training.signals import Interrupted, interrupted_by_signals
from tests.generator.search.fake_ray import FakeRay
from tests.generator.search.prove_fakes import arguments, results_of, statuses, write_script, write_split

OWN = "tests.generator.search.own_prover"
NAMES = [("A.v", "a1"), ("A.v", "a2"), ("B.v", "b")]
STARTS = {"a1": "⊢ 1", "a2": "⊢ 2", "b": "⊢ 3"}


class Speller(TacticGenerator):
    """Proposes to finish, in every state."""

    def propose(self, contexts, num_candidates):
        return [[("done", -0.5), ("on", -1.0)][:num_candidates] for _ in contexts]


def setup_of(tmp_path, tactics, starts, generator):
    script = {"starts": starts, "tactics": tactics}
    return WorkerSetup("scripted", {"script": script}, generator, SearchOptions(max_expansions=5, num_candidates=2))


def test_without_ray_the_message_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"needs the package ray; pip install -e '\.\[ray\]'"):
        RayWorkers(setup_of(tmp_path, {}, {}, Speller()), 2, "local")


def test_a_cluster_without_workers_is_refused():
    with pytest.raises(ConfigError, match="workers is 0"):
        ProofRun(environment="scripted", workers=0, ray="local")


@pytest.fixture
def ray(monkeypatch):
    fake = FakeRay()
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setitem(sys.modules, "ray", fake)
    yield fake
    signal.signal(signal.SIGTERM, before)


def command(tmp_path, environment="scripted", *more):
    """Arguments of a run of three theorems on a cluster."""
    split, script = write_split(tmp_path / "test.json", NAMES), write_script(tmp_path / "s.json", STARTS)
    return [
        *arguments(split, script, tmp_path / "out", workers=2),
        "--ray=local",
        f"--environment={environment}",
        *more,
    ]


def test_the_command_proves_on_a_cluster_and_leaves_it(ray, tmp_path):
    main(command(tmp_path))
    assert statuses(tmp_path / "out") == dict.fromkeys(STARTS, "proved")
    assert not ray.is_running and ray.num_killed == sum(ray.num_made.values())


@pytest.mark.parametrize(
    ("prover", "message"),
    [("Refusing", "the prover is not installed; apt-get install prover"), ("WithBrokenFiles", "A.v:3: is broken")],
)
def test_what_no_prover_can_be_made_without_ends_the_command(ray, tmp_path, prover, message):
    with pytest.raises(ConfigError, match=message):
        main(command(tmp_path, f"{OWN}.{prover}"))
    assert results_of(tmp_path / "out") == [] and not ray.is_running


def test_a_prover_with_a_bug_is_replaced_and_the_bug_costs_its_theorem_alone(ray, tmp_path):
    main(command(tmp_path, f"{OWN}.WithABug", "--recheck=false"))
    assert statuses(tmp_path / "out") == {"a1": "proved", "a2": "discarded", "b": "proved"}
    (reason,) = [each["reason"] for each in results_of(tmp_path / "out") if each["status"] == "discarded"]
    assert reason == "its worker died 2 times, the last time: RuntimeError: a bug of the prover"
    assert ray.num_made == {"_Prover": 3}  # two to begin with, of which one is replaced at the first try


def test_a_cluster_that_does_not_start_is_told_in_a_line(ray, tmp_path):
    ray.init_error = Exception("The current node timed out during startup.\nMore.")
    with pytest.raises(ConfigError, match=r"ray is 'local', where no cluster answers: .* during startup\.$"):
        RayWorkers(setup_of(tmp_path, {}, {}, Speller()), 2, "local")
    assert not ray.is_running


def test_sigterm_ends_a_command_on_a_cluster_as_it_ends_others(ray, tmp_path):
    with pytest.raises(Interrupted, match="SIGTERM") as caught, interrupted_by_signals():
        with RayWorkers(setup_of(tmp_path, {}, {}, Speller()), 2, "local"):
            signal.raise_signal(signal.SIGTERM)
    assert caught.value.code == 128 + signal.SIGTERM and not ray.is_running


@pytest.mark.slow
def test_sigterm_ends_the_command_on_a_real_cluster_with_what_was_found(tmp_path):
    pytest.importorskip("ray")
    tactics = {"⊢ 3": {"done": {"delay_s": 600}}}
    args = command(tmp_path)
    write_script(tmp_path / "s.json", STARTS, tactics)
    process = subprocess.Popen(
        [sys.executable, "-m", "generator.search.prove", *args], stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    while process.poll() is None and not ((tmp_path / "out").exists() and len(results_of(tmp_path / "out")) == 2):
        time.sleep(0.2)
    process.terminate()
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + signal.SIGTERM
    assert "interrupted by SIGTERM: 2 of 3 theorems are done; the same command goes on" in said


@pytest.mark.slow
def test_two_workers_of_a_local_cluster_share_a_model_and_one_that_is_killed_loses_no_theorem(tmp_path):
    pytest.importorskip("ray")
    killed, starts = tmp_path / "killed", {f"t{i}": f"s{i}" for i in range(6)}
    tactics = {f"s{i}": {"done": "no goals"} for i in range(4)}
    tactics["s4"] = {"done": {"kill": True, "once": str(killed)}}  # a worker dies of it, the next one proves it
    tactics["s5"] = {"done": {"error": "no"}, "on": "s5"}
    jobs = [Job(Theorem(f"F{i}.txt", f"t{i}")) for i in range(6)] + [Job(Theorem("F9.txt", "unknown"))]
    with SharedGenerator(Speller()) as shared:
        with RayWorkers(setup_of(tmp_path, tactics, starts, shared), 2, "local") as workers:
            answers = {job.theorem.full_name: answer for job, answer in workers.run(jobs)}
    assert {name: answer.status for name, answer in answers.items()} == {
        **{f"t{i}": "proved" for i in range(5)},
        "t5": "failed",
        "unknown": "discarded",
    }
    assert answers["t0"].proof == ("done",) and killed.exists()


def test_what_the_model_raised_in_its_process_is_raised_here():
    for cause in (ConfigError("num_samples is 0"), DataError("no position")):
        assert _plain(SimpleNamespace(cause=cause)) is cause
    failed = _plain(SimpleNamespace(cause=RuntimeError("a bug")))
    assert isinstance(failed, GeneratorFailedError) and str(failed) == "RuntimeError: a bug"
    assert "has ended" in str(_plain(SimpleNamespace()))


@pytest.mark.slow
def test_a_worker_that_always_dies_gives_the_theorem_up(tmp_path):
    pytest.importorskip("ray")
    with SharedGenerator(Speller()) as shared:
        setup = setup_of(tmp_path, {"s": {"done": {"kill": True}}}, {"t": "s"}, shared)
        with RayWorkers(setup, 1, "local") as workers:
            ((_, answer),) = workers.run([Job(Theorem("F.txt", "t"))])
    assert answer.status == "discarded" and answer.reason.startswith("its worker died 2 times")
