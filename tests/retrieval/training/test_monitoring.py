"""What the throughput callback counts and logs, with a clock and a device of known speed."""

from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from transformers import T5Config, T5ForConditionalGeneration

from common import ByteTokenizer, ConfigError
from retrieval.training import monitoring
from retrieval.training.flops import count_tokens, training_flops
from retrieval.training.monitoring import ThroughputMonitor
from retrieval.training.optimizers import adamw_with_warmup
from tests.fakes import TINY, quiet_trainer

LENGTHS = [[(9, 4), (3, 2)], [(7, 7), (7, 1)], [(8, 2), (2, 2)], [(5, 5), (4, 3)]]  # (source, target) by batch
SECONDS = 2.0  # that each batch takes


class Loader:
    """Batches of masks; every batch that is handed out moves the clock on."""

    def __init__(self, clock: list[float]) -> None:
        self.clock = clock

    def __len__(self) -> int:
        return len(LENGTHS)

    def __iter__(self) -> Any:
        for rows in LENGTHS:
            self.clock[0] += SECONDS
            yield {"state_mask": mask([s for s, _ in rows]), "tactic_mask": mask([t for _, t in rows]), "index": [0, 1]}


def mask(lengths: list[int]) -> torch.Tensor:
    return (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()


class Module(pl.LightningModule):
    """A T5 of bytes or nothing of the kind, and a loss that reads no batch."""

    target_mask = "tactic_mask"

    def __init__(self, has_model: bool) -> None:
        super().__init__()
        self.tokenizer = ByteTokenizer() if has_model else None
        self.body = T5ForConditionalGeneration(T5Config(vocab_size=64, **TINY)) if has_model else torch.nn.Linear(2, 2)
        self.logged: list[tuple[str, float]] = []

    def log(self, name: str, value: Any, *args: Any, **kwargs: Any) -> None:
        self.logged.append((name, float(value)))

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return next(self.parameters()).sum()

    def configure_optimizers(self) -> Any:
        return adamw_with_warmup(self.parameters(), lr=1e-3, warmup_steps=1)


def fit(
    monkeypatch: pytest.MonkeyPatch, monitor: ThroughputMonitor, *, has_model: bool = True, **options: Any
) -> Module:
    """Train an epoch, the clock standing still but for the loader."""
    clock = [0.0]
    monkeypatch.setattr(monitoring.time, "perf_counter", lambda: clock[0])
    module = Module(has_model)
    options = {"max_epochs": 1, "log_every_n_steps": 2, **options}
    quiet_trainer(".", callbacks=[monitor], **options).fit(module, Loader(clock))
    return module


def values(module: Module, name: str) -> list[float]:
    return [value for key, value in module.logged if key == name]


def test_tokens_flops_and_padding_are_logged_every_few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    module = fit(monkeypatch, ThroughputMonitor())
    flops = training_flops(module)
    assert flops is not None
    expected: dict[str, list[float]] = {"useful_bytes_per_s": [], "padding_share": [], "model_flops_per_s": []}
    for batches in (LENGTHS[:2], LENGTHS[2:]):
        rows = [row for batch in batches for row in batch]
        useful = sum(s + t for s, t in rows)
        padded = sum(len(batch) * (max(s for s, _ in batch) + max(t for _, t in batch)) for batch in batches)
        counts = count_tokens(
            {"state_mask": mask([s for s, _ in rows]), "tactic_mask": mask([t for _, t in rows])}, "tactic_mask"
        )
        expected["useful_bytes_per_s"].append(useful / (2 * SECONDS))
        expected["padding_share"].append(1 - useful / padded)
        expected["model_flops_per_s"].append(flops.total(counts.tolist()) / (2 * SECONDS))
    assert {name: values(module, name) for name in expected} == {k: pytest.approx(v) for k, v in expected.items()}
    assert not values(module, "mfu"), "a CPU has no known peak"


def test_utilisation_is_the_share_of_the_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    module = fit(monkeypatch, ThroughputMonitor(peak_flops_per_s=5e6))
    assert len(values(module, "mfu")) == 2
    assert values(module, "mfu") == pytest.approx([v / 5e6 for v in values(module, "model_flops_per_s")])


def test_the_peak_is_that_of_the_device_unless_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitoring, "peak_flops_per_s", lambda device: 1e7)
    module = fit(monkeypatch, ThroughputMonitor())
    assert values(module, "mfu") == pytest.approx([v / 1e7 for v in values(module, "model_flops_per_s")])


