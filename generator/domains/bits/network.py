"""New input and output layers around a decoder-only body, and the answer read off its last positions.

Shape legend: B batch, T symbols of a specification, n bits of an answer, p symbols of a patch, L = T / p positions,
D width of the body.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from common import ConfigError, check_choice, check_positive
from generator.architectures.traits import positions_of
from generator.domains.bits.tasks import BitTask

InputLayer = Literal["embedding", "linear"]

_GAIN = 1.41  # of the orthogonal weights, as Lu et al. have it


@dataclass(frozen=True)
class LayerOptions:
    """The layers that are new, and are always trained, but for the input layer of a probe.

    Attributes:
        input_layer: "embedding" has a vector for each symbol, as the authors' demonstration and the slides have it;
            "linear" reads patches of numbers, as the authors' library does: orthogonal weights, no bias at the start
        patch_size: symbols of a position; more than one needs "linear"
        input_std: of the embedding's vectors at the start. 1 is torch's, and the demonstration's; a random body's own
            embeddings begin with 0.02
        input_dropout: share of the input layer's outputs that training leaves out; the authors' library has 0.1
    """

    input_layer: InputLayer = "embedding"
    patch_size: int = 1
    input_std: float = 1.0
    input_dropout: float = 0.0

    def __post_init__(self) -> None:
        check_choice("input_layer", self.input_layer, get_args(InputLayer))
        check_positive(patch_size=self.patch_size, input_std=self.input_std)
        if not 0 <= self.input_dropout < 1:
            raise ConfigError(f"input_dropout is {self.input_dropout}; it must be at least 0 and below 1")
        if self.input_layer == "embedding" and self.patch_size > 1:
            raise ConfigError(
                f"patch_size is {self.patch_size}, but an embedding reads one symbol at a time; set input_layer to "
                "linear, or patch_size to 1"
            )


class BitNetwork(nn.Module):
    """Reads a whole specification, and answers at its end.

    The body is causal, so only the last positions have seen everything; the answer to bit i is read at the place of
    bit i of the last string.
    """

    values: Tensor

    def __init__(self, body: Any, task: BitTask, layers: LayerOptions) -> None:
        """Put new layers around a body.

        Args:
            body: of transformers, decoder-only, without a head
            task: whose symbols are read
            layers: how
        """
        super().__init__()
        self.body, self.patch_size = body, layers.patch_size
        width = int(body.config.get_text_config(decoder=True).hidden_size)
        self.input_layer: nn.Module
        if layers.input_layer == "embedding":
            self.input_layer = nn.Embedding(len(task.symbols), width)
            nn.init.normal_(self.input_layer.weight, std=layers.input_std)
        else:
            self.input_layer = nn.Linear(layers.patch_size, width)
            nn.init.orthogonal_(self.input_layer.weight, gain=_GAIN)
            nn.init.zeros_(self.input_layer.bias)
        self.dropout = nn.Dropout(layers.input_dropout)
        self.head = nn.Linear(width, 2 * layers.patch_size)
        self.register_buffer("values", torch.tensor(task.values), persistent=False)

    def forward(self, inputs: Tensor, num_bits: int) -> Tensor:
        """Return the logits of 0 and of 1 for each bit of the answer, (B, n, 2).

        Args:
            inputs: symbols by their numbers, int64 (B, T)
            num_bits: n
        """
        return self.answer(
            self.body(inputs_embeds=self.embed(inputs, num_bits), use_cache=False).last_hidden_state, num_bits
        )

    def embed(self, inputs: Tensor, num_bits: int) -> Tensor:
        """Return what the body reads, (B, L, D)."""
        self.check_length(inputs.shape[1], num_bits)
        if isinstance(self.input_layer, nn.Embedding):
            found = self.input_layer(inputs)
        else:
            found = self.input_layer(self.values[inputs].unflatten(1, (-1, self.patch_size)))
        dropped: Tensor = self.dropout(found)
        return dropped

    def check_length(self, num_symbols: int, num_bits: int) -> None:
        """Raise ConfigError unless patches cover the strings evenly, and the body has positions for them."""
        if num_bits % self.patch_size:
            raise ConfigError(
                f"patch_size is {self.patch_size}, but the strings have {num_bits} bits; it must divide n"
            )
        length, limit = num_symbols // self.patch_size, positions_of(self.body.config)
        if limit is not None and length > limit:
            raise ConfigError(
                f"the specification takes {length:,} positions, and the body has {limit:,}; lower n or raise patch_size"
            )

    def answer(self, states: Tensor, num_bits: int) -> Tensor:
        """Return the logits (B, n, 2) of hidden states (B, L, D): of the last n / p of them."""
        logits: Tensor = self.head(states[:, -(num_bits // self.patch_size) :])
        return torch.reshape(logits, (len(states), num_bits, 2))

    @torch.no_grad()
    def first_attention(self, inputs: Tensor, num_bits: int) -> Tensor | None:
        """Return where each position looks in the first layer, float32 (L, L): the mean over problems and heads.

        None for a body that does not tell. The body computes attention in another way meanwhile, which tells weights.
        """
        before = self.body.config._attn_implementation
        try:
            self.body.set_attn_implementation("eager")
            out = self.body(inputs_embeds=self.embed(inputs, num_bits), use_cache=False, output_attentions=True)
            first: Tensor | None = out.attentions[0] if out.attentions else None
            return None if first is None else first.float().mean(dim=(0, 1))
        except (ValueError, AttributeError, NotImplementedError):
            return None
        finally:
            self.body.set_attn_implementation(before)
