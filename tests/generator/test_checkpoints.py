"""Checkpoints of both families load alone, hold plain values, and are named where they cannot be used."""

import pytest
import torch
from transformers import ByT5Tokenizer

from common import DataError, NextstepError
from generator import load_generator
from generator.export import export
from retrieval.training.resume import ResumePoint
from tests.fakes import EIGHT, quiet_trainer, save_checkpoint, save_pretrained
from tests.generator.families import DECODER_ONLY, ENCODER_DECODER, PLACE

STATE, TACTIC = EIGHT[0]


def test_a_checkpoint_holds_plain_values_and_loads_alone(family, learnt):
    torch.load(learnt.checkpoint, weights_only=True)
    for loaded in (
        family.generator.load(learnt.checkpoint, device="cpu"),
        load_generator(learnt.checkpoint, device="cpu"),
    ):
        assert type(loaded) is family.generator and not loaded.training
        assert loaded.kept_options() == learnt.model.kept_options()
        assert loaded.generate(STATE, *PLACE, 2)[0][0] == TACTIC
    loaded = family.generator.load(learnt.checkpoint, device="cpu")
    assert not any(p.requires_grad for p in loaded.parameters())
    other = family.generator.load(learnt.checkpoint, num_beams=2, freeze=False)
    assert other.candidates.num_beams == 2 and other.training


def test_lightnings_own_loading_works_too(family, learnt):
    loaded = family.generator.load_from_checkpoint(learnt.checkpoint).eval()
    assert loaded.generate(STATE, *PLACE, 1)[0][0] == TACTIC


def test_a_hub_model_is_not_fetched_again_to_load_its_checkpoint(family, tmp_path):
    folder = save_pretrained(family.build(), tmp_path / "hub")
    model = family.build(str(folder))
    checkpoint = save_checkpoint(model, tmp_path / "model.ckpt")
    folder.rename(tmp_path / "gone")
    loaded = family.generator.load(checkpoint)
    expected = model.eval().generate("⊢ p", *PLACE, 3)
    assert expected and loaded.generate("⊢ p", *PLACE, 3) == expected


def test_a_tokenizer_with_tokens_of_its_own_stays_with_its_model(family, tmp_path):
    folder = save_pretrained(family.build(), tmp_path / "hub")
    tokenizer = ByT5Tokenizer(extra_ids=100)
    tokenizer.save_pretrained(folder)
    assert len(load_generator(save_checkpoint(family.build(str(folder)), tmp_path / "100.ckpt")).tokenizer) == 359
    tokenizer.add_tokens(["<a>", "</a>"])
    tokenizer.save_pretrained(folder)
    model = family.build(str(folder))
    ids = tokenizer("exact <a>h</a>").input_ids
    loaded = load_generator(save_checkpoint(model, tmp_path / "own.ckpt"))
    assert model.tokenizer("exact <a>h</a>")["input_ids"] == loaded.tokenizer("exact <a>h</a>")["input_ids"] == ids
    assert loaded.generate("⊢ <a>p</a>", *PLACE, 3) == model.eval().generate("⊢ <a>p</a>", *PLACE, 3)
    export(tmp_path / "own.ckpt", tmp_path / "export")
    exported = load_generator(tmp_path / "export")
    assert exported.tokenizer("exact <a>h</a>")["input_ids"] == ids
    assert exported.generate("⊢ <a>p</a>", *PLACE, 3) == loaded.generate("⊢ <a>p</a>", *PLACE, 3)


def test_checkpoints_that_cannot_be_used_are_named(family, tmp_path):
    with pytest.raises(DataError, match=r"missing\.ckpt: there is no such file"):
        family.generator.load(tmp_path / "missing.ckpt")
    (tmp_path / "text.ckpt").write_text("hello")
    with pytest.raises(DataError, match=r"text\.ckpt: cannot be read"):
        family.generator.load(tmp_path / "text.ckpt")
    torch.save({"a": 1}, tmp_path / "other.ckpt")
    with pytest.raises(DataError, match=r"other\.ckpt: holds no state_dict"):
        family.generator.load(tmp_path / "other.ckpt")


