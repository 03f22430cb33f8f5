"""What prover code imports: anything that proposes tactics for a state."""

from __future__ import annotations

import asyncio
import functools
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar

from common import Candidate, Context, FilePath, check_positive, remove_marks

_P = ParamSpec("_P")
_R = TypeVar("_R")


class TacticGenerator(ABC):
    """Proposes tactics, best first, each once, premise marks removed.

    A subclass answers `propose`. Provers call `generate` and `batch_generate`, whose keywords are those that ReProver's
    and LeanDojo-v2's provers use. `file_path` and `theorem_pos` (a Pos, a pair, or an object with line_nb and
    column_nb) say which premises may be cited; a generator that retrieves none ignores them.

    Attributes:
        reads_theorem: whether the answer for a state depends on file and theorem, so that caches have to look at them
    """

    reads_theorem: bool = True

    def initialize(self) -> None:  # noqa: B027 - a hook: provers call it before the first state
        """Load what was put off until now; does nothing by default."""

    @abstractmethod
    def propose(self, contexts: Sequence[Context], num_candidates: int) -> list[list[Candidate]]:
        """Return at most num_candidates tactics for each context, in their order; see the class.

        Args:
            contexts: states, and the theorems they are met in; there may be none
            num_candidates: for each, at least 1
        """

    def generate(
        self,
        state: str,
        file_path: FilePath,
        theorem_full_name: str,
        theorem_pos: Any,
        num_samples: int,
    ) -> list[Candidate]:
        """Return at most num_samples tactics for one state, with log-probabilities, best first."""
        return self.batch_generate([state], [file_path], [theorem_full_name], [theorem_pos], num_samples)[0]

    def batch_generate(
        self,
        states: Sequence[str],
        file_paths: Sequence[FilePath],
        theorem_full_names: Sequence[str],
        theorem_positions: Sequence[Any],
        num_samples: int,
    ) -> list[list[Candidate]]:
        """Return what `generate` returns for each of several states, in their order.

        Raises:
            ConfigError: if the lists differ in length or num_samples is below 1
            DataError: if a position is none
        """
        check_positive(num_samples=num_samples)
        contexts = Context.of_lists(states, file_paths, theorem_full_names, theorem_positions)
        return self.propose(contexts, num_samples)

    def as_async(self) -> AsyncTacticGenerator:
        """Return the same generator for provers that await."""
        return AsyncTacticGenerator(self)


def _awaitable(
    method: Callable[Concatenate[TacticGenerator, _P], _R],
) -> Callable[Concatenate[AsyncTacticGenerator, _P], Awaitable[_R]]:
    """Return a method of the same name and arguments that is awaited."""

    @functools.wraps(method)
    async def call(view: AsyncTacticGenerator, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        async with view.lock:
            own: Callable[..., _R] = getattr(view.generator, method.__name__)
            return await asyncio.to_thread(own, *args, **kwargs)

    return call


class AsyncTacticGenerator:
    """Awaitable view of a generator: work runs in a thread, one call at a time.

    Attributes:
        generator: answers
        lock: held during a call
    """

    def __init__(self, generator: TacticGenerator) -> None:
        self.generator = generator
        self.lock = asyncio.Lock()

    initialize = _awaitable(TacticGenerator.initialize)
    generate = _awaitable(TacticGenerator.generate)
    batch_generate = _awaitable(TacticGenerator.batch_generate)


def merge_candidates(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Remove premise marks; of candidates that then read the same, keep the first, which is the best.

    >>> merge_candidates([("rw [<a>h</a>]", -0.5), ("rw [h]", -0.7)])
    [('rw [h]', -0.5)]
    """
    merged: dict[str, float] = {}
    for tactic, log_prob in candidates:
        merged.setdefault(remove_marks(tactic), log_prob)
    return list(merged.items())
