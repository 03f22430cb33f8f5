"""Workers on the machines of a Ray cluster, and the model in a process of its own there: the same work as processes do.

    ray start --head                                # on one machine; ray start --address ... on the others
    python -m generator.search.prove --ray auto ...

Ray starts the processes, places them and tells when one has died; every machine needs the project and its data.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch

from common import Candidate, ConfigError, Context, DataError
from generator.environments.base import Environment
from generator.environments.registry import make_environment
from generator.interface.tactic_generator import TacticGenerator
from generator.search.remote_generator import GeneratorFailedError
from generator.search.schedule import Job, Schedule
from generator.search.shared_generator import SharedGenerator
from generator.search.workers import MAX_TRIES, Answer, WorkerSetup, do, given_up
from retrieval.training.extras import import_extra
from retrieval.training.signals import handlers_kept


def import_ray() -> Any:
    """Return the package ray.

    Raises:
        ConfigError: if it is not installed
    """
    return import_extra("ray", "ray", "Proof search on a cluster")


class _Prover:
    """In a worker: a prover, and what it does with a job."""

    def __init__(self, setup: WorkerSetup) -> None:
        self._setup = setup
        self._environment: Environment | None = None

    def do(self, job: Job) -> Answer:
        if self._environment is None:  # not before: what fails here comes back as it is
            self._environment = make_environment(self._setup.environment, self._setup.environment_options)
        return do(job, self._environment, self._setup)


class _Model:
    """In the model's process: one generator that all workers share."""

    def __init__(self, generator: TacticGenerator, max_batch: int) -> None:
        generator.initialize()
        if torch.cuda.is_available() and isinstance(generator, torch.nn.Module):
            generator.to("cuda")
        self._shared = SharedGenerator(generator, max_batch=max_batch)

    def propose_and_count(self, contexts: Sequence[Context], num_candidates: int) -> tuple[list[list[Candidate]], int]:
        return self._shared.propose_and_count(contexts, num_candidates)


class ActorGenerator(TacticGenerator):
    """Asks a model in another process of the cluster.

    Attributes:
        hits: requests of this client that were answered from memory
    """

    def __init__(self, actor: Any, reads_theorem: bool) -> None:
        """Keep whom to ask."""
        self._actor, self.reads_theorem = actor, reads_theorem
        self.hits = 0

    def propose(self, contexts: Sequence[Context], num_candidates: int) -> list[list[Candidate]]:
        """See `TacticGenerator.propose`.

        Raises:
            ConfigError, DataError: as the generator raised them
            GeneratorFailedError: if it failed otherwise, or its process ended
        """
        ray = import_ray()
        try:
            found, num_hits = ray.get(self._actor.propose_and_count.remote(list(contexts), num_candidates))
        except ray.exceptions.RayError as error:
            raise _plain(error) from error
        self.hits += num_hits
        return list(found)


@dataclass
class _Worker:
    actor: Any
    job: Job
    answer: Any  # a reference to what will be its answer
    deadline: float | None


