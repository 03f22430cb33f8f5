"""The share of time that training waits for its data, on a clock that the test moves."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.profilers import SimpleProfiler

from retrieval.training import data_wait
from retrieval.training.data_wait import DataWait, DeviceClock
from tests.fakes import quiet_trainer


class Loader:
    """Four batches; each takes a while to come."""

    def __init__(self, clock: list[float], seconds: float) -> None:
        self.clock, self.seconds = clock, seconds

    def __len__(self) -> int:
        return 4

    def __iter__(self) -> Iterator[torch.Tensor]:
        for _ in range(4):
            self.clock[0] += self.seconds
            yield torch.ones(1)


class Module(pl.LightningModule):
    """A step takes three seconds, and a validation a hundred."""

    def __init__(self, clock: list[float]) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.clock, self.logged = clock, list[tuple[str, float]]()

    def log(self, name: str, value: Any, *args: Any, **kwargs: Any) -> None:
        self.logged.append((name, float(value)))

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        self.clock[0] += 3.0
        return self.weight.sum()

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.clock[0] += 100.0

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(monkeypatch: pytest.MonkeyPatch, folder: Path, wait: float, **options: Any) -> list[float]:
    clock = [0.0]
    monkeypatch.setattr(data_wait.time, "perf_counter", lambda: clock[0])
    module = Module(clock)
    trainer = quiet_trainer(folder, callbacks=[DataWait()], **options)
    trainer.fit(module, Loader(clock, wait), Loader(clock, 50.0))
    assert {name for name, _ in module.logged} <= {"data_wait_share"}
    return [value for _, value in module.logged]


@pytest.mark.parametrize(("wait", "share"), [(1.0, 0.25), (0.0, 0.0), (9.0, 0.75)])
def test_it_is_the_time_until_batches_come_against_the_time_of_steps(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wait: float, share: float
) -> None:
    found = fit(monkeypatch, tmp_path, wait, max_epochs=2, log_every_n_steps=2)
    assert found == pytest.approx([share] * 4)


def test_validation_inside_an_epoch_does_not_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    options = {"max_epochs": 1, "log_every_n_steps": 1, "val_check_interval": 1}
    assert fit(monkeypatch, tmp_path, 1.0, **options) == pytest.approx([0.25] * 4)


def test_steps_of_several_batches_are_counted_as_steps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    options = {"max_epochs": 1, "log_every_n_steps": 2, "accumulate_grad_batches": 2}
    assert fit(monkeypatch, tmp_path, 1.0, **options) == pytest.approx([0.25])


def test_the_profiler_that_was_chosen_still_works(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    profiler = SimpleProfiler()
    assert fit(monkeypatch, tmp_path, 1.0, max_epochs=1, profiler=profiler) == pytest.approx([0.25] * 4)
    [fetches] = [times for name, times in profiler.recorded_durations.items() if name.endswith(data_wait._FETCH)]
    assert len(fetches) >= 4


class Queue:
    """A device that does what it is given one after another, on the clock of the host."""

    def __init__(self) -> None:
        self.now = self.busy_until = 0.0

    def work(self, seconds: float) -> None:
        self.busy_until = max(self.busy_until, self.now) + seconds

    def event(self) -> Any:
        passed_at = max(self.busy_until, self.now)
        event = type("Event", (), {})()
        event.at = passed_at
        event.query = lambda: passed_at <= self.now
        event.elapsed_time = lambda other: 1000 * (other.at - passed_at)
        return event


@pytest.mark.parametrize(("fetch", "waited"), [(1.0, 0.0), (5.0, 2.0)])
def test_a_gpu_waits_only_once_it_has_done_its_work(
    monkeypatch: pytest.MonkeyPatch, fetch: float, waited: float
) -> None:
    """Of a fetch of five seconds beside work of three, it has nothing to do for two; the host is never held up."""
    queue, clock = Queue(), DeviceClock()
    monkeypatch.setattr(data_wait, "_event", queue.event)
    for _ in range(4):
        queue.work(3.0)  # launched at once
        clock.start()
        queue.now += fetch
        clock.stop()
    taken = clock.take()
    queue.now += 100.0
    assert taken + clock.take() == pytest.approx(4 * waited)
    assert clock.take() == 0.0


def test_what_a_gpu_has_not_come_to_counts_later(monkeypatch: pytest.MonkeyPatch) -> None:
    queue, clock = Queue(), DeviceClock()
    monkeypatch.setattr(data_wait, "_event", queue.event)
    clock.start()
    queue.now += 2.0
    clock.stop()
    queue.work(9.0)
    clock.start()
    clock.stop()
    assert clock.take() == 2.0
    queue.now += 9.0
    assert clock.take() == 0.0
