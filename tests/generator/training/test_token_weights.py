"""A token counts the same whichever batch it is in, where several batches make one step."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.fakes import quiet_trainer, write_splits
from tests.generator.families import DECODER_ONLY, ENCODER_DECODER, FAMILIES, Family, training_batches
from tests.ranks import find_free_port, run_two_ranks

STEPS = [("⊢ p", "exact " + "h" * 40), ("⊢ q", "simp"), ("⊢ p ∧ q", "constructor"), ("⊢ r", "x")]


def made(family: Family, path: Path, **options: Any) -> tuple[Any, Any]:
    """A model whose first step is at full speed, and its data."""
    return family.build(lr=1.0, warmup_steps=1), family.data(path, **options)


def gradient(model: Any, module: Any, path: Path, **options: Any) -> torch.Tensor:
    """The gradient of the first step."""
    found = []
    model.on_before_optimizer_step = lambda optimizer: found.append(
        torch.cat([p.grad.flatten().clone() for p in model.parameters() if p.grad is not None])
    )
    quiet_trainer(path, max_steps=1, limit_val_batches=0, **options).fit(model, module)
    return found[0]


def test_accumulated_batches_have_the_gradient_of_one(family: Family, tmp_path: Path) -> None:
    path = write_splits(tmp_path / "data", STEPS)
    whole = gradient(*made(family, path, batch_size=4), tmp_path)
    accumulated = gradient(*made(family, path, batch_size=1), tmp_path, accumulate_grad_batches=4)
    torch.testing.assert_close(accumulated, whole, rtol=1e-4, atol=1e-6)
    model, module = made(family, path, batch_size=1)
    model.on_train_start = lambda: None
    unweighted = gradient(model, module, tmp_path, accumulate_grad_batches=4)
    assert (unweighted - whole).norm() > 0.1 * whole.norm(), "tokens of short tactics would count for more"


def _run_rank(rank: int, path: str, folder: str) -> None:
    found = {
        family.name: gradient(*made(family, Path(path), batch_size=2), Path(folder), strategy="ddp", devices=2)
        for family in FAMILIES.values()
    }
    save_file(found, Path(folder, f"rank{rank}.safetensors"))


@pytest.fixture(scope="module")
def found_by_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, torch.Tensor]]:
    """The gradient that each of two processes has, by the name of the family."""
    folder = tmp_path_factory.mktemp("ranks")
    run_two_ranks(_run_rank, find_free_port(), str(write_splits(folder / "data", STEPS)), str(folder))
    return [load_file(folder / f"rank{rank}.safetensors") for rank in range(2)]


def test_ranks_have_together_the_gradient_of_one_batch(
    family: Family, found_by_ranks: list[dict[str, torch.Tensor]], tmp_path: Path
) -> None:
    path = write_splits(tmp_path / "data", STEPS)
    whole = gradient(*made(family, path, batch_size=4), tmp_path)
    for found in found_by_ranks:
        torch.testing.assert_close(found[family.name], whole, rtol=1e-4, atol=1e-6)


def test_one_batch_a_step_has_its_own_mean(family: Family, tmp_path: Path) -> None:
    path = write_splits(tmp_path / "data", STEPS)
    model, module = made(family, path, batch_size=1)
    loss, _ = model.loss_of(next(iter(training_batches(module))))
    loss.backward()
    own = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    torch.testing.assert_close(gradient(*made(family, path, batch_size=1), tmp_path), own)


PACKED = {"packing": True, "max_seq_len": 128, "max_completion_len": 48}


@pytest.mark.parametrize(
    ("family", "options"),
    [(ENCODER_DECODER, {}), (DECODER_ONLY, {}), (DECODER_ONLY, PACKED)],
    ids=["encoder_decoder", "decoder_only", "packed_rows"],
)
def test_data_knows_its_target_tokens(family: Family, options: dict[str, Any], tmp_path: Path) -> None:
    module = family.data(write_splits(tmp_path / "data", STEPS), batch_size=2, **options)
    module.setup("fit")
    assert module.datasets["train"].num_target_tokens == sum(len(tactic) + 1 for _, tactic in STEPS)
