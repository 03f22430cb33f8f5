"""RetrievalAugmentedGenerator: loss, learning, candidates, checkpoints."""

from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch

from common import ConfigError, DataError, Pos
from generator.datamodule import GeneratorDataModule
from generator.model import RetrievalAugmentedGenerator, TacticGenerator
from tests.fakes import EIGHT, TINY, quiet_trainer, write_splits


def build(architecture, **options) -> RetrievalAugmentedGenerator:
    torch.manual_seed(0)
    return RetrievalAugmentedGenerator(
        model_name=architecture, **{"num_beams": 4, "max_inp_seq_len": 128, "max_oup_seq_len": 32, **options}
    )


def data(path, **options) -> GeneratorDataModule:
    return GeneratorDataModule(
        data_path=str(path),
        model_name="google/byt5-small",
        **{"batch_size": 8, "max_inp_seq_len": 128, "max_oup_seq_len": 32, **options},
    )


def batch_of(model, states, tactics):
    source = model.tokenizer(states, padding=True, return_tensors="pt")
    target = model.tokenizer(tactics, padding=True, return_tensors="pt")
    ids = target["input_ids"].masked_fill(target["attention_mask"] == 0, -100)
    return {
        "state": states,
        "tactic": tactics,
        "state_ids": source["input_ids"],
        "state_mask": source["attention_mask"],
        "tactic_ids": ids,
        "tactic_mask": target["attention_mask"],
    }


# --------------------------------------------------------------------------------------------- loss


def test_padding_never_changes_the_loss(tiny_architecture):
    model = build(tiny_architecture).eval()
    short, long = ("⊢ p", "trivial"), ("p q : Prop\nh : p ∧ q\n⊢ q", "exact h.2")
    with torch.no_grad():
        sums, counts = [], []
        for state, tactic in (short, long):
            loss, num_tokens = model.loss_of(batch_of(model, [state], [tactic]))
            sums.append(loss.item() * num_tokens)
            counts.append(num_tokens)
        together, num_tokens = model.loss_of(batch_of(model, [short[0], long[0]], [short[1], long[1]]))
    assert num_tokens == sum(counts) == len("trivial") + len("exact h.2") + 2
    assert together.item() == pytest.approx(sum(sums) / num_tokens, abs=1e-5)


def test_the_logged_loss_is_weighted_by_tokens(tiny_architecture, eight_path, tmp_path):
    model, module = build(tiny_architecture), data(eight_path, eval_batch_size=3)
    metrics = quiet_trainer(tmp_path).validate(model, module, verbose=False)[0]
    total = tokens = 0.0
    with torch.no_grad():
        for batch in module.val_dataloader():
            loss, num_tokens = model.eval().loss_of(batch)
            total, tokens = total + loss.item() * num_tokens, tokens + num_tokens
    assert metrics["loss_val"] == pytest.approx(total / tokens, rel=1e-5)


# ----------------------------------------------------------------------------------------- learning


@pytest.fixture(scope="module")
def overfit(tmp_path_factory):
    """A model that has learnt eight steps by heart, its data, and its trainer."""
    folder = write_splits(tmp_path_factory.mktemp("eight"))
    model = build({**TINY, "d_model": 64, "num_layers": 1, "num_decoder_layers": 1}, lr=3e-3, warmup_steps=10)
    trainer = quiet_trainer(folder, max_epochs=250, check_val_every_n_epoch=250, enable_checkpointing=False)
    trainer.fit(model, data(folder))
    return model, folder, trainer, EIGHT


def test_eight_examples_are_learnt_by_heart(overfit):
    _, _, trainer, _ = overfit
    assert trainer.callback_metrics["top1_acc_val"] == 1.0
    assert trainer.callback_metrics["loss_val"] < 0.05


def test_generate_gives_what_was_learnt_with_its_log_probability(overfit):
    model, _, _, eight = overfit
    model.eval()
    for state, tactic in eight:
        candidates = model.generate(
            state=state, file_path="A.lean", theorem_full_name="t", theorem_pos=Pos(1, 1), num_samples=4
        )
        assert candidates[0][0] == tactic
        assert [p for _, p in candidates] == sorted((p for _, p in candidates), reverse=True)
        assert len({t for t, _ in candidates}) == len(candidates) <= 4
        loss, num_tokens = model.loss_of(batch_of(model, [state], [tactic]))
        assert candidates[0][1] == pytest.approx(-loss.item() * num_tokens, abs=1e-3), "plain sum, EOS included"


