"""Tactic generators around tactic generators: caching and retrying; and one with fixed tactics."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from typing import Any, Self, TypeVar

import torch

from common import Candidate, ConfigError, Context, check_positive
from generator.interface.tactic_generator import TacticGenerator, merge_candidates

_LOGGER = logging.getLogger(__name__)
_T = TypeVar("_T")


class GeneratorWrapper(TacticGenerator):
    """Passes requests on to another generator."""

    def __init__(self, generator: TacticGenerator) -> None:
        self.generator = generator
        self.reads_theorem = generator.reads_theorem

    @property
    def retriever(self) -> Any:
        """That of the generator inside."""
        return getattr(self.generator, "retriever", None)

    def initialize(self) -> None:
        """See `TacticGenerator.initialize`."""
        self.generator.initialize()

    def eval(self) -> Self:
        """See `TacticGenerator.eval`."""
        self.generator.eval()
        return self

    def propose(self, contexts: Sequence[Context], num_candidates: int) -> list[list[Candidate]]:
        """See `TacticGenerator.propose`."""
        return self.generator.propose(contexts, num_candidates)


class CachingGenerator(GeneratorWrapper):
    """Remembers candidates: search meets the same state often.

    Requests are the same when state, num_samples and, if the generator retrieves premises, file and theorem are.
    Threads may share it: a state that one of them is asking for is asked for once.

    Attributes:
        hits: requests that were answered from memory
        misses: requests that were passed on
    """

    def __init__(self, generator: TacticGenerator, max_entries: int = 10_000) -> None:
        """Start with an empty memory.

        Args:
            generator: answers what is not remembered
            max_entries: requests to remember; the one that was not asked for the longest is forgotten first
        """
        super().__init__(generator)
        check_positive(max_entries=max_entries)
        self.max_entries = max_entries
        self.hits = self.misses = 0
        self._entries: OrderedDict[Hashable, Future[list[Candidate]]] = OrderedDict()  # the oldest first
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def clear(self) -> None:
        """Forget everything, as after a change of the model's weights."""
        with self._lock:
            self._entries.clear()

    def propose(self, contexts: Sequence[Context], num_candidates: int) -> list[list[Candidate]]:
        """Return what is remembered, and ask for the rest in one batch, each state once."""
        return self.propose_and_count(contexts, num_candidates)[0]

    def propose_and_count(self, contexts: Sequence[Context], num_candidates: int) -> tuple[list[list[Candidate]], int]:
        """Return what `propose` returns, and how many of the contexts were answered from memory."""
        keys = [self._key(context, num_candidates) for context in contexts]
        context_of: dict[Hashable, Context] = {}
        for key, context in zip(keys, contexts, strict=True):
            context_of.setdefault(key, context)
        with self._lock:
            self.hits += len(keys) - len(context_of)
        num_asked = 0
        answers: dict[Hashable, list[Candidate]] = {}
        while open_keys := [key for key in context_of if key not in answers]:
            entries, new_keys = self._claim(open_keys)
            num_asked += len(new_keys)
            if new_keys:
                self._ask([context_of[key] for key in new_keys], num_candidates, new_keys, entries)
            for key, entry in entries.items():
                with suppress(CancelledError):  # the thread that asked for it failed; this one asks itself
                    answers[key] = entry.result()
        return [list(answers[key]) for key in keys], len(keys) - num_asked

    def _key(self, context: Context, num_candidates: int) -> Hashable:
        """What two requests have in common whose answers are the same."""
        return (context if self.reads_theorem else context.state), num_candidates

    def _claim(self, keys: Sequence[Hashable]) -> tuple[dict[Hashable, Future[list[Candidate]]], list[Hashable]]:
        """Return the entry of each key, and the keys whose entries are new and for the caller to fill."""
        with self._lock:
            new_keys = [key for key in keys if key not in self._entries]
            self.hits += len(keys) - len(new_keys)
            self.misses += len(new_keys)
            entries = {}
            for key in keys:
                entries[key] = self._entries.setdefault(key, Future())
                self._entries.move_to_end(key)
            while len(self._entries) > self.max_entries:
                self._entries.popitem(last=False)
        return entries, new_keys

    def _ask(
        self,
        contexts: Sequence[Context],
        num_candidates: int,
        keys: Sequence[Hashable],
        entries: Mapping[Hashable, Future[list[Candidate]]],
    ) -> None:
        """Fill the entries of these keys, or withdraw them."""
        try:
            found = self.generator.propose(contexts, num_candidates)
            for key, candidates in zip(keys, found, strict=True):
                entries[key].set_result(list(candidates))
        except BaseException:
            with self._lock:
                for key in keys:
                    if entries[key].cancel() and self._entries.get(key) is entries[key]:
                        del self._entries[key]
            raise


