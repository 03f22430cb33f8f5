"""Retrieved premises on disk: written by any retriever, read by the generator and by the evaluation.

The files are described in `retrieval.predictions.files`.

Shape legend: B batch, M contexts, k premises per context.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cached_property
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.numpy import save

from common import ConfigError, DataError, check_positive
from retrieval.corpus import Corpus
from retrieval.leandojo.provenance import Provenance
from retrieval.predictions import files
from retrieval.predictions.files import FORMAT_VERSION, Part, RetrievalContext

_LOG = logging.getLogger(__name__)
ROWS_PER_SHARD = 16_384  # 13 MB at k = 100: what a crash can lose


class PredictionWriter:
    """Writes the predictions of one split, on one rank.

    Used as a context manager, it is closed at the end unless an error was raised. Files of an earlier run for the same
    split are replaced.
    """

    def __init__(
        self,
        folder: str | Path,
        corpus: Corpus,
        *,
        retriever: str,
        k: int,
        split: str,
        num_contexts: int,
        rank: int = 0,
        num_ranks: int = 1,
    ) -> None:
        """Make the files of the rank, marked as incomplete.

        Args:
            folder: where to write; made if missing
            corpus: what the premise numbers refer to
            retriever: a name for tables, such as a checkpoint's path or "bm25"
            k: premises per context
            split: "train", "val" or "test"
            num_contexts: contexts of the split, on all ranks together, from which a reader sees whether all are there
            rank: this process
            num_ranks: processes that share the split

        Raises:
            ConfigError: if k is not positive, or the folder holds another retriever's predictions
        """
        check_positive(k=k)
        if not split.isidentifier():
            raise ConfigError(f"split is {split!r}; it must be a word such as val, as it is part of file names")
        self.folder = Path(folder)
        self._part = Part(
            format_version=FORMAT_VERSION,
            corpus_hash=corpus.content_hash,
            retriever=retriever,
            k=k,
            split=split,
            rank=rank,
            num_ranks=num_ranks,
            num_contexts=num_contexts,
            num_shards=0,
            complete=False,
        )
        self._contexts: list[RetrievalContext] = []
        self._numbers: list[npt.NDArray[np.int32]] = []
        self._scores: list[npt.NDArray[np.float32]] = []
        self._own: tuple[int, int] | None = None  # the description that this writer wrote last
        with files.changing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._check_retriever()
            self._remove_earlier_run()
            self._save_part()

    def _check_retriever(self) -> None:
        """Raise ConfigError if the folder holds predictions of another retriever."""
        for part in files.read_parts(self.folder):
            if part.split != self._part.split and part.origin != self._part.origin:
                raise ConfigError(
                    f"{self.folder} holds predictions of {part.retriever!r} for {part.split} (k {part.k}, "
                    f"corpus {part.corpus_hash[:12]}), now to be joined by {self._part.retriever!r} (k "
                    f"{self._part.k}, corpus {self._part.corpus_hash[:12]}); give another folder or empty it"
                )

    def _remove_earlier_run(self) -> None:
        """Remove this rank's files, and those of a run with another number of ranks; say what is replaced."""
        replaced = [part for part in files.read_parts(self.folder) if part.split == self._part.split]
        if replaced and self._part.rank == 0:
            _LOG.warning(
                "%s: replaces the predictions of %r for %s", self.folder, replaced[0].retriever, self._part.split
            )
        for path in sorted(self.folder.glob(f"{self._part.split}-*-of-*")):
            stem = path.name.split(".")[0]
            if stem == self._part.stem or not stem.endswith(f"-of-{self._part.num_ranks}"):
                path.unlink(missing_ok=True)

    def write(
        self,
        contexts: Sequence[RetrievalContext],
        premise_numbers: torch.Tensor | npt.NDArray[Any],
        scores: torch.Tensor | npt.NDArray[Any],
    ) -> None:
        """Add a batch.

        Args:
            contexts: B of them; one that is written twice counts once
            premise_numbers: best first, -1 behind the last one, integer (B, k) or narrower
            scores: of these premises, float (B, k) or narrower; larger is better
        """
        numbers = _padded(premise_numbers, self._part.k, -1, np.int32)
        values = _padded(scores, self._part.k, -np.inf, np.float32)
        if not len(contexts) == len(numbers) == len(values):
            raise ValueError(f"{len(contexts)} contexts, {len(numbers)} rows and {len(values)} scores")
        self._contexts += contexts
        self._numbers.append(numbers)
        self._scores.append(values)
        if len(self._contexts) >= ROWS_PER_SHARD:
            self._save_shard()

    def close(self) -> None:
        """Write what is left and mark this rank's part as complete."""
        if self._contexts:
            self._save_shard()
        self._part = replace(self._part, complete=True)
        self._save_part()

    def _save_shard(self) -> None:
        self._check_alone()
        part, lines = self._part, [context.to_json() + "\n" for context in self._contexts]
        arrays = {
            "premise_numbers": np.concatenate(self._numbers),
            "scores": np.concatenate(self._scores),
        }
        metadata = {"format_version": str(FORMAT_VERSION), "corpus_hash": part.corpus_hash}
        files.write(part.shard(self.folder, part.num_shards, ".jsonl"), "".join(lines).encode())
        files.write(part.shard(self.folder, part.num_shards, ".safetensors"), save(arrays, metadata))
        self._part = replace(part, num_shards=part.num_shards + 1)
        self._contexts, self._numbers, self._scores = [], [], []
        self._save_part()

    def _save_part(self) -> None:
        self._check_alone()
        text = json.dumps(asdict(self._part), indent=2) + "\n"
        path = self.folder / f"{self._part.stem}.json"
        files.write(path, text.encode())
        self._own = _identity(path)

    def _check_alone(self) -> None:
        """Raise DataError if another process has taken the folder over, with which the files would be mixed."""
        if self._own is not None and self._own != _identity(self.folder / f"{self._part.stem}.json"):
            raise DataError(
                f"{self.folder}: another process writes predictions for {self._part.split} to this folder; give each a "
                "folder of its own, and make these again"
            )

    def __enter__(self) -> PredictionWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()


