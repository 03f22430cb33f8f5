"""Gradient caching gives the gradient of the whole batch: in half precision, over accumulated batches, over ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from retrieval.datamodule import RetrievalDataModule
from retrieval.model import PremiseRetriever
from tests.fakes import quiet_trainer
from tests.ranks import find_free_port, run_two_ranks
from tests.retrieval.fakes import ENCODER

CHUNKS = (None, 3)
Tensors = dict[str, torch.Tensor]


def change(data: Path, chunk_size: int | None, batch_size: int = 8, **options: Any) -> Tensors:
    """What one step of plain gradient descent adds to the weights: the gradient, as the optimizer sees it."""
    torch.manual_seed(0)
    model = PremiseRetriever(ENCODER, max_seq_len=64, num_retrieved=5, loss="info_nce", chunk_size=chunk_size)
    model.configure_optimizers = lambda: torch.optim.SGD(model.parameters(), lr=1.0)  # type: ignore[method-assign]
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    module = RetrievalDataModule(str(data), ENCODER, max_seq_len=64, batch_size=batch_size)
    quiet_trainer(data.parent, max_steps=1, limit_val_batches=0, **options).fit(model, module)
    return {name: weight.detach() - before[name] for name, weight in model.named_parameters()}


def assert_same(found: Tensors, expected: Tensors, tolerance: float) -> None:
    for name, gradient in expected.items():
        assert gradient.norm() > 0, name
        assert (found[name] - gradient).norm() <= tolerance * gradient.norm(), name


def test_in_half_precision(data: Path) -> None:
    plain, cached = (change(data, chunk_size, precision="bf16-mixed") for chunk_size in CHUNKS)
    assert_same(cached, plain, tolerance=0.02)  # a chunk is padded to another width, and bfloat16 rounds
    exact = change(data, None)
    assert any((plain[name] - exact[name]).norm() > 1e-4 * exact[name].norm() for name in exact), "it was half"


def test_over_accumulated_batches(data: Path) -> None:
    plain, cached = (change(data, chunk_size, batch_size=4, accumulate_grad_batches=2) for chunk_size in CHUNKS)
    assert_same(cached, plain, tolerance=1e-4)
    one = change(data, 3, batch_size=4)
    assert any((one[name] - cached[name]).norm() > 0.05 * cached[name].norm() for name in one), "there are two batches"


def _run_rank(rank: int, data: str, folder: str) -> None:
    for chunk_size in CHUNKS:
        found = change(Path(data), chunk_size, batch_size=4, strategy="ddp", devices=2)
        save_file(found, Path(folder, f"{chunk_size}-{rank}.safetensors"))


@pytest.mark.slow  # ten seconds, of which most is the start of two processes
def test_over_two_ranks(data: Path, tmp_path: Path) -> None:
    run_two_ranks(_run_rank, find_free_port(), str(data), str(tmp_path))
    plain, cached = (
        [load_file(tmp_path / f"{chunk_size}-{rank}.safetensors") for rank in (0, 1)] for chunk_size in CHUNKS
    )
    for of_plain, of_cached in zip(plain, cached, strict=True):
        assert_same(of_cached, of_plain, tolerance=1e-4)
    assert_same(cached[0], cached[1], tolerance=1e-6)