@pytest.mark.parametrize(
    ("family", "other"),
    [(ENCODER_DECODER, DECODER_ONLY), (DECODER_ONLY, ENCODER_DECODER)],
    ids=["encoder_decoder", "decoder_only"],
)
def test_a_checkpoint_of_the_other_family_is_named(family, other, tmp_path):
    torch.save({"state_dict": {}, "generator": {"class": other.class_name}}, tmp_path / "class.ckpt")
    with pytest.raises(DataError, match=rf"{other.class_name}, not of {family.class_name}"):
        family.generator.load(tmp_path / "class.ckpt")


def test_a_truncated_checkpoint_is_named(family, learnt, tmp_path):
    path = tmp_path / "cut.ckpt"
    whole = learnt.checkpoint.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cut\.ckpt: cannot be read"):
        family.generator.load(path)


NOT_MADE = "no model can be made with its architecture and options"
SPOILT = {
    "no_hyper_parameters": (lambda c, key: c.pop("hyper_parameters"), "has no hyper_parameters, without which"),
    "a_list_of_them": (
        lambda c, key: c.update(hyper_parameters=[1]),
        "hyper_parameters is no mapping but of type list",
    ),
    "no_description": (lambda c, key: c.update(generator=3), "generator is no mapping but of type int"),
    "no_architecture": (lambda c, key: c["generator"].pop("architecture"), "has no architecture, without which"),
    "a_size_that_is_text": (lambda c, key: c["generator"]["architecture"].update({key: "wide"}), NOT_MADE),
    "a_size_that_is_a_list": (lambda c, key: c["generator"]["architecture"].update({key: [1, 2]}), NOT_MADE),
    "a_rate_that_is_text": (lambda c, key: c["hyper_parameters"].update(lr="fast"), "lr|" + NOT_MADE),
    "weights_that_are_a_list": (lambda c, key: c.update(state_dict=[]), "state_dict is no mapping but of type list"),
    "missing_weights": (lambda c, key: c["state_dict"].popitem(), "its weights do not fit .*: it lacks generator."),
    "more_weights": (lambda c, key: c["state_dict"].update(x=torch.ones(1)), "weights do not fit .*: it has x more"),
    "another_shape": (
        lambda c, key: c["state_dict"].update({next(iter(c["state_dict"])): torch.ones(7)}),
        r"weights do not fit .* is \(7,\) instead of",
    ),
    "a_weight_that_is_text": (
        lambda c, key: c["state_dict"].update({next(iter(c["state_dict"])): "x"}),
        "weights do not fit .* is no tensor instead of",
    ),
}


@pytest.mark.parametrize("spoilt", SPOILT)
def test_a_checkpoint_with_wrong_values_is_one_line_that_names_it(family, learnt, tmp_path, spoilt):
    spoil, message = SPOILT[spoilt]
    checkpoint = torch.load(learnt.checkpoint, weights_only=True)
    spoil(checkpoint, "d_model" if family is ENCODER_DECODER else "n_embd")
    torch.save(checkpoint, tmp_path / "spoilt.ckpt")
    with pytest.raises(NextstepError, match=message) as error:
        family.generator.load(tmp_path / "spoilt.ckpt")
    assert "\n" not in str(error.value) and "spoilt.ckpt" in str(error.value)


def test_a_trainer_of_ones_own_writes_checkpoints_to_resume_from(family, tmp_path, eight_path):
    trainer = quiet_trainer(tmp_path, max_steps=1, limit_val_batches=0)
    trainer.fit(family.build(), family.data(eight_path))
    assert sum(isinstance(callback, ResumePoint) for callback in trainer.callbacks) == 1


def test_a_checkpoint_keeps_the_base_and_the_scaling_of_rotary_positions(tmp_path):
    rope = {"rope_type": "linear", "rope_theta": 77_777.0, "factor": 4.0}
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 48}
    model = DECODER_ONLY.build({"model_type": "llama", "rope_parameters": rope, "initializer_range": 0.3, **sizes})
    loaded = DECODER_ONLY.generator.load(save_checkpoint(model, tmp_path / "rope.ckpt"))
    assert loaded.generator.config.rope_parameters == rope
    ids = torch.arange(5, 60)[None]
    with torch.no_grad():
        assert torch.equal(loaded.generator(ids).logits, model.eval().generator(ids).logits)
