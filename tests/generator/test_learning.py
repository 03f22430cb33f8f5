"""Both families learn: what the loss counts, what training reaches, what evaluation measures."""

from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from common import ConfigError
from retrieval.training import acceleration
from tests.fakes import EIGHT, quiet_trainer, save_pretrained, write_splits
from tests.generator.families import DECODER_ONLY, ENCODER_DECODER, FAMILIES, training_batches

# --------------------------------------------------------------------------------------------- loss


def test_padding_never_changes_the_loss(family, tmp_path):
    steps = [("⊢ p", "trivial"), ("p q : Prop\nh : p ∧ q\n⊢ q", "exact h.2"), *EIGHT]
    path, model, sums, counts = write_splits(tmp_path / "data", steps), family.build().eval(), [], []
    with torch.no_grad():
        for batch in training_batches(family.data(path, batch_size=1)):
            loss, num_tokens = model.loss_of(batch)
            assert num_tokens == len(batch["tactic"][0].encode()) + 1, "EOS is trained"
            sums.append(loss.item() * num_tokens)
            counts.append(num_tokens)
        (batch,) = training_batches(family.data(path, batch_size=len(steps)))
        together, num_tokens = model.loss_of(batch)
    assert num_tokens == sum(counts) == sum(len(tactic.encode()) + 1 for _, tactic in steps)
    assert together.item() == pytest.approx(sum(sums) / num_tokens, abs=1e-5)


def test_the_logged_loss_is_weighted_by_tokens(family, eight_path, tmp_path):
    model, module = family.build(), family.data(eight_path, eval_batch_size=3)
    metrics = quiet_trainer(tmp_path).validate(model, module, verbose=False)[0]
    total = tokens = 0.0
    with torch.no_grad():
        for batch in module.val_dataloader():
            loss, num_tokens = model.eval().loss_of(batch)
            total, tokens = total + loss.item() * num_tokens, tokens + num_tokens
    assert metrics["loss_val"] == pytest.approx(total / tokens, rel=1e-5)


def test_a_truncated_tactic_is_never_trained_on_and_is_judged_whole(family, tmp_path):
    steps = [(state, "simp " + "x" * 60 if i == 0 else tactic) for i, (state, tactic) in enumerate(EIGHT)]
    module = family.data(write_splits(tmp_path / "data", steps), batch_size=1, eval_batch_size=1)
    assert sum(len(batch["tactic"]) for batch in training_batches(module)) == 7
    model = family.build()
    metrics = quiet_trainer(tmp_path).validate(model, module, verbose=False)[0]
    assert 0 < metrics["loss_val"] < 20, "a batch without labels does not make it NaN"
    examples = [module.datasets["val"][i] for i in range(len(steps))]
    tactics = {example["state"]: example["tactic"] for example in examples}
    assert sorted(tactics.values()) == sorted(tactic for _, tactic in steps)
    model.engine.propose = lambda inputs, n, d: [[(tactics[text], -1.0)] for text in inputs]
    metrics = quiet_trainer(tmp_path).validate(model, module, verbose=False)[0]
    assert metrics["top1_acc_val"] == 1.0, "a perfect predictor, which no limit cuts, scores exactly 1"


# ----------------------------------------------------------------------------------------- training


def test_eight_examples_are_learnt_by_heart(learnt):
    assert learnt.metrics["top1_acc_val"] == 1.0
    assert learnt.metrics["loss_val"] < 0.05


def few_steps(family, path, folder, options, **trainer):
    """The loss of the last of a few steps of training, and the model."""
    model = family.build(warmup_steps=0, **options)
    fitting = quiet_trainer(folder, limit_val_batches=0, **trainer)
    fitting.fit(model, family.data(path))
    return fitting.callback_metrics["loss_train_step"].item(), model


def test_gradient_checkpointing_and_bf16_train_to_the_same_loss(family, eight_path, tmp_path):
    plain, recomputed, halved = (
        few_steps(family, eight_path, tmp_path, options, max_steps=3, precision=precision)[0]
        for options, precision in (({}, "32-true"), ({"gradient_checkpointing": True}, "32-true"), ({}, "bf16-mixed"))
    )
    assert recomputed == pytest.approx(plain, abs=1e-5)
    assert halved == pytest.approx(plain, abs=0.05) and halved != plain


