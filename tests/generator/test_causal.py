"""CausalGenerator alone: the loss on completions, packing, prompts and templates, exports."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from common import ConfigError
from generator import load_generator
from generator.causal import CausalGenerator
from generator.engines.engine import encode
from generator.export import export
from generator.model import RetrievalAugmentedGenerator
from generator.prompts.templates import get_template
from tests.fakes import EIGHT, TINY, quiet_trainer, save_pretrained, write_splits
from tests.generator.causal_fakes import GPT2, SIZES, build, data, first_batch
from tests.generator.families import DECODER_ONLY, PLACE, ask, context

LLAMA = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


@pytest.fixture
def learnt(teach):
    """A model that has learnt eight steps by heart, without being told their template."""
    return teach(DECODER_ONLY)


# --------------------------------------------------------------------------------------------- loss


@pytest.mark.parametrize("architecture", [GPT2, LLAMA], ids=["gpt2", "llama"])
def test_the_loss_is_transformers_own_on_labels_masked_by_hand(architecture, eight_path):
    model, batch = build(architecture).eval(), first_batch(data(eight_path))
    labels = batch["input_ids"].clone()
    for row, tactic in enumerate(batch["tactic"]):
        end = int(batch["attention_mask"][row].sum())
        labels[row, : end - len(tactic.encode()) - 1] = -100
        labels[row, end:] = -100
    theirs = model.generator(batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels).loss
    ours, num_tokens = model.loss_of(batch)
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-6)
    assert num_tokens == sum(len(tactic.encode()) + 1 for tactic in batch["tactic"]), "EOS is trained"


def test_packing_never_changes_the_loss(eight_path):
    model = build().eval()
    apart, num_apart = model.loss_of(first_batch(data(eight_path)))
    packed, num_packed = model.loss_of(first_batch(data(eight_path, packing=True)))
    assert num_packed == num_apart
    assert packed.item() == pytest.approx(apart.item(), abs=1e-5)


# ------------------------------------------------------------------------------------------ prompts


def test_the_template_of_the_data_is_learnt_and_kept_in_the_checkpoint(learnt):
    assert learnt.model.template == "llmstep"
    for loaded in (CausalGenerator.load(learnt.checkpoint), load_generator(learnt.checkpoint, device="cpu")):
        assert loaded.template == "llmstep"


def test_what_is_trained_begins_where_the_prompt_of_inference_ends(learnt):
    model, batch = learnt.model, first_batch(data(learnt.data_path), "validate")
    rows = encode(model.tokenizer, batch["state"], 144, is_decoder_only=True)
    for ids, labels, row in zip(batch["input_ids"], batch["labels"], rows, strict=True):
        assert torch.equal(ids[: len(row)], row) and int((labels != -100).nonzero()[0]) == len(row)


def test_a_goal_that_fits_no_prompt_has_no_tactics_and_the_others_have_theirs(learnt):
    states = [EIGHT[0][0], "⊢ " + "x" * 400, EIGHT[1][0]]
    with pytest.warns(UserWarning, match="no candidates for one state: template llmstep: the goal"):
        found = ask(learnt.model, states, 1)
    assert [[t for t, _ in candidates] for candidates in found] == [[EIGHT[0][1]], [], [EIGHT[1][1]]]


@pytest.mark.filterwarnings("ignore:a state is over the limit")
def test_oldest_hypotheses_go_before_the_goal(learnt):
    model, before = learnt.model, learnt.model.num_shortened
    (prompt,) = model.write_inputs([context("".join(f"h{i} : p\n" for i in range(60)) + "⊢ goal")])
    assert model.num_shortened == before + 1
    assert "⊢ goal" in prompt and "h59 : p" in prompt and "h0 : p" not in prompt
    assert len(prompt.encode()) <= 144


# ---------------------------------------------------------------------------------------- templates


def test_another_template_than_the_datas_is_said(eight_path, tmp_path):
    with pytest.warns(UserWarning, match="made for template llmstep, but the data is written in ntp-st"):
        quiet_trainer(tmp_path).validate(
            build(GPT2 | {"n_positions": 512}, max_seq_len=400), data(eight_path, template="ntp-st", max_seq_len=400)
        )


def test_without_a_template_prompts_and_completions_are_taken_whole():
    model = build(template=None)
    assert model.write_inputs([context("any prompt\n")]) == ["any prompt\n"]
    assert model.parse(" simp\n") == "simp"


def test_a_whole_prompt_that_is_too_long_is_not_cut(recwarn):
    model = build(template=None).eval()
    asked = model.write_inputs([context(text) for text in ("p" * 144, "p" * 145)])
    assert asked == ["p" * 144, None]
    assert "no candidates for one prompt: it has 145 tokens, and max_seq_len leaves 144" in str(recwarn.pop().message)
    assert model.generate("p" * 145, *PLACE, 2) == []


def test_a_goal_that_no_prompt_holds_is_a_miss_in_validation(learnt, tmp_path):
    model, tactic = learnt.model, EIGHT[0][1]
    path = write_splits(tmp_path / "data", [EIGHT[0], ("⊢ " + "p" * 200, tactic)])
    [metrics] = quiet_trainer(tmp_path).validate(model, data(path), verbose=False)
    assert metrics["top1_acc_val"] == 0.5
    records = quiet_trainer(tmp_path).predict(model, data(path, predict_split="val"))
    assert sorted(len(record["candidates"]) for record in records[0]) == [0, model.candidates.num_beams]


def test_a_completion_without_its_end_holds_no_tactic():
    model = build(template="ntp-st", max_seq_len=400)
    model.engine.propose = lambda inputs, n, d: [[("simp\n[/TAC]", -1.0), ("rw [", -2.0), ("simp \n[/TAC]x", -3.0)]]
    assert model.generate("⊢ p", *PLACE, 3) == [("simp", -1.0)], "equal tactics: the best log-probability is kept"
    assert model.decoding().stop == get_template("ntp-st").stop


def test_another_template_than_the_checkpoints_is_said(learnt):
    path = learnt.checkpoint
    with pytest.warns(UserWarning, match="trained with template llmstep, but is used with bfs-prover"):
        assert CausalGenerator.load(path, template="bfs-prover").template == "bfs-prover"
    other = build(template="bfs-prover")
    with pytest.warns(UserWarning, match="trained with template llmstep, but is used with bfs-prover"):
        other.on_load_checkpoint(torch.load(path, weights_only=True))


def test_an_export_is_prompted_as_the_tutorial_does(learnt, tmp_path):
    """`AutoModelForCausalLM`, `AutoTokenizer`, the prompt, greedy generation: nothing of this project."""
    model = learnt.model
    export(learnt.checkpoint, tmp_path / "exported")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "exported")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "exported")
    state, tactic = EIGHT[0]
    ids = tokenizer(f"[GOAL]{state}[PROOFSTEP]", return_tensors="pt", add_special_tokens=False)["input_ids"]
    out = theirs.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=48, num_beams=1, do_sample=False)
    assert tokenizer.decode(out[0][ids.shape[1] :], skip_special_tokens=True) == tactic
    loaded = load_generator(str(tmp_path / "exported"), device="cpu", template="llmstep", **SIZES)
    assert loaded.generate(state, *PLACE, 1)[0] == (tactic, pytest.approx(model.generate(state, *PLACE, 1)[0][1]))


# ----------------------------------------------------------------------------------------- mistakes


def test_models_that_are_not_decoder_only_are_named(tmp_path):
    RetrievalAugmentedGenerator(TINY).generator.save_pretrained(tmp_path / "t5")
    with pytest.raises(ConfigError, match="t5' cannot be loaded: it is no decoder-only model"):
        build(str(tmp_path / "t5"))


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ({"n_embd": 8}, "needs model_type"),
        ({"model_type": "gpt7"}, "model_type 'gpt7' is none of transformers'"),
        ({**GPT2, "n_embed": 8}, "an architecture of gpt2 has no 'n_embed'"),
    ],
)
def test_architectures_that_cannot_be_built_are_named(architecture, message):
    with pytest.raises(ConfigError, match=message):
        build(architecture)


def test_more_tokens_than_positions_are_refused():
    with pytest.raises(ConfigError, match="max_seq_len is 512, but the model has 400 positions"):
        build(max_seq_len=512)


def test_options_out_of_range_are_named():
    with pytest.raises(ConfigError, match="template is 'ntp'"):
        build(template="ntp")
    with pytest.raises(ConfigError, match="max_completion_len"):
        build(max_seq_len=10, max_completion_len=20)


def test_frozen_weights_saved_in_bf16_stay_so_and_adapters_are_trained_in_float32(tmp_path):
    pytest.importorskip("peft")
    saved = save_pretrained(build(), tmp_path / "bf16")
    AutoModelForCausalLM.from_pretrained(saved, dtype=torch.bfloat16).save_pretrained(saved)
    adapted = build(str(saved), lora={"r": 2})
    assert {p.dtype for p in adapted.parameters() if p.requires_grad} == {torch.float32}
    assert {p.dtype for p in adapted.parameters() if not p.requires_grad} == {torch.bfloat16}
