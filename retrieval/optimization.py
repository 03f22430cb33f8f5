"""What trains a model: AdamW at a constant learning rate, as ReProver does, or what needs fewer steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DeepSpeedStrategy, FSDPStrategy
from torch import Tensor, nn
from torch.optim import AdamW, Muon, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from common import ConfigError, adamw_with_warmup, constant_with_warmup
from retrieval.loading import check_choice

OptimizerName = Literal["adamw", "muon"]


class MuonAdamW(Optimizer):
    """Muon for the matrices between layers, AdamW for the rest, both at one learning rate.

    Muon takes the momentum's nearest orthogonal matrix as its step, so that no direction is learnt slower than
    others; scaled as here, it wants AdamW's learning rate. The quickstart gets from it in one epoch more than
    twice the top-1 (tests/benchmarks/learning.py). It needs whole matrices: no FSDP and no ZeRO.

    Source: Jordan et al. 2024 (kellerjordan.github.io/posts/muon); its scale: Liu et al. 2025 (arXiv:2502.16982).
    """

    def __init__(self, matrices: Sequence[Tensor], others: Sequence[Tensor], lr: float, weight_decay: float = 0.01):
        self._parts: list[Optimizer] = []
        if matrices:
            self._parts.append(Muon(matrices, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"))
        if others:
            self._parts.append(AdamW(others, lr=lr, weight_decay=weight_decay))
        groups = [group for part in self._parts for group in part.param_groups]
        super().__init__(groups, {"lr": lr})
        self._share()

    def _share(self) -> None:
        """Let the parts see this optimizer's groups, which schedulers change, and its state, which is saved."""
        for part, group in zip(self._parts, self.param_groups, strict=True):
            part.param_groups, part.state = [group], self.state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what state_dict gave."""
        super().load_state_dict(state_dict)
        self._share()

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self._parts:
            part.step()
        return loss


def check_optimization(optimizer: OptimizerName, warmup_steps: int, lr_decay: float) -> None:
    """Raise ConfigError for an option out of range."""
    check_choice("optimizer", optimizer, get_args(OptimizerName))
    if warmup_steps < 0:
        raise ConfigError(f"warmup_steps is {warmup_steps}; it must be at least 0")
    if not 0 <= lr_decay <= 1:
        raise ConfigError(f"lr_decay is {lr_decay}; it is the share of all steps, from 0 to 1, in which lr falls to 0")


def configure(
    module: pl.LightningModule, optimizer: OptimizerName, lr: float, warmup_steps: int, lr_decay: float
) -> dict[str, Any]:
    """Return what `configure_optimizers` has to.

    Args:
        module: whose parameters to train; frozen ones are left out
        optimizer: "adamw", or "muon", see MuonAdamW
        lr: learning rate after the warm-up
        warmup_steps: optimizer steps from 0 to lr
        lr_decay: share of all steps, at the end, in which the learning rate falls to 0 in a line; 0 keeps it

    Raises:
        ConfigError: if the trainer's strategy cannot do it, or has no end to decay towards
    """
    if optimizer == "muon":
        if isinstance(module.trainer.strategy, FSDPStrategy | DeepSpeedStrategy):
            raise ConfigError("optimizer muon needs whole matrices, and this strategy shards them; use ddp, or adamw")
        trained = MuonAdamW(*split_matrices(module), lr=lr)
    else:
        trained = adamw_with_warmup(module.parameters(), lr, warmup_steps)["optimizer"]
    if not lr_decay:
        return constant_with_warmup(trained, warmup_steps)
    if module.trainer.max_steps == -1 and module.trainer.max_epochs == -1:
        raise ConfigError(
            f"lr_decay is {lr_decay}, so the last step must be known; set trainer.max_steps or max_epochs"
        )

    def factor(step: int) -> float:
        # Lightning counts the steps by loading the data, and then no longer resumes within an epoch: not before step 1
        num_steps = module.trainer.estimated_stepping_batches if step else math.inf
        return trapezoid(step, warmup_steps=warmup_steps, num_steps=num_steps, decay=lr_decay)

    return {"optimizer": trained, "lr_scheduler": {"scheduler": LambdaLR(trained, factor), "interval": "step"}}


def trapezoid(step: int, *, warmup_steps: int, num_steps: float, decay: float) -> float:
    """Return the factor of the learning rate: it rises in a line, stays at 1, and falls in a line to 0."""
    rise = 1.0 if step >= warmup_steps else step / warmup_steps
    fall = max(0.0, num_steps - step) / max(1.0, decay * num_steps) if math.isfinite(num_steps) else 1.0
    return min(rise, fall)


def split_matrices(module: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Return the trained matrices between layers, and what else is trained: embeddings, output layer, norms, biases."""
    tables = {id(layer.weight) for layer in module.modules() if isinstance(layer, nn.Embedding)}
    for layer in module.modules():
        head = getattr(layer, "get_output_embeddings", lambda: None)()
        if head is not None:
            tables.add(id(head.weight))
    trained = [p for p in module.parameters() if p.requires_grad]
    matrices = [p for p in trained if p.ndim == 2 and id(p) not in tables]
    chosen = {id(p) for p in matrices}
    return matrices, [p for p in trained if id(p) not in chosen]
