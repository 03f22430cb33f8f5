"""What prover code imports: anything that proposes tactics for a state."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

from common import Candidate, ConfigError, FilePath, Pos, remove_marks


class TacticGenerator(ABC):
    """Proposes tactics, best first, each once, premise marks removed.

    The methods and their keywords are those that ReProver's and LeanDojo-v2's provers call. `file_path`
    and `theorem_pos` (a Pos, a pair, or an object with line_nb and column_nb) say which premises may be
    cited; a generator that retrieves none ignores them.

    Attributes:
        reads_theorem: whether the answer for a state depends on file and theorem, so that caches have to look at them
    """

    reads_theorem: bool = True

    def initialize(self) -> None:  # noqa: B027 - a hook: provers call it before the first state
        """Load what was put off until now; does nothing by default."""

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

    @abstractmethod
    def batch_generate(
        self,
        states: Sequence[str],
        file_paths: Sequence[FilePath],
        theorem_full_names: Sequence[str],
        theorem_positions: Sequence[Any],
        num_samples: int,
    ) -> list[list[Candidate]]:
        """Return what `generate` returns for each of several states, in their order."""

    def as_async(self) -> AsyncTacticGenerator:
        """Return the same generator for provers that await."""
        return AsyncTacticGenerator(self)


class AsyncTacticGenerator:
    """Awaitable view of a generator: work runs in a thread, one call at a time."""

    def __init__(self, generator: TacticGenerator) -> None:
        self.generator = generator
        self._lock = asyncio.Lock()

    async def initialize(self) -> None:
        """See `TacticGenerator.initialize`."""
        async with self._lock:
            await asyncio.to_thread(self.generator.initialize)

    async def generate(
        self,
        state: str,
        file_path: FilePath,
        theorem_full_name: str,
        theorem_pos: Any,
        num_samples: int,
    ) -> list[Candidate]:
        """See `TacticGenerator.generate`."""
        async with self._lock:
            return await asyncio.to_thread(
                self.generator.generate, state, file_path, theorem_full_name, theorem_pos, num_samples
            )

    async def batch_generate(
        self,
        states: Sequence[str],
        file_paths: Sequence[FilePath],
        theorem_full_names: Sequence[str],
        theorem_positions: Sequence[Any],
        num_samples: int,
    ) -> list[list[Candidate]]:
        """See `TacticGenerator.batch_generate`."""
        async with self._lock:
            return await asyncio.to_thread(
                self.generator.batch_generate,
                states,
                file_paths,
                theorem_full_names,
                theorem_positions,
                num_samples,
            )


def merge_candidates(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Remove premise marks; of candidates that then read the same, keep the first, which is the best.

    >>> merge_candidates([("rw [<a>h</a>]", -0.5), ("rw [h]", -0.7)])
    [('rw [h]', -0.5)]
    """
    merged: dict[str, float] = {}
    for tactic, log_prob in candidates:
        merged.setdefault(remove_marks(tactic), log_prob)
    return list(merged.items())


def check_request(
    states: Sequence[str],
    file_paths: Sequence[FilePath],
    theorem_full_names: Sequence[str],
    theorem_positions: Sequence[Any],
    num_samples: int,
) -> list[Pos]:
    """Return the positions as Pos.

    Raises:
        ConfigError: if the lists differ in length or num_samples is below 1
    """
    lengths = [len(states), len(file_paths), len(theorem_full_names), len(theorem_positions)]
    if len(set(lengths)) != 1:
        raise ConfigError(
            "states, file_paths, theorem_full_names and theorem_positions must have one entry a state, "
            f"but have {lengths}"
        )
    if num_samples < 1:
        raise ConfigError(f"num_samples is {num_samples}; it must be at least 1")
    return [Pos.of(position) for position in theorem_positions]
