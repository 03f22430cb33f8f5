"""Optimizers: which parameters go where, that both halves step and resume, and the learning rate's way."""

import copy
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Timer
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from common import ConfigError
from generator.architectures.encoder_decoder import build_seq2seq
from retrieval.training import optimizers
from retrieval.training.optimizers import (
    MuonAdamW,
    Optimization,
    configure,
    orthogonalized,
    split_matrices,
    trapezoid,
    with_schedule,
)
from tests.fakes import TINY


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(10, 8), nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 3))


def backward(model: nn.Module, seed: int) -> None:
    model.zero_grad()
    ids = torch.randint(10, (4,), generator=torch.Generator().manual_seed(seed))
    model(ids).square().mean().backward()


def train(model: nn.Module, optimizers: list[torch.optim.Optimizer], seeds: range) -> list[torch.Tensor]:
    for seed in seeds:
        backward(model, seed)
        for optimizer in optimizers:
            optimizer.step()
    return [p.detach().clone() for p in model.parameters()]


def test_matrices_between_layers_go_to_muon_and_nothing_is_left_out() -> None:
    for model in (
        build_seq2seq({**TINY, "untied": True}),
        GPT2LMHeadModel(GPT2Config(vocab_size=64, n_positions=32, n_embd=16, n_layer=2, n_head=2)),
    ):
        frozen = next(p for name, p in model.named_parameters() if "weight" in name and p.ndim == 1)
        frozen.requires_grad_(False)
        matrices, others = split_matrices(model)
        names = {id(p): name for name, p in model.named_parameters()}
        assert {id(p) for p in matrices} | {id(p) for p in others} | {id(frozen)} == set(names)
        assert len(matrices) + len(others) == len(names) - 1
        body = ("SelfAttention.", "EncDecAttention.", "DenseReluDense", ".attn.c_", ".mlp.c_")
        for p in matrices:
            assert any(part in names[id(p)] for part in body) and "relative" not in names[id(p)], names[id(p)]
        tables = ("shared", "lm_head", "relative_attention_bias", "wte", "wpe")
        assert any(names[id(p)].split(".")[-2] in tables for p in others)


def test_each_half_steps_as_it_does_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizers, "rough_dtype", lambda device: torch.bfloat16)  # as torch.optim.Muon, everywhere
    ours, alone = network(), network()
    both = MuonAdamW(*split_matrices(ours), lr=0.01)
    matrices, others = split_matrices(alone)
    muon = torch.optim.Muon(matrices, lr=0.01, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
    separate = [muon, torch.optim.AdamW(others, lr=0.01, weight_decay=0.01)]
    start = [p.detach().clone() for p in ours.parameters()]
    found, expected = train(ours, [both], range(3)), train(alone, separate, range(3))
    for new, same, old in zip(found, expected, start, strict=True):
        assert torch.allclose(new, same, atol=1e-3) and (new - old).abs().max() > 1e-2


def test_orthogonalized_matrices_keep_their_singular_vectors() -> None:
    torch.manual_seed(0)
    matrices = torch.randn(3, 8, 20)
    found = orthogonalized(matrices).float()
    left, values, right = torch.linalg.svd(matrices, full_matrices=False)
    stretched = left.mT @ found @ right.mT
    diagonal = torch.diagonal(stretched, dim1=-2, dim2=-1)
    assert diagonal.min() > 0.6 and diagonal.max() < 1.3 and (values.max() / values.min()) > 3
    assert (stretched - torch.diag_embed(diagonal)).abs().max() < 0.05


@pytest.mark.parametrize("noise", [0.0, 1e-4, 1.0], ids=["low_rank", "nearly_low_rank", "full_rank"])
def test_wide_matrices_have_the_same_step_by_their_gram_matrices(noise: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizers, "rough_dtype", lambda device: torch.float32)
    torch.manual_seed(0)
    matrices = torch.randn(3, 16, 2) @ torch.randn(3, 2, 48) + noise * torch.randn(3, 16, 48)
    found = orthogonalized(matrices)
    monkeypatch.setattr(optimizers, "_WIDE", 1000)
    torch.testing.assert_close(found, orthogonalized(matrices), rtol=0, atol=1e-4)


def test_a_saved_state_goes_on_as_if_nothing_had_happened() -> None:
    model = network()
    optimizer = MuonAdamW(*split_matrices(model), lr=0.01)
    train(model, [optimizer], range(2))
    saved = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    expected = train(model, [optimizer], range(2, 5))
    model.load_state_dict(saved[0])
    resumed = MuonAdamW(*split_matrices(model), lr=0.5)
    resumed.load_state_dict(saved[1])
    assert all(torch.equal(one, two) for one, two in zip(train(model, [resumed], range(2, 5)), expected, strict=True))


def test_schedulers_reach_both_halves_and_a_closure_is_called() -> None:
    model = network()
    optimizer = MuonAdamW(*split_matrices(model), lr=0.01)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    before = [p.detach().clone() for p in model.parameters()]
    backward(model, 0)
    assert optimizer.step(lambda: 7) == 7
    assert all(torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))


