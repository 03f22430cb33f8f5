"""The vocabulary that retrieval and generation share.

Positions, premises and contexts of traced proofs; the text that a model reads and writes; the byte
tokenizer; batches of similar length; the optimizer. Nothing here knows of a model, and importing it
touches neither torch's settings nor any random state.

Shape legend: B batch, L padded length.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, TypeVar, cast

import numpy as np
import numpy.typing as npt
import torch
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader, DistributedSampler
from transformers import AutoTokenizer, BatchEncoding, ByT5Tokenizer, get_constant_schedule_with_warmup

MARK_START = "<a>"
MARK_END = "</a>"
NO_GOALS = "no goals"
IGNORE_INDEX = -100  # what torch's cross entropy leaves out

_T = TypeVar("_T")

# ------------------------------------------------------------------------------------------------
# Errors: what a user can cause. Each message says where, what was found, what is accepted, what next.


class NextstepError(Exception):
    """Base of every error that a user's input can cause; its message stands without a traceback."""


class DataError(NextstepError, ValueError):
    """A data file is missing, broken, or not made for the files it is used with."""


class ConfigError(NextstepError, ValueError):
    """An option has a value that cannot be used."""


def check_positive(**options: float | None) -> None:
    """Raise ConfigError for the first option that is zero or negative; None means not set."""
    for name, value in options.items():
        if value is not None and not value > 0:
            raise ConfigError(f"{name} is {value}; it must be greater than 0")


def check_probability(**options: float) -> None:
    """Raise ConfigError for the first option outside 0 to 1."""
    for name, value in options.items():
        if not 0 <= value <= 1:
            raise ConfigError(f"{name} is {value}; it must be a probability from 0 to 1")


# ------------------------------------------------------------------------------------------------
# Positions, premises, contexts


