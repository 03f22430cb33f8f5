"""Texts by the n-grams that they share: an inverted index in memory-mapped arrays, searched exactly.

An n-gram is a run of n characters or words, and goes by a hash of 32 bits: of a million of them about a hundred pairs
have one hash. A search adds up the lists of the query's n-grams and computes nothing for other texts.

Shape legend: N texts, V distinct n-grams, P pairs of a text and an n-gram that it holds.

Measured by tests/benchmarks/nearest.py.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from common import ConfigError, DataError, check_choice
from retrieval.training.files import writing_file
from retrieval.training.options import check_types

FORMAT_VERSION = 1
MAX_N = 16
Unit = Literal["characters", "words"]
Weighting = Literal["tfidf", "bm25"]

_WORD = re.compile(r"\w+|[^\s\w]+")
_MULTIPLIER, _MIXER = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD6E8FEB86659FD93)
_K1, _B = 1.5, 0.75  # of BM25, as in retrieval.bm25
_MAX_WEIGHT = 100  # of an n-gram in a text; TF-IDF's are at most 1, BM25's ln(1 + 2N)

_Floats = npt.NDArray[np.float32]
_Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class NgramOptions:
    """What of two texts is compared, and how it is weighed.

    Attributes:
        unit: what n-grams are runs of: "characters", or "words", which are names, numbers and runs of symbols
        min_n: units of the shortest n-grams
        max_n: units of the longest
        weighting: "tfidf": the cosine of (1 + ln count) ln((1 + N) / (1 + texts that hold it)); "bm25": BM25 as in
            Lucene, as a share of what the text would score against itself
        max_share: n-grams that a larger share of the texts holds count nothing: they take most of the time of a
            search, and tell least
    """

    unit: Unit = "characters"
    min_n: int = 2
    max_n: int = 5
    weighting: Weighting = "tfidf"
    max_share: float = 0.1

    def __post_init__(self) -> None:
        check_choice("unit", self.unit, get_args(Unit))
        check_choice("weighting", self.weighting, get_args(Weighting))
        if not 1 <= self.min_n <= self.max_n <= MAX_N:
            raise ConfigError(f"min_n is {self.min_n} and max_n is {self.max_n}; give 1 <= min_n <= max_n <= {MAX_N}")
        if not 0 < self.max_share <= 1:
            raise ConfigError(f"max_share is {self.max_share}; it must be above 0 and at most 1")


def ngrams(text: str, options: NgramOptions) -> tuple[_Ints, _Floats]:
    """Return the hashes of a text's n-grams, ascending, each once, and how often each occurs.

    The hash of a run is one of its first units multiplied and the last added, so that all runs of a length come from
    those that are one shorter.
    """
    units, parts = _units(text, options.unit), []
    hashes = np.zeros(len(units), dtype=np.uint64)
    for n in range(1, min(options.max_n, len(units)) + 1):
        hashes = hashes[: len(units) - n + 1] * _MULTIPLIER + units[n - 1 :]
        if n >= options.min_n:
            parts.append(hashes + np.uint64(n))
    if not parts:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32)
    mixed = np.concatenate(parts)
    mixed = (mixed ^ (mixed >> np.uint64(32))) * _MIXER
    keys, counts = np.unique((mixed >> np.uint64(32)).astype(np.int64), return_counts=True)
    return keys, counts.astype(np.float32)


def _units(text: str, unit: Unit) -> npt.NDArray[np.uint64]:
    """A number from 1 for each character or word."""
    if unit == "characters":
        return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64) + np.uint64(
            1
        )
    return np.array([_word_number(word) for word in _WORD.findall(text)], dtype=np.uint64)


@lru_cache(maxsize=100_000)
def _word_number(word: str) -> int:
    return zlib.crc32(word.encode("utf-8", "surrogatepass")) + 1


class NgramIndex:
    """N texts, and for each n-gram the texts that hold it, with the weight that it has in each.

    Attributes:
        options: what is compared, and how it is weighed
    """

    def __init__(self, options: NgramOptions, arrays: dict[str, torch.Tensor], num_texts: int) -> None:
        """Take over what was made or read; users call `of` or `load`."""
        self.options, self._num_texts, self._tensors = options, num_texts, arrays
        found = {name: tensor.numpy() for name, tensor in arrays.items()}
        self._keys, self._num_with, self._ends = found["keys"], found["num_with"], found["ends"]
        self._texts, self._weights, self._mean_length = found["texts"], found["weights"], found["mean_length"]

    def __len__(self) -> int:
        return self._num_texts

    @property
    def num_pairs(self) -> int:
        """P."""
        return len(self._texts)

    @classmethod
    def of(cls, texts: Sequence[str], options: NgramOptions = NgramOptions(), *, progress: bool = False) -> NgramIndex:
        """Index texts: 58,000 states of Coq in 20 s (one thread of an Intel Xeon).

        Args:
            texts: N of them
            options: what is compared, and how it is weighed
            progress: show a progress bar
        """
        rows = []
        for text in tqdm(texts, desc="n-grams", unit="text", disable=not progress):
            found, counts = ngrams(text, options)
            rows.append((found.astype(np.uint32), counts.clip(max=2**16 - 1).astype(np.uint16)))  # half the memory
        keys = _distinct([row for row, _ in rows])
        num_with = np.zeros(len(keys), dtype=np.int64)
        for row, _ in rows:
            num_with[np.searchsorted(keys, row)] += 1
        lengths = np.array([counts.sum() for _, counts in rows], dtype=np.float32)
        mean_length = np.array([max(1.0, lengths.mean() if len(rows) else 1.0)], dtype=np.float32)
        is_used = num_with <= max(1.0, options.max_share * len(rows))
        ends = np.cumsum(np.where(is_used, num_with, 0))
        following = ends - np.where(is_used, num_with, 0)  # where the next text of each n-gram is written
        numbers, weights = np.empty(int(ends[-1:].sum()), np.int32), np.empty(int(ends[-1:].sum()), np.float32)
        for number, ((row, counted), length) in enumerate(zip(rows, lengths, strict=True)):
            place = np.searchsorted(keys, row)
            used = is_used[place]
            place = place[used]
            rarity = _rarity(num_with[place], len(rows), options.weighting)
            weight = _weights(
                counted[used].astype(np.float32), rarity, float(length / mean_length[0]), options.weighting
            )
            numbers[following[place]], weights[following[place]] = number, weight
            following[place] += 1
        arrays = {
            "keys": keys.astype(np.int64),
            "num_with": num_with,
            "ends": ends.astype(np.int64),
            "texts": numbers,
            "weights": weights,
            "mean_length": mean_length,
        }
        return cls(options, {name: torch.from_numpy(array) for name, array in arrays.items()}, len(rows))

    def scores(self, text: str) -> _Floats:
        """Return how similar each text is, from 0 to 1 or little more, float32 (N,); 0 where no n-gram is shared."""
        scores = np.zeros(self._num_texts, dtype=np.float32)
        keys, counts = ngrams(text, self.options)
        if not len(keys) or not len(self._keys):
            return scores
        place = np.searchsorted(self._keys, keys)
        is_known = self._keys[np.minimum(place, len(self._keys) - 1)] == keys
        num_with = np.where(is_known, self._num_with[np.minimum(place, len(self._keys) - 1)], 0)
        rarity = _rarity(num_with, self._num_texts, self.options.weighting)
        rarity[num_with > max(1.0, self.options.max_share * self._num_texts)] = 0
        length = float(counts.sum() / self._mean_length[0])
        weight = _weights(counts, rarity, length, self.options.weighting)
        if self.options.weighting == "bm25":
            weight = (rarity > 0).astype(np.float32) / np.float32(max(weight.sum(), 1e-9))
        total = torch.from_numpy(scores)
        for number, factor in zip(place[is_known].tolist(), weight[is_known].tolist(), strict=True):
            end, first = int(self._ends[number]), int(self._ends[number - 1]) if number else 0
            if end > first and factor:
                # half the time of numpy's indexed +=, which makes two temporary arrays
                total.index_add_(
                    0, self._tensors["texts"][first:end], self._tensors["weights"][first:end], alpha=factor
                )
        return scores

    def save(self, path: Path, made_from: str) -> None:
        """Write one safetensors file; `made_from` is a hash of the texts.

        Raises:
            DataError: if the system refuses to write
        """
        about = {"format_version": FORMAT_VERSION, "num_texts": self._num_texts, "made_from": made_from}
        metadata = {"nextstep": json.dumps({**about, "options": asdict(self.options)})}
        with writing_file(path) as part:
            save_file(self._tensors, part, metadata)

    @classmethod
    def load(cls, path: Path, made_from: str) -> NgramIndex:
        """Open what `save` wrote; the arrays are memory-mapped, and read as far as they are used.

        Raises:
            DataError: if the file is missing, broken, of another version, or made from other texts
        """
        try:
            with safe_open(path, framework="pt") as file:
                about = json.loads((file.metadata() or {})["nextstep"])
            version, num_texts, found = (about[name] for name in ("format_version", "num_texts", "made_from"))
            if version != FORMAT_VERSION:
                raise ValueError(f"format version {version}; this program reads {FORMAT_VERSION}")
            if found != made_from:
                raise ValueError(f"made from texts with hash {found}, not {made_from}")
            check_types(NgramOptions, about["options"], str(path))
            arrays = load_file(path)
            options = NgramOptions(**about["options"])
            _check(arrays, num_texts)
        except (KeyError, OSError, RecursionError, SafetensorError, TypeError, ValueError) as error:
            what = f"there is no {error}" if isinstance(error, KeyError) else str(error)
            raise DataError(f"{path}: is no index of n-grams ({what}); make it again") from error
        return cls(options, arrays, num_texts)


def largest(scores: _Floats, number: int) -> _Ints:
    """Return the places of the largest scores above 0, falling; of equal ones the first.

    >>> largest(np.array([0.5, 0.0, 0.9, 0.5], dtype=np.float32), 2).tolist()
    [2, 0]
    """
    number = min(number, len(scores))
    if not number:
        return np.zeros(0, dtype=np.int64)
    least = np.partition(scores, len(scores) - number)[len(scores) - number]
    places = np.flatnonzero((scores >= least) & (scores > 0))
    return places[np.argsort(-scores[places], kind="stable")[:number]]


def shares(similarities: npt.NDArray[Any], temperature: float, decay: float) -> npt.NDArray[np.float64]:
    """Return the weights exp(s / T) / rank ** decay of what was found, 1 together, float64 (..., K).

    Args:
        similarities: s, greatest first, float (..., K)
        temperature: T
        decay: how much less each counts for every one before it
    """
    found = similarities.astype(np.float64)
    ranks = np.arange(1, found.shape[-1] + 1)
    weights = np.exp((found - found[..., :1]) / temperature - decay * np.log(ranks))
    total: npt.NDArray[np.float64] = weights / weights.sum(axis=-1, keepdims=True)
    return total


def _distinct(rows: list[npt.NDArray[np.uint32]], at_a_time: int = 4096) -> npt.NDArray[np.uint32]:
    """All that occurs in the rows, ascending, each once."""
    found = np.zeros(0, dtype=np.uint32)
    for first in range(0, len(rows), at_a_time):
        found = np.union1d(found, np.concatenate(rows[first : first + at_a_time]))
    return found


def _rarity(num_with: npt.NDArray[Any], num_texts: int, weighting: Weighting) -> _Floats:
    """The weight of n-grams by how many texts hold them."""
    if weighting == "bm25":
        return np.log1p((num_texts - num_with + 0.5) / (num_with + 0.5)).astype(np.float32)
    return np.log((1 + num_texts) / (1 + num_with)).astype(np.float32)


def _weights(counts: _Floats, rarity: _Floats, relative_length: float, weighting: Weighting) -> _Floats:
    """The weights of a text's n-grams, float32; for TF-IDF of length 1 together."""
    if weighting == "bm25":
        found: _Floats = rarity * counts / (counts + np.float32(_K1 * (1 - _B + _B * relative_length)))
        return found
    found = (1 + np.log(counts)) * rarity
    return found / max(float(np.linalg.norm(found)), 1e-9)


