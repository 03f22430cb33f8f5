"""Processes that search: they die, hang and are killed, and no theorem is lost or searched twice."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from common import ConfigError
from generator.environments import Statement, Theorem, Verdict
from generator.interface.wrappers import FixedTacticGenerator
from generator.search.loop import SearchResult
from generator.search.options import SearchOptions
from generator.search.prove import main
from generator.search.schedule import Job, Schedule
from generator.search.shared_generator import SharedGenerator
from generator.search.workers import Workers, WorkersDieError, WorkerSetup
from tests.generator.search.prove_fakes import arguments, results_of, statuses, write_script, write_split

STARTS = {"a1": "⊢ 1", "a2": "⊢ 2", "b": "⊢ 3"}
THEOREMS = [Theorem("A.v", "a1"), Theorem("A.v", "a2"), Theorem("B.v", "b")]
OWN = "tests.generator.search.own_prover"


def abort(*_: object) -> None:
    """Die at once, as a process does that the system refuses memory."""
    os.abort()


@pytest.fixture
def search(tmp_path: Path) -> Callable[..., dict[str, SearchResult]]:
    """Search three theorems with two workers."""

    def search(
        tactics: dict[str, object],
        environment: str = "scripted",
        timeout_s: float | None = None,
        calls: Path | None = None,
        num_workers: int = 2,
    ) -> dict[str, SearchResult]:
        script = write_script(tmp_path / "s.json", STARTS, tactics)
        options = {"script": str(script)} | ({} if calls is None else {"calls_path": str(calls)})
        setup = WorkerSetup(environment, options, FixedTacticGenerator("done"), SearchOptions(max_seconds=60))
        found: dict[str, SearchResult] = {}
        with Workers(setup, num_workers, timeout_s) as workers:
            for job, answer in workers.run([Job(theorem) for theorem in THEOREMS]):
                assert isinstance(answer, SearchResult) and isinstance(job.theorem, Theorem)
                assert job.theorem.full_name not in found
                found[job.theorem.full_name] = answer
        assert set(found) == set(STARTS)
        return found

    return search


def test_a_worker_that_dies_is_replaced_and_its_theorem_tried_once_more(
    search: Callable[..., dict[str, SearchResult]], tmp_path: Path
) -> None:
    calls = tmp_path / "calls"
    once = {"kill": True, "once": str(tmp_path / "died"), "then": "no goals"}
    found = search({"⊢ 2": {"done": once}}, calls=calls)
    assert {result.status for result in found.values()} == {"proved"}
    starts = Counter(line.split()[2] for line in calls.read_text().splitlines() if line.split()[1] == "start")
    assert starts == {"A.v:a1": 2, "A.v:a2": 3, "B.v:b": 2}  # for the search and for the check; a2 once more


def test_a_theorem_that_kills_its_worker_twice_is_discarded(search: Callable[..., dict[str, SearchResult]]) -> None:
    found = search({"⊢ 1": {"done": {"kill": True}}}, num_workers=1)
    assert [found[name].status for name in STARTS] == ["discarded", "proved", "proved"]
    assert found["a1"].reason == "its worker died 2 times, the last time: killed by SIGKILL"


def test_a_bug_of_the_prover_costs_its_theorem_alone(search: Callable[..., dict[str, SearchResult]]) -> None:
    found = search({}, environment=f"{OWN}.WithABug")
    assert [found[name].status for name in STARTS] == ["proved", "discarded", "proved"]
    assert "RuntimeError: a bug of the prover" in found["a2"].reason


def test_a_prover_that_hangs_is_ended(search: Callable[..., dict[str, SearchResult]]) -> None:
    found = search({"⊢ 1": {}, "⊢ 3": {}}, environment=f"{OWN}.Hanging", timeout_s=0.3)
    assert [found[name].status for name in STARTS] == ["failed", "discarded", "failed"]
    assert "took longer than 0.3 s" in found["a2"].reason


def test_what_every_worker_would_meet_ends_the_run(search: Callable[..., dict[str, SearchResult]]) -> None:
    with pytest.raises(ConfigError, match="apt-get install prover"):
        search({}, environment=f"{OWN}.Refusing")


def test_workers_that_die_before_they_begin_are_not_replaced_for_ever(
    search: Callable[..., dict[str, SearchResult]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("generator.search.workers._work", abort)
    with pytest.raises(WorkersDieError, match="die before they have begun .killed by SIGABRT"):
        search({})


def test_workers_share_a_generator_and_check_proofs(tmp_path: Path) -> None:
    script = write_script(tmp_path / "s.json", STARTS)
    with SharedGenerator(FixedTacticGenerator(["step", "done"])) as shared:
        setup = WorkerSetup("scripted", {"script": str(script)}, shared.client(), SearchOptions(max_seconds=60))
        jobs = [*(Job(theorem) for theorem in THEOREMS), Job(THEOREMS[0], ("done",)), Job(THEOREMS[1], ("step",))]
        with Workers(setup, 2) as workers:
            answers = list(workers.run(jobs))
    assert len(answers) == 5 and shared.misses == 3
    verdicts = {job.theorem: answer.accepted for job, answer in answers if isinstance(answer, Verdict)}
    assert verdicts == {THEOREMS[0]: True, THEOREMS[1]: False}


# ------------------------------------------------------------------------------------------------
# The command, killed


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, for a minute at most."""
    for _ in range(1200):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come about in a minute")


