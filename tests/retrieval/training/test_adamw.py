"""The fused AdamW: what it is used for, and that it trains as the plain one does."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from retrieval.training.optimizers import adamw_with_warmup

LR = 1e-2


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 3))


def ours(model: nn.Module) -> torch.optim.Optimizer:
    optimizer: torch.optim.Optimizer = adamw_with_warmup(model.parameters(), LR, warmup_steps=0)["optimizer"]
    return optimizer


def train(model: nn.Module, optimizer: torch.optim.Optimizer, scaler: Any = None) -> list[Tensor]:
    """Three steps with clipped gradients; return the weights."""
    for seed in range(3):
        states = torch.randn(4, 8, generator=torch.Generator().manual_seed(seed))
        loss = model(states).square().mean()
        optimizer.zero_grad()
        (loss if scaler is None else scaler.scale(loss)).backward()
        if scaler is not None:
            scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step() if scaler is None else scaler.step(optimizer)
        if scaler is not None:
            scaler.update()
    return [p.full_tensor() if hasattr(p, "full_tensor") else p for p in model.parameters()]


@pytest.fixture
def expected() -> list[Tensor]:
    """The weights that torch's plain AdamW arrives at."""
    model = network()
    return train(model, torch.optim.AdamW(model.parameters(), lr=LR, foreach=False, fused=False))


def assert_same(found: list[Tensor], expected: list[Tensor]) -> None:
    start = list(network().parameters())
    assert all((new - old).abs().max() > 1e-3 for new, old in zip(found, start, strict=True)), "nothing was trained"
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_it_is_fused_and_trains_as_the_plain_one(expected: list[Tensor]) -> None:
    model = network()
    optimizer = ours(model)
    assert optimizer.defaults["fused"]
    assert_same(train(model, optimizer), expected)


def test_a_gradient_scaler_may_unscale_before_the_clipping(expected: list[Tensor]) -> None:
    model = network()
    assert_same(train(model, ours(model), torch.amp.GradScaler("cpu", init_scale=1024.0)), expected)


@pytest.fixture
def one_rank() -> Iterator[Any]:
    """A process group of this process alone."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


def test_sharded_parameters_are_trained_by_the_fused_one_too(expected: list[Tensor], one_rank: Any) -> None:
    model = network()
    fully_shard(model, mesh=one_rank)
    optimizer = ours(model)
    assert optimizer.defaults["fused"]
    assert_same(train(model, optimizer), expected)


def test_parameters_that_the_fused_one_refuses_are_trained_without_it() -> None:
    model = nn.Linear(2, 2, dtype=torch.complex64)
    before = copy.deepcopy(model.weight.detach())
    optimizer = ours(model)
    assert not optimizer.defaults["fused"]
    model(torch.ones(1, 2, dtype=torch.complex64)).abs().sum().backward()
    optimizer.step()
    assert not torch.equal(model.weight, before)


def test_learning_rate_rises_for_the_warm_up_and_stays():
    parameter = torch.nn.Parameter(torch.ones(1))
    frozen = torch.nn.Parameter(torch.ones(1), requires_grad=False)
    configured = adamw_with_warmup([parameter, frozen], lr=1.0, warmup_steps=4)
    optimizer, scheduler = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    assert [p for group in optimizer.param_groups for p in group["params"]] == [parameter]
    rates = []
    for _ in range(7):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates == [0, 0.25, 0.5, 0.75, 1, 1, 1]
    assert configured["lr_scheduler"]["interval"] == "step"