def test_batch_generate_keeps_order_and_equals_one_at_a_time(overfit):
    model, _, _, eight = overfit
    model.eval()
    states = [s for s, _ in eight] * 2 + ["", "p : Prop\n" * 60 + "⊢ p"]
    positions = [(1, 1), [1, 1], SimpleNamespace(line_nb=1, column_nb=1)] * 6
    together = model.batch_generate(states, ["A.lean"] * 18, ["t"] * 18, positions, 3)
    assert len(together) == 18
    for state, candidates in zip(states, together, strict=True):
        alone = model.generate(state, "A.lean", "t", (1, 1), 3)
        assert [t for t, _ in alone] == [t for t, _ in candidates]
        assert [p for _, p in alone] == pytest.approx([p for _, p in candidates], abs=1e-3)
    assert model.batch_generate([], [], [], [], 3) == []


def test_one_sample_works_and_a_count_in_front_of_goals_is_ignored(overfit):
    model, _, _, eight = overfit
    state, tactic = eight[2]
    assert [t for t, _ in model.generate(f"1 goal\n{state}", "A.lean", "t", (1, 1), 1)] == [tactic]


def test_validation_ranks_as_inference_ranks(overfit):
    model, folder, _, _ = overfit
    module = data(folder)
    module.setup("validate")
    batch = next(iter(module.val_dataloader()))
    in_validation = model.decode(batch["state"], 4)
    in_inference = model.batch_generate(batch["state"], batch["file_path"], batch["full_name"], batch["start"], 4)
    for one, two in zip(in_validation, in_inference, strict=True):
        assert [t for t, _ in one] == [t for t, _ in two]


def test_marks_are_removed_from_candidates_and_equal_ones_merged(overfit, monkeypatch):
    model = overfit[0]
    texts = iter(["exact <a>And.left</a> h", "exact And.left h", "simp", "rfl"])
    monkeypatch.setattr(model.tokenizer, "batch_decode", lambda rows, skip_special_tokens: [next(texts) for _ in rows])
    candidates = model.generate("⊢ p", "A.lean", "t", (1, 1), 4)
    assert [t for t, _ in candidates] == ["exact And.left h", "simp", "rfl"]


# -------------------------------------------------------------------------------------- checkpoints


def test_a_checkpoint_holds_plain_values_and_loads_alone(overfit, tmp_path):
    model, _, trainer, eight = overfit
    path = tmp_path / "model.ckpt"
    trainer.save_checkpoint(path)
    torch.load(path, weights_only=True)
    loaded = RetrievalAugmentedGenerator.load(path, device="cpu")
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())
    assert loaded.kept_options() == model.kept_options()
    assert loaded.generate(eight[0][0], "A", "t", (1, 1), 2)[0][0] == eight[0][1]
    other = RetrievalAugmentedGenerator.load(path, num_beams=2, freeze=False)
    assert other.candidates.num_beams == 2 and other.training


def test_lightnings_own_loading_works_too(overfit, tmp_path):
    _, _, trainer, eight = overfit
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    loaded = RetrievalAugmentedGenerator.load_from_checkpoint(tmp_path / "model.ckpt").eval()
    assert loaded.generate(eight[0][0], "A", "t", (1, 1), 1)[0][0] == eight[0][1]


def test_a_hub_model_is_not_fetched_again_to_load_its_checkpoint(tiny_architecture, tmp_path):
    folder = tmp_path / "hub"
    pretrained = build(tiny_architecture)
    pretrained.generator.save_pretrained(folder)
    pretrained.tokenizer.save_pretrained(folder)
    model = build(str(folder))
    trainer = quiet_trainer(tmp_path)
    trainer.strategy.connect(model)
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    folder.rename(tmp_path / "gone")
    loaded = RetrievalAugmentedGenerator.load(tmp_path / "model.ckpt")
    state = ("⊢ p", "A.lean", "t", (1, 1), 3)
    assert loaded.generate(*state) == model.eval().generate(*state)


def test_checkpoints_that_cannot_be_used_are_named(tmp_path):
    with pytest.raises(DataError, match=r"missing\.ckpt: there is no such file"):
        RetrievalAugmentedGenerator.load(tmp_path / "missing.ckpt")
    (tmp_path / "text.ckpt").write_text("hello")
    with pytest.raises(DataError, match=r"text\.ckpt: cannot be read"):
        RetrievalAugmentedGenerator.load(tmp_path / "text.ckpt")
    torch.save({"a": 1}, tmp_path / "other.ckpt")
    with pytest.raises(DataError, match=r"other\.ckpt: holds no state_dict"):
        RetrievalAugmentedGenerator.load(tmp_path / "other.ckpt")
    torch.save({"state_dict": {}, "generator": {"class": "generator.causal.CausalGenerator"}}, tmp_path / "class.ckpt")
    with pytest.raises(DataError, match=r"generator\.causal\.CausalGenerator, not of generator\.model\.Retrieval"):
        RetrievalAugmentedGenerator.load(tmp_path / "class.ckpt")


