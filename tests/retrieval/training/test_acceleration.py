"""Which runs use flex and compile, and how long compiling took."""

from __future__ import annotations

import copy
import math
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from transformers import T5Config, T5EncoderModel

from common import ConfigError
from retrieval.training import acceleration, compile_time
from retrieval.training.acceleration import Acceleration, compile_layers, num_batches_left
from retrieval.training.batches import LengthGroupedBatchSampler
from retrieval.training.block_attention import block_mask
from retrieval.training.compile_time import CompileTime
from retrieval.training.t5_attention import take_block_masks
from tests.fakes import quiet_trainer


def module(device: str, *, has_trainer: bool = True) -> Any:
    trainer = SimpleNamespace(strategy=None) if has_trainer else None
    return SimpleNamespace(_trainer=trainer, trainer=trainer, device=torch.device(device))


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceleration, "can_compile", lambda: True)


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize(
    ("device", "asked", "reason", "max_length", "has_trainer", "expected"),
    [
        ("cuda", "auto", None, 2300, True, True),
        ("cuda", "auto", None, 511, True, False),  # too short to win the compile time back
        ("cuda", "auto", "it is of type bart", 2300, True, False),
        ("cuda", "auto", None, 2300, False, False),  # to serve
        ("cuda", "sdpa", None, 2300, True, False),
        ("cuda", "eager", None, 2300, True, False),
        ("cpu", "auto", None, 2300, True, False),
        ("mps", "auto", None, 2300, True, False),
        ("cpu", "flex", None, 16, False, True),
    ],
)
def test_flex_is_for_training_on_cuda_unless_chosen(
    device: str, asked: Any, reason: str | None, max_length: int, has_trainer: bool, expected: bool
) -> None:
    found = Acceleration(attention=asked).uses_flex(module(device, has_trainer=has_trainer), reason, max_length)
    assert found is expected


def test_without_a_compiler_flex_is_left_out_and_said_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(acceleration.importlib.util, "find_spec", lambda name: None)
    said: list[str] = []
    monkeypatch.setattr(acceleration, "rank_zero_info", said.append)
    acceleration.can_compile.cache_clear()
    assert not Acceleration().uses_flex(module("cuda"), None, 2300)
    assert not Acceleration().uses_flex(module("cuda"), None, 2300)
    acceleration.can_compile.cache_clear()
    assert len(said) == 1 and "flex needs triton" in said[0]


def run(device: str = "cuda", **options: Any) -> Any:
    defaults = {"max_epochs": 1, "max_steps": -1, "num_training_batches": 100, "current_epoch": 0, "global_step": 0}
    strategy = SimpleNamespace(root_device=torch.device(device))
    defaults |= {"accumulate_grad_batches": 1, "train_dataloader": loader(batch_size=8), "strategy": strategy}
    return SimpleNamespace(**{**defaults, **options})


def loader(*, longest: int = 100, **limits: int) -> Any:
    """Of a hundred examples, the longest of so many tokens."""
    sampler = LengthGroupedBatchSampler([longest - 10, *[5] * 99], [10, *[5] * 99], **limits)
    return SimpleNamespace(batch_sampler_of_epochs=sampler)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"max_epochs": 3}, 300),
        ({"max_epochs": 3, "current_epoch": 2}, 100),
        ({"max_epochs": -1}, math.inf),
        ({"max_epochs": None, "max_steps": 50}, 50),
        ({"max_epochs": -1, "max_steps": 50, "accumulate_grad_batches": 4, "global_step": 10}, 160),
        ({"max_epochs": 1, "max_steps": 10_000}, 100),
        ({"max_epochs": 1, "current_epoch": 2}, 0),
    ],
)
def test_batches_that_are_left_are_counted(options: dict[str, Any], expected: float) -> None:
    assert num_batches_left(run(**options)) == expected


