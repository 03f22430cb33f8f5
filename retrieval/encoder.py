"""Text encoders: built from a hub id, a folder or a description, and run to turn texts into unit vectors.

Shape legend: B texts, L padded length, D dimension.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.utils.checkpoint import checkpoint
from transformers import (
    MODEL_FOR_TEXT_ENCODING_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForTextEncoding,
    PreTrainedConfig,
    PreTrainedModel,
    T5EncoderModel,
)

from common import (
    MARK_END,
    MARK_START,
    Premise,
    fit_state,
    format_state,
    load_tokenizer,
    read_architecture,
)
from retrieval.training.architectures import (
    ARCHITECTURE_KEYS,
    architecture_errors,
    check_sizes,
    fuse_activations,
    hub_errors,
    spread_position_biases,
    t5_config,
)
from retrieval.training.block_attention import block_mask
from retrieval.training.flat_rows import FlatRow
from retrieval.training.gguf_files import read_config, read_model

# "marked": the code with the full name in place of its own (ReProver); "name_first": the full name, then the code
PremiseText = Literal["marked", "name_first", "name", "code"]


def build_encoder(model_name: str | Path | Mapping[str, Any]) -> PreTrainedModel:
    """Return an encoder to fine-tune or to train from scratch; of an encoder-decoder, the encoder.

    Args:
        model_name: a hub id or a folder of `save_pretrained` (weights are loaded), or an architecture: a
            mapping or a YAML file with T5Config's keys, ByT5's shape by default (weights are drawn from
            torch's global generator), or what `describe` returned

    Raises:
        ConfigError: if there is no such model, or an architecture's key is unknown
    """
    architecture = read_architecture(model_name)
    if architecture is not None:
        with architecture_errors():
            return _prepared(_from_architecture(architecture))
    with hub_errors(model_name, "encoder"):
        model = _from_pretrained(str(model_name))
    return _prepared(model)


def _prepared(model: Any) -> PreTrainedModel:
    if isinstance(getattr(model, "pooler", None), torch.nn.Module):
        model.pooler = None  # BERT's, which is not used: distributed training refuses weights without a gradient
    return fuse_activations(model)


def _from_pretrained(name: str) -> PreTrainedModel:
    config = read_config(name)
    check_sizes(config)
    kind = AutoModelForTextEncoding if type(config) in MODEL_FOR_TEXT_ENCODING_MAPPING else AutoModel
    model: PreTrainedModel = read_model(kind, name, config=config, dtype=torch.float32)
    if kind is AutoModelForTextEncoding:
        return model
    encoder: PreTrainedModel = model.get_encoder() if config.is_encoder_decoder else model
    return encoder


def _from_architecture(architecture: Mapping[str, Any]) -> PreTrainedModel:
    values = {key: value for key, value in architecture.items() if key not in ARCHITECTURE_KEYS}
    if "transformers_version" not in values:
        encoder = T5EncoderModel(t5_config(values, load_tokenizer(architecture)))
        spread_position_biases(encoder)
        return encoder
    config: PreTrainedConfig = AutoConfig.for_model(**values)  # a whole configuration, written by describe
    kind: Any = AutoModelForTextEncoding if type(config) in MODEL_FOR_TEXT_ENCODING_MAPPING else AutoModel
    model: PreTrainedModel = kind.from_config(config)
    return model.get_encoder() if config.is_encoder_decoder and kind is AutoModel else model


def context_text(state: str, max_seq_len: int) -> str:
    """Return what a retriever reads of a state; an over-long one loses its beginning, and never its goal."""
    return fit_state(format_state(state), max_seq_len - 1)


def premise_text(premise: Premise, form: PremiseText = "marked") -> str:
    """Return what a retriever reads of a premise; the tokenizer cuts the end of an over-long one.

    >>> from common import Pos
    >>> premise = Premise("a.v", "A.le_refl", Pos(1, 1), Pos(1, 9), "Lemma le_refl n : n <= n.")
    >>> premise_text(premise), premise_text(premise, "name_first")
    ('Lemma <a>A.le_refl</a> n : n <= n.', '<a>A.le_refl</a> Lemma le_refl n : n <= n.')
    >>> premise_text(premise, "name"), premise_text(premise, "code")
    ('<a>A.le_refl</a>', 'Lemma le_refl n : n <= n.')
    """
    name = f"{MARK_START}{premise.full_name}{MARK_END}"
    if form == "marked":
        return premise.serialize()
    return {"name_first": f"{name} {premise.code}", "name": name, "code": premise.code}[form]


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
    """Return what `encode_tokens` returns, with the activations of only chunk_size texts in memory at a time.

    The forward pass keeps only the vectors. In the backward pass, when the gradient of each vector is known, the chunks
    are encoded again, one after the other, and passed through. Memory no longer grows with the number of texts in the
    loss, gradients stay the same, and dropout is drawn as in the first pass. Texts of similar length share a chunk, so
    that it is only as wide as they are.

    Source: gradient caching (Gao et al., arXiv:2101.06983).
    """
    lengths = mask.sum(dim=1)
    order = lengths.argsort(descending=True, stable=True)
    widths = lengths[order[::chunk_size]].tolist()  # a GPU is waited for once
    rows = []
    for chunk, width in zip(order.split(chunk_size), widths, strict=True):
        part = ids[chunk, :width], mask[chunk, :width]
        rows.append(checkpoint(encode_tokens, encoder, *part, use_reentrant=False))
    return torch.cat(rows)[order.argsort()]


def encode_row(encoder: Any, ids: Tensor, segments: Tensor, num_texts: int) -> Tensor:
    """Return the unit vectors of texts that stand behind one another, float32 (B, D); see `FlatRow`.

    Args:
        encoder: whose attention takes masks of blocks
        ids: int64 (1, N)
        segments: the text of each token, 1 to B, 0 on padding, (1, N)
        num_texts: B
    """
    hidden = encoder(input_ids=ids, attention_mask=block_mask(segments, segments)).last_hidden_state[0].float()
    sums = hidden.new_zeros(num_texts + 1, hidden.shape[1]).index_add(0, segments[0], hidden)[1:]
    return normalize(sums, dim=1)  # the mean has the same direction


def encode_rows(encoder: Any, rows: Sequence[FlatRow]) -> Tensor:
    """Return what `encode_row` does for several rows; if they are several, activations of one are in memory at a time.

    Source: gradient caching, see `encode_in_chunks`.
    """
    if len(rows) == 1 or not torch.is_grad_enabled():
        return torch.cat([encode_row(encoder, *row) for row in rows])
    return torch.cat([checkpoint(encode_row, encoder, *row, use_reentrant=False) for row in rows])
