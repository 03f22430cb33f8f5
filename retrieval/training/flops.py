"""How many floating-point operations a training step takes, and how many a device can do.

Model FLOPs are those that the architecture asks for, whatever the implementation does: tokens alone count, not
padding; activations that are computed a second time to save memory count once. A weight in a matrix product costs
a token 6 FLOPs (2 forward, 4 backward), or 4 where it is frozen, whose own gradient is left out; the weights that make
logits cost that for the tokens alone that are trained. Attention between two tokens costs 12 FLOPs for each layer and
channel (heads times their size). Lookups of embeddings, norms and activations count nothing.

Source: PaLM (arXiv:2204.02311, appendix B), which counts 6 N + 12 L H Q T a token.

Shape legend: B rows of a batch, S tokens of a row's source, T tokens of its target.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from common import IGNORE_INDEX

_SEGMENTS = "_segments"
_PER_CHANNEL = 12  # products of queries with keys and of weights with values, forward and backward
_CROSS_ATTENTION = re.compile(r"(EncDecAttention|encoder_attn|cross_?attention)\.(k|v|k_proj|v_proj|key|value)$")

# Dense bfloat16 FLOP/s with float32 accumulation, from NVIDIA's data sheets (half of what they print "with
# sparsity") and, for GeForce, the white papers of the Ampere, Ada and Blackwell architectures; by the name that
# torch.cuda.get_device_name gives. Names of slower variants (laptops, slices of a device) must not match.
_PEAK_BF16: tuple[tuple[str, float], ...] = (
    (r"B200", 2250e12),
    (r"H200 NVL", 835e12),
    (r"GH200|H200", 989e12),
    (r"H100 PCIe", 756e12),
    (r"H100 NVL", 835e12),
    (r"H100", 989e12),
    (r"A100", 312e12),
    (r"A40", 149.7e12),
    (r"A30", 165e12),
    (r"A10", 125e12),
    (r"L40S", 362e12),
    (r"L40", 181e12),
    (r"L4", 121e12),
    (r"RTX A6000", 154.8e12),
    (r"RTX 5090$", 209.5e12),
    (r"RTX 4090$", 165.2e12),
    (r"RTX 3090$", 71e12),
)


@dataclass(frozen=True, slots=True)
class TrainingFlops:
    """FLOPs of a forward and a backward pass; a model with one stack of layers treats targets as sources."""

    source_token: int
    source_pair: int  # of tokens of one source, every token with every token
    target_token: int
    target_pair: int  # likewise: the half that a causal mask hides is counted, as in PaLM
    cross_pair: int  # a token of the target with one of its source
    trained_token: int  # that logits are computed for

    def total(self, counts: Sequence[int]) -> int:
        """Return the FLOPs of what `count_tokens` counted."""
        return sum(cost * count for cost, count in zip(astuple(self), counts, strict=True))


def training_flops(module: nn.Module) -> TrainingFlops | None:
    """Return what tokens cost a module that holds one transformers model; None if it holds none that can be counted.

    Every dense layer of the module counts, those around the model too. In an encoder-decoder, source tokens pass
    through the encoder and the keys and values of cross-attention, target tokens through everything else. Experts
    that a token does not visit and attention that is sparse are not known: such models are counted as dense. Layers
    without attention (Mamba, RWKV), or of several sizes, are not counted.

    Args:
        module: a LightningModule or a model; its sizes are read before anything is sharded
    """
    model = next((part for part in module.modules() if isinstance(part, PreTrainedModel)), None)
    if model is None:
        return None
    try:
        num_layers, num_decoder_layers, channels = _sizes(model.config)
    except (AttributeError, TypeError, ValueError, RuntimeError):  # a figure for the log is no reason to stop
        return None
    pair = _PER_CHANNEL * channels
    head = _head(model)
    trained = sum(_token_cost(part) for part in head)
    if not model.config.is_encoder_decoder:
        costs = sum(_token_cost(part) for part in module.modules()) - trained, num_layers * pair
        return TrainingFlops(*costs, *costs, 0, trained)
    encoder = set(model.get_encoder().modules())
    source = target = 0
    for name, part in module.named_modules():
        if part in encoder or _CROSS_ATTENTION.search(name):
            source += _token_cost(part)
        elif part not in head:
            target += _token_cost(part)
    in_decoder = num_decoder_layers * pair
    return TrainingFlops(source, num_layers * pair, target, in_decoder, in_decoder, trained)


def _head(model: PreTrainedModel) -> set[nn.Module]:
    """The layer that makes logits, with what adapts it; empty where there is none."""
    layer = model.get_output_embeddings()
    return set() if layer is None else set(layer.modules())


def _token_cost(part: nn.Module) -> int:
    """FLOPs of a token in one dense layer, 0 for what is none; by its options, since shards have no shape."""
    if isinstance(part, nn.Linear):
        num_weights = part.in_features * part.out_features
    elif isinstance(part, Conv1D):  # GPT-2's
        num_weights = part.nx * part.nf
    else:
        return 0
    return num_weights * (6 if part.weight.requires_grad else 4)


def _sizes(config: PreTrainedConfig) -> tuple[int, int, int]:
    """Layers of the encoder, or of the only stack, layers of the decoder, and channels of attention.

    Raises:
        AttributeError: if there are no heads
        ValueError: if not all layers are attention of the same size
    """
    config = config if config.is_encoder_decoder else config.get_text_config()
    kinds = getattr(config, "layers_block_type", None) or getattr(config, "layer_types", None) or ()
    if any("attention" not in kind or "linear" in kind for kind in kinds):
        raise ValueError("some layers are recurrent")
    num_heads: int = config.num_attention_heads
    # in T5, heads times their size is not the width of the model
    size = getattr(config, "d_kv", None) or getattr(config, "head_dim", None) or config.hidden_size // num_heads
    in_decoder = getattr(config, "num_decoder_layers", None) or getattr(config, "decoder_layers", None)
    num_layers = config.num_hidden_layers
    return num_layers, in_decoder or num_layers, num_heads * int(size)


def token_masks(batch: Any) -> dict[str, Tensor]:
    """Return the masks (rows, tokens), 0 on padding alone, that cover each token of a batch once; {} if it has none.

    segment_ids, which number the examples of packed rows from 1, or else attention_mask cover a whole batch; without
    either every entry counts whose name ends with `_mask`, or with `_segments`: of a row that holds the texts of a
    batch behind one another, numbered from 1.
    """
    if not isinstance(batch, Mapping):
        return {}
    for name in ("segment_ids", "attention_mask"):
        if name in batch:
            return {name: batch[name]}
    return {name: mask for name, mask in batch.items() if name.endswith(("_mask", _SEGMENTS))}


def trained_tokens(batch: Any) -> Tensor | None:
    """Return how many tokens of a batch are trained, int64 (), where it has `trained_at`, or `labels`; else None.

    Each is predicted by the token before it.
    """
    if not isinstance(batch, Mapping):
        return None
    if "trained_at" in batch:  # a tensor of their places, whose length is known without waiting for the device
        return torch.full((), len(batch["trained_at"]), device=batch["trained_at"].device)
    if "labels" not in batch:
        return None
    return cast(Tensor, (batch["labels"][:, 1:] != IGNORE_INDEX).sum())


def count_tokens(masks: Mapping[str, Tensor], target_mask: str | None = None, trained: Tensor | None = None) -> Tensor:
    """Return what `TrainingFlops.total` takes, on the device of the masks and without waiting for it.

    Args:
        masks: of `token_masks`, at least one; every row, or every segment of a row, is a source (B, S)
        target_mask: the one whose rows are the targets (B, T) of an encoder-decoder, if it is there
        trained: of `trained_tokens`; if not given, all of the targets, or of the sources where there are no targets

    Returns:
        the sums over rows of S, S^2, T, T^2 and S T, and the trained tokens, int64 (6,)
    """
    lengths = {name.replace(_SEGMENTS, "_mask"): _lengths(name, mask) for name, mask in masks.items()}
    targets = lengths.pop(target_mask or "", None)
    source = torch.cat(list(lengths.values()))
    target = torch.zeros_like(source) if targets is None else targets
    num_texts = min(len(source), len(target))  # behind these, segments have zeros alone: a text has a token at least
    source, target = source[:num_texts], target[:num_texts]
    sums = torch.stack([source, source**2, target, target**2, source * target]).sum(dim=1)
    if trained is None:
        trained = sums[0] if targets is None else sums[2]
    return torch.cat([sums, trained[None]])


def _lengths(name: str, mask: Tensor) -> Tensor:
    return _segment_lengths(mask) if name == "segment_ids" or name.endswith(_SEGMENTS) else mask.sum(dim=1)


def _segment_lengths(segment_ids: Tensor) -> Tensor:
    """Tokens of each segment of each row, and many zeros: how many segments there are would have to be waited for."""
    num_rows, width = segment_ids.shape
    lengths = segment_ids.new_zeros(num_rows, width + 1)
    return lengths.scatter_add_(1, segment_ids, torch.ones_like(segment_ids))[:, 1:].flatten()


def peak_flops_per_s(device: torch.device) -> float | None:
    """Return the bfloat16 FLOP/s of a device by its data sheet, or None where it is not known."""
    return peak_of_name(torch.cuda.get_device_name(device)) if device.type == "cuda" else None


def peak_of_name(name: str) -> float | None:
    """Return the bfloat16 FLOP/s of a GPU of this name, such as "NVIDIA A100-SXM4-80GB"."""
    if re.search(r"\bMIG\b|Laptop|Mobile|Max-Q", name):
        return None
    return next((peak for pattern, peak in _PEAK_BF16 if re.search(rf"\b(?:{pattern})(?!\w)", name)), None)
