"""CausalGenerator: the loss on completions, learning, candidates, templates, exports."""

import importlib.util
import json

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from common import ConfigError, Context
from generator import load_generator
from generator.causal import CausalGenerator
from generator.export import export
from generator.main import main
from generator.prompts.templates import get_template
from tests.fakes import EIGHT, TINY, quiet_trainer, save_checkpoint, save_pretrained, write_splits
from tests.generator.causal_fakes import GPT2, SIZES, build, data, first_batch
from tests.generator.decoding_fakes import assert_same_candidates

LLAMA = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
PLACE = ("A.lean", "t", (1, 1))


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


def test_padding_and_packing_never_change_the_loss(eight_path):
    model = build().eval()
    together, num_tokens = model.loss_of(first_batch(data(eight_path)))
    packed, num_packed = model.loss_of(first_batch(data(eight_path, packing=True)))
    sums = []
    for batch in _each(data(eight_path, batch_size=1)):
        loss, count = model.loss_of(batch)
        sums.append(loss.item() * count)
    assert num_packed == num_tokens
    assert together.item() == pytest.approx(sum(sums) / num_tokens, abs=1e-5)
    assert packed.item() == pytest.approx(together.item(), abs=1e-5)


def _each(module):
    module.setup("fit")
    return module.train_dataloader()


def test_a_truncated_completion_is_never_trained_on_and_counts_as_a_miss(tmp_path):
    steps = [(state, "simp " + "x" * 60 if i == 0 else tactic) for i, (state, tactic) in enumerate(EIGHT)]
    module = data(write_splits(tmp_path / "data", steps), batch_size=1, eval_batch_size=1)
    assert sum(len(batch["tactic"]) for batch in _each(module)) == 7
    model = build()
    metrics = quiet_trainer(tmp_path).validate(model, module, verbose=False)[0]
    assert 0 < metrics["loss_val"] < 20, "the batch without labels does not make it NaN"
    right = {state: tactic for state, tactic in steps}
    model.engine.propose = lambda inputs, n, d: [[(right[text[6:-11]], -1.0)] for text in inputs]
    metrics = quiet_trainer(tmp_path).validate(model, module, verbose=False)[0]
    assert metrics["top1_acc_val"] == 1.0, "a perfect predictor, which no limit cuts, scores exactly 1"


# ----------------------------------------------------------------------------------------- learning


@pytest.fixture(scope="module")
def overfit(tmp_path_factory):
    """A model that has learnt eight steps by heart."""
    folder = write_splits(tmp_path_factory.mktemp("eight"))
    options = {"lr": 3e-3, "optimizer": "muon", "lr_decay": 0.5, "warmup_steps": 10}
    model = build(template=None, **options)
    fitting = quiet_trainer(folder, max_epochs=150, check_val_every_n_epoch=150)
    fitting.fit(model, data(folder))
    return model.eval(), folder, fitting


def test_eight_examples_are_learnt_by_heart(overfit):
    model, _, fitting = overfit
    assert fitting.callback_metrics["top1_acc_val"] == 1.0
    assert model.template == "llmstep", "the data said so"


def test_generate_gives_tactics_with_the_log_probabilities_of_whole_completions(overfit):
    model, folder, _ = overfit
    module = data(folder, batch_size=1)
    for batch in _each(module):
        state = next(state for state, tactic in EIGHT if tactic == batch["tactic"][0])
        candidates = model.generate(state, *PLACE, num_samples=3)
        assert candidates[0][0] == batch["tactic"][0] and len({t for t, _ in candidates}) == len(candidates)
        loss, num_tokens = model.loss_of(batch)
        assert candidates[0][1] == pytest.approx(-loss.item() * num_tokens, abs=1e-3)


def test_engines_agree_and_a_batch_keeps_its_order(overfit, tmp_path):
    model, folder, _ = overfit
    path = save_checkpoint(model, tmp_path / "model.ckpt")
    other = CausalGenerator.load(path, engine="transformers")
    states = [state for state, _ in EIGHT]
    ours, theirs = (one.batch_generate(states, ["A"] * 8, ["t"] * 8, [(1, 1)] * 8, 2) for one in (model, other))
    assert [candidates[0][0] for candidates in ours] == [tactic for _, tactic in EIGHT]
    assert_same_candidates(ours, theirs)


def test_sampling_instead_of_search(overfit, tmp_path):
    path = save_checkpoint(overfit[0], tmp_path / "model.ckpt")
    sampled = CausalGenerator.load(path, sampling={"temperature": 0.5, "seed": 3})
    candidates = sampled.generate(EIGHT[1][0], *PLACE, num_samples=4)
    assert candidates[0][0] == EIGHT[1][1] and candidates == sampled.generate(EIGHT[1][0], *PLACE, num_samples=4)
    assert sampled.kept_options()["sampling"]["temperature"] == 0.5