@dataclass(frozen=True, order=True, slots=True)
class Pos:
    """A place in a source file; lines and columns both count from 1, as in LeanDojo's files."""

    line_nb: int
    column_nb: int

    _TEXT: ClassVar[re.Pattern[str]] = re.compile(r"\s*(?:Pos)?\(\s*(-?\d+)\s*,\s*(-?\d+)\s*\)\s*")

    def __post_init__(self) -> None:
        for name in ("line_nb", "column_nb"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise DataError(f"{name} of a position is {value!r}; lines and columns are integers from 1")

    @classmethod
    def of(cls, value: object) -> Pos:
        """Read a Pos, a pair, a string "Pos(line, column)", or an object with line_nb and column_nb.

        Raises:
            DataError: if value is none of these, or not a position
        """
        if isinstance(value, Pos):
            return value
        if isinstance(value, str) and (match := cls._TEXT.fullmatch(value)):
            return cls(int(match[1]), int(match[2]))
        if isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2:
            return cls(value[0], value[1])
        if hasattr(value, "line_nb") and hasattr(value, "column_nb"):
            return cls(value.line_nb, value.column_nb)
        raise DataError(f'{value!r} is not a position; write [line, column] or "Pos(line, column)"')

    def __iter__(self) -> Iterator[int]:
        yield self.line_nb
        yield self.column_nb

    def __str__(self) -> str:
        return f"{self.line_nb}:{self.column_nb}"


@dataclass(frozen=True, slots=True)
class Premise:
    """A declaration that a tactic may cite; `code` is its source from `start` to `end`."""

    path: str
    full_name: str
    start: Pos
    end: Pos
    code: str = field(repr=False)
    kind: str = ""

    def __post_init__(self) -> None:
        if self.end < self.start:
            raise DataError(f"{self.path}: premise {self.full_name} ends at {self.end}, before {self.start}")

    def serialize(self) -> str:
        """Return the code with the declared name written as `<a>full name</a>`.

        Source code usually gives only the end of a full name (`symm` inside `namespace And`): the longest
        ending that stands in the code as a whole word is replaced wherever it stands, as in ReProver.
        """
        marked = f"{MARK_START}{self.full_name}{MARK_END}"
        parts = split_name(self.full_name)
        for i in range(len(parts)):
            if all(part in self.code for part in parts[i:]):
                code, num_found = _name_pattern(parts[i:]).subn(lambda _: marked, self.code)
                if num_found:
                    return code
        return self.code


@dataclass(frozen=True, slots=True)
class Context:
    """Where a premise is asked for: the state to prove, and the theorem (file, position) it is met in."""

    path: str
    theorem_full_name: str
    theorem_pos: Pos
    state: str = field(repr=False)

    def serialize(self) -> str:
        """Return the text that a retriever reads."""
        return self.state


def split_name(full_name: str) -> list[str]:
    """Split a Lean name at its dots, except inside «», and drop the quotes."""
    return [part.strip("«»") for part in re.findall(r"«[^»]*»|[^.]+", full_name)]


def _name_pattern(parts: Sequence[str]) -> re.Pattern[str]:
    """Match the name as one whole word after a space, in quotes or not, `_root_.` in front or not."""
    name = r"\.".join(f"(?:«{re.escape(part)}»|{re.escape(part)})" for part in parts)
    # Lean goes on with letters, digits, _ ' ! ? and, after a dot, with the next part of a longer name
    return re.compile(rf"(?<!\S)(?:_root_\.)?{name}(?![\w'!?«»]|\.[\w«])")


# ------------------------------------------------------------------------------------------------
# Text: what the model reads and writes


def remove_marks(text: str) -> str:
    """Remove the marks around premise names."""
    return text.replace(MARK_START, "").replace(MARK_END, "")


def normalize_spaces(text: str) -> str:
    """Write each run of white space as one space and none at the ends."""
    return " ".join(text.split())


def format_state(state: str) -> str:
    """Strip the line "2 goals" that older releases write in front of a state."""
    match = re.match(r"\d+ goals?\s", state)
    return state[match.end() :].strip() if match else state


_MARKED = re.compile(rf"{MARK_START}(.+?){MARK_END}", re.DOTALL)


def format_tactic(annotated: str, full_names: Sequence[str], normalize: bool) -> str:
    """Write every marked name of an annotated tactic in full, keeping the marks.

    Args:
        annotated: the tactic with `<a>name</a>` around each premise
        full_names: the full name of each marked premise, in order; none at all leaves the tactic as it is
        normalize: write each run of white space as one space

    Raises:
        DataError: if the marks and the names differ in number
    """
    text = normalize_spaces(annotated) if normalize else annotated
    if not full_names:
        return text
    num_marks = len(_MARKED.findall(text))
    if num_marks != len(full_names):
        raise DataError(f"tactic {annotated!r} marks {num_marks} premises but {len(full_names)} are listed")
    names = iter(full_names)
    return _MARKED.sub(lambda _: f"{MARK_START}{next(names)}{MARK_END}", text)


def fit_state(state: str, max_bytes: int) -> str:
    """Cut a state to `max_bytes` of UTF-8 so that the end of the goal it asks for stays.

    Whole goals that wait behind the first one go first (a tactic acts on the first), then the beginning
    of the first goal, its oldest hypotheses. The cut never splits a character.
    """
    if len(state) <= max_bytes // 4:
        return state
    encoded = state.encode()
    if len(encoded) <= max_bytes:
        return state
    first, *others = encoded.split(b"\n\n")
    for goal in others:
        if len(first) + 2 + len(goal) > max_bytes:
            break
        first += b"\n\n" + goal
    return first[max(0, len(first) - max_bytes) :].decode(errors="ignore")


def drop_premises(premises: Sequence[_T], p_drop: float, rng: random.Random | None) -> Sequence[_T]:
    """Leave out each premise with probability p_drop, which draws from rng."""
    if p_drop == 0:
        return premises
    if rng is None:
        raise ValueError("p_drop > 0 needs an rng, so that the same example is drawn again")
    return [premise for premise in premises if rng.random() >= p_drop]


def format_augmented_state(
    state: str,
    premises: Sequence[Premise],
    max_len: int,
    p_drop: float = 0.0,
    rng: random.Random | None = None,
) -> str:
    """Write retrieved premises and the state as one model input.

    Premises stand before the state, the best one nearest to it, separated by blank lines. One that does
    not fit is left out whole and the next one is tried. The state is never cut for a premise, only where
    it is too long by itself (see `fit_state`).

    Args:
        state: the state to prove
        premises: retrieved premises, best first
        max_len: tokens (bytes and the EOS that the tokenizer adds) that the input may take
        p_drop: probability of leaving out each premise, in training
        rng: where the dropping draws from; needed when p_drop > 0

    Source: ReProver (arXiv:2306.15626, section 5); unlike its code, this leaves room for EOS.
    """
    text = fit_state(state, max_len - 1)
    parts = [text]
    room = max_len - 1 - len(text.encode())
    for premise in drop_premises(premises, p_drop, rng):
        serialized = premise.serialize()
        num_bytes = len(serialized.encode()) + 2
        if num_bytes <= room:
            parts.append(serialized)
            room -= num_bytes
    return "\n\n".join(reversed(parts))


# ------------------------------------------------------------------------------------------------
# Tokenizers

_BYTE_OFFSET = 3  # ByT5's ids: pad, eos, unk, then the bytes, then the sentinels
_FIRST_SENTINEL = _BYTE_OFFSET + 256


class ByteTokenizer:
    """ByT5's tokenizer on whole arrays: the ids of `transformers.ByT5Tokenizer`, over 50x its speed.

    A byte b of UTF-8 is id b + 3, behind pad 0, eos 1 and unk 2; `<extra_id_i>` follow the bytes. It has
    the part of a Hugging Face tokenizer's interface that is needed to train and decode.

    Measured by tests/benchmarks/tokenizer.py.
    """

    pad_token_id, eos_token_id, unk_token_id = 0, 1, 2
    pad_token, eos_token, unk_token = "<pad>", "</s>", "<unk>"

    def __init__(self, extra_ids: int = 125) -> None:
        if extra_ids < 0:
            raise ConfigError(f"extra_ids is {extra_ids}; it must be at least 0")
        self.extra_ids = extra_ids
        self._special_ids = {self.pad_token: 0, self.eos_token: 1, self.unk_token: 2}
        self._special_ids |= {f"<extra_id_{i}>": _FIRST_SENTINEL + i for i in range(extra_ids)}
        # ByT5Tokenizer strips white space around pad, eos and unk, not around the sentinels
        self._special = re.compile(r"\s*(</s>|<pad>|<unk>)\s*|(<extra_id_(?:0|[1-9]\d*)>)")
        self._any_special = re.compile(r"<(?:/s|pad|unk|extra_id_\d+)>")  # quick to look for: no white space in front

    def __len__(self) -> int:
        return _FIRST_SENTINEL + self.extra_ids

    @property
    def vocab_size(self) -> int:
        """Number of ids, special ones included."""
        return len(self)

    @property
    def all_special_ids(self) -> list[int]:
        """Ids that `skip_special_tokens` leaves out."""
        return list(self._special_ids.values())

    def __call__(
        self,
        text: str | Sequence[str],
        *,
        padding: bool | str = False,
        truncation: bool | str = False,
        max_length: int | None = None,
        add_special_tokens: bool = True,
        return_tensors: str | None = None,
    ) -> BatchEncoding:
        """Encode one text or a batch of texts, each ending with EOS.

        Args:
            text: a text, or several
            padding: True or "longest" pads on the right to the longest, "max_length" to max_length
            truncation: cut to max_length, EOS included
            max_length: tokens
            add_special_tokens: end each text with EOS
            return_tensors: "pt" for int64 tensors (B, L), "np" for arrays, None for lists

        Returns:
            `input_ids` and `attention_mask`.
        """
        texts = [text] if isinstance(text, str) else text
        limit = max_length if truncation and max_length is not None else None
        rows = [self._row(t, limit, add_special_tokens) for t in texts]
        lengths = np.array([len(row) + add_special_tokens for row in rows], dtype=np.int64)
        width = int(lengths.max(initial=0))
        if padding == "max_length" and max_length is not None:
            width = max(width, max_length)
        if not padding and return_tensors is not None and (lengths != width).any():
            raise ValueError("texts of different length need padding=True to become one tensor")
        ids = np.zeros((len(rows), width), dtype=np.int64)
        for target, row, length in zip(ids, rows, lengths.tolist(), strict=True):
            _fill(target, row, length)
        mask = (np.arange(width) < lengths[:, None]).astype(np.int64)
        arrays = {"input_ids": ids, "attention_mask": mask}
        if return_tensors == "pt":
            return BatchEncoding({name: torch.from_numpy(array) for name, array in arrays.items()})
        if return_tensors == "np":
            return BatchEncoding(arrays)
        ends = [width] * len(rows) if padding else lengths.tolist()
        lists = {name: [r[:n].tolist() for r, n in zip(a, ends, strict=True)] for name, a in arrays.items()}
        return BatchEncoding({n: v[0] for n, v in lists.items()} if isinstance(text, str) else lists)

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Return the ids of one text."""
        ids: list[int] = self(text, add_special_tokens=add_special_tokens)["input_ids"]
        return ids

    def _row(self, text: str, limit: int | None, eos: bool) -> npt.NDArray[Any]:
        """Bytes (uint8) of a plain text, or ids (int64) of one that holds special tokens; no EOS."""
        row: npt.NDArray[Any]
        if "<" in text and self._any_special.search(text):
            row = np.array(self._ids_with_specials(text), dtype=np.int64)
            if eos and len(row) and row[-1] == self.eos_token_id:
                row = row[:-1]  # a text that already ends with </s> gets no second one
        else:
            row = np.frombuffer(text.encode(), dtype=np.uint8)
        return row if limit is None else row[: max(0, limit - eos)]

    def _ids_with_specials(self, text: str) -> list[int]:
        ids: list[int] = []
        done = 0
        for match in self._special.finditer(text):
            token_id = self._special_ids.get(match[1] or match[2])
            if token_id is None:
                continue  # a sentinel beyond extra_ids is plain text
            ids.extend(b + _BYTE_OFFSET for b in text[done : match.start()].encode())
            ids.append(token_id)
            done = match.end()
        ids.extend(b + _BYTE_OFFSET for b in text[done:].encode())
        return ids

    def decode(self, token_ids: Sequence[int] | torch.Tensor, skip_special_tokens: bool = False) -> str:
        """Return the text of one row of ids; bytes that are no UTF-8 are left out, as in ByT5."""
        return self.batch_decode([token_ids], skip_special_tokens=skip_special_tokens)[0]

    def batch_decode(
        self,
        sequences: Sequence[Sequence[int] | torch.Tensor] | torch.Tensor,
        skip_special_tokens: bool = False,
    ) -> list[str]:
        """Return the text of each row of ids."""
        if isinstance(sequences, torch.Tensor):
            sequences = list(sequences.cpu().numpy())
        return [self._decode_row(np.asarray(row, dtype=np.int64), skip_special_tokens) for row in sequences]

    def _decode_row(self, ids: npt.NDArray[np.int64], skip_special_tokens: bool) -> str:
        is_byte = (ids >= _BYTE_OFFSET) & (ids < _FIRST_SENTINEL)
        if skip_special_tokens or is_byte.all():
            return (ids[is_byte] - _BYTE_OFFSET).astype(np.uint8).tobytes().decode(errors="ignore")
        names = {number: name for name, number in self._special_ids.items()}
        pieces = [
            bytes([i - _BYTE_OFFSET]) if b else names.get(i, "").encode()
            for i, b in zip(ids.tolist(), is_byte.tolist(), strict=True)
        ]
        return b"".join(pieces).decode(errors="ignore")

    def save_pretrained(self, save_directory: str | Path) -> None:
        """Write the files from which `AutoTokenizer.from_pretrained` makes a ByT5Tokenizer."""
        ByT5Tokenizer(extra_ids=self.extra_ids).save_pretrained(str(save_directory))


def _fill(target: npt.NDArray[np.int64], row: npt.NDArray[Any], length: int) -> None:
    """Write a row of bytes (uint8) or ids (int64) into target, and EOS up to length."""
    target[: len(row)] = row
    if row.dtype == np.uint8:
        target[: len(row)] += _BYTE_OFFSET
    target[len(row) : length] = ByteTokenizer.eos_token_id


def load_tokenizer(model_name: str | Path | Mapping[str, Any]) -> Any:
    """Return the tokenizer that belongs to a model.

    Args:
        model_name: a Hugging Face hub id or folder, or the architecture (a mapping or a YAML file) of a
            model trained from scratch, whose key `tokenizer` names another one (default: bytes)

    Returns:
        A ByteTokenizer for ByT5 models, else what AutoTokenizer gives.

    Raises:
        ConfigError: if there is no such tokenizer
    """
    architecture = read_architecture(model_name)
    if architecture is not None:
        inner = architecture.get("tokenizer", "bytes")
        return ByteTokenizer() if inner == "bytes" else load_tokenizer(inner)
    name = str(model_name)
    if re.fullmatch(r"google/byt5-(small|base|large|xl|xxl)", name):
        return ByteTokenizer()  # known without asking the hub
    config = Path(name) / "tokenizer_config.json"
    if config.is_file() and (extra_ids := _byt5_extra_ids(config)) is not None:
        return ByteTokenizer(extra_ids)
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"no tokenizer for model_name {name!r}: {str(error).strip().splitlines()[0]} Give a hub id "
            "(google/byt5-small), a folder of save_pretrained, or an architecture to train from scratch"
        ) from error
    if isinstance(tokenizer, ByT5Tokenizer):
        return ByteTokenizer(sum("extra_id" in token for token in tokenizer.all_special_tokens))
    return tokenizer


def _byt5_extra_ids(tokenizer_config: Path) -> int | None:
    """Number of sentinels in a saved ByT5 tokenizer without tokens of its own, else None."""
    config = json.loads(tokenizer_config.read_text(encoding="utf-8"))
    if config.get("tokenizer_class") not in ("ByT5Tokenizer", "ByT5TokenizerFast"):
        return None
    tokenizer = ByT5Tokenizer.from_pretrained(str(tokenizer_config.parent))
    added = [token for token in tokenizer.get_added_vocab() if token not in ("<pad>", "</s>", "<unk>")]
    extra = [token for token in added if re.fullmatch(r"<extra_id_\d+>", token)]
    return len(extra) if len(extra) == len(added) else None


def read_architecture(model_name: str | Path | Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the architecture that model_name describes (a mapping or a .yaml file), or None."""
    if isinstance(model_name, Mapping):
        return dict(model_name)
    if str(model_name).endswith((".yaml", ".yml")):
        import yaml

        path = Path(model_name)
        if not path.is_file():
            raise ConfigError(f"model_name {str(model_name)!r}: there is no such file")
        architecture = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(architecture, dict):
            raise ConfigError(f"{path}: an architecture is a mapping, such as d_model: 256")
        return architecture
    return None


# ------------------------------------------------------------------------------------------------
# Batches of similar length

ExampleKey = tuple[int, int]  # (epoch, index): with the seed, all that an example depends on


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
    ) -> None:
        """Fix the number of batches.

        Args:
            source_lengths: tokens of each input, EOS included
            target_lengths: tokens of each target; None where there is none
            batch_size: examples a batch may hold
            max_tokens: padded source and target tokens that a batch may hold; both limits may be given
            shuffle: draw batches anew each epoch; otherwise they stay the same, in one mixed order, so
                that the first ones are a fair sample of all
            batches_per_pool: how many batches are sorted together; fewer mix lengths more and pad more, and
                below 100 long targets are not kept apart
            seed: where the shuffling starts from
            num_replicas: ranks that share the work
            rank: this one

        Raises:
            ConfigError: if a limit is not positive, an example alone exceeds max_tokens, or there are fewer
                examples than ranks
        """
        check_positive(batch_size=batch_size, max_tokens_per_batch=max_tokens, batches_per_pool=batches_per_pool)
        if batch_size is None and max_tokens is None:
            raise ConfigError("give batch_size, max_tokens_per_batch, or both")
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
        self.num_replicas, self.rank = num_replicas, rank
        self.first_batch = 0  # where the next iteration starts; a resumed loader sets it
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
        bounds, start, source, target = [], 0, 0, 0
        lengths = zip(self.sources[order].tolist(), self.targets[order].tolist(), strict=True)
        for i, (new_source, new_target) in enumerate(lengths):
            source, target = max(source, new_source), max(target, new_target)
            if i - start >= max_rows or (i - start + 1) * (source + target) > max_tokens:
                bounds.append((start, i))
                start, source, target = i, new_source, new_target
        return [*bounds, (start, len(order))] if len(order) else []

    def _batches(self, epoch: int) -> list[npt.NDArray[np.int64]]:
        """All batches of an epoch, in an order in which every num_replicas neighbours cost about the same."""
        for attempt in range(10):
            order = self._order(epoch, attempt)
            bounds = self._cut(order)
            if len(bounds) <= self._num_batches:
                break
        bounds = _with_count(bounds, self._num_batches)
        groups = np.arange(len(self)) * self.num_replicas
        rng = np.random.default_rng([self.seed, epoch if self.shuffle else 0, 10])
        batches = [order[start:end] for start, end in bounds]
        return [batches[i + rank] for i in rng.permutation(groups) for rank in range(self.num_replicas)]

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration shows."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self._num_batches // self.num_replicas

    def __iter__(self) -> Iterator[list[ExampleKey]]:
        first, self.first_batch = self.first_batch, 0
        for rows in self._batches(self.epoch)[self.rank :: self.num_replicas][first:]:
            yield [(self.epoch, index) for index in rows.tolist()]

    @cached_property
    def padding_share(self) -> float:
        """Share of padding in all source and target tokens of the first epoch, over all ranks."""
        rows = self._batches(0)
        padded = sum(len(r) * int(self.sources[r].max() + self.targets[r].max()) for r in rows)
        return 1 - float(self.sources.sum() + self.targets.sum()) / padded if padded else 0.0


