"""Runs that diverge end at once, and leave the good checkpoint as it was."""

import math
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from retrieval.training.divergence import DivergedError, Divergence, are_finite
from retrieval.training.last_checkpoint import LastCheckpoint
from retrieval.training.monitoring import GradientNorm
from tests.fakes import quiet_trainer


class Module(pl.LightningModule):
    """Its loss, gradient or weight is spoilt at some step."""

    def __init__(self, what: str = "", step: int = -1, value: float = math.nan) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(3))
        self.what, self.step, self.value = what, step, value

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.weight.sum()
        if self.what == "loss" and self.global_step == self.step:
            loss = loss * self.value
        return loss

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        if self.what == "gradient" and self.global_step == self.step and self.weight.grad is not None:
            self.weight.grad[1] = self.value
        if self.what == "weight" and self.global_step == self.step:
            self.weight.data[1] = self.value

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("score_val", float(self.global_step))


def fit(folder: Path, module: Module, **options: Any) -> pl.Trainer:
    best = ModelCheckpoint(monitor="score_val", mode="max", filename="best-{step}")
    callbacks = [GradientNorm(), Divergence(), LastCheckpoint(), best]
    options = {"max_epochs": 3, "log_every_n_steps": 4, "enable_checkpointing": True, **options}
    trainer = quiet_trainer(folder, callbacks=callbacks, **options)
    trainer.fit(module, torch.zeros(10, 1), torch.zeros(2, 1))
    return trainer


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize(
    ("what", "step", "found"),
    [
        ("loss", 14, "step 15: the loss is"),
        ("gradient", 15, "step (16: the gradient|17: the loss) is"),
        ("gradient", 13, "step 15: the loss is"),
        ("gradient", 19, "step 20: weights are"),
        ("weight", 12, "step 14: the loss is"),
    ],
)
def test_a_run_that_diverges_ends_in_a_line_with_the_step_and_the_good_checkpoint(
    tmp_path: Path, what: str, step: int, found: str, value: float
) -> None:
    with pytest.raises(DivergedError, match=rf"{found} not finite, .*last\.ckpt, of step 10\. Lower model\.lr") as e:
        fit(tmp_path, Module(what, step, value))
    assert "\n" not in str(e.value)
    for path in (tmp_path / "checkpoints").iterdir():
        assert torch.load(path, weights_only=True)["state_dict"]["weight"].isfinite().all()
    assert {p.name for p in (tmp_path / "checkpoints").iterdir()} == {"last.ckpt", "best-step=10.ckpt"}


def test_a_run_that_diverges_at_its_last_step_leaves_no_checkpoint_of_it(tmp_path: Path) -> None:
    options = {"max_epochs": -1, "max_steps": 7, "limit_val_batches": 0}
    with pytest.raises(DivergedError, match="step 7: weights are not finite, .*; no checkpoint was written before"):
        fit(tmp_path, Module("gradient", 6), **options)
    assert not list(tmp_path.rglob("*.ckpt"))


def test_a_run_that_does_not_diverge_is_left_alone(tmp_path: Path) -> None:
    assert fit(tmp_path, Module()).global_step == 30


def test_the_device_is_waited_for_only_when_values_are_logged() -> None:
    """A loss on the meta device has no value to look at."""
    trainer: Any = quiet_trainer(".", log_every_n_steps=3)
    watch, loss = Divergence(), torch.ones((), device="meta")
    for step in range(2):
        watch.on_train_batch_end(trainer, Module(), {"loss": loss}, None, step)
    with pytest.raises((NotImplementedError, RuntimeError), match="meta"):
        watch.on_train_batch_end(trainer, Module(), {"loss": loss}, None, 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_weights_are_finite_unless_one_is_not(dtype: torch.dtype) -> None:
    large = torch.full((4,), torch.finfo(dtype).max, dtype=dtype)
    assert are_finite([]) and are_finite([torch.ones(3, dtype=dtype), large]), "only their sum is infinite"
    for value in (math.nan, math.inf, -math.inf):
        assert not are_finite([torch.ones(3, dtype=dtype), torch.tensor([1.0, value], dtype=dtype)])
    assert not are_finite([torch.tensor([math.inf, -math.inf], dtype=dtype)])


class Scaled(Divergence):
    """As with a scaler of gradients, which there is on a GPU alone."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.precision_plugin.scaler = object()  # type: ignore[attr-defined]


class Skipping(Module):
    """Some of its losses are infinite, and make no step, as under a scaler."""

    def __init__(self, first: int, last: int) -> None:
        super().__init__()
        self.first, self.last, self.num = first, last, 0

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.num += 1
        is_skipped = self.first <= self.num <= self.last
        return {"loss": self.weight.sum() * 0 + (math.inf if is_skipped else 0.0)}


@pytest.mark.parametrize("num_skipped", [49, 60])
def test_steps_that_a_scaler_leaves_out_count_only_in_a_long_row(tmp_path: Path, num_skipped: int) -> None:
    trainer = quiet_trainer(tmp_path, max_epochs=20, log_every_n_steps=4, callbacks=[Scaled()])
    module = Skipping(11, 10 + num_skipped)
    if num_skipped < 50:
        trainer.fit(module, torch.zeros(10, 1), torch.zeros(2, 1))
        assert trainer.global_step == 200
    else:
        with pytest.raises(DivergedError, match="step 60: the losses of the last 50 batches are not finite"):
            trainer.fit(module, torch.zeros(10, 1), torch.zeros(2, 1))
