"""How long a run still takes is told early, with its validations, on a clock that the data moves."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping
from torch.utils.data import DataLoader, Dataset

from retrieval.training.progress import Plan, TimeLeft, plan_of
from tests.fakes import quiet_trainer

TRAIN_S, VAL_S = 1.0, 5.0  # of a batch


class Data(Dataset[int]):
    """Numbers; each that is read moves the clock on."""

    def __init__(self, clock: list[float], size: int, seconds: float) -> None:
        self.clock, self.size, self.seconds = clock, size, seconds

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> int:
        self.clock[0] += self.seconds
        return index


class Module(pl.LightningModule):
    """Learns nothing, and notes what stands beside the progress bar after each batch."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.min_left: list[tuple[int, float]] = []

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        shown = self.trainer.progress_bar_metrics.get("min_left")
        if shown is not None:
            self.min_left.append((self.trainer.fit_loop.epoch_loop.total_batch_idx, float(shown)))
        return self.weight.square()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("loss_val", 0.0)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(
    folder: Path, *, train: int = 60, val: int = 4, train_s: float = TRAIN_S, resume: Path | None = None, **options: Any
) -> Module:
    """Train an epoch or more; train_s a batch, VAL_S a batch of validation."""
    clock = [0.0]
    callbacks = [TimeLeft(lambda: clock[0]), *options.pop("callbacks", [])]
    module = Module()
    trainer = quiet_trainer(folder, callbacks=callbacks, **options)
    loaders = DataLoader(Data(clock, train, train_s)), DataLoader(Data(clock, val, VAL_S))
    trainer.fit(module, *loaders, ckpt_path=resume)
    trainer.save_checkpoint(folder / "end.ckpt")
    return module


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.getMessage().startswith("time left")]