def test_a_checkpoint_loads_alone_with_its_template(overfit, tmp_path):
    model, _, _ = overfit
    path = save_checkpoint(model, tmp_path / "model.ckpt")
    torch.load(path, weights_only=True)
    for loaded in (CausalGenerator.load(path), load_generator(path, device="cpu")):
        assert loaded.template == "llmstep" and loaded.generate(EIGHT[0][0], *PLACE, 1)[0][0] == EIGHT[0][1]


def test_a_goal_that_fits_no_prompt_has_no_tactics_and_the_others_have_theirs(overfit):
    model, _, _ = overfit
    states = [EIGHT[0][0], "⊢ " + "x" * 400, EIGHT[1][0]]
    with pytest.warns(UserWarning, match="no candidates for one state: template llmstep: the goal"):
        found = model.batch_generate(states, ["A"] * 3, ["t"] * 3, [(1, 1)] * 3, 1)
    assert [[t for t, _ in candidates] for candidates in found] == [[EIGHT[0][1]], [], [EIGHT[1][1]]]


def test_oldest_hypotheses_go_before_the_goal(overfit):
    model, _, _ = overfit
    (prompt,) = model.write_inputs([_context("".join(f"h{i} : p\n" for i in range(60)) + "⊢ goal")])
    assert model.num_shortened >= 1, "counted"
    assert "⊢ goal" in prompt and "h59 : p" in prompt and "h0 : p" not in prompt
    assert len(prompt.encode()) <= 144


def _context(state):
    from common import Context, Pos

    return Context("A.lean", "t", Pos(1, 1), state)


def test_the_prompt_of_evaluation_is_that_of_inference(overfit):
    model, folder, _ = overfit
    module = data(folder)
    batch = first_batch(module, "validate")
    states = [next(s for s, tactic in EIGHT if tactic == found) for found in batch["tactic"]]
    assert batch["state"] == model.write_inputs([_context(state) for state in states])
    from generator.engines.engine import encode

    rows = encode(model.tokenizer, batch["state"], 144, is_decoder_only=True)
    for ids, labels, row in zip(batch["input_ids"], batch["labels"], rows, strict=True):
        assert torch.equal(ids[: len(row)], row) and int((labels != -100).nonzero()[0]) == len(row)


# ---------------------------------------------------------------------------------------- templates


def test_another_template_than_the_datas_is_said(eight_path, tmp_path):
    with pytest.warns(UserWarning, match="made for template llmstep, but the data is written in ntp-st"):
        quiet_trainer(tmp_path).validate(
            build(GPT2 | {"n_positions": 512}, max_seq_len=400), data(eight_path, template="ntp-st", max_seq_len=400)
        )


def test_without_a_template_prompts_and_completions_are_taken_whole():
    model = build(template=None)
    assert model.write_inputs([_context("any prompt\n")]) == ["any prompt\n"]
    assert model.parse(" simp\n") == "simp"


def test_a_whole_prompt_that_is_too_long_is_not_cut(recwarn):
    model = build(template=None).eval()
    asked = model.write_inputs([Context("A.lean", "t", (1, 1), text) for text in ("p" * 144, "p" * 145)])
    assert asked == ["p" * 144, None]
    assert "no candidates for one prompt: it has 145 tokens, and max_seq_len leaves 144" in str(recwarn.pop().message)
    assert model.generate("p" * 145, *PLACE, 2) == []


def test_a_goal_that_no_prompt_holds_is_a_miss_in_validation(overfit, tmp_path):
    model, *_ = overfit
    tactic = EIGHT[0][1]
    path = write_splits(tmp_path / "data", [EIGHT[0], ("⊢ " + "p" * 200, tactic)])
    [metrics] = quiet_trainer(tmp_path).validate(model, data(path), verbose=False)
    assert metrics["top1_acc_val"] == 0.5
    records = quiet_trainer(tmp_path).predict(model, data(path, predict_split="val"))
    assert sorted(len(record["candidates"]) for record in records[0]) == [0, 3]


def test_a_completion_without_its_end_holds_no_tactic():
    model = build(template="ntp-st", max_seq_len=400)
    model.engine.propose = lambda inputs, n, d: [[("simp\n[/TAC]", -1.0), ("rw [", -2.0), ("simp \n[/TAC]x", -3.0)]]
    assert model.generate("⊢ p", *PLACE, 3) == [("simp", -1.0)], "equal tactics: the best log-probability is kept"
    assert model.decoding().stop == get_template("ntp-st").stop


def test_another_template_than_the_checkpoints_is_said(overfit, tmp_path):
    path = save_checkpoint(overfit[0], tmp_path / "model.ckpt")
    with pytest.warns(UserWarning, match="trained with template llmstep, but is used with bfs-prover"):
        assert CausalGenerator.load(path, template="bfs-prover").template == "bfs-prover"
    other = build(template="bfs-prover")
    with pytest.warns(UserWarning, match="trained with template llmstep, but is used with bfs-prover"):
        other.on_load_checkpoint(torch.load(path, weights_only=True))


