"""Texts to unit vectors.

Shape legend: B texts, L padded length, D dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.utils.checkpoint import checkpoint

from common import Premise, fit_state, format_state


def context_text(state: str, max_seq_len: int) -> str:
    """Return what a retriever reads of a state; an over-long one loses its beginning, and never its goal."""
    return fit_state(format_state(state), max_seq_len - 1)


def premise_text(premise: Premise) -> str:
    """Return what a retriever reads of a premise; the tokenizer cuts the end of an over-long one."""
    return premise.serialize()


def tokenize(tokenizer: Any, texts: Sequence[str], max_seq_len: int) -> tuple[Tensor, Tensor]:
    """Return token ids and their mask (1 where there is a token), both int64 (B, L)."""
    batch = tokenizer(list(texts), padding="longest", truncation=True, max_length=max_seq_len, return_tensors="pt")
    return batch["input_ids"], batch["attention_mask"]


def mean_pool(hidden: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of the tokens' vectors, scaled to length 1.

    Args:
        hidden: output of the encoder, float (B, L, D)
        mask: 1 where there is a token, (B, L)

    Returns:
        float32 (B, D); sums over a thousand bytes are too long for bfloat16

    Source: LeanDojo (arXiv:2306.15626, section 5).
    """
    weights = mask.unsqueeze(-1).to(torch.float32)
    return normalize((hidden.float() * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1), dim=1)


def encode_tokens(encoder: nn.Module, ids: Tensor, mask: Tensor) -> Tensor:
    """Return the unit vectors of tokenized texts, float32 (B, D)."""
    return mean_pool(encoder(input_ids=ids, attention_mask=mask).last_hidden_state, mask)


def encode_in_chunks(encoder: nn.Module, ids: Tensor, mask: Tensor, chunk_size: int) -> Tensor:
    """Return what `encode_tokens` returns, keeping activations of chunk_size texts at a time.

    The forward pass keeps only the vectors; the backward pass, once the loss has told the gradient of
    each, encodes one chunk after the other again and passes it on. Memory no longer grows with the number
    of texts in the loss, gradients stay the same, and dropout is drawn as in the first pass. Texts are
    taken by length, so that a chunk is only as wide as its longest.

    Source: gradient caching (Gao et al., arXiv:2101.06983).
    """
    lengths = mask.sum(dim=1)
    order = lengths.argsort(descending=True, stable=True)
    rows = []
    for chunk in order.split(chunk_size):
        width = int(lengths[chunk[0]])
        part = ids[chunk, :width], mask[chunk, :width]
        rows.append(checkpoint(encode_tokens, encoder, *part, use_reentrant=False))
    return torch.cat(rows)[order.argsort()]
