"""What inference engines share: what is asked of them, and how inputs become batches."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

from common import Candidate, ConfigError, check_choice, check_positive
from generator.decoding.sampling import check_sampling

Method = Literal["beam_search", "sample"]

MAX_TOKENS_PER_CALL = 65_536  # padded input of one decoding call; more inputs are taken in turns


@dataclass(frozen=True)
class Decoding:
    """How candidates are found.

    Attributes:
        method: the best candidates that beam search finds, or independent samples
        max_new_tokens: tokens of a candidate, EOS included; a longer one is cut there
        num_beams: of beam search; None means as many as candidates are asked for
        length_penalty: beam search ranks by log-probability / length ** this; 0 is the probability
        temperature: of sampling: divides the logits
        top_k: sample from the k likeliest tokens only; 0 is no limit
        top_p: sample from the likeliest tokens that together reach this probability; 1 is no limit
        seed: of sampling
        stop: a candidate ends with the first of these strings, which stays in its text: without one it was cut off.
            For decoder-only models
    """

    method: Method = "beam_search"
    max_new_tokens: int = 512
    num_beams: int | None = None
    length_penalty: float = 0.0
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_choice("method", self.method, get_args(Method))
        check_positive(max_new_tokens=self.max_new_tokens, num_beams=self.num_beams)
        check_sampling(self.temperature, self.top_k, self.top_p)
        stop: Any = self.stop
        if isinstance(stop, str) or not all(isinstance(string, str) and string for string in stop):
            raise ConfigError(f"stop is {stop!r}; it must be a list of strings, none of them empty")

    def beams_for(self, num_candidates: int) -> int:
        """Return the number of beams that find num_candidates.

        Raises:
            ConfigError: if num_beams is set and smaller
        """
        num_beams = self.num_beams or num_candidates
        if num_beams < num_candidates:
            raise ConfigError(
                f"num_beams is {num_beams} but {num_candidates} candidates are asked for: a beam search returns at "
                "most num_beams. Raise num_beams, leave it out, or ask for fewer"
            )
        return num_beams


class Engine(ABC):
    """Finds candidates for whole model inputs, already formatted and cut to the model's budget.

    Attributes:
        name: as `make_engine` takes it
        is_live: whether each call reads the weights as they are then; otherwise a converted copy answers
    """

    name: ClassVar[str]
    is_live: ClassVar[bool]

    @abstractmethod
    def propose(self, inputs: Sequence[str], num_candidates: int, decoding: Decoding) -> list[list[Candidate]]:
        """Return at most num_candidates candidates for each input, best first.

        Texts come without special tokens, with premise marks and duplicates still in. Log-probabilities are plain
        sums of the model's own token log-probabilities (temperature 1, nothing filtered), EOS included.

        Args:
            inputs: what the model reads
            num_candidates: for each
            decoding: how to find them

        Raises:
            ConfigError: if num_candidates is below 1, or the engine cannot decode so
        """


@dataclass(frozen=True)
class Input:
    """A model input and its token ids."""

    text: str
    ids: list[int]


class TokenEngine(Engine):
    """An engine that answers a few tokenised inputs of similar length at a time."""

    def __init__(self, tokenizer: Any, max_inp_seq_len: int) -> None:
        check_positive(max_inp_seq_len=max_inp_seq_len)
        self.tokenizer, self.max_inp_seq_len = tokenizer, max_inp_seq_len

    @property
    def is_decoder_only(self) -> bool:
        """Whether the model goes on with its input rather than reading it apart."""
        return False

    def propose(self, inputs: Sequence[str], num_candidates: int, decoding: Decoding) -> list[list[Candidate]]:
        """See `Engine.propose`."""
        check_positive(num_candidates=num_candidates)
        if not inputs:
            return []
        rows = encode(self.tokenizer, inputs, self.max_inp_seq_len, self.is_decoder_only)
        results: list[list[Candidate]] = [[] for _ in inputs]
        for group in self._groups([len(ids) for ids in rows], num_candidates, decoding):
            answers = self._answer([Input(inputs[i], rows[i]) for i in group], num_candidates, decoding)
            for i, answer in zip(group, answers, strict=True):
                results[i] = answer
        return results

    def _groups(self, lengths: Sequence[int], num_candidates: int, decoding: Decoding) -> list[list[int]]:
        """Which inputs are answered together; each sampled one alone, so that its neighbours change nothing."""
        if decoding.method == "sample":
            return [[i] for i in range(len(lengths))]
        return similar_lengths(lengths)

    @abstractmethod
    def _answer(self, inputs: list[Input], num_candidates: int, decoding: Decoding) -> list[list[Candidate]]:
        """Return the candidates of each input."""


def encode(tokenizer: Any, inputs: Sequence[str], max_tokens: int, is_decoder_only: bool) -> list[list[int]]:
    """Return the token ids of each input, at most max_tokens, at least one.

    What a decoder-only model goes on with has no EOS at its end, and if it is too long, loses its beginning.
    """
    if not is_decoder_only:
        rows: list[list[int]] = tokenizer(list(inputs), truncation=True, max_length=max_tokens)["input_ids"]
        return rows
    end = tokenizer.eos_token_id
    start = getattr(tokenizer, "bos_token_id", None)
    rows = tokenizer(list(inputs))["input_ids"]
    rows = [ids[:-1] if ids and ids[-1] == end else ids for ids in rows]
    return [ids[-max_tokens:] or [end if start is None else start] for ids in rows]


def similar_lengths(lengths: Sequence[int], max_tokens: int = MAX_TOKENS_PER_CALL) -> list[list[int]]:
    """Group numbers of inputs, longest first, so that a group's padding and size stay small.

    Args:
        lengths: tokens of each input
        max_tokens: tokens of a group, padding included; an input that is longer stands alone
    """
    groups: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        group = groups[-1] if groups else []
        widest = lengths[group[0]] if group else 0
        fits = (len(group) + 1) * widest <= max_tokens and lengths[i] >= 0.7 * widest
        if group and fits:
            group.append(i)
        else:
            groups.append([i])
    return groups


def pad(rows: Sequence[Sequence[int]], pad_id: int, side: Literal["left", "right"] = "right") -> tuple[Tensor, Tensor]:
    """Return token ids and mask, both int64 (B, L)."""
    width = max(len(ids) for ids in rows)
    ids = torch.full((len(rows), width), pad_id)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        place = slice(0, len(row)) if side == "right" else slice(width - len(row), width)
        ids[i, place] = torch.tensor(row)
        mask[i, place] = 1
    return ids, mask


def input_seed(seed: int, text: str) -> int:
    """Return a seed below 2 ** 31 for the samples of one input, whatever is asked beside it."""
    digest = hashlib.blake2b(f"{seed}\0{text}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") >> 1


def cut_at_stop(tokenizer: Any, ids: Sequence[int], stop: Sequence[str]) -> tuple[str, int]:
    """Return a candidate's text up to the end of the first stop string, and how many tokens that is.

    A stop string may be a special token, which ends a text and is left out of it.
    """

    def ends(num_tokens: int) -> bool:
        beginning = tokenizer.decode(ids[:num_tokens], skip_special_tokens=False)
        return any(string in beginning for string in stop)

    if not stop or not ends(len(ids)):
        return tokenizer.decode(ids, skip_special_tokens=True), len(ids)
    low, high = 1, len(ids)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if ends(middle) else (middle + 1, high)
    text: str = tokenizer.decode(ids[:low], skip_special_tokens=True)
    return text[: min((text.find(string) + len(string) for string in stop if string in text), default=None)], low


def weights_version(model: Any) -> tuple[list[int], bytes]:
    """Return what differs once the weights have changed: a copy made before is then out of date.

    Counters of in-place changes miss those of fused optimizers, so a few numbers of each tensor are looked at too.
    """
    weights = [p.detach().flatten() for p in model.parameters()]
    samples = torch.cat([weight[:: max(1, weight.numel() // 16)].float() for weight in weights])
    return [-1 if p.is_inference() else p._version for p in model.parameters()], samples.cpu().numpy().tobytes()


def best_first(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return samples in the order of their log-probabilities."""
    return sorted(candidates, key=lambda candidate: -candidate[1])