# what will not be different the next time
_LASTING = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)


class RetryingGenerator(GeneratorWrapper):
    """Asks again after errors that may pass, and in smaller batches when a GPU's memory does not suffice.

    Errors that may pass are OSErrors, and so ConnectionErrors and TimeoutErrors, except that a file is missing or
    not to be read. After torch.OutOfMemoryError a batch is halved until it is one state.

    Attributes:
        num_retries: calls that were made again
        num_halvings: batches that were halved
    """

    def __init__(self, generator: TacticGenerator, attempts: int = 3, wait_s: float = 1.0) -> None:
        """Wrap a generator.

        Args:
            generator: is asked
            attempts: calls before an error is raised
            wait_s: seconds before the second call, doubled before each further one
        """
        super().__init__(generator)
        check_positive(attempts=attempts)
        if wait_s < 0:
            raise ConfigError(f"wait_s is {wait_s}; it must be at least 0")
        self.attempts, self.wait_s = attempts, wait_s
        self.num_retries = self.num_halvings = 0

    def initialize(self) -> None:
        """Let the generator load, which may have to be tried again too."""
        self._retry(self.generator.initialize)

    def propose(self, contexts: Sequence[Context], num_candidates: int) -> list[list[Candidate]]:
        """Return the candidates of the first call that succeeds."""
        try:
            return self._retry(lambda: self.generator.propose(contexts, num_candidates))
        except torch.OutOfMemoryError as error:
            if len(contexts) <= 1:
                error.add_note("One state alone does not fit: lower num_samples, max_inp_seq_len or max_oup_seq_len.")
                raise
        # not in the handler, where the error's traceback keeps the tensors of the failed call alive
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
        half = (len(contexts) + 1) // 2
        self.num_halvings += 1
        _LOGGER.warning("out of memory with %d states; going on with %d at a time", len(contexts), half)
        return self.propose(contexts[:half], num_candidates) + self.propose(contexts[half:], num_candidates)

    def _retry(self, call: Callable[[], _T]) -> _T:
        for attempt in range(1, self.attempts):
            try:
                return call()
            except OSError as error:
                if isinstance(error, _LASTING):
                    raise
                self.num_retries += 1
                _LOGGER.warning("attempt %d of %d failed: %s: %s", attempt, self.attempts, type(error).__name__, error)
            time.sleep(self.wait_s * 2 ** (attempt - 1))
        return call()


class FixedTacticGenerator(TacticGenerator):
    """Proposes the same tactics whatever a model would say: a baseline, and a stand-in in tests."""

    reads_theorem = False

    def __init__(
        self, tactics: str | Sequence[str | Candidate] | Mapping[str, str | Sequence[str | Candidate]]
    ) -> None:
        """Fix the tactics.

        Args:
            tactics: a tactic, or several, of every state; or a mapping from states to the tactics of each, with none
                for states that it lacks. With log-probabilities, or else all are equally likely

        Raises:
            ConfigError: if a log-probability is above 0 or no number
        """
        self._by_state = {s: _ranked(t) for s, t in tactics.items()} if isinstance(tactics, Mapping) else None
        self._for_all = [] if isinstance(tactics, Mapping) else _ranked(tactics)

    @property
    def candidates(self) -> list[Candidate]:
        """The tactics of every state, best first; none if they are given by state."""
        return list(self._for_all)

    def propose(self, contexts: Sequence[Context], num_candidates: int) -> list[list[Candidate]]:
        """Return the tactics for each state."""
        if self._by_state is None:
            return [self._for_all[:num_candidates] for _ in contexts]
        return [self._by_state.get(context.state, [])[:num_candidates] for context in contexts]


def _ranked(tactics: str | Sequence[str | Candidate]) -> list[Candidate]:
    """Candidates, best first, each once."""
    given = [tactics] if isinstance(tactics, str) else list(tactics)
    share = -math.log(len(given)) if given else 0.0
    pairs = [(each, share) if isinstance(each, str) else (each[0], float(each[1])) for each in given]
    for tactic, log_prob in pairs:
        if not log_prob <= 0:
            raise ConfigError(f"the log-probability of {tactic!r} is {log_prob}; it must be at most 0")
    return merge_candidates(sorted(pairs, key=lambda pair: -pair[1]))