class Predictions:
    """The retrieved premises of the contexts of all splits in a folder; made by `Predictions.load`.

    Attributes:
        folder: where they were read
        retriever: what made them
        k: premises per context, at most
        splits: names of the splits, sorted
    """

    def __init__(self, folder: Path, parts: Sequence[Part], corpus: Corpus) -> None:
        """Open all shards; use `Predictions.load`."""
        self.folder, self._corpus_size = folder, len(corpus)
        self.retriever, self.k = parts[0].retriever, parts[0].k
        self.splits = sorted({part.split for part in parts})
        self._shards: list[Path] = []
        keys, splits = [], []
        for part in parts:
            for number in range(part.num_shards):
                path = part.shard(folder, number, ".safetensors")
                self._shards.append(path)
                lines = path.with_suffix(".jsonl").read_bytes().splitlines()
                _check_shape(path, (len(lines), part.k))
                keys.append(
                    np.array([_key(RetrievalContext.from_json(line).provenance) for line in lines], dtype=np.int64)
                )
                splits.append(np.full(len(lines), self.splits.index(part.split), dtype=np.int8))
        all_keys = np.concatenate([np.zeros(0, np.int64), *keys])
        # ranks pad the last batch with contexts that others have too; each is kept once
        self._sorted_keys, first = np.unique(all_keys, return_index=True)
        self._kept = np.sort(first)
        self._rows = np.searchsorted(self._kept, first).astype(np.int32)  # of the sorted keys
        self._split_numbers = np.concatenate([np.zeros(0, np.int8), *splits])[self._kept]

    @classmethod
    def load(cls, folder: str | Path, corpus: Corpus) -> Predictions:
        """Open a folder of predictions.

        Raises:
            DataError: if there is none, it is incomplete, broken, of another format version, or made for
                another corpus
        """
        folder = Path(folder)
        parts = files.read_parts(folder)
        if not parts:
            raise DataError(
                f"{folder} holds no predictions (no file such as val-0-of-1.json); make them with "
                "python -m retrieval.main predict or python -m retrieval.bm25"
            )
        for part in parts:
            if part.corpus_hash != corpus.content_hash:
                raise DataError(
                    f"{folder}: the predictions of {part.split} were made for the corpus with hash "
                    f"{part.corpus_hash}, but {corpus.path} has {corpus.content_hash}; make them again, or "
                    "give the corpus that they were made for"
                )
            if part.origin != parts[0].origin:
                raise DataError(
                    f"{folder} mixes {parts[0].retriever!r} with k {parts[0].k} ({parts[0].split}) and "
                    f"{part.retriever!r} with k {part.k} ({part.split}); one folder is for one retriever"
                )
        for _, group in groupby(parts, key=lambda part: part.split):
            _check_complete(folder, list(group))
        try:
            return cls(folder, parts, corpus)
        except OSError as error:
            raise DataError(f"{folder}: cannot read {error.filename}: {error.strerror}") from error
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
            raise DataError(f"{folder}: broken predictions: {error}; make them again") from error

    def __len__(self) -> int:
        return len(self._kept)

    @cached_property
    def premise_numbers(self) -> npt.NDArray[np.int32]:
        """Numbers of the retrieved premises, best first, -1 behind the last one, (M, k)."""
        numbers: npt.NDArray[np.int32] = self._gather("premise_numbers", np.int32)
        if numbers.size and not (-1 <= numbers.min() and numbers.max() < self._corpus_size):
            raise DataError(
                f"{self.folder}: premise numbers from {numbers.min()} to {numbers.max()}, but the corpus "
                f"has {self._corpus_size} premises; the files are broken, make them again"
            )
        return numbers

    @cached_property
    def scores(self) -> npt.NDArray[np.float32]:
        """Scores of the retrieved premises, -inf behind the last one, (M, k)."""
        return self._gather("scores", np.float32)

    @cached_property
    def contexts(self) -> list[RetrievalContext]:
        """The contexts of all rows, read from disk when they are asked for: 0.5 KB each, and seldom needed."""
        lines = [line for path in self._shards for line in path.with_suffix(".jsonl").read_bytes().splitlines()]
        return [RetrievalContext.from_json(lines[i]) for i in self._kept.tolist()]

    def find(self, provenance: Provenance) -> int | None:
        """Return the row of the state that a step starts from, whatever its repository; None where there is none."""
        key = _key(provenance)
        place = int(np.searchsorted(self._sorted_keys, key))
        if place == len(self._sorted_keys) or self._sorted_keys[place] != key:
            return None
        return int(self._rows[place])

    def retrieved(self, row: int) -> list[int]:
        """Return the numbers of the premises retrieved for a row, best first, without padding."""
        numbers: list[int] = self.premise_numbers[row].tolist()
        return [number for number in numbers if number >= 0]

    def rows_of(self, split: str) -> npt.NDArray[np.int64]:
        """Return the rows of a split."""
        return np.flatnonzero(self._split_numbers == self.splits.index(split))

    def _gather(self, name: str, dtype: Any) -> npt.NDArray[Any]:
        gathered = np.empty((len(self), self.k), dtype=dtype)
        first = 0
        for path in self._shards:
            with files.opened(path) as tensors:
                rows = tensors.get_tensor(name)
            begin, end = np.searchsorted(self._kept, [first, first + len(rows)])
            gathered[begin:end] = rows[self._kept[begin:end] - first]
            first += len(rows)
        return gathered