def test_only_matrices_or_only_others_will_do() -> None:
    assert len(MuonAdamW([nn.Parameter(torch.ones(2, 2))], [], lr=1.0).param_groups) == 1
    assert len(MuonAdamW([], [nn.Parameter(torch.ones(2))], lr=1.0).param_groups) == 1


def test_the_learning_rate_rises_stays_and_falls() -> None:
    factors = [trapezoid(step, warmup_steps=2, num_steps=10, decay=0.5) for step in range(12)]
    assert factors == pytest.approx([0, 0.5, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2, 0, 0])
    assert trapezoid(0, warmup_steps=0, num_steps=10, decay=1.0) == 1.0


def module_of(num_steps: float = 10, strategy: Any = None, callbacks: tuple[pl.Callback, ...] = ()) -> Any:
    module = pl.LightningModule()
    module.layer = nn.Linear(2, 2)
    module._trainer = SimpleNamespace(
        estimated_stepping_batches=num_steps,
        strategy=strategy,
        callbacks=[*callbacks],
        max_steps=-1,
        max_epochs=1 if num_steps < 1e9 else -1,
    )
    return module


def test_the_decay_needs_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pl.LightningModule, "trainer", property(lambda self: self._trainer))
    configured = configure(module_of(), Optimization(1.0, 2, "muon", 0.5))
    assert isinstance(configured["optimizer"], MuonAdamW)
    assert configured["lr_scheduler"]["scheduler"].lr_lambdas[0](6) == pytest.approx(0.8)
    with pytest.raises(
        ConfigError, match=r"lr_decay is 0\.5, so the end must be known; set trainer\.max_steps, max_epochs or"
    ):
        configure(module_of(float("inf"), callbacks=(Timer(),)), Optimization(1.0, 2, "adamw", 0.5))


@pytest.mark.parametrize("num_steps", [10, float("inf")])
def test_the_learning_rate_falls_towards_the_end_of_max_time(monkeypatch: pytest.MonkeyPatch, num_steps: float) -> None:
    monkeypatch.setattr(pl.LightningModule, "trainer", property(lambda self: self._trainer))
    timer = Timer(timedelta(seconds=60))
    alone = SimpleNamespace(broadcast=lambda value: value)
    configured = configure(module_of(num_steps, alone, (timer,)), Optimization(1.0, 2, "adamw", 0.5))
    factor = configured["lr_scheduler"]["scheduler"].lr_lambdas[0]
    for step, seconds, expected in ((1, 40, 0.5), (4, 20, 1), (4, 45, 0.5), (4, 60, 0), (4, 90, 0)):
        monkeypatch.setattr(timer, "time_elapsed", lambda now=seconds: now)
        assert factor(step) == pytest.approx(expected)
    monkeypatch.setattr(timer, "time_elapsed", lambda: 20)
    assert factor(9) == pytest.approx(0.2 if num_steps == 10 else 1)  # whatever ends first


def test_the_clock_of_the_first_rank_is_that_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pl.LightningModule, "trainer", property(lambda self: self._trainer))
    timer = Timer(timedelta(seconds=60))
    monkeypatch.setattr(timer, "time_elapsed", lambda: 59)  # this rank's
    second_rank = module_of(float("inf"), SimpleNamespace(broadcast=lambda value: 45), (timer,))
    configured = configure(second_rank, Optimization(1.0, 2, "adamw", 0.5))
    assert configured["lr_scheduler"]["scheduler"].lr_lambdas[0](4) == pytest.approx(0.5)


def test_any_optimizer_takes_the_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pl.LightningModule, "trainer", property(lambda self: self._trainer))
    module = module_of()
    for lr_decay, expected in ((0.5, [0, 0.5, 1, 0.8, 0.2]), (0.0, [0, 0.5, 1, 1, 1])):
        sgd = torch.optim.SGD(module.parameters(), lr=1.0)
        configured = with_schedule(module, sgd, 2, lr_decay)
        factor = configured["lr_scheduler"]["scheduler"].lr_lambdas[0]
        assert configured["optimizer"] is sgd and configured["lr_scheduler"]["interval"] == "step"
        assert [factor(step) for step in (0, 1, 2, 6, 9)] == pytest.approx(expected)


def test_muon_refuses_sharded_matrices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pl.LightningModule, "trainer", property(lambda self: self._trainer))
    sharded = object.__new__(pl.strategies.FSDPStrategy)
    with pytest.raises(ConfigError, match="muon needs whole matrices"):
        configure(module_of(strategy=sharded), Optimization(1.0, 2, "muon"))


def test_options_out_of_range_are_named() -> None:
    Optimization(optimizer="muon", warmup_steps=0, lr_decay=1.0)
    for options, message in [
        ({"lr": 0.0}, "lr is 0.0"),
        ({"optimizer": "sgd"}, "optimizer is 'sgd'"),
        ({"warmup_steps": -1}, "warmup_steps is -1"),
        ({"lr_decay": 1.5}, r"lr_decay is 1\.5"),
    ]:
        with pytest.raises(ConfigError, match=message):
            Optimization(**options)