_LONG_TARGETS = (0.7, 0.9, 0.98)  # quantiles of target length at which a pool is parted


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


class ResumableDataLoader(DataLoader[Any]):
    """A DataLoader over a batch sampler that can go on in the middle of an epoch.

    Lightning saves and restores its `state_dict` with every checkpoint. What counts is what was handed
    out, not what workers fetched ahead, so neither their number nor prefetching changes what follows.
    """

    _num_given = 0  # batches of this epoch
    _resumed: tuple[int, int] | None = None  # (epoch, batches) of a checkpoint, until the next iteration

    def state_dict(self) -> dict[str, int]:
        """The epoch, and how many of its batches were handed out."""
        epoch, num_given = self._resumed or (self._batches.epoch, self._num_given)
        return {"epoch": epoch, "num_batches": num_given}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Let the next iteration, if it is of the same epoch, start behind what was handed out."""
        self._resumed = state["epoch"], state["num_batches"]

    @property
    def _batches(self) -> LengthGroupedBatchSampler:
        return cast(LengthGroupedBatchSampler, self.sampler)

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        epoch, num_given = self._resumed or (self._batches.epoch, 0)
        self._resumed = None
        goes_on = epoch == self._batches.epoch and num_given < len(self)
        self._num_given = self._batches.first_batch = num_given if goes_on else 0
        for batch in super().__iter__():
            self._num_given += 1
            yield batch


# ------------------------------------------------------------------------------------------------
# Optimizer


def constant_with_warmup(optimizer: torch.optim.Optimizer, warmup_steps: int) -> dict[str, Any]:
    """Lightning's description of a learning rate that rises for warmup_steps and then stays."""
    scheduler: LRScheduler = get_constant_schedule_with_warmup(optimizer, warmup_steps)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def adamw_with_warmup(parameters: Iterable[torch.nn.Parameter], lr: float, warmup_steps: int) -> dict[str, Any]:
    """AdamW and a constant learning rate after a linear warm-up, as ReProver trains.

    It is torch's fused one where all parameters are floating-point numbers on a CPU or a CUDA device.

    Args:
        parameters: what to train; frozen ones are left out
        lr: learning rate after the warm-up
        warmup_steps: optimizer steps from 0 to lr
    """
    trained = [p for p in parameters if p.requires_grad]
    fused = all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in trained)
    optimizer = torch.optim.AdamW(trained, lr=lr, fused=fused)
    # else Lightning refuses to clip gradients in mixed precision; like this, a GradScaler unscales before the clipping
    optimizer._step_supports_amp_scaling = False
    return constant_with_warmup(optimizer, warmup_steps)
