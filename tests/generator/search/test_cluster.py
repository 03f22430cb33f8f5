"""Workers on a Ray cluster: a local one of two workers, one of which is killed. Skipped where ray is not installed."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from common import ConfigError, DataError
from generator.environments.base import Theorem
from generator.interface.tactic_generator import TacticGenerator
from generator.search.cluster import RayWorkers, _plain
from generator.search.options import SearchOptions
from generator.search.prove import ProofRun
from generator.search.remote_generator import GeneratorFailedError
from generator.search.schedule import Job
from generator.search.shared_generator import SharedGenerator
from generator.search.workers import WorkerSetup


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
