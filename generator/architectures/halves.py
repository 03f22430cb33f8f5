"""A model of transformers in two halves: the body, which reads, and the head, which turns what it found into logits.

transformers can leave logits out (`logits_to_keep`), but computes those that it keeps at once. With the halves apart,
a loss takes them a few at a time. What the head does is left to the model's own `forward`: a bias, an adapter, a
factor (Cohere, Granite) or a limit (Gemma) act as they do there.

Shape legend: B rows, L padded length, N positions, D width of the model, V vocabulary.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from generator.architectures.traits import unwrapped


class Halves:
    """The halves of a model with a language-modelling head; nothing of it is copied or changed.

    Of 135 decoder-only models of transformers 5.23 that could be built tiny, 124 come apart so and have the logits of
    the whole; the others (OPT, Llama 4, decoders of BART's family) do not call their body as one.

    Not for weights that are sharded, which are there only while the whole model is called.
    """

    def __init__(self, model: Any) -> None:
        """Find the body.

        Args:
            model: a decoder-only model or an encoder-decoder; peft's shell is taken off
        """
        self.model = unwrapped(model)
        body = self.model.base_model
        # in T5 encoder and decoder stand side by side, and the head reads the decoder
        self.body = self.model.get_decoder() if body is self.model else body
        self._name = next((name for name, part in self.model.named_children() if part is self.body), None)
        self._compiled: Any = None
        self._output_class: Any = None

    @property
    def num_classes(self) -> int:
        """V."""
        return int(self.model.config.get_text_config(decoder=True).vocab_size)

    def compile(self) -> None:
        """Compile the body where it is read in training."""
        self._compiled = torch.compile(self.body, dynamic=True)

    def read(self, **inputs: Any) -> Tensor | None:
        """Call the model up to its head.

        Args:
            inputs: of the model, without labels

        Returns:
            What the head is to read, (B, L, D); None if this model does not call its body once and as a whole
        """
        if self._name is None:
            return None
        run = self._compiled if self._compiled is not None and self.model.training else self.body
        outputs: list[Any] = []

        def noted(*args: Any, **options: Any) -> Any:
            outputs.append(run(*args, **options))
            # of no position there are no logits
            return type(outputs[0])(**{**outputs[0], "last_hidden_state": outputs[0].last_hidden_state[:, :0]})

        self._with_body(noted).forward(**inputs, use_cache=False)
        if len(outputs) != 1:
            self._name = None  # nor will it the next time
            return None
        self._output_class = type(outputs[0])
        hidden: Tensor = outputs[0].last_hidden_state
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """Return what the model makes of some of the states that `read` returned.

        Args:
            hidden: (N, D)

        Returns:
            (N, V), in the type that the model gives
        """
        given = self._output_class(last_hidden_state=hidden[None])
        ids = torch.zeros(1, len(hidden), dtype=torch.long, device=hidden.device)  # nothing looks at them
        inputs: dict[str, Any] = {"input_ids": ids}
        if self.model.config.is_encoder_decoder:
            inputs = {"encoder_outputs": (hidden[None, :0],), "decoder_input_ids": ids}
        found: Tensor = self._with_body(lambda *args, **options: given).forward(**inputs, use_cache=False).logits
        return found[0]

    def _with_body(self, answer: Callable[..., Any]) -> Any:
        """The model with a function for its body; its other parts, and all weights, are the same.

        Its `forward` is called, past hooks, which are for the model as a whole.
        """
        changed = copy.copy(self.model)
        changed._modules = {**self.model._modules, self._name: _InsteadOf(self.body, answer)}
        return changed


class _InsteadOf(nn.Module):
    """Answers for a body, and has its attributes."""

    def __init__(self, body: nn.Module, answer: Callable[..., Any]) -> None:
        super().__init__()
        self.__dict__.update(body=body, answer=answer)  # past nn.Module, whose part the body would become

    def forward(self, *args: Any, **options: Any) -> Any:
        return self.__dict__["answer"](*args, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["body"], name)
