"""What trains a model: AdamW at a constant learning rate, as ReProver does, or what needs fewer steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Timer
from pytorch_lightning.strategies import DeepSpeedStrategy, FSDPStrategy
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from transformers import get_constant_schedule_with_warmup

from common import ConfigError, check_choice, check_positive
from retrieval.training.devices import rough_dtype

OptimizerName = Literal["adamw", "muon"]

_MOMENTUM = 0.95
_NUM_ITERATIONS = 5  # of Newton and Schulz
_WIDE = 2  # times as wide as high is a matrix whose iterations are cheaper by its gram matrix
_QUINTIC = (3.4445, -4.7750, 2.0315)  # their polynomial: steepest at 0, as Jordan et al. chose it


class MuonAdamW(Optimizer):
    """Muon for the matrices between layers, AdamW for the rest, both at one learning rate.

    Muon takes the momentum's nearest orthogonal matrix as its step, so that no direction is learnt slower than
    others; scaled as here, it wants AdamW's learning rate. After 400 steps of the quickstart top-1 is 43%,
    with AdamW 32% (tests/benchmarks/learning.py --variants pool20 adamw --steps 400). It needs whole matrices: no FSDP
    and no ZeRO. Matrices of one shape are orthogonalized together: a third of the time of torch.optim.Muon, which
    takes them one by one, and the same steps.

    Source: Jordan et al. 2024 (kellerjordan.github.io/posts/muon); its scale: Liu et al. 2025 (arXiv:2502.16982).
    """

    def __init__(self, matrices: Sequence[Tensor], others: Sequence[Tensor], lr: float, weight_decay: float = 0.01):
        muon = {"params": list(matrices), "momentum": _MOMENTUM}
        adamw = {"params": list(others)}
        groups = [group for group in (muon, adamw) if group["params"]]
        super().__init__(groups, {"lr": lr, "weight_decay": weight_decay})
        self._adamw = AdamW(others, lr=lr, weight_decay=weight_decay, fused=_fusible(others)) if others else None
        self._share()

    def _share(self) -> None:
        """Let AdamW see its group, which schedulers change, and this optimizer's state, which is saved."""
        if self._adamw is not None:
            group = self.param_groups[-1]
            for key, value in self._adamw.param_groups[0].items():
                group.setdefault(key, value)
            self._adamw.param_groups, self._adamw.state = [group], self.state

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
        if "momentum" in self.param_groups[0]:
            self._step_muon(self.param_groups[0])
        if self._adamw is not None:
            self._adamw.step()
        return loss

    def _step_muon(self, group: dict[str, Any]) -> None:
        """Move each matrix along the orthogonalized momentum, looked one step ahead (Nesterov)."""
        by_shape: dict[tuple[int, int, torch.device], list[Tensor]] = {}
        for matrix in group["params"]:
            if matrix.grad is not None:
                by_shape.setdefault((*sorted(matrix.shape), matrix.device), []).append(matrix)
        for matrices in by_shape.values():
            ahead = []
            for matrix in matrices:
                assert matrix.grad is not None
                state = self.state[matrix]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(matrix.grad)
                momentum = state["momentum_buffer"].lerp_(matrix.grad, 1 - group["momentum"])
                wide = matrix.grad.lerp(momentum, group["momentum"])
                ahead.append(wide if matrix.shape[0] <= matrix.shape[1] else wide.T)
            scale = 0.2 * math.sqrt(max(matrices[0].shape)) * group["lr"]  # so that steps are as large as AdamW's
            for matrix, step in zip(matrices, orthogonalized(torch.stack(ahead)), strict=True):
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                matrix.add_(step if step.shape == matrix.shape else step.T, alpha=-scale)


def orthogonalized(matrices: Tensor) -> Tensor:
    """Return about the nearest orthogonal matrix of each matrix, singular values between 0.7 and 1.2.

    Args:
        matrices: (n, rows, columns), no more rows than columns

    Returns:
        Of the same shape; bfloat16, which is precise enough for a direction, where the device is fast at it (one
        thread of a Xeon with AMX: 10 ms for 14 matrices of 128 x 384, float32 23 ms), else float32 (with AVX2 alone
        bfloat16 takes 790 ms, float32 17 ms)
    """
    found = matrices.to(rough_dtype(matrices.device))
    found = found / found.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    if found.dtype == torch.float32 and found.shape[-1] >= _WIDE * found.shape[-2]:
        return _orthogonalized_by_grams(found)
    for _ in range(_NUM_ITERATIONS):
        gram = found @ found.mT
        update = torch.baddbmm(gram, gram, gram, beta=_QUINTIC[1], alpha=_QUINTIC[2])
        found = torch.baddbmm(found, update, found, beta=_QUINTIC[0])
    return found


def _orthogonalized_by_grams(matrices: Tensor) -> Tensor:
    """The same for wide matrices of norm 1: every iterate is a polynomial of the first gram matrix times the matrix.

    So the iterations need the small squares alone; in bfloat16 their errors would add up. With AVX2 15 matrices of
    128 x 384 take 28 ms instead of 42 (one thread).
    """
    gram = matrices @ matrices.mT
    product: Tensor | None = None
    for _ in range(_NUM_ITERATIONS):
        factor = torch.baddbmm(gram, gram, gram, beta=_QUINTIC[1], alpha=_QUINTIC[2])
        factor.diagonal(dim1=-2, dim2=-1).add_(_QUINTIC[0])
        product = factor if product is None else factor @ product
        gram = factor @ gram @ factor
    assert product is not None
    return product @ matrices


