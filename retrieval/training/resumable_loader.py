"""A loader that goes on in the middle of an epoch, with the examples that a checkpoint has not seen.

Progress is kept in examples, so that a run may go on in other batches: of another size or budget, drawn from another
seed, on another number of ranks. In the same batches it goes on as if it had never stopped.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from pytorch_lightning.utilities import rank_zero_info
from torch.utils.data import DataLoader

from common import ConfigError
from retrieval.training.batches import LengthGroupedBatchSampler
from retrieval.training.processes import serial_tokenizers

Mask = npt.NDArray[np.bool_]  # of the examples of an epoch, (N,)

# How messages name what may differ between a checkpoint and the run that goes on from it.
_NAMES = {
    "batch_size": "data.batch_size",
    "max_tokens_per_batch": "data.max_tokens_per_batch",
    "batches_per_pool": "data.batches_per_pool",
    "seed": "data.seed",
    "num_ranks": "the number of ranks",
    "padded": "padding of batches (model.attention)",
}


@dataclass(frozen=True)
class _Place:
    """Where an epoch goes on.

    Attributes:
        epoch: which
        num_batches: of this rank that count as done
        first_batch: the batch to begin with, among those of the examples that were not taken
        taken: examples that other batches held; None if there were none
    """

    epoch: int
    num_batches: int = 0
    first_batch: int = 0
    taken: Mask | None = None


class ForkingDataLoader(DataLoader[Any]):
    """A DataLoader whose workers may tokenise, whatever this process has tokenised before."""

    def __iter__(self) -> Any:
        with serial_tokenizers():  # workers start here
            return super().__iter__()


class ResumableDataLoader(ForkingDataLoader):
    """A DataLoader over a batch sampler that can go on in the middle of an epoch.

    Lightning saves and restores its `state_dict` with every checkpoint. What counts is what was handed
    out, not what workers fetched ahead, so neither their number nor prefetching changes what follows.
    `retrieval.training.resume` sees to it that what was handed out and not trained on does not count either.
    """

    _num_given = 0  # batches of this epoch
    _place = _Place(0)  # where this epoch began
    _resumed: Mapping[str, Any] | None = None  # state of a checkpoint, until the next iteration
    _next: _Place | None = None  # where that is to begin

    @property
    def batch_sampler_of_epochs(self) -> LengthGroupedBatchSampler:
        """What makes the batches."""
        return cast(LengthGroupedBatchSampler, self.sampler)

    def state_dict(self) -> dict[str, Any]:
        """Return the state behind what was handed out; see `state_at`."""
        return self.state_at(self._num_given)

    def state_at(self, num_batches: int) -> dict[str, Any]:
        """Return the state in which this epoch has done so many batches, as plain values.

        Its keys: `epoch`; `num_batches`, of each rank; `seen`, which examples these held, on all ranks; `taken`, which
        of them were held by other batches than now; `settings` of the batches.
        """
        if self._resumed is not None:
            return dict(self._resumed)
        sampler, place = self.batch_sampler_of_epochs, self._place
        seen = np.zeros(len(sampler.sources), dtype=bool) if place.taken is None else place.taken.copy()
        num_new = (num_batches - place.num_batches + place.first_batch) * sampler.num_replicas
        for rows in sampler.batches(place.epoch, place.taken)[:num_new]:
            seen[rows] = True
        return {
            "epoch": place.epoch,
            "num_batches": num_batches,
            "seen": _packed(seen),
            "taken": None if place.taken is None else _packed(place.taken),
            "settings": sampler.settings,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Let the next iteration, if it is of the same epoch, go on with what was not seen."""
        self._resumed, self._next = state, None

    def resume(self, epoch: int) -> int:
        """Return how many batches of an epoch that is about to begin count as done.

        Raises:
            ConfigError: if the checkpoint's examples are not those of this run, or too few are left for its ranks
        """
        if self._next is None or self._next.epoch != epoch:
            self._next = self._find(self._resumed, epoch)
        return self._next.num_batches

    def _find(self, state: Mapping[str, Any] | None, epoch: int) -> _Place:
        """Where the epoch begins, by the state of a checkpoint."""
        if state is None or state["epoch"] != epoch:
            return _Place(epoch)
        sampler = self.batch_sampler_of_epochs
        now = sampler.settings
        before = {**now, "padded": True, **state.get("settings", {})}  # older checkpoints say less
        if before == now:
            if state["num_batches"] >= len(sampler):
                return _Place(epoch)
            taken = None if state.get("taken") is None else _unpacked(state["taken"], now["num_examples"])
            num_before = 0 if taken is None else len(sampler) - self._num_batches(epoch, taken)
            return _Place(epoch, state["num_batches"], state["num_batches"] - num_before, taken)
        seen = _seen(sampler, state, before)
        if seen.all():
            return _Place(epoch)
        _check_same_examples(before, now, epoch)
        rank_zero_info(
            f"{_difference(before, now)}: epoch {epoch} goes on with the {np.count_nonzero(~seen):,} of its "
            f"{len(seen):,} examples that the checkpoint has not seen"
        )
        return _Place(epoch, len(sampler) - self._num_batches(epoch, seen), 0, seen)

    def _num_batches(self, epoch: int, taken: Mask) -> int:
        """Batches of a rank that the other examples make."""
        sampler = self.batch_sampler_of_epochs
        return len(sampler.batches(epoch, taken)) // sampler.num_replicas

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        sampler = self.batch_sampler_of_epochs
        self._num_given = self.resume(sampler.epoch)
        self._place, self._next, self._resumed = self._next or _Place(sampler.epoch), None, None
        sampler.start_at(self._place.first_batch, self._place.taken)
        for batch in super().__iter__():
            self._num_given += 1
            yield batch


