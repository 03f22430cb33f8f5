"""One generator for many searches: requests that come at the same time are answered by one batch."""

from __future__ import annotations

import queue
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Self

from common import Candidate, ConfigError, Context, check_positive
from generator.interface.tactic_generator import TacticGenerator
from generator.interface.wrappers import CachingGenerator, GeneratorWrapper
from generator.search.remote_generator import GeneratorClient, GeneratorFailedError, GeneratorServer

_PATIENCE = 0.1  # of the last batch's time


@dataclass(frozen=True)
class _Request:
    context: Context
    num_candidates: int
    answer: Future[list[Candidate]] = field(default_factory=Future)


class GatheringGenerator(GeneratorWrapper):
    """Answers threads that ask at the same time with one batch; a thread of its own asks the generator.

    If the generator fails at a batch, each of its states is asked about alone, so that the error reaches those whose
    state it is.

    Attributes:
        num_batches: how often the generator was asked
        num_states: for how many states
        busy_s: seconds that it took
    """

    def __init__(self, generator: TacticGenerator, max_batch: int = 32, wait_s: float = 0.002) -> None:
        """Start the thread.

        Args:
            generator: is asked, by one thread at a time
            max_batch: states in a batch
            wait_s: seconds that a batch waits until it is as large as the last one; a tenth of that one's time if that
                is longer. While the generator works, requests gather anyway
        """
        super().__init__(generator)
        check_positive(max_batch=max_batch)
        if not 0 <= wait_s <= 60:
            raise ConfigError(f"wait_s is {wait_s}; it is a number of seconds from 0 to 60")
        self.max_batch, self.wait_s = max_batch, wait_s
        self.num_batches = self.num_states = 0
        self.busy_s = 0.0
        self._last_size, self._last_s = 0, 0.0  # of the last batch
        self._requests: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._is_closed = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="shared-generator", daemon=True)
        self._thread.start()

    @property
    def num_waiting(self) -> int:
        """States that wait for the next batch."""
        return self._requests.qsize()

    def propose(self, contexts: Sequence[Context], num_candidates: int) -> list[list[Candidate]]:
        """See `TacticGenerator.propose`."""
        requests = [_Request(context, num_candidates) for context in contexts]
        with self._lock:
            if self._is_closed:
                raise GeneratorFailedError("the shared generator is closed")
            for request in requests:
                self._requests.put(request)
        return [request.answer.result() for request in requests]

    def close(self) -> None:
        """Answer what was asked already, and end the thread."""
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                self._requests.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (first := self._requests.get()) is not None:
            batch, is_last = self._gather(first)
            start = time.monotonic()
            by_number = defaultdict[int, list[_Request]](list)
            for request in batch:
                by_number[request.num_candidates].append(request)
            for requests in by_number.values():
                self._answer(requests)
            self._last_size, self._last_s = len(batch), time.monotonic() - start
            if is_last:
                return

    def _gather(self, first: _Request) -> tuple[list[_Request], bool]:
        """Requests for one batch, and whether none will follow."""
        batch = [first]
        deadline = time.monotonic() + max(self.wait_s, _PATIENCE * self._last_s)
        while len(batch) < self.max_batch:
            # those that the last batch answered soon ask again
            left = deadline - time.monotonic() if len(batch) < self._last_size else 0.0
            try:
                request = self._requests.get(timeout=left) if left > 0 else self._requests.get_nowait()
            except queue.Empty:
                break
            if request is None:
                return batch, True
            batch.append(request)
        return batch, False

    def _answer(self, requests: Sequence[_Request]) -> None:
        start = time.monotonic()
        try:
            found = self.generator.propose([r.context for r in requests], requests[0].num_candidates)
            for request, candidates in zip(requests, found, strict=True):
                request.answer.set_result(candidates)
        except BaseException as error:
            if len(requests) == 1:
                requests[0].answer.set_exception(error)
            else:
                for request in requests:
                    self._answer([request])
        finally:
            self.num_batches += 1
            self.num_states += len(requests)
            self.busy_s += time.monotonic() - start


class SharedGenerator(TacticGenerator):
    """One generator for the searches of many threads and processes.

    Threads ask it as they would ask the generator; worker processes ask through a `client`. The same state, asked for
    by several at once or again, is asked for once.

        with SharedGenerator(load_generator(path)) as shared:
            pool.map(prove_with, [shared.client()] * num_workers)

    Attributes:
        generator: answers
        max_batch: states that are decoded together
    """

    def __init__(
        self, generator: TacticGenerator, *, max_batch: int = 32, wait_s: float = 0.002, max_entries: int = 10_000
    ) -> None:
        """Share a generator.

        Args:
            generator: is asked, by one thread at a time
            max_batch: states in a batch
            wait_s: seconds that a batch waits for those that the last one answered; see GatheringGenerator
            max_entries: answers to remember
        """
        self.generator, self.max_batch = generator, max_batch
        self._gathering = GatheringGenerator(generator, max_batch, wait_s)
        self._cache = CachingGenerator(self._gathering, max_entries)
        self.reads_theorem = generator.reads_theorem
        self._server: GeneratorServer | None = None
        self._lock = threading.Lock()

    @property
    def retriever(self) -> Any:
        """That of the generator inside."""
        return self._cache.retriever

    @property
    def hits(self) -> int:
        """Requests that were answered from memory."""
        return self._cache.hits

    @property
    def misses(self) -> int:
        """Requests that the generator answered."""
        return self._cache.misses

    @property
    def hit_rate(self) -> float:
        """Share of requests that were answered from memory; 0 before the first."""
        return self.hits / max(self.hits + self.misses, 1)

    @property
    def num_batches(self) -> int:
        """How often the generator was asked."""
        return self._gathering.num_batches

    @property
    def num_waiting(self) -> int:
        """States that wait for the generator, those that it works on not counted."""
        return self._gathering.num_waiting

    @property
    def busy_s(self) -> float:
        """Seconds that the generator worked."""
        return self._gathering.busy_s

    def initialize(self) -> None:
        """See `TacticGenerator.initialize`."""
        self._cache.initialize()

    def propose(self, contexts: Sequence[Context], num_candidates: int) -> list[list[Candidate]]:
        """See `TacticGenerator.propose`."""
        return self._cache.propose(contexts, num_candidates)

    def propose_and_count(self, contexts: Sequence[Context], num_candidates: int) -> tuple[list[list[Candidate]], int]:
        """Return what `propose` returns, and how many of the contexts were answered from memory."""
        return self._cache.propose_and_count(contexts, num_candidates)

    def client(self) -> GeneratorClient:
        """Return a generator that asks this one, from any process of this machine; it can be pickled."""
        with self._lock:
            if self._server is None:
                self._server = GeneratorServer(self.propose_and_count)
        return GeneratorClient(self._server.address, self._server.key, self.reads_theorem)

    def close(self) -> None:
        """Answer what was asked already, then nobody."""
        if self._server is not None:
            self._server.close()
        self._gathering.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
