"""Processes that search, each with a prover of its own. One that dies is replaced, and its theorem tried once more."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any, TypeAlias

from common import ConfigError, DataError, NextstepError
from generator.environments.base import BrokenEnvironmentError, Environment, Verdict
from generator.environments.registry import make_environment
from generator.interface.tactic_generator import TacticGenerator
from generator.search.loop import SearchResult, prove
from generator.search.options import SearchOptions
from generator.search.remote_generator import GeneratorFailedError
from generator.search.schedule import Job, Schedule

Answer: TypeAlias = SearchResult | Verdict

MAX_TRIES = 2
_MAX_STILLBORN = 2  # workers in a row that die before they are ready
_LASTING: tuple[type[NextstepError], ...] = (ConfigError, GeneratorFailedError)  # the next theorem would meet them too
_FATAL = {kind.__name__: kind for kind in _LASTING}
_METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"


class WorkersDieError(NextstepError):
    """Workers die before they have begun."""


@dataclass(frozen=True)
class WorkerSetup:
    """What every worker is given.

    Attributes:
        environment: name or class path of the prover
        environment_options: of its constructor
        generator: proposes tactics; is pickled, so that a model comes as the client of a SharedGenerator
        options: of every search
    """

    environment: str
    environment_options: Mapping[str, Any]
    generator: TacticGenerator
    options: SearchOptions


def do(job: Job, environment: Environment, setup: WorkerSetup) -> Answer:
    """Search a theorem, or check a proof."""
    if job.proof is None:
        return prove(job.theorem, environment, setup.generator, setup.options)
    try:
        return environment.check(job.theorem, job.proof)
    except (BrokenEnvironmentError, LookupError) as error:
        return Verdict(False, str(error))


class Workers:
    """A pool of processes. A job whose worker dies or is overdue is tried again by another, and then given up.

    Workers end with the process that started them, however it ends, and take the processes that they started along.
    """

    def __init__(self, setup: WorkerSetup, num_workers: int, job_timeout_s: float | None = None) -> None:
        """Keep what the workers are given; they start with the first jobs.

        Args:
            setup: of every worker
            num_workers: processes
            job_timeout_s: after which a worker is killed that is not done with a job
        """
        self._setup, self._num_workers, self._job_timeout_s = setup, num_workers, job_timeout_s
        self._context: Any = multiprocessing.get_context(_METHOD)
        if _METHOD == "forkserver":  # imports once what takes seconds, and what each worker then shares
            self._context.set_forkserver_preload(["generator.search.workers"])
        self._workers: dict[int, _Worker] = {}
        self._num_stillborn = 0

    def run(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, Answer]]:
        """Yield each job with its answer, as they come.

        Raises:
            ConfigError: if the prover cannot be made, or the generator refuses what it is asked
            GeneratorFailedError: if the generator fails
            WorkersDieError: if workers die before they are ready
        """
        schedule = Schedule(jobs)
        for number in range(self._num_workers):
            self._give(number, schedule)
        while busy := [worker for worker in self._workers.values() if worker.job is not None]:
            wait(
                [each for worker in busy for each in (worker.connection, worker.process.sentinel)], self._patience(busy)
            )
            for worker in busy:
                if (message := worker.receive()) is not None:
                    yield from self._take(worker, message, schedule)
                elif worker.is_overdue():
                    yield from self._bury(worker, f"took longer than {self._job_timeout_s:g} s", schedule)
                elif worker.has_died():
                    yield from self._bury(worker, worker.end(), schedule)

    def close(self) -> None:
        """End all workers at once."""
        for worker in self._workers.values():
            worker.kill()
        self._workers.clear()

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _give(self, number: int, schedule: Schedule) -> None:
        """Give a worker its next job, and start it if there is none of its number."""
        job = schedule.next(number)
        if job is None:
            return
        worker = self._workers.get(number)
        if worker is None:
            worker = self._workers[number] = _Worker.start(self._context, number, self._setup)
        worker.begin(job, self._job_timeout_s)

    def _take(self, worker: _Worker, message: Any, schedule: Schedule) -> Iterator[tuple[Job, Answer]]:
        kind, content = message
        job = worker.job
        assert job is not None
        if kind == "ready":
            self._num_stillborn = 0
            worker.is_ready = True
            worker.begin_clock(self._job_timeout_s)
        elif kind == "answer":
            worker.job = None
            self._give(worker.number, schedule)
            yield job, content
        elif kind in _FATAL:
            raise _FATAL[kind](content)
        else:  # a bug of the prover, after which it is not used again
            yield from self._bury(worker, content, schedule)

    def _bury(self, worker: _Worker, reason: str, schedule: Schedule) -> Iterator[tuple[Job, Answer]]:
        """Replace a worker, and try its job again or give it up."""
        job = worker.job
        assert job is not None
        worker.kill()
        del self._workers[worker.number]
        if not worker.is_ready:
            self._num_stillborn += 1
            if self._num_stillborn >= _MAX_STILLBORN:
                raise WorkersDieError(
                    f"workers die before they have begun ({reason}); try --workers 0, which shows why"
                )
            schedule.again(job)
            self._give(worker.number, schedule)
        elif job.num_tries + 1 < MAX_TRIES:
            schedule.again(job)
            self._give(worker.number, schedule)
        else:
            self._give(worker.number, schedule)
            yield job, given_up(job, f"its worker died {MAX_TRIES} times, the last time: {reason}")

    def _patience(self, busy: Sequence[_Worker]) -> float | None:
        deadlines = [worker.deadline for worker in busy if worker.deadline is not None]
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None


def given_up(job: Job, reason: str) -> Answer:
    """The answer for a job whose workers died."""
    if job.proof is None:
        return SearchResult(job.theorem, "discarded", reason)
    return Verdict(False, reason)


@dataclass
class _Worker:
    """A process as the pool sees it."""

    number: int
    process: Any
    connection: Connection
    job: Job | None = None
    deadline: float | None = None
    is_ready: bool = field(default=False)

    @classmethod
    def start(cls, context: Any, number: int, setup: WorkerSetup) -> _Worker:
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, setup), name=f"prover-{number}", daemon=True)
        process.start()
        theirs.close()
        return cls(number, process, ours)

    def begin(self, job: Job, timeout_s: float | None) -> None:
        self.job = job
        if self.is_ready:
            self.begin_clock(timeout_s)
        with suppress(OSError):  # it has died, which is found out later
            self.connection.send(job)

    def begin_clock(self, timeout_s: float | None) -> None:
        self.deadline = None if timeout_s is None else time.monotonic() + timeout_s

    def receive(self) -> Any:
        """What it says, if it says something whole."""
        try:
            return self.connection.recv() if self.connection.poll() else None
        except (EOFError, OSError):
            return None

    def is_overdue(self) -> bool:
        return self.deadline is not None and time.monotonic() >= self.deadline

    def has_died(self) -> bool:
        return self.process.exitcode is not None or self._is_mute()

    def _is_mute(self) -> bool:
        """Whether the other end of the connection is closed, as it is when a process dies."""
        try:
            return self.connection.poll() and not self.process.is_alive()
        except (EOFError, OSError):
            return True

    def end(self) -> str:
        """How it ended."""
        self.process.join(1)
        code = self.process.exitcode
        if code is not None and code < 0:
            with suppress(ValueError):
                return f"killed by {signal.Signals(-code).name}"
        return f"ended with status {code}"

    def kill(self) -> None:
        """End it and the processes that it started, which are of its group."""
        if self.process.pid is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.join()
        self.connection.close()


# ------------------------------------------------------------------------------------------------
# In the worker


def _work(connection: Connection, setup: WorkerSetup) -> None:
    with suppress(OSError):
        os.setsid()  # a group of its own; Ctrl-C in the terminal is for the command
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _end_with_parent()
    try:
        with make_environment(setup.environment, setup.environment_options) as environment:
            connection.send(("ready", None))
            while True:
                connection.send(("answer", do(connection.recv(), environment, setup)))
    except (EOFError, BrokenPipeError):
        return
    except _LASTING as error:
        connection.send((_name_of(error), str(error)))
    except DataError as error:  # of the environment's files
        connection.send((ConfigError.__name__, str(error)))
    except Exception as error:
        connection.send(("bug", f"{type(error).__name__}: {error}"))


def _name_of(error: NextstepError) -> str:
    return next(name for name, kind in _FATAL.items() if isinstance(error, kind))


def _end_with_parent() -> None:
    """Kill this process and what it started when the command ends, which may not come to say so."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        own_group = os.getpgrp() == os.getpid()
        (os.killpg if own_group else os.kill)(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="watch-parent", daemon=True).start()