def _seen(sampler: LengthGroupedBatchSampler, state: Mapping[str, Any], settings: Mapping[str, Any]) -> Mask:
    """What a checkpoint has seen of its epoch; older ones do not list it, but their batches can be made again."""
    if "seen" in state:
        return _unpacked(state["seen"], settings["num_examples"])
    seen = np.zeros(len(sampler.sources), dtype=bool)
    batches = sampler.with_settings(settings).batches(state["epoch"])
    for rows in batches[: state["num_batches"] * settings["num_ranks"]]:
        seen[rows] = True
    return seen


def _check_same_examples(before: Mapping[str, Any], now: Mapping[str, Any], epoch: int) -> None:
    """Raise ConfigError if what a checkpoint has seen are not examples of this run."""
    advice = (
        "finish the epoch with what it was begun with, or export the model (python -m generator.export) and train it "
        "as a new run, with the exported folder as model.model_name"
    )
    if before["num_examples"] != now["num_examples"]:
        raise ConfigError(
            f"ckpt_path: was written in the middle of epoch {epoch}, of {before['num_examples']:,} examples, but the "
            f"training data now has {now['num_examples']:,} (data_path, limits on lengths, packing); {advice}"
        )
    if before["rows"] != now["rows"]:
        raise ConfigError(
            f"ckpt_path: was written in the middle of epoch {epoch}, of rows that were packed otherwise "
            f"({_difference(before, now)}); {advice}"
        )


def _difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Which settings differ, with both values."""
    found = [f"{label} is {now[key]} and was {before[key]}" for key, label in _NAMES.items() if before[key] != now[key]]
    return ", ".join(found) or "examples have other lengths than before"


def _packed(mask: Mask) -> str:
    """A mask as text: an eighth of a byte an example, less where runs repeat."""
    return base64.b64encode(zlib.compress(np.packbits(mask).tobytes())).decode()


def _unpacked(text: str, num_examples: int) -> Mask:
    """The mask that `_packed` wrote."""
    packed = np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype=np.uint8)
    return np.unpackbits(packed, count=num_examples).astype(bool)
