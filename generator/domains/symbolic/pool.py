"""A pool of child processes with a hard limit on the time of each item.

An item that takes too long, exhausts memory or kills its process costs that process alone: it is replaced, the item's
result says what became of it, and the other items go on. No signal is used in the process itself, so that a pool works
on any thread; `children` says how its processes start and end.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from multiprocessing import Pipe
from multiprocessing.connection import wait
from typing import Any, Generic, Literal, TypeVar

from common import ConfigError, NextstepError, check_positive
from generator.domains.symbolic.children import Child

T = TypeVar("T")
R = TypeVar("R")

_AHEAD = 128  # items for each child that `map` takes before the result of the first of them is asked for
_MAX_STILLBORN = 3  # children in a row that die before they are ready
_START_S = 120.0  # that a child may take to be ready


class PoolError(NextstepError):
    """Children die before they have begun."""


@dataclass(frozen=True, slots=True)
class Result(Generic[R]):
    """What became of an item.

    Attributes:
        kind: "value"; "timeout": it took too long, and its process was killed; "died": its process did; "error": the
            function raised an exception
        value: what the function returned, if it did
        message: why there is none
        seconds: that the item took
    """

    kind: Literal["value", "timeout", "died", "error"]
    value: R | None = None
    message: str = ""
    seconds: float = 0.0


class Pool(Generic[T, R]):
    """Child processes that answer items.

    They start with the first item, and end with `close`, with the pool, and with the process, however that ends.
    Several threads may use a pool. A copy in another process, by pickle or fork, starts children of its own.

    >>> import time
    >>> with Pool(time.sleep, num_workers=2, timeout_s=0.5) as pool:
    ...     [result.kind for result in pool.map([0, 60, "no number"])]
    ['value', 'timeout', 'error']
    """

    def __init__(
        self, function: Callable[[T], R], num_workers: int = 1, timeout_s: float = 10.0, *, max_memory_mb: int = 2048
    ) -> None:
        """Keep the settings.

        Args:
            function: answers an item, of a module that can be imported; items and answers are pickled
            num_workers: processes
            timeout_s: limit of an item, from when a process begins it
            max_memory_mb: that a process may take, over what it begins with; on Linux

        Raises:
            ConfigError: if a number is not positive
        """
        check_positive(num_workers=num_workers, max_memory_mb=max_memory_mb)
        self.function, self.num_workers, self.max_memory_mb = function, num_workers, max_memory_mb
        self.timeout_s = _seconds(timeout_s)
        self._lock = threading.Lock()
        self._dispatcher: _Dispatcher | None = None

    def submit(self, item: T, timeout_s: float | None = None) -> Future[Result[R]]:
        """Return the result of an item to come, which may be cancelled until a process has begun it.

        Raises:
            ConfigError: if the limit is not positive
        """
        limit = self.timeout_s if timeout_s is None else _seconds(timeout_s)
        with self._lock:
            if self._dispatcher is None or not self._dispatcher.is_usable():
                self._dispatcher = _Dispatcher(self.function, self.num_workers, self.max_memory_mb)
                weakref.finalize(self, self._dispatcher.close)
            return self._dispatcher.add(item, limit)

    def map(self, items: Iterable[T], timeout_s: Callable[[T], float] | None = None) -> Iterator[Result[R]]:
        """Yield the results of items in their order; items are taken as they are needed, and may be endless.

        Args:
            items: to answer
            timeout_s: limit of each; the pool's own by default

        Raises:
            PoolError: if no process can be started
        """
        waiting: deque[Future[Result[R]]] = deque()
        source = iter(items)
        try:
            while True:
                for item in islice(source, _AHEAD * self.num_workers - len(waiting)):
                    waiting.append(self.submit(item, None if timeout_s is None else timeout_s(item)))
                if not waiting:
                    return
                yield waiting[0].result()
                waiting.popleft()
        finally:
            for future in waiting:
                future.cancel()

    def close(self) -> None:
        """End all processes at once; the next item starts new ones."""
        with self._lock:
            if self._dispatcher is not None:
                self._dispatcher.close()
                self._dispatcher = None

    def __enter__(self) -> Pool[T, R]:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_lock", "_dispatcher")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock(), _dispatcher=None)


def _seconds(timeout_s: float) -> float:
    if not 0 < timeout_s < threading.TIMEOUT_MAX:
        raise ConfigError(f"timeout_s is {timeout_s}; it must be a positive number of seconds")
    return float(timeout_s)


@dataclass
class _Task:
    item: Any
    timeout_s: float
    future: Future[Any]


class _Worker:
    """A child and what it is at."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self.task: _Task | None = None
        self.deadline = time.monotonic() + _START_S

    @property
    def is_ready(self) -> bool:
        return self.child.pid is not None

    def says_something(self) -> bool:
        """Whether an answer is there, or its end."""
        try:
            return bool(self.child.connection.poll())
        except OSError:
            return True

    def begin(self, task: _Task) -> None:
        """Give it an item."""
        self.task, self.deadline = task, time.monotonic() + task.timeout_s
        try:
            self.child.connection.send(task.item)  # pickled as a whole before any of it goes
        except OSError:
            pass  # it has died, which is found out later
        except Exception as error:
            self.task = None
            task.future.set_result(Result("error", message=f"cannot be sent: {type(error).__name__}: {error}"))


