"""Examples by key, and batches of similar length."""

from __future__ import annotations

import operator
import zlib
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeVar, overload

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset, DistributedSampler

from common import ConfigError, check_positive

_T = TypeVar("_T")
ExampleKey = tuple[int, int]  # (epoch, index): with the seed, all that an example depends on


class KeyedDataset(Dataset[_T]):
    """Examples by key, the same whenever and wherever they are read.

    `dataset[index]` is an example as it is in epoch 0, `dataset[epoch, index]` in another one, and a list of either
    gives a list.
    """

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def example(self, epoch: int, index: int) -> _T:
        """Return an example as it is in an epoch; `index` counts from 0."""

    @overload
    def __getitem__(self, key: int | ExampleKey) -> _T: ...
    @overload
    def __getitem__(self, key: list[int] | list[ExampleKey]) -> list[_T]: ...
    def __getitem__(self, key: int | ExampleKey | list[int] | list[ExampleKey]) -> _T | list[_T]:
        if isinstance(key, list):
            return [self[k] for k in key]
        epoch, index = key if isinstance(key, tuple) else (0, key)
        return self.example(epoch, range(len(self))[operator.index(index)])


class LengthGroupedBatchSampler(DistributedSampler[Any]):
    """Batches of examples of similar source length, shuffled, the same number in every epoch and rank.

    Each epoch deals the examples into random pools, parts large pools where targets are long, sorts by source
    length, and cuts batches, which it permutes. The better batches are sorted, the less they pad and the less
    each step teaches (tests/benchmarks/learning.py compares sizes of pools). Everything follows from (seed, epoch).
    Ranks see batches of similar cost at the same step.

    It yields lists of (epoch, index) keys. It derives from DistributedSampler so that Lightning passes
    it the epoch and does not shard it a second time.

    Measured by tests/benchmarks/batching.py.
    """

    def __init__(
        self,
        source_lengths: Sequence[int] | npt.NDArray[Any],
        target_lengths: Sequence[int] | npt.NDArray[Any] | None = None,
        *,
        batch_size: int | None = None,
        max_tokens: int | None = None,
        shuffle: bool = True,
        batches_per_pool: int = 200,
        seed: int = 0,
        num_replicas: int = 1,
        rank: int = 0,
        rows: int = 0,
        padded: bool = True,
        lengths_of: Callable[[int], tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]] | None = None,
    ) -> None:
        """Fix the number of batches.

        Args:
            source_lengths: tokens of each input, EOS included
            target_lengths: tokens of each target; None where there is none
            batch_size: examples a batch may hold
            max_tokens: source and target tokens that a batch may hold, padded; both limits may be given
            shuffle: draw batches anew each epoch; otherwise they stay the same, in one mixed order, so
                that the first ones are a fair sample of all
            batches_per_pool: how many batches are sorted together; fewer mix lengths more and pad more, and
                below 100 long targets are not kept apart
            seed: where the shuffling starts from
            num_replicas: ranks that share the work
            rank: this one
            rows: tells data of equal size apart whose examples are put together from others, such as packed rows
            padded: whether a batch is padded. If not, max_tokens counts what its examples hold, and a batch takes them
                as they come, of any length
            lengths_of: returns both lengths in an epoch, of examples that differ from epoch to epoch; those given are
                of the first

        Raises:
            ConfigError: if a limit is not positive, an example alone exceeds max_tokens, or there are fewer
                examples than ranks
        """
        check_positive(batch_size=batch_size, max_tokens_per_batch=max_tokens, batches_per_pool=batches_per_pool)
        if batch_size is None and max_tokens is None:
            raise ConfigError("give batch_size, max_tokens_per_batch, or both")
        self._lengths_of = lengths_of
        self.sources = np.asarray(source_lengths, dtype=np.int64)
        self.targets = (
            np.zeros_like(self.sources) if target_lengths is None else np.asarray(target_lengths, dtype=np.int64)
        )
        longest = int((self.sources + self.targets).max(initial=0))
        if max_tokens is not None and longest > max_tokens:
            raise ConfigError(
                f"max_tokens_per_batch is {max_tokens}, but one example takes {longest} tokens; "
                "raise it, or lower the limits on the lengths of examples"
            )
        if 0 < len(self.sources) < num_replicas:
            raise ConfigError(f"{len(self.sources)} examples cannot be shared by {num_replicas} ranks")
        self.batch_size, self.max_tokens, self.batches_per_pool = batch_size, max_tokens, batches_per_pool
        self.shuffle, self.seed, self.epoch = shuffle, seed, 0
        self.num_replicas, self.rank, self.rows, self.padded = num_replicas, rank, rows, padded
        self._taken: npt.NDArray[np.bool_] | None = None  # of a resumed epoch, what other batches held; (N,)
        self._first_batch = 0  # where the next iteration starts
        self._num_batches = self._count_batches()

    def _count_batches(self) -> int:
        """The number of batches of every epoch, a multiple of the ranks; Lightning asks for it once."""
        num_examples = len(self.sources)
        if not (self.shuffle and self.max_tokens):
            count = len(self._cut(self._order(0)))
        else:  # pools differ from epoch to epoch in how many batches they make; a fuller epoch halves fewer
            count = min(num_examples, int(1.02 * max(len(self._cut(self._order(epoch))) for epoch in range(3))) + 1)
        count += -count % self.num_replicas
        return count if count <= num_examples else count - self.num_replicas

    def _order(self, epoch: int, attempt: int = 0) -> npt.NDArray[np.int64]:
        """Example numbers so that neighbours have similar lengths."""
        if not self.shuffle:
            return np.lexsort((self.targets, self.sources))
        rng = np.random.default_rng([self.seed, epoch, attempt])
        if not self.padded:
            return rng.permutation(len(self.sources))
        mean_cost = float((self.sources + self.targets).mean()) if len(self.sources) else 1.0
        rows = min(self.batch_size or np.inf, (self.max_tokens or np.inf) / mean_cost)
        rows = max(1, int(rows))
        # of a small dataset, pools small enough that there are several to deal into
        pool_size = rows * min(self.batches_per_pool, max(len(self.sources) // (8 * rows), 20))
        place = rng.permutation(len(self.sources))
        pool = place // pool_size
        key = np.where(pool % 2, -self.sources, self.sources)  # up and down: neighbouring pools meet smoothly
        if self.batches_per_pool < 100 or not len(place):  # small pools are for mixing
            return np.lexsort((place, key, pool))
        # the longest targets go together; they would pad every batch that holds one of them
        is_long = np.searchsorted(np.quantile(self.targets, _LONG_TARGETS), self.targets)
        return np.lexsort((place, key, is_long, pool))

    def _cut(self, order: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
        """Cut an order into batches that keep the limits, as ranges of positions."""
        max_rows, max_tokens = self.batch_size or len(order), self.max_tokens or np.iinfo(np.int64).max
        if not self.padded:
            return _cut_at(max_tokens, max_rows, (self.sources + self.targets)[order].tolist())
        bounds, start, source, target = [], 0, 0, 0
        lengths = zip(self.sources[order].tolist(), self.targets[order].tolist(), strict=True)
        for i, (new_source, new_target) in enumerate(lengths):
            source, target = max(source, new_source), max(target, new_target)
            if i - start >= max_rows or (i - start + 1) * (source + target) > max_tokens:
                bounds.append((start, i))
                start, source, target = i, new_source, new_target
        return [*bounds, (start, len(order))] if len(order) else []

    def batches(self, epoch: int, taken: npt.NDArray[np.bool_] | None = None) -> list[npt.NDArray[np.int64]]:
        """Return all batches of an epoch, so that every num_replicas neighbours cost about the same.

        Args:
            epoch: which
            taken: examples that are in none of them, bool (N,); the others then make no more batches than all do

        Raises:
            ConfigError: if fewer examples are left than there are ranks
        """
        if self._lengths_of is not None:
            self.sources, self.targets = self._lengths_of(epoch)
        for attempt in range(10):
            order = self._order(epoch, attempt)
            if taken is not None:
                order = order[~taken[order]]
            bounds = self._cut(order)
            if len(bounds) <= self._num_batches:
                break
        count = self._num_batches
        if taken is not None:
            if 0 < len(order) < self.num_replicas:
                raise ConfigError(
                    f"ckpt_path: {len(order)} examples are left of epoch {epoch}, which {self.num_replicas} ranks "
                    "cannot share; go on with fewer ranks, or with as many as wrote the checkpoint"
                )
            count = min(count, len(bounds) + -len(bounds) % self.num_replicas)
            count -= self.num_replicas * (count > len(order))
        bounds = _with_count(bounds, count)
        groups = np.arange(count // self.num_replicas) * self.num_replicas
        rng = np.random.default_rng([self.seed, epoch if self.shuffle else 0, 10])
        batches = [order[start:end] for start, end in bounds]
        return [batches[i + rank] for i in rng.permutation(groups) for rank in range(self.num_replicas)]

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration shows."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self._num_batches // self.num_replicas

    def start_at(self, first_batch: int, taken: npt.NDArray[np.bool_] | None = None) -> None:
        """Let the next iteration leave out examples, see `batches`, and begin with a later batch."""
        self._first_batch, self._taken = first_batch, taken

    def __iter__(self) -> Iterator[list[ExampleKey]]:
        first, taken = self._first_batch, self._taken
        self._first_batch, self._taken = 0, None
        for rows in self.batches(self.epoch, taken)[self.rank :: self.num_replicas][first:]:
            yield [(self.epoch, index) for index in rows.tolist()]

    @property
    def settings(self) -> dict[str, Any]:
        """What the batches of an epoch follow from, as plain values."""
        lengths = np.stack([self.sources, self.targets])
        return {
            "num_examples": len(self.sources),
            "lengths": zlib.crc32(lengths.tobytes()) if self._lengths_of is None else 0,
            "rows": self.rows,
            "batch_size": self.batch_size,
            "max_tokens_per_batch": self.max_tokens,
            "batches_per_pool": self.batches_per_pool,
            "seed": self.seed,
            "num_ranks": self.num_replicas,
            "padded": self.padded,
        }

    def with_settings(self, settings: Mapping[str, Any]) -> LengthGroupedBatchSampler:
        """Return a sampler of the same examples that batches them as `settings` of another one say."""
        return LengthGroupedBatchSampler(
            self.sources,
            self.targets,
            batch_size=settings["batch_size"],
            max_tokens=settings["max_tokens_per_batch"],
            batches_per_pool=settings["batches_per_pool"],
            seed=settings["seed"],
            num_replicas=settings["num_ranks"],
            padded=settings["padded"],
        )

    @property
    def most_tokens(self) -> int:
        """Source and target tokens that a batch may hold: max_tokens, or batch_size of the longest example."""
        longest = int((self.sources + self.targets).max(initial=0))
        by_rows = (self.batch_size or len(self.sources)) * longest
        return by_rows if self.max_tokens is None else min(by_rows, self.max_tokens)

    @cached_property
    def padding_share(self) -> float:
        """Share of padding in all source and target tokens of the first epoch, over all ranks."""
        if not self.padded:
            return 0.0
        rows = self.batches(0)
        padded = sum(len(r) * int(self.sources[r].max() + self.targets[r].max()) for r in rows)
        return 1 - float(self.sources.sum() + self.targets.sum()) / padded if padded else 0.0


_LONG_TARGETS = (0.7, 0.9, 0.98)  # quantiles of target length at which a pool is parted


def _cut_at(max_tokens: int, max_rows: int, lengths: Sequence[int]) -> list[tuple[int, int]]:
    """Cut examples into batches of at most so many tokens and examples, as ranges of positions."""
    bounds, start, total = [], 0, 0
    for i, length in enumerate(lengths):
        if i - start >= max_rows or total + length > max_tokens:
            bounds.append((start, i))
            start, total = i, 0
        total += length
    return [*bounds, (start, len(lengths))] if len(lengths) else []


def _with_count(bounds: list[tuple[int, int]], count: int) -> list[tuple[int, int]]:
    """Halve the fullest batches, or else join neighbours, until there are `count`; nothing is lost or repeated.

    Joining is for what cannot be shared out otherwise: almost every batch holds one example.
    """
    while len(bounds) < count:
        i = max(range(len(bounds)), key=lambda i: bounds[i][1] - bounds[i][0])
        start, end = bounds[i]
        bounds[i : i + 1] = [(start, (start + end) // 2), ((start + end) // 2, end)]
    while len(bounds) > count:
        i = min(range(len(bounds) - 1), key=lambda i: bounds[i + 1][1] - bounds[i][0])
        bounds[i : i + 2] = [(bounds[i][0], bounds[i + 1][1])]
    return bounds


def target_tokens_per_batch(loader: Any, num_ranks: int) -> float | None:
    """Return how many target tokens a batch of a loader has on average; None if its dataset does not say.

    Args:
        loader: whose dataset may have `num_target_tokens`, those of all its examples
        num_ranks: that share the dataset out
    """
    total = getattr(getattr(loader, "dataset", None), "num_target_tokens", None)
    return None if total is None else total / (len(loader) * num_ranks)


def most_tokens(loader: Any) -> int:
    """Return how many source and target tokens a batch of a loader may hold; 0 if its sampler does not say."""
    return getattr(getattr(loader, "batch_sampler_of_epochs", None), "most_tokens", 0)
