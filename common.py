"""The vocabulary that retrieval and generation share.

Positions, premises and contexts of traced proofs; the text that a model reads and writes; the byte tokenizer. Nothing
here knows of a model, and importing it touches neither torch's settings nor any random state.

Shape legend: B batch, L padded length.
"""

from __future__ import annotations

import json
import math
import random
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt
import torch
import yaml
from transformers import AutoTokenizer, BatchEncoding, ByT5Tokenizer

MARK_START = "<a>"
MARK_END = "</a>"
NO_GOALS = "no goals"
IGNORE_INDEX = -100  # what torch's cross entropy leaves out
MAX_LENGTH = 2**20  # tokens that a limit on texts may allow; position biases and caches are made for all of them
_GOES_ON = re.compile(r"[\w'!?«»]|\.[\w«]")  # how a longer name goes on: a letter, a digit, a sign, its next part

_T = TypeVar("_T")

# ------------------------------------------------------------------------------------------------
# Errors: what a user can cause. Each message says where, what was found, what is accepted, what next.


class NextstepError(Exception):
    """Base of every error that a user's input can cause; its message stands without a traceback."""


class DataError(NextstepError, ValueError):
    """A data file is missing, broken, or not made for the files it is used with."""


class ConfigError(NextstepError, ValueError):
    """An option has a value that cannot be used."""


def check_positive(at_most: float = math.inf, **options: float | None) -> None:
    """Raise ConfigError for the first option that is zero, negative or above a limit; None means not set."""
    for name, value in options.items():
        if value is not None and not 0 < value <= at_most:
            limit = "" if at_most == math.inf else f" and at most {at_most:,}"
            raise ConfigError(f"{name} is {value}; it must be greater than 0{limit}")


def check_probability(**options: float) -> None:
    """Raise ConfigError for the first option outside 0 to 1."""
    for name, value in options.items():
        if not 0 <= value <= 1:
            raise ConfigError(f"{name} is {value}; it must be a probability from 0 to 1")


def check_choice(name: str, value: object, accepted: Sequence[object]) -> None:
    """Raise ConfigError unless an option has one of the accepted values."""
    if value not in accepted:
        raise ConfigError(f"{name} is {value!r}; choose one of {', '.join(map(str, accepted))}")


# ------------------------------------------------------------------------------------------------
# Positions, premises, contexts, candidates

FilePath = str | Path
Candidate = tuple[str, float]  # a tactic, and the sum of its tokens' log-probabilities, EOS included


