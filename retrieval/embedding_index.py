"""Embeddings of all premises, and the exact search for the best accessible ones.

Shape legend: B queries, N premises, D dimension, k premises asked for.
"""

from __future__ import annotations

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
# Narrow embeddings are widened so many rows at a time; on a CPU 6 MB at D = 1472, which stay in its cache
# (with 8192 rows the search takes 2.5 times the bare product and top-k, with 1024 1.4 to 2 times)
_ROWS_AT_A_TIME = {"cpu": 1024, "other": 65_536}


@dataclass(frozen=True, slots=True)
class _Block:
    """Embeddings of consecutive premises as they are stored.

    Attributes:
        values: (n, D), float32, bfloat16 or int8
        scales: what int8 values are multiplied by, float32 (n,), else None
    """

    values: Tensor
    scales: Tensor | None

    @classmethod
    def of(cls, embeddings: Tensor, dtype: StorageDtype) -> _Block:
        if dtype == "int8":
            scales = embeddings.float().abs().amax(dim=1).clamp(min=1e-12) / 127
            return cls((embeddings / scales[:, None]).round().to(torch.int8), scales)
        return cls(embeddings.to(getattr(torch, dtype)).contiguous(), None)

    def scores(self, queries: Tensor, out: Tensor) -> None:
        """Write the inner products of float32 queries (B, D) with all rows into out (B, n)."""
        if self.values.dtype == torch.float32:
            torch.mm(queries, self.values.T, out=out)
            return
        step = _ROWS_AT_A_TIME["cpu" if queries.device.type == "cpu" else "other"]
        widened = queries.new_empty(min(step, len(self.values)), queries.shape[1])
        for first in range(0, len(self.values), step):
            values = self.values[first : first + step]
            rows = widened[: len(values)].copy_(values)
            torch.mm(queries, rows.T, out=out[:, first : first + step])
        if self.scales is not None:
            out *= self.scales

    def to(self, device: torch.device | str) -> _Block:
        return _Block(self.values.to(device), None if self.scales is None else self.scales.to(device))


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
        self._take(corpus, model, dtype, [_Block.of(embeddings, dtype)])

    def _take(self, corpus: Corpus, model: str, dtype: StorageDtype, blocks: list[_Block]) -> None:
        self.corpus, self.model, self.dtype, self._blocks = corpus, model, dtype, blocks

    def __len__(self) -> int:
        return sum(len(block.values) for block in self._blocks)

    @property
    def dimension(self) -> int:
        """D, numbers of one embedding."""
        return self._blocks[0].values.shape[1]

    def vectors(self, numbers: Sequence[int]) -> Tensor:
        """Return the embeddings of some premises as they are stored, float32 (n, D) on the CPU."""
        values = torch.cat([block.values.cpu() for block in self._blocks])[list(numbers)].float()
        scales = [block.scales for block in self._blocks if block.scales is not None]
        return values * torch.cat(scales).cpu()[list(numbers), None] if scales else values

    @property
    def device(self) -> torch.device:
        """Where the embeddings are and the search runs."""
        return self._blocks[0].values.device

    def to(self, device: torch.device | str) -> EmbeddingIndex:
        """Return the same index on a device."""
        return self._with_blocks(self.corpus, [block.to(device) for block in self._blocks])

    def stored_as(self, dtype: StorageDtype) -> EmbeddingIndex:
        """Return a float32 index in another storage."""
        embeddings = torch.cat([block.values for block in self._blocks])
        return EmbeddingIndex(self.corpus, embeddings, model=self.model, dtype=dtype)

    def with_premises(self, corpus: Corpus, embeddings: Tensor) -> EmbeddingIndex:
        """Return an index with more premises; those it has already are shared and not copied.

        Args:
            corpus: from `Corpus.with_file` on this index's corpus
            embeddings: of the premises that it has more, float (n, D)

        Raises:
            DataError: if the shapes do not fit
        """
        num_new = len(corpus) - len(self)
        if num_new and tuple(embeddings.shape) != (num_new, self.dimension):
            raise DataError(
                f"embeddings of shape {tuple(embeddings.shape)} for {num_new} added premises; there must be "
                f"one row of {self.dimension} for each"
            )
        added = [_Block.of(embeddings.to(self.device), self.dtype)] if num_new else []
        return self._with_blocks(corpus, [*self._blocks, *added])

    def _with_blocks(self, corpus: Corpus, blocks: list[_Block]) -> EmbeddingIndex:
        index = object.__new__(EmbeddingIndex)
        index._take(corpus, self.model, self.dtype, blocks)
        return index

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
        scores = torch.empty(len(queries), len(self), device=self.device)
        first = 0
        for block in self._blocks:
            block.scores(queries, out=scores[:, first : first + len(block.values)])
            first += len(block.values)
        # in place and before top-k: 3% of the time of product and top-k
        return top_k(scores.masked_fill_(~accessible, -torch.inf), k)

    def save(self, folder: str | Path) -> None:
        """Write `embeddings.safetensors` and `index.json`; an earlier index stays until the new one is written.

        Raises:
            DataError: if the system refuses to write
        """
        folder = Path(folder)
        tensors = {"embeddings": torch.cat([block.values for block in self._blocks]).cpu()}
        scales = [block.scales for block in self._blocks if block.scales is not None]
        if scales:
            tensors["scales"] = torch.cat(scales).cpu()
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
            block = _Block(tensors["embeddings"], tensors.get("scales"))
            if tuple(block.values.shape) != (len(corpus), description["dimension"]):
                raise ValueError(f"shape {tuple(block.values.shape)}")
        except (KeyError, OSError, SafetensorError, ValueError) as error:
            raise DataError(f"{path} is missing, truncated or broken ({error}); make the index again") from error
        index = object.__new__(cls)
        index._take(corpus, description["model"], description["dtype"], [block])
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
    # by bytes and not by texts: what is left of them tells the time that is left
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

    Args:
        scores: float (B, N), -inf where there is nothing to find
        k: greater than 0

    Returns:
        Scores (B, k) and places, int64 (B, k); -inf and -1 where a row has fewer than k.
    """
    width = min(k, scores.shape[1])
    values, numbers = scores.topk(min(k + 1, scores.shape[1]), dim=1)  # one more tells of a tie at the end
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
    except FileNotFoundError as error:
        raise DataError(f"{path.parent} holds no index; make one with python -m retrieval.index") from error
    except (AttributeError, OSError, ValueError) as error:
        raise DataError(f"{path}: not the description of an index ({error}); make it again") from error
    if description["format_version"] != FORMAT_VERSION:
        raise DataError(
            f"{path}: format version {description['format_version']}, but this program reads version "
            f"{FORMAT_VERSION}; make the index again"
        )
    return description
