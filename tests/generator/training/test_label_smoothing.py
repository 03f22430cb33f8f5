"""Label smoothing is torch's in training, spreads over what can be written, and is in no loss that measures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from common import ConfigError
from generator.training import token_loss
from generator.training.token_loss import Smoothing, mean_loss
from tests.fakes import TINY, quiet_trainer
from tests.generator.causal_fakes import GPT2, data, first_batch
from tests.generator.families import DECODER_ONLY, ENCODER_DECODER, Family, training_batches

FLEX = {
    "encoder_decoder": {**TINY, "d_kv": 16},
    "decoder_only": {"model_type": "llama", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    | {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16},
}
BODY_IN_PARTS = {"model_type": "opt", "hidden_size": 32, "word_embed_proj_dim": 32, "ffn_dim": 48}
BODY_IN_PARTS |= {"num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 256, "dropout": 0.0}
FEW = 384 * 8  # logits of eight tokens


@pytest.fixture(params=[2**25, FEW], ids=["at_once", "in_chunks"])
def chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_loss, "MAX_LOGITS", request.param)


def graded(model: Any, loss: Tensor) -> tuple[float, dict[str, Tensor]]:
    """A loss and its gradients."""
    model.zero_grad()
    loss.backward()
    return loss.item(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def torchs(model: Any, batch: Any, share: float) -> Tensor:
    """What torch makes of transformers' logits of all positions."""
    if isinstance(model, DECODER_ONLY.generator):
        found = model.generator(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        logits, labels = found.logits[:, :-1], batch["labels"][:, 1:]
    else:
        labels = batch["tactic_ids"]
        logits = model.generator(input_ids=batch["state_ids"], attention_mask=batch["state_mask"], labels=labels).logits
    return cross_entropy(logits.flatten(0, 1), labels.flatten(), label_smoothing=share)


def assert_equal(found: tuple[float, dict[str, Tensor]], expected: tuple[float, dict[str, Tensor]]) -> None:
    assert found[0] == pytest.approx(expected[0], abs=1e-5)
    assert found[1].keys() == expected[1].keys()
    for name, gradient in expected[1].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-4, atol=2e-6, msg=name)


@pytest.mark.usefixtures("chunks")
@pytest.mark.parametrize("is_sharded", [False, True], ids=["whole", "sharded"])
def test_a_step_has_torchs_loss_and_gradients(
    family: Family, is_sharded: bool, eight_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, batch = family.build(label_smoothing=0.2), next(iter(training_batches(family.data(eight_path))))
    expected = graded(model, torchs(model, batch, 0.2))
    monkeypatch.setattr(type(model), "is_sharded", is_sharded)
    assert_equal(graded(model, model.loss_of(batch, model.smoothing)[0]), expected)


@pytest.mark.usefixtures("chunks")
def test_a_body_that_is_not_called_as_a_whole_is_smoothed_too(eight_path: Path) -> None:
    model, batch = DECODER_ONLY.build(BODY_IN_PARTS, label_smoothing=0.2), first_batch(data(eight_path))
    expected = graded(model, torchs(model, batch, 0.2))
    assert_equal(graded(model, model.loss_of(batch, model.smoothing)[0]), expected)


@pytest.mark.usefixtures("chunks")
def test_batches_in_one_row_are_smoothed_alike(family: Family, eight_path: Path) -> None:
    batch = next(iter(training_batches(family.data(eight_path))))
    losses = []
    for attention in ("sdpa", "flex"):
        model = family.build(FLEX[family.name], label_smoothing=0.2, attention=attention)
        losses.append(graded(model, model.loss_of(model.prepare_batch(batch), model.smoothing)[0]))
    assert_equal(losses[1], losses[0])


def test_nothing_is_spread_over_classes_that_no_token_has(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, targets = torch.randn(50, 384, requires_grad=True), torch.randint(0, 300, (50,))
    monkeypatch.setattr(token_loss, "MAX_LOGITS", FEW)
    mean_loss(lambda some: some, logits, targets, 384, Smoothing(0.3, 300)).backward()
    wanted = torch.zeros(50, 384)
    wanted[:, :300] = 0.3 / 300
    wanted[torch.arange(50), targets] += 0.7
    torch.testing.assert_close(logits.grad, (logits.softmax(-1) - wanted).detach() / 50)


@pytest.mark.parametrize("architecture", [{**TINY, "vocab_size": 512}, TINY], ids=["padded", "exact"])
def test_what_can_be_written_is_the_tokenizers(architecture: dict[str, Any]) -> None:
    model = ENCODER_DECODER.build(architecture, label_smoothing=0.1)
    assert model.smoothing == Smoothing(0.1, 384)


def test_training_is_smoothed_and_what_measures_is_not(family: Family, tmp_path: Path, eight_path: Path) -> None:
    metrics = {}
    for share in (0.0, 0.4):
        trainer = quiet_trainer(tmp_path / str(share), max_steps=1)
        trainer.fit(family.build(label_smoothing=share, lr=1e-12, warmup_steps=0), family.data(eight_path))
        metrics[share] = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert metrics[0.4]["loss_val"] == pytest.approx(metrics[0.0]["loss_val"], abs=1e-5)
    assert abs(metrics[0.4]["loss_train"] - metrics[0.0]["loss_train"]) > 1e-3


@pytest.mark.parametrize("share", [-0.1, 1.0, 7, float("nan")])
def test_a_share_that_is_none_is_refused(family: Family, share: float) -> None:
    with pytest.raises(ConfigError, match=r"label_smoothing is .*at least 0 and below 1"):
        family.build(label_smoothing=share)


def test_it_is_no_setting_of_decoding(family: Family) -> None:
    assert family.build(GPT2 if family is DECODER_ONLY else None).smoothing is None
    assert "label_smoothing" in family.build(label_smoothing=0.1).hparams
    assert "label_smoothing" not in family.build(label_smoothing=0.1).kept_options()