def test_layers_are_compiled_where_it_is_won_back() -> None:
    unsaid = Acceleration()
    assert unsaid.compiles(run(max_epochs=30), uses_flex=True)
    assert not unsaid.compiles(run(max_epochs=3), uses_flex=True)  # too few steps
    assert not unsaid.compiles(run(max_epochs=30), uses_flex=False)  # many shapes
    assert not unsaid.compiles(run("cpu", max_epochs=30), uses_flex=True)
    assert not Acceleration(compile=False).compiles(run(max_epochs=30), uses_flex=True)
    assert Acceleration(compile=True).compiles(run("cpu"), uses_flex=False)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"batch_size": 16, "longest": 2048}, True),
        ({"batch_size": 16, "longest": 2047}, False),
        ({"max_tokens": 65_536, "longest": 2048}, True),
        ({"max_tokens": 32_767, "longest": 2048}, False),
        ({"batch_size": 8, "longest": 2812}, False),  # the largest batch of ByT5-small as it comes
        ({"batch_size": 8, "max_tokens": 65_536, "longest": 2048}, False),
        ({"batch_size": 64, "max_tokens": 16_384, "longest": 2048}, False),
        ({"max_tokens": 65_536, "longest": 20}, False),  # all examples together are fewer
    ],
)
def test_layers_of_large_batches_are_compiled_in_short_runs_too(limits: dict[str, int], expected: bool) -> None:
    short = run(max_epochs=1, train_dataloader=loader(**limits))
    assert Acceleration().compiles(short, uses_flex=True) is expected
    assert not Acceleration().compiles(short, uses_flex=False)
    assert not Acceleration(compile=False).compiles(short, uses_flex=True)
    assert not Acceleration().compiles(run("cpu", train_dataloader=short.train_dataloader), uses_flex=True)


def test_a_loader_of_ones_own_says_nothing_of_its_batches() -> None:
    own = torch.utils.data.DataLoader(torch.ones(4, 2))
    assert not Acceleration().compiles(run(train_dataloader=own), uses_flex=True)
    assert Acceleration().compiles(run(train_dataloader=own, max_epochs=30), uses_flex=True)


def test_a_wrong_name_of_attention_is_refused_with_the_right_ones() -> None:
    with pytest.raises(ConfigError, match="attention is 'flash'.*auto, flex, sdpa, eager"):
        Acceleration(attention="flash")  # type: ignore[arg-type]


class Compiled(pl.LightningModule):
    """Compiles in its first step."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)
        self.run = [torch.compile(self.layer, backend="eager")]
        self.logged: list[float] = []

    def log(self, name: str, value: Any, *args: Any, **kwargs: Any) -> None:
        assert name == "compile_s"
        self.logged.append(float(value))

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> Any:
        return self.run[0](batch).sum()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_compile_time_is_logged_and_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch._dynamo.reset()
    said: list[str] = []
    monkeypatch.setattr(compile_time, "rank_zero_info", said.append)
    monkeypatch.setattr(compile_time, "_MIN_S", 0.0)
    watch, model = CompileTime(), Compiled()
    trainer = quiet_trainer(tmp_path, callbacks=[watch], log_every_n_steps=10, max_epochs=1)
    trainer.fit(model, torch.utils.data.DataLoader(torch.ones(40, 2)))
    assert watch.seconds > 0
    assert model.logged == [watch.seconds] * 4  # after 10, 20, 30 and 40 steps
    assert len(said) == 1, said
    assert re.fullmatch(r"compiling took \d+ s until step 2\d", said[0])
    from torch._dynamo.callback import callback_handler

    assert not callback_handler.start_callbacks and not callback_handler.end_callbacks


def test_a_run_that_compiles_nothing_says_nothing(tmp_path: Path) -> None:
    watch, model = CompileTime(), Compiled()
    model.run = [model.layer]
    quiet_trainer(tmp_path, callbacks=[watch], log_every_n_steps=1, max_epochs=1).fit(
        model, torch.utils.data.DataLoader(torch.ones(3, 2))
    )
    assert not model.logged and not watch.seconds


def test_equal_layers_are_compiled_once_and_only_where_they_train(monkeypatch: pytest.MonkeyPatch) -> None:
    """What torch.compile traces runs here without a kernel."""
    torch._dynamo.reset()
    graphs: list[Any] = []

    def keep(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph

    make = torch.compile
    monkeypatch.setattr(torch, "compile", lambda call, **options: make(call, backend=keep, fullgraph=True, **options))
    torch.manual_seed(0)
    sizes = {"vocab_size": 20, "d_model": 16, "d_kv": 16, "d_ff": 16, "num_heads": 1, "num_layers": 5}
    model = T5EncoderModel(T5Config(**sizes, dropout_rate=0.0)).eval()
    take_block_masks(model)
    tokens = {length: torch.arange(length)[None] // 100 + 1 for length in (256, 384, 640)}

    def outputs() -> list[torch.Tensor]:
        return [
            model(input_ids=row % 20, attention_mask=block_mask(row, row)).last_hidden_state for row in tokens.values()
        ]

    expected = outputs()
    compile_layers(model)
    for found, other in zip(outputs(), expected, strict=True):
        assert torch.equal(found, other)
    assert not graphs, "layers that do not train are left as they are"
    model.train()
    for found, other in zip(outputs(), expected, strict=True):
        torch.testing.assert_close(found, other)
    assert len(graphs) == 4  # the first layer and the others, with one length and with any
    assert copy.deepcopy(model).encoder.block[0]._compiled_call_impl is None
    torch._dynamo.reset()
