"""The pieces of a T5 block as plain functions on the live weights: no dropout, no cache objects, no copies.

A decoder written for one purpose can fuse and reorder what a general forward pass cannot, and dropout is off
because it is never applied, whatever mode the model is in. Shapes: N rows (tokens of any states, one after
another), D d_model, H heads, K d_kv (size of a head).
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.activations import NewGELUActivation

# For some rows the CPU library multiplies faster with the weight as the left factor: by CPU time of one thread, medians
# of 21, ByT5-small's layers at 8 to 48 rows 1.0 to 1.7 times as fast with AVX-512 and 0.9 to 1.5 times with AVX2; at 4
# rows 0.8 to 1.0 and 0.9 to 1.0, at 64 and more the same and 0.9 (small layers at 2 rows: 0.3 with AVX-512).
SWAPPED_ROWS = range(8, 49)


class Projection:
    """One or several bias-free linear layers of the same input, as one matrix product.

    A single layer uses the model's weight itself. Several layers share one product of a concatenated copy, so
    this is for the small ones. A layer that is not a plain `nn.Linear` (an adapter, a quantised layer, one with
    hooks) is called as it is.
    """

    def __init__(self, layers: Sequence[nn.Module], dtype: torch.dtype | None = None) -> None:
        """Collects the weights.

        Args:
            layers: the linear layers, whose outputs are concatenated.
            dtype: the type to compute in (under autocast), or None for the weights' own.
        """
        self.layers = layers
        self.dtype = dtype
        self.weight: Tensor | None = None
        if all(_is_plain(layer) for layer in layers):
            weights: list[Any] = [layer.weight for layer in layers]
            weight: Tensor = weights[0] if len(weights) == 1 else torch.cat(weights)
            self.weight = weight if dtype is None else weight.to(dtype)

    def refresh(self) -> None:
        """Copies the layers' weights again, where this has a copy of them, to the place where it stands."""
        if self.weight is None or self.weight is self.layers[0].weight:
            return
        weights: list[Any] = [layer.weight for layer in self.layers]
        with torch.no_grad():
            for copied, weight in zip(self.weight.split([len(weight) for weight in weights]), weights, strict=True):
                copied.copy_(weight)

    def __call__(self, hidden: Tensor) -> Tensor:
        """Maps (N, in) to (N, sum of the layers' outputs), in the type of the weights, of any strides."""
        if self.weight is not None:
            return _linear(hidden.to(self.weight.dtype), self.weight)
        with torch.autocast(hidden.device.type, dtype=self.dtype, enabled=self.dtype is not None):
            return torch.cat([layer(hidden) for layer in self.layers], dim=-1)


def _linear(hidden: Tensor, weight: Tensor) -> Tensor:
    if hidden.device.type == "cpu" and hidden.dtype == torch.float32 and len(hidden) in SWAPPED_ROWS:
        return torch.mm(weight, hidden.t()).t()
    return F.linear(hidden, weight)


def _is_plain(layer: nn.Module) -> bool:
    has_hooks = bool(layer._forward_hooks or layer._forward_pre_hooks)
    return type(layer) is nn.Linear and getattr(layer, "bias", None) is None and not has_hooks


class Norm:
    """Root-mean-square normalisation (no mean, no bias), computed in float32 as T5 does."""

    def __init__(self, layer: Any, eps: float) -> None:
        self.weight: Tensor = layer.weight
        self.eps = eps

    def __call__(self, hidden: Tensor) -> Tensor:
        """Maps (N, D) to (N, D) in the type of the weight if that is a half type, else in float32."""
        normed = F.rms_norm(hidden.float(), hidden.shape[-1:], eps=self.eps)
        if self.weight.dtype in (torch.float16, torch.bfloat16):
            normed = normed.to(self.weight.dtype)
        return normed * self.weight


class FeedForward:
    """The feed-forward layer, gated (`wi_0`, `wi_1`) or plain (`wi`), with its norm and its residual."""

    def __init__(self, layer: Any, eps: float, dtype: torch.dtype | None) -> None:
        dense = layer.DenseReluDense
        self.norm = Norm(layer.layer_norm, eps)
        self.is_gated = hasattr(dense, "wi_0")
        # wi_0 and wi_1 stay apart: at 64 rows one product of both is no faster, and fusing copies 40 MB a layer
        self.wi = Projection([dense.wi_0 if self.is_gated else dense.wi], dtype)
        self.gate = Projection([dense.wi_1], dtype) if self.is_gated else None
        self.wo = Projection([dense.wo], dtype)
        self.activation = _activation(dense.act)

    @property
    def projections(self) -> list[Projection]:
        """The products of the layer."""
        return [self.wi, self.wo] if self.gate is None else [self.wi, self.gate, self.wo]

    def __call__(self, hidden: Tensor) -> Tensor:
        """Maps (N, D) to (N, D)."""
        normed = self.norm(hidden)
        inner = self.activation(self.wi(normed))
        if self.gate is not None:
            inner = inner * self.gate(normed)
        return residual(hidden, self.wo(inner))


def _activation(module: Any) -> Any:
    """The activation, with the tanh form of GELU in one kernel instead of transformers' eight."""
    if isinstance(module, NewGELUActivation):
        return lambda x: F.gelu(x, approximate="tanh")
    return module


def residual(hidden: Tensor, update: Tensor) -> Tensor:
    """`hidden + update`; float16 is kept finite as T5 does, whose activations overflow it."""
    total = hidden + update
    if total.dtype == torch.float16:
        limit = torch.finfo(torch.float16).max - 1000
        total = total.clamp(-limit, limit)
    return total


def split_heads(flat: Tensor, num_heads: int) -> Tensor:
    """Views (N, H * K) as (N, H, K)."""
    return flat.contiguous().view(len(flat), num_heads, -1)


def relative_bias(attention: Any, first: int, last: int, *, bidirectional: bool) -> Tensor:
    """The bias of every distance from `first` to `last` (both included), for each head.

    T5 (Raffel et al. 2020, section 2.1): distances share a learned scalar per bucket and head; half of a
    direction's buckets hold one distance each, the others grow logarithmically up to the largest distance.

    Args:
        attention: the attention module that holds `relative_attention_bias`.
        first: the smallest distance; a distance is key position minus query position.
        last: the largest distance.
        bidirectional: whether keys after the query have buckets of their own (encoder).

    Returns:
        (H, last - first + 1), in the type of the table.
    """
    table: Tensor = attention.relative_attention_bias.weight
    distance = torch.arange(first, last + 1, device=table.device)
    num_buckets = int(attention.relative_attention_num_buckets)
    bucket = torch.zeros_like(distance)
    if bidirectional:
        num_buckets //= 2
        bucket = (distance > 0).long() * num_buckets
        distance = distance.abs()
    else:
        distance = (-distance).clamp(min=0)
    num_exact = num_buckets // 2
    # the same float32 operations in the same order as transformers: truncation must fall on the same side
    growth = torch.log(distance.float() / num_exact) / math.log(attention.relative_attention_max_distance / num_exact)
    large = (num_exact + (growth * (num_buckets - num_exact)).long()).clamp(max=num_buckets - 1)
    bucket = bucket + torch.where(distance < num_exact, distance, large)
    return table[bucket].t()