def test_an_export_is_prompted_as_the_tutorial_does(overfit, tmp_path):
    """`AutoModelForCausalLM`, `AutoTokenizer`, the prompt, greedy generation: nothing of this project."""
    model, _, _ = overfit
    export(save_checkpoint(model, tmp_path / "model.ckpt"), tmp_path / "exported")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "exported")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "exported")
    state, tactic = EIGHT[0]
    ids = tokenizer(f"[GOAL]{state}[PROOFSTEP]", return_tensors="pt", add_special_tokens=False)["input_ids"]
    out = theirs.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=48, num_beams=1, do_sample=False)
    assert tokenizer.decode(out[0][ids.shape[1] :], skip_special_tokens=True) == tactic
    loaded = load_generator(str(tmp_path / "exported"), device="cpu", template="llmstep", **SIZES)
    assert loaded.generate(state, *PLACE, 1)[0] == (tactic, pytest.approx(model.generate(state, *PLACE, 1)[0][1]))


# ------------------------------------------------------------------------------------- command line


def test_the_same_command_line_trains_validates_and_predicts(eight_path, tmp_path, capsys):
    init = {"template": "llmstep", **SIZES}
    values = {
        "model": {
            "class_path": "generator.causal.CausalGenerator",
            "init_args": {"model_name": GPT2, "num_beams": 2, "lr": 1e-3},
        },
        "data": {
            "class_path": "generator.instruct_datamodule.InstructDataModule",
            "init_args": {"data_path": str(eight_path), "batch_size": 4, **init},
        },
        "trainer": {
            "accelerator": "cpu",
            "max_epochs": 1,
            "num_sanity_val_steps": 0,
            "logger": {
                "class_path": "pytorch_lightning.loggers.TensorBoardLogger",
                "init_args": {"save_dir": str(tmp_path), "name": "run"},
            },
        },
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values, allow_unicode=True))
    cli = main(["fit", "--config", str(tmp_path / "config.yaml")])
    assert cli.model.template == "llmstep" and cli.model.max_seq_len == SIZES["max_seq_len"]
    printed = capsys.readouterr().out
    assert "validation: top1" in printed and "\n    p q : Prop\n    h : q\n    ⊢ p ∨ q\n" in printed
    metrics = json.loads((tmp_path / "run" / "version_0" / "metrics.json").read_text())
    last = ["--config", str(tmp_path / "config.yaml"), "--ckpt_path", metrics["last_checkpoint"]]
    judged = main(["validate", *last]).trainer.callback_metrics
    assert float(judged["loss_val"]) == pytest.approx(metrics["loss_val"], abs=1e-5)
    cli = main(["predict", *last])
    (lines,) = [path.read_text().splitlines() for path in tmp_path.rglob("predictions/*.jsonl")]
    assert sorted(json.loads(line)["tactic"] for line in lines) == sorted(tactic for _, tactic in EIGHT)


# ----------------------------------------------------------------------------------------- mistakes


def test_models_that_are_not_decoder_only_are_named(tmp_path):
    from generator.model import RetrievalAugmentedGenerator

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


def test_weights_saved_in_bf16_are_trained_in_float32(tmp_path):
    pretrained = save_pretrained(build(), tmp_path / "base")
    AutoModelForCausalLM.from_pretrained(pretrained, dtype=torch.bfloat16).save_pretrained(tmp_path / "bf16")
    build().tokenizer.save_pretrained(tmp_path / "bf16")
    model = build(str(tmp_path / "bf16"), lr=1e-6)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    before = [p.detach().clone() for p in model.parameters()]
    quiet_trainer(tmp_path, max_steps=2, limit_val_batches=0).fit(model, data(write_splits(tmp_path / "data")))
    moved = [(p != old).float().mean().item() for p, old in zip(model.parameters(), before, strict=True)]
    assert max(moved) > 0.5
    if importlib.util.find_spec("peft"):
        adapted = build(str(tmp_path / "bf16"), lora={"r": 2})
        assert {p.dtype for p in adapted.parameters() if p.requires_grad} == {torch.float32}
        assert {p.dtype for p in adapted.parameters() if not p.requires_grad} == {torch.bfloat16}


def test_sharded_weights_are_validated_by_their_loss_and_never_decoded(eight_path, tmp_path, monkeypatch):
    model = build()
    monkeypatch.setattr(type(model), "_is_sharded", True)
    model.engine.propose = None
    metrics = quiet_trainer(tmp_path).validate(model, data(eight_path), verbose=False)[0]
    assert set(metrics) == {"loss_val"}
    with pytest.raises(ConfigError, match="predict needs whole weights"):
        quiet_trainer(tmp_path).predict(model, data(eight_path))


def test_options_out_of_range_are_named():
    with pytest.raises(ConfigError, match="template is 'ntp'"):
        build(template="ntp")
    with pytest.raises(ConfigError, match="max_completion_len"):
        build(max_seq_len=10, max_completion_len=20)


def test_training_refuses_an_engine_that_copies_weights(eight_path, tmp_path):
    model = build()
    model.engine.__class__ = type("Copied", (type(model.engine),), {"is_live": False, "name": "copied"})
    with pytest.raises(ConfigError, match="engine copied reads a converted copy"):
        quiet_trainer(tmp_path, max_steps=1).fit(model, data(eight_path))
