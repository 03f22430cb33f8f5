"""Which worker does what next: the theorems of one file stay together, and no worker is idle while another has many."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace

from generator.environments.base import Theorem
from generator.search.theorems import Goal


@dataclass(frozen=True)
class Job:
    """What a worker is asked for.

    Attributes:
        theorem: to search, or to check
        proof: to check; None to search
        num_tries: how often it was begun before
    """

    theorem: Goal
    proof: tuple[str, ...] | None = None
    num_tries: int = 0


class Schedule:
    """Hands out jobs: file by file, the files with most theorems first.

    A worker without a file left takes over the later half of what another still has to do in its file: a prover goes
    forward in a file, so that both go on where they are.
    """

    def __init__(self, jobs: Iterable[Job]) -> None:
        """Group the jobs, which come in the order of their files."""
        groups: dict[object, deque[Job]] = {}
        for job in jobs:
            key = job.theorem.file_path if isinstance(job.theorem, Theorem) else job.theorem
            groups.setdefault(key, deque()).append(job)
        self._waiting = deque(sorted(groups.values(), key=len, reverse=True))
        self._current: dict[int, deque[Job]] = {}
        self._again: deque[Job] = deque()

    def next(self, worker: int) -> Job | None:
        """Return the next job of a worker; None if none is left."""
        if self._again:
            return self._again.popleft()
        own = self._current.get(worker)
        if not own:
            own = self._current[worker] = self._waiting.popleft() if self._waiting else self._half_of_another()
        return own.popleft() if own else None

    def again(self, job: Job) -> None:
        """Put back a job whose worker died; it comes next."""
        self._again.append(replace(job, num_tries=job.num_tries + 1))

    def _half_of_another(self) -> deque[Job]:
        longest = max(self._current.values(), key=len, default=deque[Job]())
        taken = deque[Job]()
        for _ in range((len(longest) + 1) // 2):
            taken.appendleft(longest.pop())
        return taken