def is_alive(pid: int) -> bool:
    """Whether a process runs, and is not a dead one that nobody has asked for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_command_that_is_killed_goes_on_and_its_workers_end_with_it(tmp_path: Path) -> None:
    names = [(f"F{i % 3}.v", f"t{i}") for i in range(9)]
    split, calls = write_split(tmp_path / "test.json", names), tmp_path / "calls"
    waits = {"delay_s": 600, "once": str(tmp_path / "waited"), "then": "no goals"}
    starts = {name: f"⊢ {name}" for _, name in names}
    script = write_script(tmp_path / "s.json", starts, {"⊢ t3": {"done": waits}})
    more = [f"--environment_options.calls_path={calls}", "--recheck=false", "--tactics=done"]
    args = arguments(split, script, tmp_path / "out", *more, workers=2)
    process = multiprocessing.get_context("forkserver").Process(target=main, args=(args,))
    process.start()
    wait_until(lambda: (tmp_path / "waited").exists() and len(results_of(tmp_path / "out")) == 8)
    workers = {int(line.split()[0]) for line in calls.read_text().splitlines()}
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL and len(workers) == 2
    wait_until(lambda: not any(is_alive(pid) for pid in workers))

    main(args)
    assert statuses(tmp_path / "out") == {name: "proved" for _, name in names}
    checks = Counter(line.split()[2] for line in calls.read_text().splitlines() if line.split()[1] == "check")
    assert checks == {name: 1 for _, name in names}  # each search came to its end once
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["proved"] == 9


# ------------------------------------------------------------------------------------------------
# Who does what


def names_of(jobs: list[Job | None]) -> list[str]:
    """The theorems of jobs."""
    return [job.theorem.full_name for job in jobs if job is not None and isinstance(job.theorem, Theorem)]


def test_a_file_stays_with_one_worker_until_another_has_nothing_to_do() -> None:
    jobs = [Job(Theorem("A", f"a{i}")) for i in range(6)] + [Job(Theorem("B", f"b{i}")) for i in range(2)]
    schedule = Schedule(jobs)
    first = [schedule.next(0) for _ in range(2)]
    second = [schedule.next(1) for _ in range(2)]
    assert names_of(first) == ["a0", "a1"] and names_of(second) == ["b0", "b1"]  # the longest file comes first
    assert names_of([schedule.next(1) for _ in range(2)]) == ["a4", "a5"]  # the later half of what is left
    assert names_of([schedule.next(0) for _ in range(3)]) == ["a2", "a3"]
    assert schedule.next(0) is schedule.next(1) is schedule.next(7) is None


def test_a_job_that_is_put_back_comes_next_and_statements_stand_alone() -> None:
    schedule = Schedule([Job(Statement("p")), Job(Statement("q")), Job(Theorem("A", "a"))])
    job = schedule.next(0)
    assert job is not None
    schedule.again(job)
    again = schedule.next(1)
    assert again is not None and again.theorem == job.theorem and again.num_tries == 1
    left = [schedule.next(worker) for worker in range(3)]
    assert [each and each.theorem for each in left] == [Statement("q"), Theorem("A", "a"), None]
