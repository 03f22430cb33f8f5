"""With attention flex a batch is one row, and its loss and gradients are those of padded rows."""

from __future__ import annotations

import itertools
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from common import ConfigError
from generator.training import token_loss
from retrieval.training import acceleration
from retrieval.training.flops import count_tokens, token_masks, trained_tokens
from retrieval.training.monitoring import ThroughputMonitor
from tests.fakes import TINY, quiet_trainer
from tests.generator.causal_fakes import build, data, first_batch
from tests.generator.families import ENCODER_DECODER, Family, training_batches

T5 = {**TINY, "d_kv": 16}
WIDTH = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
WIDTH |= {"num_key_value_heads": 1, "head_dim": 16}
LLAMA = {"model_type": "llama", **WIDTH}
DECODERS: dict[str, dict[str, Any]] = {
    "llama": LLAMA,
    "a_window": {"model_type": "mistral", **WIDTH, "sliding_window": 24},
    "two_kinds_of_layers": {"model_type": "gemma3_text", **WIDTH, "sliding_window": 20}
    | {"layer_types": ["sliding_attention", "full_attention"]},
    "a_body_in_parts": {"model_type": "opt", "hidden_size": 32, "word_embed_proj_dim": 32, "ffn_dim": 48}
    | {"num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 256, "dropout": 0.0},
}
ARCHITECTURES = {"encoder_decoder": T5, "decoder_only": LLAMA}


def graded(model: Any, batch: Any) -> tuple[Tensor, int, dict[str, Tensor]]:
    """The loss of a batch, its target tokens, and the gradients."""
    model.zero_grad()
    loss, num_tokens = model.loss_of(batch)
    loss.backward()
    return loss, num_tokens, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def compare(build: Any, batch: Any) -> dict[str, Any]:
    """Assert that both attentions have the same loss and gradients; return the batch in one row."""
    plain, flex = build(attention="sdpa").double(), build(attention="flex").double()
    expected = graded(plain, plain.prepare_batch(batch))
    row: dict[str, Any] = flex.prepare_batch(batch)
    found = graded(flex, row)
    # float32 is what the loss is taken in
    torch.testing.assert_close(found[0], expected[0], rtol=1e-5, atol=1e-6, check_dtype=False)
    assert found[1] == expected[1] and found[2].keys() == expected[2].keys()
    for name, gradient in expected[2].items():
        torch.testing.assert_close(found[2][name], gradient, rtol=1e-4, atol=1e-6, msg=name)
    return row


@pytest.mark.parametrize("few", [False, True], ids=["at_once", "in_chunks"])
def test_sources_and_targets_in_rows_have_the_loss_of_padded_ones(
    few: bool, eight_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if few:
        monkeypatch.setattr(token_loss, "MAX_LOGITS", 384 * 8)
    batch = next(iter(training_batches(ENCODER_DECODER.data(eight_path))))
    row = compare(lambda **options: ENCODER_DECODER.build(T5, **options), batch)
    assert row["state_ids"].shape[0] == row["given_ids"].shape[0] == 1
    assert int((row["state_segments"] > 0).sum()) == int(batch["state_mask"].sum())
    assert int((row["tactic_segments"] > 0).sum()) == int(batch["tactic_mask"].sum()) == row["num_targets"]


@pytest.mark.parametrize("packing", [False, True], ids=["padded", "packed"])
@pytest.mark.parametrize("name", DECODERS)
def test_instructions_in_a_row_have_the_loss_of_padded_ones(name: str, packing: bool, eight_path: Path) -> None:
    batch = first_batch(data(eight_path, packing=packing))
    row = compare(lambda **options: build(DECODERS[name], **options), batch)
    assert row["input_ids"].shape == row["segment_ids"].shape == row["position_ids"].shape
    assert int(row["segment_ids"].max()) == len(batch["state"])  # rows are parted into their examples
    assert int((row["segment_ids"] > 0).sum()) == int(batch["attention_mask"].sum())


class Losses(pl.Callback):
    """Keeps the loss of each step, and what the monitor counts."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.metrics: dict[str, float] = {}

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, *args: Any) -> None:
        self.losses.append(float(outputs["loss"]))
        self.metrics |= {name: float(value) for name, value in trainer.callback_metrics.items()}


def fit(family: Family, folder: Path, eight_path: Path, num_steps: int = 4, **options: Any) -> Losses:
    losses = Losses()
    limits = {"max_steps": num_steps, "limit_val_batches": int(num_steps > 1)}
    trainer = quiet_trainer(folder, log_every_n_steps=1, callbacks=[ThroughputMonitor(), losses], **limits)
    model = family.build(ARCHITECTURES[family.name], lr=1e-3, warmup_steps=0, **options)
    trainer.fit(model, family.data(eight_path, batch_size=4))
    losses.metrics |= {name: float(value) for name, value in trainer.callback_metrics.items()}
    return losses


def test_a_run_learns_the_same_in_rows(family: Family, tmp_path: Path, eight_path: Path) -> None:
    plain, rows = (fit(family, tmp_path / how, eight_path, attention=how) for how in ("sdpa", "flex"))
    assert rows.losses == pytest.approx(plain.losses, rel=1e-4)
    assert rows.metrics["loss_val"] == pytest.approx(plain.metrics["loss_val"], rel=1e-4)
    assert rows.metrics["top1_acc_val"] == plain.metrics["top1_acc_val"]


def test_floating_point_operations_of_a_batch_do_not_depend_on_how_it_is_laid_out(
    family: Family, eight_path: Path
) -> None:
    batch = next(iter(training_batches(family.data(eight_path))))
    counts = []
    for attention in ("sdpa", "flex"):
        model = family.build(ARCHITECTURES[family.name], attention=attention)
        laid = model.prepare_batch(batch)
        counts.append(count_tokens(token_masks(laid), getattr(model, "target_mask", None), trained_tokens(laid)))
    assert counts[0].tolist() == counts[1].tolist()


def test_on_a_cpu_nothing_changes_unless_flex_is_asked_for(family: Family, eight_path: Path) -> None:
    model = family.build(ARCHITECTURES[family.name])
    assert not model.uses_flex
    batch = next(iter(training_batches(family.data(eight_path))))
    prepared = model.prepare_batch(batch)
    assert prepared.pop("num_targets") > 0
    assert prepared.keys() == batch.keys() and all(prepared[name] is batch[name] for name in batch)


def test_models_that_cannot_are_refused_in_a_line(family: Family) -> None:
    wrong = {
        "encoder_decoder": {**TINY, "d_kv": 8},  # heads too small for the kernel
        "decoder_only": {**LLAMA, "head_dim": 8},
    }[family.name]
    with pytest.raises(ConfigError, match=r"attention is flex, but .*Set attention to auto or sdpa"):
        family.build(wrong, attention="flex")
    assert not family.build(wrong).uses_flex
    with pytest.raises(ConfigError, match="attention is 'flash'.*auto, flex, sdpa, eager"):
        family.build(attention="flash")


def test_predicting_needs_no_layout(eight_path: Path, tmp_path: Path, family: Family) -> None:
    model, module = family.build(ARCHITECTURES[family.name], attention="flex"), family.data(eight_path)
    records = quiet_trainer(tmp_path).predict(model, module)
    assert len(list(itertools.chain.from_iterable(records or []))) == 8


@pytest.mark.parametrize("asked", [None, True])
def test_layers_are_compiled_where_asked_for_or_where_a_gpu_wins_by_it(
    asked: bool | None, family: Family, tmp_path: Path, eight_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[Any] = []

    def note(layers: Any, dynamic: bool | None = None) -> Any:
        compiled.append(dynamic)
        return layers

    monkeypatch.setattr(torch, "compile", note)
    fit(family, tmp_path, eight_path, 1, compile=asked, attention="flex")
    assert bool(compiled) == (asked is True)  # on a CPU null is false
    assert set(compiled) <= {None}
    num_layers = len(compiled)
    compiled.clear()
    fit(family, tmp_path, eight_path, 1, compile=asked, attention="sdpa")
    assert compiled == [True] * num_layers, "each layer on a CPU, where the whole would take minutes"
    assert acceleration.can_compile.cache_info().currsize == 0, "asked for on a CPU"


def test_plain_products_of_matrices_have_the_loss_of_the_fused_kernel(family: Family, eight_path: Path) -> None:
    batch = next(iter(training_batches(family.data(eight_path))))
    build = partial(family.build, ARCHITECTURES[family.name])
    fused, plain = (build(attention=name).double() for name in ("sdpa", "eager"))
    assert plain.generator.config._attn_implementation == "eager" and not plain.uses_flex
    expected, found = (graded(model, model.prepare_batch(batch)) for model in (fused, plain))
    torch.testing.assert_close(found[0], expected[0], rtol=1e-5, atol=1e-6)
    for name, gradient in expected[2].items():
        torch.testing.assert_close(found[2][name], gradient, rtol=1e-4, atol=1e-6, msg=name)
