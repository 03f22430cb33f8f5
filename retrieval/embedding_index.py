"""Embeddings of all premises, and the exact search for the best accessible ones.

Shape legend: B queries, N premises, D dimension, k premises asked for.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import pad
from tqdm import tqdm

from common import ConfigError, DataError, check_positive
from retrieval.corpus import Corpus
from retrieval.training.files import write_json, writing_file

FORMAT_VERSION = 1
StorageDtype = Literal["float32", "bfloat16", "int8"]
# How many rows of narrow embeddings are widened to float32 at a time. On a CPU 1024 rows, 6 MB at D = 1472, stay in
# its cache: the search takes 1.4 to 2 times as long as the bare product and top-k, and 2.5 times with 8192 rows
ROWS_AT_A_TIME = {"cpu": 1024, "other": 65_536}


@dataclass(frozen=True, slots=True)
class _Stored:
    """Embeddings as they are stored.

    Attributes:
        values: (N, D), float32, bfloat16 or int8
        scales: what the int8 values of each premise are multiplied by, float32 (N,); None for other types
    """

    values: Tensor
    scales: Tensor | None = None

    @classmethod
    def of(cls, embeddings: Tensor, dtype: StorageDtype) -> _Stored:
        if dtype == "int8":
            scales = embeddings.float().abs().amax(dim=1).clamp(min=1e-12) / 127
            return cls((embeddings / scales[:, None]).round().to(torch.int8), scales)
        return cls(embeddings.to(getattr(torch, dtype)).contiguous())

    def scores(self, queries: Tensor) -> Tensor:
        """Return the inner products of float32 queries (B, D) with all rows, float32 (B, N)."""
        if self.values.dtype == torch.float32:
            return queries @ self.values.T
        scores = queries.new_empty(len(queries), len(self.values))
        step = ROWS_AT_A_TIME["cpu" if queries.device.type == "cpu" else "other"]
        widened = queries.new_empty(min(step, len(self.values)), queries.shape[1])
        for first in range(0, len(self.values), step):
            values = self.values[first : first + step]
            rows = widened[: len(values)].copy_(values)
            torch.mm(queries, rows.T, out=scores[:, first : first + step])
        return scores if self.scales is None else scores.mul_(self.scales)

    def rows(self, numbers: Sequence[int]) -> Tensor:
        """Return some embeddings, float32 (n, D) on the CPU."""
        values = self.values[list(numbers)].cpu().float()
        return values if self.scales is None else values * self.scales[list(numbers), None].cpu()

    def to(self, device: torch.device | str) -> _Stored:
        return _Stored(self.values.to(device), None if self.scales is None else self.scales.to(device))


class EmbeddingIndex:
    """One embedding for each premise of a corpus.

    Attributes:
        corpus: what the premise numbers refer to
        model: name of the retriever that made the embeddings
        dtype: how they are stored; tests/benchmarks/premise_retrieval.py measures what the narrow ones cost
    """

    def __init__(self, corpus: Corpus, embeddings: Tensor, *, model: str = "", dtype: StorageDtype = "float32") -> None:
        """Take the embeddings of all premises.

        Args:
            corpus: N premises
            embeddings: in the order of their numbers, float (N, D), usually unit vectors
            model: name of the retriever that made them
            dtype: how to store them: "float32" (4 bytes a number), "bfloat16" (2) or "int8" (1, with one
                scale for each premise)

        Raises:
            ConfigError: if dtype is none of these
            DataError: if there are not N embeddings
        """
        if dtype not in get_args(StorageDtype):
            raise ConfigError(f"dtype is {dtype!r}; it must be one of {', '.join(get_args(StorageDtype))}")
        embeddings = torch.as_tensor(embeddings)
        if embeddings.ndim != 2 or len(embeddings) != len(corpus):
            raise DataError(
                f"embeddings of shape {tuple(embeddings.shape)} for {len(corpus)} premises; there must be "
                "one row for each"
            )
        self.corpus, self.model, self.dtype = corpus, model, dtype
        self._stored = _Stored.of(embeddings, dtype)

    def __len__(self) -> int:
        return len(self._stored.values)

    @property
    def dimension(self) -> int:
        """D, numbers of one embedding."""
        return self._stored.values.shape[1]

    @property
    def device(self) -> torch.device:
        """Where the embeddings are and the search runs."""
        return self._stored.values.device

    def vectors(self, numbers: Sequence[int]) -> Tensor:
        """Return the embeddings of some premises as they are stored, float32 (n, D) on the CPU."""
        return self._stored.rows(numbers)

    def to(self, device: torch.device | str) -> EmbeddingIndex:
        """Return the same index on a device."""
        moved = copy.copy(self)
        moved._stored = self._stored.to(device)
        return moved

    def stored_as(self, dtype: StorageDtype) -> EmbeddingIndex:
        """Return a float32 index in another storage."""
        return EmbeddingIndex(self.corpus, self._stored.values, model=self.model, dtype=dtype)

    @torch.no_grad()
    def search(self, queries: Tensor, accessible: Tensor | npt.NDArray[np.bool_], k: int) -> tuple[Tensor, Tensor]:
        """Return the k best accessible premises of each query, best first, of equal ones the first.

        Args:
            queries: float (B, D)
            accessible: True where query b may cite premise n, bool (B, N), see `Corpus.accessible_masks`
            k: premises for each query

        Returns:
            Inner products, float32 (B, k), and premise numbers, int64 (B, k), on the index's device. Where
            fewer than k are accessible the tail holds -inf and -1.

        Raises:
            ConfigError: if k is not positive
            ValueError: if the shapes do not fit

        Source: exact inner-product search of LeanDojo (arXiv:2306.15626, section 5).
        """
        check_positive(k=k)
        queries = torch.as_tensor(queries).to(self.device, torch.float32)
        accessible = torch.as_tensor(accessible).to(self.device)
        expected = (len(queries), self.dimension), (len(queries), len(self))
        if (tuple(queries.shape), tuple(accessible.shape)) != expected:
            raise ValueError(
                f"queries {tuple(queries.shape)} and accessible {tuple(accessible.shape)} do not fit an index "
                f"of {len(self)} premises with {self.dimension} numbers each"
            )
        # masking in place takes 3% of the time of product and top-k
        return top_k(self._stored.scores(queries).masked_fill_(~accessible, -torch.inf), k)

    def save(self, folder: str | Path) -> None:
        """Write `embeddings.safetensors` and `index.json`; an earlier index stays until the new one is written.

        Raises:
            DataError: if the system refuses to write
        """
        folder = Path(folder)
        tensors = {"embeddings": self._stored.values.cpu()}
        if self._stored.scales is not None:
            tensors["scales"] = self._stored.scales.cpu()
        description = {
            "format_version": FORMAT_VERSION,
            "corpus_hash": self.corpus.content_hash,
            "model": self.model,
            "dtype": self.dtype,
            "num_premises": len(self),
            "dimension": self.dimension,
        }
        with writing_file(folder / "embeddings.safetensors", f"the index to {folder}") as part:
            save_file(tensors, part)
            (folder / "index.json").unlink(missing_ok=True)  # that of the old embeddings
        write_json(folder / "index.json", description)

    @classmethod
    def load(cls, folder: str | Path, corpus: Corpus) -> EmbeddingIndex:
        """Open what `save` wrote; the embeddings are memory-mapped and read when they are used.

        Raises:
            DataError: if there is no index, it is broken, or made for another corpus
        """
        folder = Path(folder)
        description = _read_description(folder / "index.json")
        if description["corpus_hash"] != corpus.content_hash:
            raise DataError(
                f"{folder}: the index was made for the corpus with hash {description['corpus_hash']}, but "
                f"{corpus.path} has {corpus.content_hash}; make it again, or give the corpus it was made for"
            )
        path = folder / "embeddings.safetensors"
        try:
            tensors = load_file(path)
            stored = _Stored(tensors["embeddings"], tensors.get("scales"))
            if tuple(stored.values.shape) != (len(corpus), description["dimension"]):
                raise ValueError(f"shape {tuple(stored.values.shape)}")
            if stored.values.dtype != getattr(torch, description["dtype"]):
                raise ValueError(f"type {stored.values.dtype}, not {description['dtype']}")
            shape = None if stored.scales is None else tuple(stored.scales.shape)
            if shape != ((len(corpus),) if description["dtype"] == "int8" else None):
                raise ValueError(f"scales of shape {shape}")
        except (KeyError, OSError, SafetensorError, ValueError) as error:
            raise DataError(f"{path} is missing, truncated or broken ({error}); make the index again") from error
        index = cls.__new__(cls)
        index.corpus, index.model, index.dtype = corpus, description["model"], description["dtype"]
        index._stored = stored
        return index


def embed(
    texts: Sequence[str],
    encode: Callable[[list[str]], Tensor],
    *,
    max_len: int = 1024,
    max_bytes_per_batch: int = 65_536,
    progress: bool = True,
) -> Tensor:
    """Embed texts in batches of similar length, the longest first.

    Args:
        texts: such as `[premise.serialize() for premise in corpus]`
        encode: gives the embeddings, float (n, D), of n texts
        max_len: bytes of a text that encode reads
        max_bytes_per_batch: bytes that the texts of a batch take, each counted as long as the longest
        progress: show a progress bar with the time that is left

    Returns:
        float32 (len(texts), D) on the CPU, in the order of the texts; (0, 0) of no texts.
    """
    check_positive(max_len=max_len, max_bytes_per_batch=max_bytes_per_batch)
    lengths = np.array([min(len(text.encode()), max_len) + 1 for text in texts], dtype=np.int64)
    order = np.argsort(-lengths, kind="stable")
    embeddings = torch.zeros(0, 0)
    # counted in bytes: those that are left, and not the texts, say how much time is left
    with tqdm(total=int(lengths.sum()), desc="embed", unit="B", unit_scale=True, disable=not progress) as bar:
        first = 0
        while first < len(order):
            last = first + max(1, max_bytes_per_batch // int(lengths[order[first]]))
            numbers = order[first:last]
            rows = encode([texts[number] for number in numbers.tolist()]).detach().float().cpu()
            if not first:
                embeddings = torch.empty(len(texts), rows.shape[1])
            embeddings[torch.from_numpy(numbers)] = rows
            bar.update(int(lengths[numbers].sum()))
            first = last
    return embeddings


def top_k(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k largest of each row, largest first, and their places; of equal ones the first.

    `torch.topk` leaves it open which of equal scores it takes, and statements that occur twice are common.

    >>> top_k(torch.tensor([[0.1, 0.7, 0.7, -torch.inf]]), k=4)[1].tolist()
    [[1, 2, 0, -1]]

    Args:
        scores: float (B, N), -inf where there is nothing to find
        k: greater than 0

    Returns:
        Scores (B, k) and places, int64 (B, k); -inf and -1 where a row has fewer than k.
    """
    width = min(k, scores.shape[1])
    values, numbers = scores.topk(min(k + 1, scores.shape[1]), dim=1)  # one more shows a tie at the end
    if scores.shape[1] > k:
        is_tie = (values[:, k - 1] == values[:, k]) & (values[:, k] > -torch.inf)
        for row in is_tie.nonzero().flatten().tolist():
            candidates = (scores[row] >= values[row, k]).nonzero().flatten()
            best = scores[row, candidates].sort(descending=True, stable=True).indices[:k]
            numbers[row, :k] = candidates[best]
    numbers = numbers[:, :width].sort(dim=1).values
    values, order = scores.gather(1, numbers).sort(dim=1, descending=True, stable=True)
    numbers = numbers.gather(1, order).masked_fill_(values == -torch.inf, -1)
    return pad(values, (0, k - width), value=-torch.inf), pad(numbers, (0, k - width), value=-1)


def _read_description(path: Path) -> dict[str, Any]:
    try:
        description: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        missing = {"format_version", "corpus_hash", "model", "dtype", "dimension"} - description.keys()
        if missing:
            raise ValueError(f"there is no {', '.join(sorted(missing))}")
        if description["dtype"] not in get_args(StorageDtype) or not isinstance(description["model"], str):
            raise ValueError("dtype or model is none")
    except FileNotFoundError as error:
        raise DataError(f"{path.parent} holds no index; make one with python -m retrieval.index") from error
    except (AttributeError, OSError, RecursionError, TypeError, ValueError) as error:
        raise DataError(f"{path}: not the description of an index ({error}); make it again") from error
    if description["format_version"] != FORMAT_VERSION:
        raise DataError(
            f"{path}: format version {description['format_version']}, but this program reads version "
            f"{FORMAT_VERSION}; make the index again"
        )
    return description
