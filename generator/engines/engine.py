"""What inference engines share: what is asked of them, and how inputs become groups of token ids."""

from __future__ import annotations

import contextlib
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from common import MAX_LENGTH, Candidate, check_positive
from generator.data.completion_encoding import PromptEncoder
from generator.decoding.grouping import similar_lengths
from generator.decoding.settings import Decoding
from retrieval.training.attention_kernels import varying_shapes

MAX_TOKENS_PER_CALL = 65_536  # padded input of one decoding call; more inputs are taken in turns
MIN_LENGTH_SHARE = 0.7  # of its longest input's length that the shortest of a call has, for little padding


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

    def release(self) -> None:
        """Give back what is kept on the device between calls, if anything is; the next call makes it anew."""
        return None


@dataclass(frozen=True)
class Input:
    """A model input and its token ids, int64 (S,)."""

    text: str
    ids: Tensor


class TokenEngine(Engine):
    """An engine that answers a few tokenised inputs of similar length at a time.

    Attributes:
        copies_inputs: whether what was read of an input is kept for each of its beams or samples, and not once
        samples_alone: whether each input is sampled in a call of its own, so that its neighbours change nothing
        is_decoder_only: whether the model goes on with its input rather than reading it apart
    """

    copies_inputs: ClassVar[bool]
    samples_alone: ClassVar[bool] = True

    def __init__(self, tokenizer: Any, max_inp_seq_len: int, is_decoder_only: bool = False) -> None:
        check_positive(MAX_LENGTH, max_inp_seq_len=max_inp_seq_len)
        self.tokenizer, self.max_inp_seq_len, self.is_decoder_only = tokenizer, max_inp_seq_len, is_decoder_only

    def propose(self, inputs: Sequence[str], num_candidates: int, decoding: Decoding) -> list[list[Candidate]]:
        """See `Engine.propose`."""
        check_positive(num_candidates=num_candidates)
        if not inputs:
            return []
        rows = encode(self.tokenizer, inputs, self.max_inp_seq_len, self.is_decoder_only)
        results: list[list[Candidate]] = [[] for _ in inputs]
        with self._ready(), varying_shapes():
            for group in self._groups([len(ids) for ids in rows], num_candidates, decoding):
                answers = self._answer([Input(inputs[i], rows[i]) for i in group], num_candidates, decoding)
                for i, answer in zip(group, answers, strict=True):
                    results[i] = answer
        return results

    def _ready(self) -> contextlib.AbstractContextManager[None]:
        """What all groups of a call share."""
        return contextlib.nullcontext()

    def _groups(self, lengths: Sequence[int], num_candidates: int, decoding: Decoding) -> list[list[int]]:
        """Which inputs are answered together."""
        if decoding.sampling is not None and self.samples_alone:
            return [[i] for i in range(len(lengths))]
        num_copies = decoding.rows_for(num_candidates) if self.copies_inputs else 1
        return similar_lengths(lengths, max_tokens=MAX_TOKENS_PER_CALL // num_copies, min_share=MIN_LENGTH_SHARE)

    @abstractmethod
    def _answer(self, inputs: list[Input], num_candidates: int, decoding: Decoding) -> list[list[Candidate]]:
        """Return the candidates of each input."""


def encode(tokenizer: Any, inputs: Sequence[str], max_tokens: int, is_decoder_only: bool) -> list[Tensor]:
    """Return the token ids of each input, int64 (S,), at most max_tokens, at least one.

    What a decoder-only model goes on with has no EOS at its end; if it is too long, it loses its beginning, and if it
    is empty, it is BOS, or EOS of a tokenizer without.
    """
    if is_decoder_only:
        start = getattr(tokenizer, "bos_token_id", None)
        start = tokenizer.eos_token_id if start is None else start
        rows = [ids[-max_tokens:] or [start] for ids in PromptEncoder(tokenizer).prompt_ids(inputs)]
    else:
        rows = tokenizer(list(inputs), truncation=True, max_length=max_tokens)["input_ids"]
    return [torch.tensor(ids, dtype=torch.long) for ids in rows]


def input_seed(seed: int, text: str) -> int:
    """Return a seed below 2 ** 31 for the samples of one input, whatever is asked beside it."""
    digest = hashlib.blake2b(f"{seed}\0{text}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") >> 1


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