@pytest.fixture(autouse=True)
def _all_that_is_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def test_it_is_said_within_the_first_minute_and_when_validation_is_known(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fit(tmp_path, max_epochs=3)
    assert lines(caplog) == [
        # after 20 s: 160 batches, and three times as long as training on four examples
        "time left: about 3 min (160 of 180 batches; 1 s a batch; 3 validations of 4 s each, a guess)",
        "time left: about 3 min (120 of 180 batches; 1 s a batch; 2 validations of 20 s each)",
    ]


def test_a_bar_and_the_line_do_not_mix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(tmp_path, max_epochs=1, enable_progress_bar=True)
    printed = capsys.readouterr().out.replace("\r", "\n").splitlines()
    assert "time left: about 44 s (40 of 60 batches; 1 s a batch; 1 validation of 4 s, a guess)" in printed
    assert sum("time left" in line for line in printed) == 1, "when nothing is left nothing is said"


def test_what_stands_beside_the_bar_falls_to_nothing_and_holds_validations(tmp_path: Path) -> None:
    shown = dict(fit(tmp_path, max_epochs=2).min_left)
    assert shown[59] * 60 == pytest.approx(120 - 50 + 2 * 4), "validation is a guess: as training on its examples"
    assert shown[75] * 60 == pytest.approx(120 - 70 + 20), "one validation is left, and known"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"max_steps": 90}, "70 of 90 batches; 1 s a batch; 1 validation"),
        ({"max_steps": 40, "accumulate_grad_batches": 2}, "60 of 80 batches; 1 s a batch; 1 validation"),
        ({"max_epochs": 1, "val_check_interval": 15}, "40 of 60 batches; 1 s a batch; 3 validations of 20 s each)"),
        ({"max_epochs": 4, "check_val_every_n_epoch": 2}, "220 of 240 batches; 1 s a batch; 2 validations"),
        ({"max_epochs": 1, "limit_val_batches": 0}, "time left: about 40 s (40 of 60 batches; 1 s a batch)"),
        ({"max_epochs": 2, "limit_train_batches": 30}, "40 of 60 batches; 1 s a batch; 2 validations"),
        ({"max_steps": 100, "val_check_interval": 25, "check_val_every_n_epoch": None}, "4 validations"),
    ],
    ids=str,
)
def test_every_option_that_ends_a_run_or_validates_counts(
    options: dict[str, Any], expected: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fit(tmp_path, **options)
    assert expected in lines(caplog)[0]


def test_time_may_end_a_run_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fit(tmp_path, max_epochs=2, max_time=timedelta(seconds=50))
    assert lines(caplog)[0].startswith("time left: about 50 s at most")


def test_a_run_that_may_stop_early_says_at_most(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fit(tmp_path, max_epochs=2, callbacks=[EarlyStopping("loss_val", patience=9)])
    assert "about 2 min at most (100 of 120" in lines(caplog)[0]


def test_slow_batches_are_spoken_of_after_a_minute(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fit(tmp_path, train=5, train_s=40.0, max_epochs=1, limit_val_batches=0)
    assert lines(caplog) == ["time left: about 2 min (3 of 5 batches; 40 s a batch)"]


def test_a_run_that_is_over_before_it_is_worth_a_word_says_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fit(tmp_path, train=15, max_epochs=1)
    assert not lines(caplog)


def test_a_resumed_run_counts_what_is_left_and_knows_what_validation_costs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fit(tmp_path, max_epochs=1)
    caplog.clear()
    fit(tmp_path, max_epochs=3, resume=tmp_path / "end.ckpt")
    assert lines(caplog) == ["time left: about 2 min (100 of 180 batches; 1 s a batch; 2 validations of 20 s each)"]


def test_what_checks_that_validation_works_tells_what_it_costs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fit(tmp_path, max_epochs=1, num_sanity_val_steps=2)
    assert lines(caplog) == ["time left: about 60 s (40 of 60 batches; 1 s a batch; 1 validation of 20 s)"]


def test_the_first_batch_is_no_measure(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Slow(pl.Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            if batch_idx == 0:
                trainer.train_dataloader.dataset.clock[0] += 30.0

    fit(tmp_path, max_epochs=1, limit_val_batches=0, callbacks=[Slow()])
    assert "(49 of 60 batches; 1 s a batch)" in lines(caplog)[0]


def test_the_plan_of_data_without_a_length_is_told_by_steps(tmp_path: Path) -> None:
    plans = []

    class Look(pl.Callback):
        def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
            plans.append(plan_of(trainer))

    def endless() -> Iterator[int]:
        while True:
            yield 0

    class Stream(torch.utils.data.IterableDataset[int]):
        def __iter__(self) -> Iterator[int]:
            return endless()

    trainer = quiet_trainer(tmp_path, max_steps=7, callbacks=[Look(), TimeLeft()])
    trainer.fit(Module(), DataLoader(Stream()))
    assert [plan.num_left for plan in plans] == [6, 5, 4, 3, 2, 1, 0] and math.isinf(plans[0].epoch)


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        (Plan(0, 0, 100, 10, 10, 1, 5), 10),
        (Plan(10, 10, 100, 10, 10, 1, 5), 9),
        (Plan(0, 0, 100, 10, 4, 1, 5), 20),
        (Plan(5, 5, 100, 10, 4, 1, 5), 19),
        (Plan(4, 3, 100, 10, 4, 1, 5), 20),
        (Plan(0, 0, 100, 10, 10, 3, 5), 3),
        (Plan(0, 0, 100, 10, 15, None, 5), 6),
        (Plan(0, 0, 100, math.inf, 30, 1, 5), 3),
        (Plan(0, 0, 100, 10, math.inf, 1, 5), 0),
        (Plan(0, 0, 100, 10, 10, 1, 0), 0),
        (Plan(0, 0, math.inf, math.inf, 10, None, 5), 0),
    ],
)
def test_validations_are_counted_where_lightning_has_them(plan: Plan, expected: int) -> None:
    assert plan.validations_left == expected
