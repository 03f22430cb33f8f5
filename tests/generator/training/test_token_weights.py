"""A token counts the same whichever batch it is in, where several batches make one step."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from generator.datamodule import GeneratorDataModule
from generator.model import RetrievalAugmentedGenerator
from tests.fakes import TINY, quiet_trainer, write_splits
from tests.generator.causal_fakes import build, data
from tests.ranks import run_two_ranks

STEPS = [("⊢ p", "exact " + "h" * 40), ("⊢ q", "simp"), ("⊢ p ∧ q", "constructor"), ("⊢ r", "x")]


def encoder_decoder(path: Path, **options: Any) -> tuple[Any, Any]:
    torch.manual_seed(0)
    model = RetrievalAugmentedGenerator(TINY, lr=1.0, warmup_steps=1, num_beams=2)
    return model, GeneratorDataModule(str(path), TINY, **options)


def decoder_only(path: Path, **options: Any) -> tuple[Any, Any]:
    return build(lr=1.0, warmup_steps=1), data(path, **options)


def packed(path: Path, **options: Any) -> tuple[Any, Any]:
    return decoder_only(path, packing=True, max_seq_len=128, max_completion_len=48, **options)


def gradient(model: Any, module: Any, path: Path, **options: Any) -> torch.Tensor:
    """The gradient of the first step."""
    found = []
    model.on_before_optimizer_step = lambda optimizer: found.append(
        torch.cat([p.grad.flatten().clone() for p in model.parameters() if p.grad is not None])
    )
    quiet_trainer(path, max_steps=1, limit_val_batches=0, **options).fit(model, module)
    return found[0]


@pytest.mark.parametrize("family", [encoder_decoder, decoder_only])
def test_accumulated_batches_have_the_gradient_of_one(family: Any, tmp_path: Path) -> None:
    path = write_splits(tmp_path / "data", STEPS)
    whole = gradient(*family(path, batch_size=4), tmp_path)
    accumulated = gradient(*family(path, batch_size=1), tmp_path, accumulate_grad_batches=4)
    torch.testing.assert_close(accumulated, whole, rtol=1e-4, atol=1e-6)
    model, module = family(path, batch_size=1)
    model.on_train_start = lambda: None
    unweighted = gradient(model, module, tmp_path, accumulate_grad_batches=4)
    assert (unweighted - whole).norm() > 0.1 * whole.norm(), "tokens of short tactics would count for more"


def _run_rank(rank: int, path: str, folder: str) -> None:
    found = gradient(*decoder_only(Path(path), batch_size=2), Path(folder), strategy="ddp", devices=2)
    save_file({"gradient": found}, Path(folder, f"rank{rank}.safetensors"))


def test_ranks_have_together_the_gradient_of_one_batch(tmp_path: Path, free_port: int) -> None:
    path = write_splits(tmp_path / "data", STEPS)
    run_two_ranks(_run_rank, free_port, str(path), str(tmp_path))
    whole = gradient(*decoder_only(path, batch_size=4), tmp_path)
    for rank in range(2):
        found = load_file(tmp_path / f"rank{rank}.safetensors")["gradient"]
        torch.testing.assert_close(found, whole, rtol=1e-4, atol=1e-6)


def test_one_batch_a_step_has_its_own_mean(tmp_path: Path) -> None:
    path = write_splits(tmp_path / "data", STEPS)
    model, module = encoder_decoder(path, batch_size=1)
    module.setup("fit")
    batch = next(iter(module.train_dataloader()))
    model(batch["state_ids"], batch["state_mask"], batch["tactic_ids"]).backward()
    own = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    torch.testing.assert_close(gradient(*encoder_decoder(path, batch_size=1), tmp_path), own)


@pytest.mark.parametrize("family", [encoder_decoder, decoder_only, packed])
def test_data_knows_its_target_tokens(family: Any, tmp_path: Path) -> None:
    _, module = family(write_splits(tmp_path / "data", STEPS), batch_size=2)
    module.setup("fit")
    assert module.datasets["train"].num_target_tokens == sum(len(tactic) + 1 for _, tactic in STEPS)