def test_accumulated_batches_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    module = fit(monkeypatch, ThroughputMonitor(), accumulate_grad_batches=2)
    useful = sum(s + t for batch in LENGTHS for s, t in batch)
    assert values(module, "useful_bytes_per_s") == pytest.approx([useful / (4 * SECONDS)])


def test_the_device_is_waited_for_only_where_something_is_logged() -> None:
    trainer: Any = SimpleNamespace(log_every_n_steps=3, accumulate_grad_batches=1, world_size=1)
    unreadable = {"state_mask": torch.ones(2, 5, device="meta"), "tactic_mask": torch.ones(2, 3, device="meta")}
    monitor, module = ThroughputMonitor(), Module(has_model=True)
    monitor.on_train_epoch_start(trainer, module)
    for step in range(2):
        monitor.on_train_batch_end(trainer, module, None, unreadable, step)
    with pytest.raises(NotImplementedError, match="meta"):
        monitor.on_train_batch_end(trainer, module, None, unreadable, 2)


@pytest.mark.parametrize("world_size", [1, 4])
def test_rates_are_those_of_all_ranks_and_utilisation_that_of_one(
    monkeypatch: pytest.MonkeyPatch, world_size: int
) -> None:
    trainer: Any = SimpleNamespace(log_every_n_steps=1, accumulate_grad_batches=1, world_size=world_size)
    times = iter((0.0, 2.0, 2.0))
    monkeypatch.setattr(monitoring.time, "perf_counter", lambda: next(times))
    monitor, module = ThroughputMonitor(peak_flops_per_s=1e6), Module(has_model=True)
    monitor.setup(trainer, module, "fit")
    monitor.on_train_epoch_start(trainer, module)
    monitor.on_train_batch_end(trainer, module, None, {"attention_mask": mask([3, 5])}, 0)
    flops = training_flops(module)
    assert flops is not None
    logged = dict(module.logged)
    assert logged["useful_bytes_per_s"] == 8 * world_size / 2
    assert logged["model_flops_per_s"] == flops.total([8, 34, 0, 0, 0, 8]) * world_size / 2
    assert logged["mfu"] == pytest.approx(flops.total([8, 34, 0, 0, 0, 8]) / 2 / 1e6)


def test_logits_count_where_they_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer: Any = SimpleNamespace(log_every_n_steps=1, accumulate_grad_batches=1, world_size=1)
    times = iter((0.0, 1.0, 1.0))
    monkeypatch.setattr(monitoring.time, "perf_counter", lambda: next(times))
    monitor, module = ThroughputMonitor(), Module(has_model=True)
    monitor.setup(trainer, module, "fit")
    monitor.on_train_epoch_start(trainer, module)
    labels = torch.tensor([[-100, -100, 7, -100, -100], [-100, -100, -100, 7, 7]])
    monitor.on_train_batch_end(trainer, module, None, {"attention_mask": mask([3, 5]), "labels": labels}, 0)
    flops = training_flops(module)
    assert flops is not None
    assert values(module, "model_flops_per_s") == [flops.total([8, 34, 0, 0, 0, 3])]


def test_a_module_without_a_transformer_logs_its_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    module = fit(monkeypatch, ThroughputMonitor(peak_flops_per_s=1e9), has_model=False)
    assert {name for name, _ in module.logged} == {"useful_tokens_per_s", "padding_share"}


@pytest.mark.parametrize("peak", [0, -1.0, float("nan")])
def test_a_peak_that_is_no_speed_is_refused(peak: float) -> None:
    with pytest.raises(ConfigError, match="peak_flops_per_s"):
        ThroughputMonitor(peak_flops_per_s=peak)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_the_fused_optimizer_lets_gradients_be_clipped(monkeypatch: pytest.MonkeyPatch, precision: Any) -> None:
    module = fit(monkeypatch, ThroughputMonitor(), gradient_clip_val=1e-3, precision=precision)
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    assert 0 < float(torch.nn.utils.get_total_norm(gradients)) <= 1.01e-3