def _fusible(parameters: Sequence[Tensor]) -> bool:
    return all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in parameters)


@dataclass(frozen=True)
class Optimization:
    """How a model is trained.

    Attributes:
        lr: learning rate after the warm-up
        warmup_steps: optimizer steps over which the learning rate rises
        optimizer: "adamw" (ReProver's), or "muon", which learns from fewer steps; see retrieval.training.optimizers
        lr_decay: share of all steps, or of trainer.max_time, at the end, in which the learning rate falls to 0 in a
            line; 0 keeps it (ReProver)
    """

    lr: float = 5e-4
    warmup_steps: int = 2000
    optimizer: OptimizerName = "adamw"
    lr_decay: float = 0.0

    def __post_init__(self) -> None:
        check_positive(lr=self.lr)
        check_choice("optimizer", self.optimizer, get_args(OptimizerName))
        if self.warmup_steps < 0:
            raise ConfigError(f"warmup_steps is {self.warmup_steps}; it must be at least 0")
        if not 0 <= self.lr_decay <= 1:
            raise ConfigError(
                f"lr_decay is {self.lr_decay}; it is the share of all steps, from 0 to 1, in which lr falls to 0"
            )


def configure(module: pl.LightningModule, optimization: Optimization) -> dict[str, Any]:
    """Return what `configure_optimizers` has to.

    Args:
        module: whose parameters to train; frozen ones are left out
        optimization: how

    Raises:
        ConfigError: if the trainer's strategy cannot do it, or has no end to decay towards
    """
    lr, warmup_steps = optimization.lr, optimization.warmup_steps
    if optimization.optimizer == "muon":
        if isinstance(module.trainer.strategy, FSDPStrategy | DeepSpeedStrategy):
            raise ConfigError("optimizer muon needs whole matrices, and this strategy shards them; use ddp, or adamw")
        trained = MuonAdamW(*split_matrices(module), lr=lr)
    else:
        trained = adamw_with_warmup(module.parameters(), lr, warmup_steps)["optimizer"]
    return with_schedule(module, trained, warmup_steps, optimization.lr_decay)


def with_schedule(
    module: pl.LightningModule, optimizer: Optimizer, warmup_steps: int, lr_decay: float
) -> dict[str, Any]:
    """Return Lightning's description of an optimizer and of its learning rate's way; see `configure`.

    Raises:
        ConfigError: if the trainer has no end to decay towards
    """
    if not lr_decay:
        return constant_with_warmup(optimizer, warmup_steps)
    timer = _timer(module.trainer)
    if module.trainer.max_steps == -1 and module.trainer.max_epochs == -1 and timer is None:
        raise ConfigError(
            f"lr_decay is {lr_decay}, so the end must be known; set trainer.max_steps, max_epochs or max_time"
        )

    def factor(step: int) -> float:
        # Lightning counts the steps by loading the data, and then no longer resumes within an epoch: not before step 1
        num_steps = module.trainer.estimated_stepping_batches if step else math.inf
        by_steps = trapezoid(step, warmup_steps=warmup_steps, num_steps=num_steps, decay=lr_decay)
        if timer is None or not step:
            return by_steps
        return min(by_steps, faded(_share_of_time(module.trainer, timer), lr_decay))

    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": LambdaLR(optimizer, factor), "interval": "step"}}


def trapezoid(step: int, *, warmup_steps: int, num_steps: float, decay: float) -> float:
    """Return the factor of the learning rate: it rises in a line, stays at 1, and falls in a line to 0."""
    rise = 1.0 if step >= warmup_steps else step / warmup_steps
    fall = max(0.0, num_steps - step) / max(1.0, decay * num_steps) if math.isfinite(num_steps) else 1.0
    return min(rise, fall)


def faded(done: float, decay: float) -> float:
    """Return the factor where the share `done` of a run is over: it stays at 1, and falls in a line over `decay`."""
    return min(1.0, max(0.0, 1 - done) / decay)


def _timer(trainer: pl.Trainer) -> Timer | None:
    """What ends a run by `trainer.max_time`, if something does."""
    timers = [callback for callback in trainer.callbacks if isinstance(callback, Timer)]  # type: ignore[attr-defined]
    return next((timer for timer in timers if timer._duration), None)


def _share_of_time(trainer: pl.Trainer, timer: Timer) -> float:
    """By the first rank's clock: with rates of their own, the weights of ranks would part."""
    assert timer._duration
    return trainer.strategy.broadcast(timer.time_elapsed()) / timer._duration


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


def constant_with_warmup(optimizer: Optimizer, warmup_steps: int) -> dict[str, Any]:
    """Lightning's description of a learning rate that rises for warmup_steps and then stays."""
    scheduler: LRScheduler = get_constant_schedule_with_warmup(optimizer, warmup_steps)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def adamw_with_warmup(parameters: Iterable[torch.nn.Parameter], lr: float, warmup_steps: int) -> dict[str, Any]:
    """AdamW and a constant learning rate after a linear warm-up, as ReProver trains.

    It is torch's fused one where all parameters are floating-point numbers on a CPU or a CUDA device.

    Args:
        parameters: what to train; frozen ones are left out
        lr: learning rate after the warm-up
        warmup_steps: optimizer steps from 0 to lr
    """
    trained = [p for p in parameters if p.requires_grad]
    fused = all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in trained)
    optimizer = torch.optim.AdamW(trained, lr=lr, fused=fused)
    # else Lightning refuses to clip gradients in mixed precision; like this, a GradScaler unscales before the clipping
    optimizer._step_supports_amp_scaling = False
    return constant_with_warmup(optimizer, warmup_steps)
