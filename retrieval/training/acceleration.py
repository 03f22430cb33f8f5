"""How a network is run in training: which attention, and whether its layers are compiled."""

from __future__ import annotations

import functools
import importlib.util
import math
import os
import shutil
from dataclasses import dataclass
from typing import Any, Literal, get_args

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DeepSpeedStrategy, FSDPStrategy
from pytorch_lightning.utilities import rank_zero_info
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from common import ConfigError, check_choice
from retrieval.training.batches import most_tokens
from retrieval.training.block_attention import allow_forms

AttentionName = Literal["auto", "flex", "sdpa", "eager"]

_MIN_LENGTH = 512  # tokens of the longest input; below, the kernels take longer to compile than they save
# Compiling byt5-small as a whole takes 79 s and saves 67 ms of a step of 8 x 2,300 bytes (H100): 1,200 steps win it
# back. Layer by layer it takes less, as equal ones are compiled once; smaller batches save less.
_MIN_STEPS = 2000
# Layers as they are keep about 1.2 MB for each token of byt5-small (22.5 GB for 8 x 2,300, H100) and 1.35 MB of a Llama
# of 135 M (counted by hand, see `token_loss`): here 40 and 44 GB, half a large card; compiled ones keep 29 and 20.
_MANY_TOKENS = 32_768


@dataclass(frozen=True)
class Acceleration:
    """How a network is run in training.

    Attributes:
        attention: "flex" puts the texts of a batch behind one another, so that nothing is computed for padding, and
            computes attention within each text alone, in T5 without a bias for each pair of tokens; dropout of
            attention weights is left out (that of activations is not). "sdpa" is torch's fused attention, "eager" plain
            matrix products, which take half its time on a CPU in bf16 for texts of up to about 150 tokens. "auto" is
            flex when training on CUDA, for models that can (T5, ByT5, mT5, most decoder-only models; weights not
            sharded) and inputs of 512 tokens and more, else sdpa
        compile: compile the layers with torch.compile; null does so with attention flex on CUDA where at least 2,000
            batches are left, which win back the minute that it takes, or a batch may hold 32,768 tokens or more, for
            which layers as they are take too much memory (byt5-small on 8 x 2,300 bytes 22.5 GB instead of 16.2 on an
            H100). On a CPU it needs a C++ compiler
    """

    attention: AttentionName = "auto"
    compile: bool | None = None

    def __post_init__(self) -> None:
        check_choice("attention", self.attention, get_args(AttentionName))

    def check(self, reason: str | None) -> None:
        """Raise ConfigError if flex is asked for, and a model cannot.

        Args:
            reason: why not, such as "it is of type bart"; None if it can
        """
        if self.attention == "flex" and reason is not None:
            raise ConfigError(
                f"attention is flex, but {reason}; flex is for T5, ByT5, mT5 and decoder-only models whose attention "
                "takes masks. Set attention to auto or sdpa"
            )

    def choose_attention(self, network: Any) -> None:
        """Let a network of transformers attend by plain matrix products, if it is to.

        torch's fused kernels for CPUs are made for long texts. 32 texts, 9 heads of 64, forward and backward, one
        thread of a Xeon with AMX, bf16: 64 tokens 18 ms instead of 60, 112 tokens 67 instead of 143, 256 tokens (16
        texts) 187 instead of 109. In float32 they are even at 64, and the fused ones ahead from 112 on. A whole step of
        SmolLM2's layers takes 0.74 of the time at 112 tokens (tests/benchmarks/causal_cpu.py).
        """
        if self.attention == "eager":
            network.set_attn_implementation("eager")

    def uses_flex(self, module: pl.LightningModule, reason: str | None, max_length: int) -> bool:
        """Whether a module attends with flex now.

        Args:
            module: under a trainer or not
            reason: see `check`
            max_length: tokens of its longest input
        """
        if self.attention in ("sdpa", "eager") or reason is not None or is_sharded(module):
            return False
        if self.attention == "flex":
            return True
        is_training = module._trainer is not None
        return is_training and module.device.type == "cuda" and max_length >= _MIN_LENGTH and can_compile()

    def compiles(self, trainer: pl.Trainer, uses_flex: bool) -> bool:
        """Whether a run that begins compiles its layers."""
        if self.compile is not None:
            return self.compile
        if not uses_flex or trainer.strategy.root_device.type != "cuda":
            return False
        return num_batches_left(trainer) >= _MIN_STEPS or most_tokens(trainer.train_dataloader) >= _MANY_TOKENS


def is_sharded(module: pl.LightningModule) -> bool:
    """Whether no rank has whole weights: they are there only while the whole model is called."""
    if module._trainer is None:
        return False
    strategy = module.trainer.strategy
    stage_3 = isinstance(strategy, DeepSpeedStrategy) and strategy.zero_stage_3
    return isinstance(strategy, FSDPStrategy) or stage_3


def num_batches_left(trainer: pl.Trainer) -> float:
    """Return how many batches a run will still train on, at most; infinity if nothing ends it but time.

    Unlike `trainer.estimated_stepping_batches` it does not set up the data, after which Lightning would not resume.
    """
    by_epochs = by_steps = math.inf
    if trainer.max_epochs is not None and trainer.max_epochs != -1:
        by_epochs = trainer.num_training_batches * (trainer.max_epochs - trainer.current_epoch)
    if trainer.max_steps != -1:
        by_steps = (trainer.max_steps - trainer.global_step) * trainer.accumulate_grad_batches
    return max(0.0, min(by_epochs, by_steps))


@functools.cache
def can_compile() -> bool:
    """Whether kernels can be compiled here: with triton, which needs a C compiler. Says once if they cannot."""
    compiler = os.environ.get("CC") or next(filter(shutil.which, ("cc", "gcc", "clang")), None)
    missing = "triton" if importlib.util.find_spec("triton") is None else None if compiler else "a C compiler"
    if missing:
        rank_zero_info(f"attention sdpa, which is several times slower than flex: flex needs {missing}, not found here")
    return missing is None


def compile_layers(network: nn.Module, dynamic: bool | None = None) -> None:
    """Compile each layer of a network of transformers where it trains; in evaluation layers stay as they are.

    Layers of one kind share what is compiled: 16 layers of byt5-small are four graphs, 30 of a Llama one, and each is
    compiled once more when a second length comes, from which on lengths are symbols.

    Args:
        network: whose layers they are
        dynamic: lengths are symbols from the first compilation on
    """
    allow_forms()
    for layer in network.modules():
        if isinstance(layer, GradientCheckpointingLayer):
            _compile_in_training(layer, dynamic)


def _compile_in_training(layer: Any, dynamic: bool | None) -> None:
    plain: Any = layer._call_impl
    fast: Any = torch.compile(plain, dynamic=dynamic)

    def call(*args: Any, **options: Any) -> Any:
        return fast(*args, **options) if layer.training else plain(*args, **options)

    layer._compiled_call_impl = call  # what nn.Module.compile sets, and copies leave behind