class RayWorkers:
    """A pool of workers on a cluster, with the face of `generator.search.workers.Workers`."""

    def __init__(
        self, setup: WorkerSetup, num_workers: int, address: str = "auto", job_timeout_s: float | None = None
    ) -> None:
        """Join the cluster; workers start with the first jobs.

        Args:
            setup: of every worker; a SharedGenerator in it moves to a process of the cluster, with a GPU if it has one
            num_workers: processes, a CPU each
            address: of the cluster; "auto" is that of this machine, "local" starts one for the time of the run
            job_timeout_s: after which a worker is killed that is not done with a job

        Raises:
            ConfigError: if ray is not installed, or there is no such cluster
        """
        self._ray = import_ray()
        self._num_workers, self._job_timeout_s = num_workers, job_timeout_s
        own = {"num_cpus": num_workers + 1, "include_dashboard": False} if address == "local" else {}
        try:
            with handlers_kept():  # Ray's own for SIGTERM ends the process with status 15
                self._ray.init(address=address, log_to_driver=False, configure_logging=False, **own)
        except Exception as error:  # a start that takes too long is a plain Exception
            self._ray.shutdown()
            said = (str(error).splitlines() or [type(error).__name__])[0]
            raise ConfigError(f"ray is {address!r}, where no cluster answers: {said}") from error
        self._model: Any = None
        self._setup = replace(setup, generator=self._shared(setup.generator))
        self._workers: dict[int, _Worker] = {}

    def run(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, Answer]]:
        """Yield each job with its answer, as they come; one whose worker died is tried once more.

        Raises:
            ConfigError: if the prover cannot be made, or the generator refuses what it is asked
            GeneratorFailedError: if the generator fails
        """
        schedule = Schedule(jobs)
        for number in range(self._num_workers):
            self._give(number, None, schedule)
        while self._workers:
            deadlines = [worker.deadline for worker in self._workers.values() if worker.deadline is not None]
            patience = max(0.0, min(deadlines) - time.monotonic()) if deadlines else None
            ready, _ = self._ray.wait([worker.answer for worker in self._workers.values()], timeout=patience)
            for number, worker in list(self._workers.items()):
                if worker.answer in ready:
                    yield from self._take(number, worker, schedule)
                elif worker.deadline is not None and time.monotonic() >= worker.deadline:
                    yield from self._bury(number, worker, f"took longer than {self._job_timeout_s:g} s", schedule)

    def close(self) -> None:
        """End all workers and the model, and leave the cluster."""
        for worker in self._workers.values():
            self._ray.kill(worker.actor)
        self._workers.clear()
        if self._model is not None:
            self._ray.kill(self._model)
        self._ray.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _shared(self, generator: TacticGenerator) -> TacticGenerator:
        if not isinstance(generator, SharedGenerator):
            return generator
        has_gpu = self._ray.cluster_resources().get("GPU", 0) >= 1
        kind = self._ray.remote(num_cpus=1, num_gpus=int(has_gpu), max_concurrency=self._num_workers + 1)(_Model)
        self._model = kind.remote(generator.generator, generator.max_batch)
        return ActorGenerator(self._model, generator.reads_theorem)

    def _give(self, number: int, actor: Any, schedule: Schedule) -> None:
        """Give a worker its next job, or let it end."""
        job = schedule.next(number)
        if job is None:
            if actor is not None:
                self._ray.kill(actor)
            self._workers.pop(number, None)
            return
        if actor is None:
            actor = self._ray.remote(num_cpus=1)(_Prover).remote(self._setup)
        deadline = None if self._job_timeout_s is None else time.monotonic() + self._job_timeout_s
        self._workers[number] = _Worker(actor, job, actor.do.remote(job), deadline)

    def _take(self, number: int, worker: _Worker, schedule: Schedule) -> Iterator[tuple[Job, Answer]]:
        try:
            answer = self._ray.get(worker.answer)
        except self._ray.exceptions.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, GeneratorFailedError):
                raise cause from error
            if isinstance(cause, ConfigError | DataError):  # of options, or of the environment's files
                raise ConfigError(str(cause)) from error
            yield from self._bury(number, worker, f"{type(cause).__name__}: {cause}", schedule)
            return
        except self._ray.exceptions.RayError as error:
            yield from self._bury(number, worker, str(error).splitlines()[0], schedule)
            return
        self._give(number, worker.actor, schedule)
        yield worker.job, answer

    def _bury(self, number: int, worker: _Worker, reason: str, schedule: Schedule) -> Iterator[tuple[Job, Answer]]:
        """Replace a worker, and try its job again or give it up."""
        self._ray.kill(worker.actor)
        is_given_up = worker.job.num_tries + 1 >= MAX_TRIES
        if not is_given_up:
            schedule.again(worker.job)
        self._give(number, None, schedule)
        if is_given_up:
            yield worker.job, given_up(worker.job, f"its worker died {MAX_TRIES} times, the last time: {reason}")


def _plain(error: Any) -> Exception:
    """What the generator raised in its process, or a GeneratorFailedError that tells of it."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, ConfigError | DataError):
        return cause
    if cause is None:
        return GeneratorFailedError("the process that holds the generator has ended")
    return GeneratorFailedError(f"{type(cause).__name__}: {cause}")
