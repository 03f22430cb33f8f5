"""How a generator's network is run in training: attention by blocks, batches in one row, compiled layers."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import pytorch_lightning as pl
import torch

from generator.architectures.halves import Halves
from retrieval.training.acceleration import Acceleration, compile_layers
from retrieval.training.flat_rows import pinned


class Accelerated(pl.LightningModule):
    """The part of a generator that knows what `Acceleration` asks for.

    Attributes:
        acceleration: how training uses a GPU
        generator: the network, of transformers
    """

    generator: Any
    acceleration: Acceleration
    _halves: Halves

    def _accelerate(self, network: Any, max_length: int, checkpoints_activations: bool) -> None:
        """Find out what can be done with a network; refuse what is asked for and cannot.

        Args:
            network: with a language-modelling head
            max_length: tokens of an input, at most
            checkpoints_activations: whether it computes them again in the backward pass
        """
        self._halves, self._max_length = Halves(network), max_length
        self._checkpoints_activations = checkpoints_activations
        self.acceleration.choose_attention(network)
        self._against_flex = self.reason_against_flex(network)
        self.acceleration.check(self._against_flex)
        self._compiled: list[Any] = []  # the compiled network, if there is one; in a list, as its weights count once

    @abstractmethod
    def reason_against_flex(self, network: Any) -> str | None:
        """Why a network cannot attend with flex, such as "Mamba keeps states"; None if it can."""

    @property
    def uses_flex(self) -> bool:
        """Whether batches are laid out in one row now, see `Acceleration`."""
        return self.acceleration.uses_flex(self, self._against_flex, self._max_length)

    @property
    def network(self) -> Any:
        """What computes a loss: the compiled network in training, if there is one."""
        return self._compiled[0] if self._compiled and self.training else self.generator

    def _compile(self) -> None:
        """Compile the layers, where the run that begins asks for it or wins by it."""
        uses_flex = self.uses_flex
        if not self.acceleration.compiles(self.trainer, uses_flex and not self._checkpoints_activations):
            return
        if uses_flex:
            compile_layers(self.generator)
        elif self.device.type == "cpu":  # a C++ compiler takes minutes for a whole network
            compile_layers(self.generator, dynamic=True)
        else:
            self._compiled = [torch.compile(self.generator, dynamic=True)]
            self._halves.compile()

    def prepare_batch(self, batch: Any) -> Any:
        """Lay a batch of training or validation out for the device, on the CPU, and count its target tokens."""
        if self._trainer is not None and self.trainer.predicting:
            return batch
        return pinned(self.laid_out(batch), self.device)

    @abstractmethod
    def laid_out(self, batch: Any) -> dict[str, Any]:
        """Return a batch with `num_targets`; where flex is used in one row, see `flat_batches`."""