class _Dispatcher:
    """The thread that hands items to children, and takes their answers."""

    def __init__(self, function: Callable[[Any], Any], num_workers: int, max_memory_mb: int) -> None:
        self.function, self.num_workers, self.max_memory_mb = function, num_workers, max_memory_mb
        self.pid, self.is_closed, self.num_stillborn = os.getpid(), False, 0
        self.tasks: deque[_Task] = deque()
        self.workers: list[_Worker] = []
        self.lock = threading.Lock()  # of `tasks` and `is_closed`
        self.heard, self.rung = Pipe(duplex=False)  # wakes the thread
        self.thread = threading.Thread(target=self._run, name="pool", daemon=True)
        self.thread.start()

    def is_usable(self) -> bool:
        """Whether it works still, and in this process."""
        return not self.is_closed and self.pid == os.getpid()

    def add(self, item: Any, timeout_s: float) -> Future[Any]:
        """Return the result to come."""
        task = _Task(item, timeout_s, Future())
        with self.lock:
            if self.is_closed:
                raise PoolError("the pool was closed")
            self.tasks.append(task)
            self.rung.send_bytes(b"+")
        return task.future

    def close(self) -> None:
        """End it and its children; items that are not done raise PoolError."""
        if self.pid != os.getpid():
            return
        with self.lock:
            if not self.is_closed:
                self.is_closed = True
                with suppress(OSError):
                    self.rung.send_bytes(b"-")
        if threading.current_thread() is not self.thread:
            self.thread.join()

    def _run(self) -> None:
        error: Exception | None = None
        try:
            while not self.is_closed:
                self._hand_out()
                connections = {worker.child.connection: worker for worker in self.workers}
                wait([self.heard, *connections], self._patience())
                while self.heard.poll():
                    self.heard.recv_bytes()
                for worker in connections.values():
                    self._attend(worker)
        except Exception as failure:
            error = failure if isinstance(failure, NextstepError) else PoolError(f"{type(failure).__name__}: {failure}")
        with self.lock:
            self.is_closed = True
            left = [*self.tasks, *(worker.task for worker in self.workers if worker.task is not None)]
            self.tasks.clear()
        for worker in self.workers:
            worker.child.kill()
        for task in left:
            with suppress(InvalidStateError):  # it was cancelled
                task.future.set_exception(error or PoolError("the pool was closed before the item was done"))
        self.heard.close()
        self.rung.close()

    def _hand_out(self) -> None:
        """Give items to children that have none; start children as long as there is work for more."""
        for worker in self.workers:
            while worker.is_ready and worker.task is None and (task := self._next()) is not None:
                worker.begin(task)
        num_starting = sum(not worker.is_ready for worker in self.workers)
        for _ in range(min(self.num_workers - len(self.workers), len(self.tasks) - num_starting)):
            self.workers.append(_Worker(Child.start(self.function, self.max_memory_mb)))

    def _next(self) -> _Task | None:
        with self.lock:
            while self.tasks:
                task = self.tasks.popleft()
                if task.future.set_running_or_notify_cancel():
                    return task
        return None

    def _patience(self) -> float | None:
        deadlines = [worker.deadline for worker in self.workers if worker.task is not None or not worker.is_ready]
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None

    def _attend(self, worker: _Worker) -> None:
        """Take an answer, or bury the child; an answer that is there counts, however late this thread comes to it."""
        if worker.says_something():
            try:
                message = worker.child.connection.recv()
            except (EOFError, OSError):
                self._bury(worker, Result("died", message="its process died"))
                return
            except Exception as error:  # an answer that cannot be unpickled here
                message = ("error", f"its answer cannot be read: {type(error).__name__}: {error}", 0.0)
            self._take(worker, message)
        elif (worker.task is not None or not worker.is_ready) and time.monotonic() >= worker.deadline:
            limit = _START_S if worker.task is None else worker.task.timeout_s
            self._bury(worker, Result("timeout", message=f"took longer than {limit:g} s", seconds=limit))

    def _take(self, worker: _Worker, message: Any) -> None:
        if worker.task is None:  # it tells its number, which says that it is ready
            worker.child.pid = message
            self.num_stillborn = 0
            return
        kind, content, seconds = message
        task, worker.task = worker.task, None
        if kind == "value":
            task.future.set_result(Result("value", content, seconds=seconds))
        else:
            task.future.set_result(Result("error", message=content, seconds=seconds))

    def _bury(self, worker: _Worker, result: Result[Any]) -> None:
        worker.child.kill()
        self.workers.remove(worker)
        if worker.task is not None:
            worker.task.future.set_result(result)
        elif not worker.is_ready:
            self.num_stillborn += 1
            if self.num_stillborn >= _MAX_STILLBORN:
                name = getattr(self.function, "__qualname__", repr(self.function))
                raise PoolError(f"the processes that are to answer {name} die before they have begun")