def _identity(path: Path) -> tuple[int, int] | None:
    """What tells a file from another that replaces it; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _key(provenance: Provenance) -> int:
    """Return 63 bits for a context; of a million contexts two share theirs with a probability of 1e-7."""
    text = "\0".join(map(str, (provenance.file_path, provenance.full_name, provenance.start, provenance.tactic_idx)))
    digest = hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def _padded(rows: torch.Tensor | npt.NDArray[Any], k: int, filler: float, dtype: Any) -> npt.NDArray[Any]:
    if isinstance(rows, torch.Tensor):
        rows = (rows.float() if rows.is_floating_point() else rows).detach().cpu().numpy()
    padded = np.full((len(rows), k), filler, dtype=dtype)
    padded[:, : rows.shape[1]] = rows
    return padded


def _check_complete(folder: Path, parts: Sequence[Part]) -> None:
    """Raise unless all ranks of one split have finished."""
    first = parts[0]
    if len({(part.num_ranks, part.num_contexts) for part in parts}) > 1:
        raise DataError(f"{folder}: the files of {first.split} come from different runs; make them again")
    num_rows = 0
    for part in parts:
        for number in range(part.num_shards):
            path = part.shard(folder, number, ".safetensors")
            with files.opened(path) as tensors:
                num_rows += tensors.get_slice("premise_numbers").get_shape()[0]
    if len(parts) < first.num_ranks or not all(part.complete for part in parts) or num_rows < first.num_contexts:
        raise DataError(
            f"{folder} is incomplete: it has predictions for {num_rows} of the {first.num_contexts} contexts "
            f"of {first.split}, and {sum(part.complete for part in parts)} of {first.num_ranks} ranks "
            "finished; run the prediction again"
        )


def _check_shape(path: Path, shape: tuple[int, int]) -> None:
    with files.opened(path) as tensors:
        for name in ("premise_numbers", "scores"):
            if tuple(tensors.get_slice(name).get_shape()) != shape:
                raise ValueError(f"{path.name} has {name} {tensors.get_slice(name).get_shape()}, not {shape}")