def test_a_truncated_checkpoint_is_named(overfit, tmp_path):
    path = tmp_path / "cut.ckpt"
    overfit[2].save_checkpoint(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=r"cut\.ckpt: cannot be read"):
        RetrievalAugmentedGenerator.load(path)


# ------------------------------------------------------------------------------------------ options


@pytest.mark.parametrize("option", ["lr", "num_beams", "max_inp_seq_len", "max_oup_seq_len", "log_text_every_n_steps"])
def test_sizes_must_be_positive(tiny_architecture, option):
    with pytest.raises(ConfigError, match=f"{option} is 0"):
        build(tiny_architecture, **{option: 0})


def test_warm_up_may_be_zero_but_not_negative(tiny_architecture):
    assert build(tiny_architecture, warmup_steps=0).optimization.warmup_steps == 0
    with pytest.raises(ConfigError, match="warmup_steps is -1"):
        build(tiny_architecture, warmup_steps=-1)


def test_gradient_checkpointing_and_bf16_train_to_the_same_loss(tiny_architecture, eight_path, tmp_path):
    losses = []
    for options, precision in (({}, "32-true"), ({"gradient_checkpointing": True}, "32-true"), ({}, "bf16-mixed")):
        model = build(tiny_architecture, warmup_steps=0, **options)
        trainer = quiet_trainer(tmp_path, max_steps=3, precision=precision, limit_val_batches=0)
        trainer.fit(model, data(eight_path))
        losses.append(trainer.callback_metrics["loss_train_step"].item())
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)
    assert losses[2] == pytest.approx(losses[0], abs=0.05) and losses[2] != losses[0]


@pytest.mark.slow
def test_a_compiled_training_step_gives_the_same_loss(tiny_architecture, eight_path, tmp_path):
    losses = []
    for compile_step in (False, True):
        model = build(tiny_architecture, warmup_steps=0, compile=compile_step)
        trainer = quiet_trainer(tmp_path, max_steps=2, limit_val_batches=0)
        trainer.fit(model, data(eight_path))
        losses.append(trainer.callback_metrics["loss_train_step"].item())
        assert all("_orig_mod" not in key for key in model.state_dict())
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)


def test_fsdp_clips_by_the_norm_over_all_shards(tiny_architecture, monkeypatch):
    model, clipped = build(tiny_architecture), []
    strategy = object.__new__(pl.strategies.FSDPStrategy)
    sharded = SimpleNamespace(clip_grad_norm_=clipped.append)
    monkeypatch.setattr(type(model), "trainer", SimpleNamespace(strategy=strategy, model=sharded))
    model.configure_gradient_clipping(None, 1.0, None)
    assert clipped == [1.0]


def test_states_over_the_limit_are_counted_and_said_once(overfit):
    model, long = overfit[0], "".join(f"h{i} : p\n" for i in range(60)) + "⊢ p"
    before = model.num_shortened = 0
    with pytest.warns(UserWarning, match="over the limit and was shortened"):
        model.batch_generate([long, "⊢ p", long], ["A"] * 3, ["t"] * 3, [(1, 1)] * 3, 1)
    assert model.num_shortened == before + 2


def test_options_of_an_engine_reach_it_and_wrong_ones_are_named(tiny_architecture):
    with pytest.raises(ConfigError, match="engine 'native' has no option 'compute_type'"):
        build(tiny_architecture, engine_options={"compute_type": "int8"})


def test_sampling_is_an_option_of_validation_too(overfit, tmp_path):
    model, folder, _, _ = overfit
    sampled = build({**TINY, "d_model": 64, "num_layers": 1, "num_decoder_layers": 1}, sampling={"temperature": 0.1})
    sampled.load_state_dict(model.state_dict())
    metrics = quiet_trainer(tmp_path).validate(sampled, data(folder), verbose=False)[0]
    assert metrics["top1_acc_val"] == 1.0 and sampled.kept_options()["sampling"] is not None


def test_it_is_a_tactic_generator_and_a_lightning_module(tiny_architecture):
    model = build(tiny_architecture)
    assert isinstance(model, TacticGenerator) and isinstance(model, pl.LightningModule)
