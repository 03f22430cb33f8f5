"""What prover code imports: anything that proposes tactics for a state."""

from __future__ import annotations

import asyncio
import contextvars
import functools
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from common import Candidate, ConfigError, Context, FilePath, check_positive, remove_marks
from retrieval.contexts import contexts_of

_P = ParamSpec("_P")
_R = TypeVar("_R")
_T = TypeVar("_T")


class _OwnRetriever:
    """`retriever` of a class that does not say: None, or what an object of it has set, as a submodule of torch too."""

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return None if instance is None else vars(instance).get("_modules", {}).get("retriever")


class TacticGenerator(ABC):
    """Proposes tactics, best first, each once, premise marks removed.

    A subclass answers `propose`. Provers call `generate` and `batch_generate`, whose keywords are those that ReProver's
    and LeanDojo-v2's provers use. `file_path` and `theorem_pos` (a Pos, a pair, or an object with line_nb and
    column_nb) say which premises may be cited; a generator that retrieves none ignores them, and `theorem_pos` may then
    be None or (0, 0).

    Attributes:
        reads_theorem: whether the answer for a state depends on file and theorem, so that caches have to look at them
        retriever: where premises come from, of this project a `retrieval.retriever.Retriever`; None without one.
            Provers give it their corpus with `load_corpus` and `reindex_corpus`
    """

    reads_theorem: bool = True
    retriever: Any = _OwnRetriever()

    def initialize(self) -> None:  # noqa: B027 - a hook: provers call it before the first state
        """Load what was put off until now; does nothing by default."""

    def eval(self) -> Self:
        """Switch a model to evaluation, as provers do; nothing to do for a generator that is no module of torch."""
        module_eval: Callable[[], Any] | None = getattr(super(), "eval", None)
        if module_eval is not None:
            module_eval()
        return self

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
        states: Sequence[str] | None = None,
        file_paths: Sequence[FilePath] | None = None,
        theorem_full_names: Sequence[str] | None = None,
        theorem_positions: Sequence[Any] | None = None,
        num_samples: int | None = None,
        *,
        state: Sequence[str] | None = None,
        file_path: Sequence[FilePath] | None = None,
        theorem_full_name: Sequence[str] | None = None,
        theorem_pos: Sequence[Any] | None = None,
    ) -> list[list[Candidate]]:
        """Return what `generate` returns for each of several states, in their order.

        The lists may go by the singular names too, as ReProver's generators have them.

        Raises:
            ConfigError: if a list is missing or given twice, the lists differ in length, or num_samples is below 1
            DataError: if a position is none
        """
        if num_samples is None:
            raise ConfigError("batch_generate needs num_samples, how many tactics to return for each state")
        check_positive(num_samples=num_samples)
        contexts = contexts_of(
            _one_of(states=states, state=state),
            _one_of(file_paths=file_paths, file_path=file_path),
            _one_of(theorem_full_names=theorem_full_names, theorem_full_name=theorem_full_name),
            _one_of(theorem_positions=theorem_positions, theorem_pos=theorem_pos),
        )
        return [not_blank(candidates) for candidates in self.propose(contexts, num_samples)]

    def as_async(self) -> AsyncTacticGenerator:
        """Return the same generator for provers that await."""
        return AsyncTacticGenerator(self)


def _awaitable(
    method: Callable[Concatenate[TacticGenerator, _P], _R],
) -> Callable[Concatenate[AsyncTacticGenerator, _P], Awaitable[_R]]:
    """Return a method of the same name and arguments that is awaited."""

    @functools.wraps(method)
    async def call(view: AsyncTacticGenerator, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        own: Callable[..., _R] = functools.partial(getattr(view.generator, method.__name__), *args, **kwargs)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(view._thread, contextvars.copy_context().run, own)

    return call


class Done:
    """What was done when it was called; it may be awaited, and need not be."""

    def __await__(self) -> Generator[None, None, None]:
        yield from ()


class AsyncTacticGenerator:
    """Awaitable view of a generator: calls run in a thread of the view's own, one after the other.

    Several event loops may share it, as when each search runs in a loop of its own; it can be pickled if the generator
    can.

    Attributes:
        generator: answers
    """

    def __init__(self, generator: TacticGenerator) -> None:
        self.generator = generator
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tactics")

    def __reduce__(self) -> tuple[type[Self], tuple[TacticGenerator]]:
        return type(self), (self.generator,)

    @property
    def retriever(self) -> Any:
        """See `TacticGenerator`."""
        return getattr(self.generator, "retriever", None)

    def eval(self) -> Self:
        """See `TacticGenerator.eval`."""
        self.generator.eval()
        return self

    def initialize(self) -> Done:
        """Load now, before the call returns: ReProver's prover does not await it, others do."""
        self.generator.initialize()
        return Done()

    generate = _awaitable(TacticGenerator.generate)
    batch_generate = _awaitable(TacticGenerator.batch_generate)


def _one_of(**given: Sequence[_T] | None) -> Sequence[_T]:
    """The list that was given under one of its two names."""
    found = {name: value for name, value in given.items() if value is not None}
    if len(found) != 1:
        names = " or ".join(given)
        raise ConfigError(f"batch_generate needs {names}" + (", and not both" if found else ""))
    return next(iter(found.values()))


def merge_candidates(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Remove premise marks; of candidates that then read the same, keep the first, which is the best; none is blank.

    >>> merge_candidates([("rw [<a>h</a>]", -0.5), ("rw [h]", -0.7)])
    [('rw [h]', -0.5)]
    """
    merged: dict[str, float] = {}
    for tactic, log_prob in candidates:
        merged.setdefault(remove_marks(tactic), log_prob)
    return not_blank(merged.items())


def not_blank(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Leave out the empty tactic, which an untrained model writes and no prover takes for a step."""
    return [candidate for candidate in candidates if candidate[0].strip()]