@pytest.mark.slow
def test_a_compiled_training_step_gives_the_same_loss(family, eight_path, tmp_path):
    losses = []
    for compile_step in (False, True):
        loss, model = few_steps(family, eight_path, tmp_path, {"compile": compile_step}, max_steps=2)
        losses.append(loss)
        assert all("_orig_mod" not in key for key in model.state_dict())
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)


AUTO = {ENCODER_DECODER: AutoModelForSeq2SeqLM, DECODER_ONLY: AutoModelForCausalLM}


def test_weights_saved_in_bf16_are_trained_in_float32(family, tmp_path):
    saved = save_pretrained(family.build(), tmp_path / "bf16")
    AUTO[family].from_pretrained(saved, dtype=torch.bfloat16).save_pretrained(saved)
    model = family.build(str(saved), lr=1e-6, warmup_steps=0)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    before = [p.detach().clone() for p in model.parameters()]
    quiet_trainer(tmp_path, max_steps=2, limit_val_batches=0).fit(model, family.data(write_splits(tmp_path / "data")))
    moved = [(p != old).float().mean().item() for p, old in zip(model.parameters(), before, strict=True)]
    assert max(moved) > 0.5


def test_training_refuses_an_engine_that_copies_weights(family, eight_path, tmp_path, monkeypatch):
    model = family.build()
    monkeypatch.setattr(type(model.engine), "is_live", False)
    monkeypatch.setattr(type(model.engine), "name", "copied")
    with pytest.raises(ConfigError, match="engine copied reads a converted copy"):
        quiet_trainer(tmp_path, max_steps=1).fit(model, family.data(eight_path))


# ------------------------------------------------------------------------------------ sharded weights


def test_fsdp_clips_by_the_norm_over_all_shards(family, monkeypatch):
    model, clipped = family.build(), []
    strategy = object.__new__(pl.strategies.FSDPStrategy)
    sharded = SimpleNamespace(clip_grad_norm_=clipped.append)
    monkeypatch.setattr(type(model), "trainer", SimpleNamespace(strategy=strategy, model=sharded))
    model.configure_gradient_clipping(None, 1.0, None)
    assert clipped == [1.0]


def test_sharded_weights_are_validated_by_their_loss_and_never_decoded(family, eight_path, tmp_path, monkeypatch):
    model = family.build()
    # training on one device counts as sharded here, as FSDP needs several
    monkeypatch.setattr(acceleration, "FSDPStrategy", pl.strategies.SingleDeviceStrategy)
    model.engine.propose = None
    metrics = quiet_trainer(tmp_path).validate(model, family.data(eight_path), verbose=False)[0]
    assert set(metrics) == {"loss_val"}
    with pytest.raises(ConfigError, match="predict needs whole weights"):
        quiet_trainer(tmp_path).predict(model, family.data(eight_path))


# ------------------------------------------------------------------------------------------ options


@pytest.mark.parametrize(
    ("of", "option"),
    [
        pytest.param(of, option, id=f"{of.name}-{option}")
        for of in FAMILIES.values()
        for option in ("lr", "num_beams", "log_text_every_n_steps", *of.lengths)
    ],
)
def test_sizes_must_be_positive(of, option):
    with pytest.raises(ConfigError, match=f"{option} is 0"):
        of.build(**{option: 0})


def test_warm_up_may_be_zero_but_not_negative(family):
    assert family.build(warmup_steps=0).optimization.warmup_steps == 0
    with pytest.raises(ConfigError, match="warmup_steps is -1"):
        family.build(warmup_steps=-1)


def test_options_of_an_engine_reach_it_and_wrong_ones_are_named(family):
    with pytest.raises(ConfigError, match="engine 'native' has no option 'compute_type'"):
        family.build(engine_options={"compute_type": "int8"})