_KINDS = {
    "keys": torch.int64,
    "num_with": torch.int64,
    "ends": torch.int64,
    "texts": torch.int32,
    "weights": torch.float32,
    "mean_length": torch.float32,
}


def _check(arrays: dict[str, torch.Tensor], num_texts: Any) -> None:
    """Raise ValueError for arrays that a search would go wrong with."""
    if type(num_texts) is not int or num_texts < 0:
        raise ValueError(f"num_texts is {num_texts!r}")
    for name, kind in _KINDS.items():
        if arrays[name].dtype != kind or arrays[name].ndim != 1:
            raise ValueError(f"{name} is {arrays[name].dtype} of shape {tuple(arrays[name].shape)}")
    num_keys, ends, texts = len(arrays["keys"]), arrays["ends"], arrays["texts"]
    if not len(ends) == len(arrays["num_with"]) == num_keys or len(texts) != len(arrays["weights"]):
        raise ValueError("its arrays differ in length")
    if len(arrays["mean_length"]) != 1 or not arrays["mean_length"][0] >= 1:
        raise ValueError("mean_length is no length")
    is_sorted = bool((ends.diff() >= 0).all()) and bool((arrays["keys"].diff() > 0).all())
    if not is_sorted or (num_keys and (ends[0] < 0 or ends[-1] != len(texts))) or (not num_keys and len(texts)):
        raise ValueError("its lists do not fit together")
    if len(texts) and not 0 <= int(texts.min()) <= int(texts.max()) < num_texts:
        raise ValueError("it names texts that there are not")
    weights, num_with = arrays["weights"], arrays["num_with"]
    if len(texts) and not ((weights >= 0) & (weights <= _MAX_WEIGHT)).all():  # what is no number is not either
        raise ValueError(f"it has weights outside 0..{_MAX_WEIGHT}")
    if num_keys and not 1 <= int(num_with.min()) <= int(num_with.max()) <= num_texts:
        raise ValueError("it counts more texts than there are, or none")