@dataclass(frozen=True, order=True, slots=True)
class Pos:
    """A place in a source file; lines and columns both count from 1, as in LeanDojo's files."""

    line_nb: int
    column_nb: int

    _TEXT: ClassVar[re.Pattern[str]] = re.compile(r"\s*(?:Pos)?\(\s*(-?\d{1,10})\s*,\s*(-?\d{1,10})\s*\)\s*")

    def __post_init__(self) -> None:
        for name in ("line_nb", "column_nb"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**31:
                raise DataError(f"{name} of a position is {value!r}; it is an integer from 1, and not beyond any file")

    @classmethod
    def of(cls, value: object) -> Pos:
        """Read a Pos, a pair, a string "Pos(line, column)", or an object with line_nb and column_nb.

        >>> Pos.of("Pos(3, 7)") == Pos.of([3, 7]) == Pos(3, 7)
        True

        Raises:
            DataError: if value is none of these, or not a position
        """
        if isinstance(value, Pos):
            return value
        if isinstance(value, str) and (match := cls._TEXT.fullmatch(value)):
            return cls(int(match[1]), int(match[2]))
        if isinstance(value, Sequence) and not isinstance(value, str | bytes) and len(value) == 2:
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

        Source code often has only the last parts of a full name (`symm` inside `namespace And`): of the
        endings that stand in the code as whole words the longest is replaced, wherever it stands, as in ReProver.
        """
        parts, marked = split_name(self.full_name), f"{MARK_START}{self.full_name}{MARK_END}"
        endings = (parts[i:] for i in range(len(parts)) if all(part in self.code for part in parts[i:]))
        texts = (_with_mark(self.code, ending, marked) for ending in endings)
        return next((text for text in texts if text != self.code), self.code)


@dataclass(frozen=True, slots=True)
class Context:
    """A state to prove, and the theorem in whose proof it comes up, which decides what premises it may cite."""

    path: str
    theorem_full_name: str
    theorem_pos: Pos | None  # None where nobody says
    state: str = field(repr=False)


def split_name(full_name: str) -> list[str]:
    """Split a Lean name at its dots, except inside «», and drop the quotes."""
    return [part.strip("«»") for part in re.findall(r"«[^»]*»|[^.]+", full_name)]


def _with_mark(code: str, parts: Sequence[str], marked: str) -> str:
    """Return code with the name replaced wherever it stands whole after a space, with or without `_root_.` or «»."""
    if "«" in code or not all(parts):
        name = r"\.".join(f"(?:«{re.escape(part)}»|{re.escape(part)})" for part in parts)
        return re.sub(rf"(?<!\S)(?:_root_\.)?{name}(?!{_GOES_ON.pattern})", lambda _: marked, code)
    # by hand: compiling a pattern for each name takes 12 times as long (tests/benchmarks/premise_text.py, Intel Xeon)
    name, text, end, start = ".".join(parts), "", 0, -1
    while (start := code.find(name, max(end, start + 1))) >= 0:
        first, stop = start - len("_root_.") * code.endswith("_root_.", 0, start), start + len(name)
        if first >= end and not code[max(0, first - 1) : first].strip() and not _GOES_ON.match(code, stop):
            text, end = text + code[end:first] + marked, stop
    return text + code[end:]


# ------------------------------------------------------------------------------------------------
# Text: what the model reads and writes


def remove_marks(text: str) -> str:
    """Remove the marks around premise names."""
    return text.replace(MARK_START, "").replace(MARK_END, "")


def format_state(state: str) -> str:
    """Return a state without the line "2 goals" that older data has in front of it."""
    match = re.match(r"\d+ goals?\s", state)
    return state[match.end() :].strip() if match else state


def fit_state(state: str, max_bytes: int) -> str:
    """Cut a state to `max_bytes` of UTF-8 so that the end of its first goal, which a tactic acts on, stays.

    The goals behind the first one are left out first, each as a whole, then the beginning of the first goal, which
    holds its oldest hypotheses. No character is split.

    >>> fit_state("h : p\\nhq : q\\n⊢ q\\n\\n⊢ p", max_bytes=12)
    'hq : q\\n⊢ q'
    """
    if len(state) <= max_bytes // 4:  # no character takes more than four bytes
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
    """Leave out each premise with probability p_drop, drawing from rng."""
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

    >>> premise = Premise("Logic.lean", "And.symm", Pos(1, 1), Pos(1, 29), "theorem symm : a ∧ b → b ∧ a")
    >>> format_augmented_state("⊢ q ∧ p", [premise], max_len=64)
    'theorem <a>And.symm</a> : a ∧ b → b ∧ a\\n\\n⊢ q ∧ p'

    Args:
        state: the state to prove
        premises: retrieved premises, best first
        max_len: tokens (bytes and the EOS that the tokenizer adds) that the input may take
        p_drop: probability of leaving out each premise, in training
        rng: decides which are left out; needed when p_drop > 0

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

# by name, or by the ending of a file: what makes them, imported when they are asked for
TOKENIZERS = dict.fromkeys(("symbolic", "symbolic-lc"), "generator.domains.symbolic.tokenizer:SymbolicTokenizer")
TOKENIZERS[".gguf"] = "retrieval.training.gguf_files:read_tokenizer"
_BYTE_OFFSET = 3  # ByT5's ids: pad, eos, unk, then the bytes, then the sentinels
_FIRST_SENTINEL = _BYTE_OFFSET + 256


class ByteTokenizer:
    """ByT5's tokenizer: the ids of `transformers.ByT5Tokenizer`, over 50 times as fast since it works on whole arrays.

    A byte b of UTF-8 has the id b + 3, behind pad 0, eos 1 and unk 2; `<extra_id_i>` follow the bytes. It has the part
    of a Hugging Face tokenizer's interface that is needed to train and decode (tests/benchmarks/tokenizer.py measures).

    >>> ByteTokenizer().encode("⊢ p")
    [229, 141, 165, 35, 115, 1]
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
        self._any_special = re.compile(r"<(?:/s|pad|unk|extra_id_\d+)>")  # finds out faster whether there is one

    def __len__(self) -> int:
        return _FIRST_SENTINEL + self.extra_ids

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
        rows = [self._row(each, limit, add_special_tokens) for each in texts]
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
        lists = {name: [row[:end].tolist() for row, end in zip(ids, ends, strict=True)] for name, ids in arrays.items()}
        return BatchEncoding({name: rows[0] for name, rows in lists.items()} if isinstance(text, str) else lists)

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Return the ids of one text."""
        ids: list[int] = self(text, add_special_tokens=add_special_tokens)["input_ids"]
        return ids

    def _row(self, text: str, limit: int | None, eos: bool) -> npt.NDArray[Any]:
        """Return the bytes (uint8) of a plain text, or the ids (int64) of one with special tokens, without EOS."""
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
        names = {number: name.encode() for name, number in self._special_ids.items()}
        plain = {number: bytes([number - _BYTE_OFFSET]) for number in ids[is_byte].tolist()}
        pieces = [plain.get(token_id) or names.get(token_id, b"") for token_id in ids.tolist()]
        return b"".join(pieces).decode(errors="ignore")

    def save_pretrained(self, save_directory: str | Path) -> None:
        """Write the files from which `AutoTokenizer.from_pretrained` makes a ByT5Tokenizer."""
        ByT5Tokenizer(extra_ids=self.extra_ids).save_pretrained(str(save_directory))


def _fill(target: npt.NDArray[np.int64], row: npt.NDArray[Any], length: int) -> None:
    """Write a row of bytes (uint8) or ids (int64) into target, and EOS behind it up to length."""
    target[: len(row)] = row
    if row.dtype == np.uint8:
        target[: len(row)] += _BYTE_OFFSET
    target[len(row) : length] = ByteTokenizer.eos_token_id


def load_tokenizer(model_name: str | Path | Mapping[str, Any]) -> Any:
    """Return the tokenizer that belongs to a model.

    Args:
        model_name: a Hugging Face hub id or folder, a .gguf file, or the architecture (a mapping or a YAML file) of a
            model trained from scratch, whose key `tokenizer` names another one, or one of TOKENIZERS (default: bytes,
            ByT5's with its 125 sentinels; "bytes+0" has none)

    Returns:
        A ByteTokenizer where it does the same as the model's own (ByT5 without tokens of its own), else what
        AutoTokenizer gives. Either decodes text as it is, without `clean_up_tokenization_spaces`.

    Raises:
        ConfigError: if there is no such tokenizer
    """
    architecture = read_architecture(model_name)
    if architecture is not None:
        other = "bytes" if architecture.get("tokenizer") is None else architecture["tokenizer"]
        bytes_with = re.fullmatch(r"bytes(?:\+(\d+))?", str(other))
        return ByteTokenizer(int(bytes_with[1] or 125)) if bytes_with else load_tokenizer(other)
    name = str(model_name)
    if make := TOKENIZERS.get(name) or TOKENIZERS.get(Path(name).suffix.lower()):
        return resolve_name(make)(name)
    if re.fullmatch(r"google/byt5-(small|base|large|xl|xxl)", name):  # known without asking the hub
        return ByteTokenizer()
    try:
        tokenizer = _read_tokenizer(name)
    except Exception as error:  # other programs' files can end in any
        raise ConfigError(
            f"no tokenizer for model_name {name!r}: {(str(error) or repr(error)).splitlines()[0]} Give a hub id "
            "(google/byt5-small), a folder of save_pretrained, or an architecture to train from scratch"
        ) from error
    fast = _same_as_bytes(tokenizer) if isinstance(tokenizer, ByT5Tokenizer) else None
    return tokenizer if fast is None else fast


def _read_tokenizer(name: str) -> Any:
    """Return what transformers makes of a folder or hub id, and let it decode text as it is."""
    config = Path(name) / "tokenizer_config.json"
    settings = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
    if settings.get("words") in TOKENIZERS:  # one that was saved
        return load_tokenizer(settings["words"])
    kind = ByT5Tokenizer if settings.get("tokenizer_class") == "ByT5TokenizerFast" else AutoTokenizer
    tokenizer = kind.from_pretrained(name, trust_remote_code=False)
    if tokenizer.clean_up_tokenization_spaces:
        tokenizer.clean_up_tokenization_spaces = False
        warnings.warn(
            f"the tokenizer of {name} says clean_up_tokenization_spaces: true, which would turn a tactic such as "
            "`mpr ?_` into `mpr?_`; tactics are decoded as they are",
            stacklevel=3,
        )
    return tokenizer


def _same_as_bytes(tokenizer: ByT5Tokenizer) -> ByteTokenizer | None:
    """Return the fast tokenizer that gives the same ids, and the same text of ids; None if there is none."""
    own = tokenizer.get_added_vocab()
    fast = ByteTokenizer(sum(re.fullmatch(r"<extra_id_\d+>", token) is not None for token in own))
    if len(tokenizer) != len(fast) or (tokenizer.bos_token_id, tokenizer.cls_token_id) != (None, None):
        return None
    rng = random.Random(0)
    texts = ["".join(rng.choices("⊢ →⟨h₁ é\n<a>/𝔸\t", k=40)) for _ in range(8)]
    texts += [each for token in own for each in (f"x {token} y", f"{token}z")]
    ids = [[*rng.choices(range(len(fast)), k=20)] for _ in range(8)]
    same = all(
        getattr(tokenizer, name) == getattr(fast, name) for name in ("pad_token_id", "eos_token_id", "unk_token_id")
    )
    same = same and tokenizer(texts)["input_ids"] == fast(texts)["input_ids"]
    return fast if same and tokenizer.batch_decode(ids, True) == fast.batch_decode(ids, True) else None


def read_architecture(model_name: str | Path | Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the architecture that model_name describes (a mapping or a .yaml file), or None."""
    if isinstance(model_name, Mapping):
        return dict(model_name)
    if str(model_name).endswith((".yaml", ".yml")):
        path = Path(model_name)
        if not path.is_file():
            raise ConfigError(f"model_name {str(model_name)!r}: there is no such file")
        try:
            architecture = load_yaml(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise ConfigError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from error
        if not isinstance(architecture, dict):
            raise ConfigError(f"{path}: an architecture is a mapping, such as d_model: 256")
        return architecture
    return None


def load_yaml(text: str) -> Any:
    """Read YAML as the command line does, `1e-06` as a number; YAMLError for what nests or repeats without measure."""
    size_of, opened, num_nodes = dict[str | None, int](), list[tuple[str | None, int]](), 0  # of closed anchors, nodes
    for event in yaml.parse(text, yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in size_of:
                raise yaml.YAMLError(f"*{event.anchor} stands for nothing above it, or for what it stands in")
            num_nodes += size_of[event.anchor]
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = opened.pop()
            size_of[anchor] = num_nodes - before
        elif isinstance(event, yaml.NodeEvent):
            if isinstance(event, yaml.CollectionStartEvent):
                opened.append((event.anchor, num_nodes))
            else:
                size_of[event.anchor] = 1
            num_nodes += 1
        if len(opened) > 50 or num_nodes > 100_000:
            raise yaml.YAMLError("it is nested over 50 deep, or has over 100,000 entries with what its aliases repeat")
    from jsonargparse import get_loader  # here, as decoding and training need no parser of options

    return get_loader("yaml")(text)
