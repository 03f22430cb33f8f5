"""A frozen body between new layers: what is trained, what it reads before it answers, and what its checkpoints hold."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from common import IGNORE_INDEX, ConfigError
from generator import frozen, load_generator
from generator.causal import CausalGenerator
from generator.data.instruct_batch import InstructBatch, collate_rows
from generator.domains.encodings import batch_of_one
from generator.domains.symbolic.vocabulary import WORDS
from generator.export import export
from generator.frozen import FrozenTransformerGenerator
from generator.main import main
from tests.fakes import EIGHT, quiet_trainer, save_checkpoint, write_splits
from tests.generator.causal_fakes import GPT2, save_bpe
from tests.generator.cli_fakes import config, run
from tests.generator.families import DECODER_ONLY, Learnt, ask, context, training_batches

FROZEN = replace(
    DECODER_ONLY,
    name="frozen",
    generator=FrozenTransformerGenerator,
    architecture=GPT2,
    lesson={"template": None, "lr": 1e-2, "trained_groups": ["norms", "positions", "attention"], "warmup_steps": 10},
)
SLIDES = {"trained_groups": ["norms", "positions"]}


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Learnt:
    """A model with a drawn body that knows eight steps by heart; its feed-forward layers were never trained."""
    return FROZEN.learn(tmp_path_factory.mktemp("frozen"))


@pytest.fixture
def body(tmp_path: Path) -> Path:
    """A trained model of another language."""
    torch.manual_seed(5)
    sizes = {name: GPT2[name] for name in ("n_embd", "n_layer", "n_head", "n_positions")}
    GPT2LMHeadModel(GPT2Config(vocab_size=70, initializer_range=0.2, **sizes)).save_pretrained(tmp_path / "body")
    return tmp_path / "body"


@pytest.fixture
def words(tmp_path: Path) -> Path:
    """A tokenizer of 300 tokens."""
    save_bpe(tmp_path / "words")
    return tmp_path / "words"


def train(model: Any, folder: Path, *, ckpt_path: Path | None = None, **options: Any) -> Any:
    trainer = quiet_trainer(folder, **{"limit_val_batches": 0, **options})
    trainer.fit(model, FROZEN.data(write_splits(folder / "data"), batch_size=2), ckpt_path=ckpt_path)
    return trainer


# ------------------------------------------------------------------------------------------- training


def test_a_policy_decides_what_moves_and_the_optimizer_sees_nothing_else(tmp_path):
    model = FROZEN.build(**SLIDES, lr=1e-2, warmup_steps=0)
    before = {name: parameter.detach().clone() for name, parameter in model.generator.named_parameters()}
    trainer = train(model, tmp_path, max_steps=2)
    moved = {name for name, parameter in model.generator.named_parameters() if not torch.equal(parameter, before[name])}
    expected = {name for name, role in model.roles.items() if role in ("input", "norms", "positions", "output")}
    assert moved == expected and len(expected) < len(before)
    (optimizer,) = trainer.optimizers
    seen = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    assert seen == {id(model.generator.get_parameter(name)) for name in expected}
    assert all(model.generator.get_parameter(name).grad is None for name in set(before) - expected)


def test_muon_trains_what_a_policy_names(tmp_path):
    model = FROZEN.build(trained_groups=["attention"], optimizer="muon")
    (optimizer,) = train(model, tmp_path, max_steps=1).optimizers
    seen = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    assert seen == {id(parameter) for parameter in model.parameters() if parameter.requires_grad}


def test_a_table_of_groups_is_printed_and_logged(tmp_path, monkeypatch):
    printed: list[str] = []
    logged: dict[str, str] = {}
    monkeypatch.setattr(frozen, "rank_zero_info", printed.append)
    monkeypatch.setattr(frozen, "log_text", lambda module, tag, text: logged.update({tag: text}))
    model = FROZEN.build(**SLIDES)
    train(model, tmp_path, max_steps=1)
    assert printed == [logged["parameters"]] == [model.table()]
    assert [line.split("|")[1].strip() for line in model.table().splitlines()[2:]] == [
        *("input", "norms", "positions", "attention", "feed_forward", "output", "all")
    ]
    assert f" {sum(p.numel() for p in model.parameters() if p.requires_grad):,} |" in model.table().splitlines()[-1]


def test_eight_examples_are_learnt_by_heart(learnt):
    assert learnt.metrics["top1_acc_val"] == 1.0 and learnt.metrics["loss_val"] < 0.05
    found = ask(learnt.model, [state for state, _ in EIGHT], 1)
    assert [candidates[0][0] for candidates in found] == [tactic for _, tactic in EIGHT]


def test_a_resumed_run_equals_one_that_never_stopped(tmp_path):
    whole, first, second = (FROZEN.build(**SLIDES, lr=1e-2) for _ in range(3))
    train(whole, tmp_path, max_steps=4)
    train(first, tmp_path, max_steps=2).save_checkpoint(tmp_path / "half.ckpt")
    train(second, tmp_path, max_steps=4, ckpt_path=tmp_path / "half.ckpt")
    weights = whole.state_dict()
    assert all(torch.equal(weight, weights[name]) for name, weight in second.state_dict().items())
    other = FROZEN.build(trained_groups=["norms", "positions", "attention"])
    with pytest.raises(ConfigError, match=r"trained_groups is \['norms', .*but the checkpoint was trained with"):
        train(other, tmp_path, max_steps=4, ckpt_path=tmp_path / "half.ckpt")


def test_activations_that_are_computed_again_give_the_same_gradients(tmp_path):
    batch, gradients = batch_of(EIGHT, tmp_path / "eight"), []
    for recomputed in (False, True):
        model = FROZEN.build(trained_groups=["norms"], train_input=False, gradient_checkpointing=recomputed)
        model.loss_of(batch)[0].backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys() and any("ln_1" in name for name in gradients[0])
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient)


def test_the_same_seed_gives_the_same_model(tmp_path):
    runs = []
    for _ in range(2):
        model = FROZEN.build(lr=1e-2, body_dropout=0.1)
        train(model, tmp_path, max_steps=3)
        runs.append(model.state_dict())
    assert all(torch.equal(weight, runs[1][name]) for name, weight in runs[0].items())


# ----------------------------------------------------------------------------------- what it reads


def batch_of(steps: list[tuple[str, str]], folder: Path) -> InstructBatch:
    (batch,) = training_batches(FROZEN.data(write_splits(folder, steps), batch_size=len(steps)))
    return batch  # type: ignore[no-any-return]


@torch.no_grad()
def logits(model: Any, ids: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    found: torch.Tensor = model.eval().generator(input_ids=ids, attention_mask=mask).logits
    return found


def test_an_answer_reads_the_whole_problem_and_nothing_of_itself_that_comes_later(tmp_path):
    model, batch = FROZEN.build(), batch_of(EIGHT[:1], tmp_path / "one")
    ids, answer = batch["input_ids"], int((batch["labels"][0] != IGNORE_INDEX).nonzero()[0])
    late, later = ids.clone(), ids.clone()
    late[0, answer - 1] += 1  # the last token of the problem
    later[0, answer + 2] += 1  # the third of the answer
    plain = logits(model, ids)
    assert not torch.equal(logits(model, late)[0, answer - 1], plain[0, answer - 1])
    early = ids.clone()
    early[0, 0] += 1
    assert not torch.equal(logits(model, early)[0, answer - 1], plain[0, answer - 1])
    assert torch.equal(logits(model, later)[0, : answer + 2], plain[0, : answer + 2])
    assert not torch.equal(logits(model, later)[0, answer + 2], plain[0, answer + 2])


def test_padding_and_neighbours_change_neither_logits_nor_loss(tmp_path):
    model, batch = FROZEN.build(), batch_of(EIGHT, tmp_path / "eight")
    together = logits(model, batch["input_ids"], batch["attention_mask"])
    total = tokens = 0.0
    for i, length in enumerate(batch["attention_mask"].sum(dim=1).tolist()):
        alone = logits(model, batch["input_ids"][i : i + 1, :length])
        torch.testing.assert_close(together[i, :length], alone[0], atol=1e-5, rtol=1e-4)
        labels = batch["labels"][i, 1:length]
        total += torch.nn.functional.cross_entropy(alone[0, :-1], labels, reduction="sum").item()
        tokens += int((labels != IGNORE_INDEX).sum())
    loss, num_tokens = model.loss_of(batch)
    assert num_tokens == tokens and loss.item() == pytest.approx(total / tokens, rel=1e-5)


def test_the_loss_falls_on_the_answer_and_its_end_alone(tmp_path):
    batch = batch_of(EIGHT, tmp_path / "eight")
    eos = FROZEN.build().tokenizer.eos_token_id
    for ids, labels, mask, tactic in zip(
        batch["input_ids"], batch["labels"], batch["attention_mask"], batch["tactic"], strict=True
    ):
        trained = labels != IGNORE_INDEX
        assert torch.equal(ids[trained], labels[trained]) and not (trained & (mask == 0)).any()
        assert trained.sum() == len(tactic.encode()) + 1 and labels[trained][-1] == eos


def test_rows_of_a_batch_are_rows_of_the_model_also_where_it_is_square(tmp_path):
    model = FROZEN.build()
    module = FROZEN.data(write_splits(tmp_path / "data"))
    module.setup("fit")
    examples = [module.datasets["train"][i] for i in range(8)]
    length = 8
    cut = [replace(each, input_ids=each.input_ids[-length:], num_prompt_tokens=4) for each in examples]
    batch = collate_rows([[each] for each in cut], 0)
    assert batch["input_ids"].shape == (8, 8), "transposed or reshaped, it would have the same shape"
    assert batch["input_ids"].tolist() == [each.input_ids for each in cut]
    assert not torch.equal(batch["input_ids"], batch["input_ids"].T)
    losses = [model.eval().loss_of(collate_rows([[each]], 0))[0].item() for each in cut]
    assert model.loss_of(batch)[0].item() == pytest.approx(sum(losses) / 8, rel=1e-5)


def test_a_perfect_predictor_scores_exactly_one_and_the_loss_is_weighted_by_tokens(tmp_path):
    model = FROZEN.build()
    module = FROZEN.data(write_splits(tmp_path / "data"), eval_batch_size=3)
    module.setup("validate")
    answers = {each["state"]: each["tactic"] for each in (module.datasets["val"][i] for i in range(8))}
    model.engine.propose = lambda inputs, n, d: [[(answers[text], -1.0)] for text in inputs]
    metrics = quiet_trainer(tmp_path).validate(model, module, verbose=False)[0]
    assert metrics["top1_acc_val"] == 1.0
    total = tokens = 0.0
    with torch.no_grad():
        for batch in module.val_dataloader():
            loss, num_tokens = model.eval().loss_of(batch)
            total, tokens = total + loss.item() * num_tokens, tokens + num_tokens
    assert metrics["loss_val"] == pytest.approx(total / tokens, rel=1e-5)


def test_a_problem_of_symbolic_mathematics_stands_before_its_answer_in_one_row(tmp_path):
    architecture = {**GPT2, "tokenizer": "symbolic"}
    options = {"template": "symbolic", "max_seq_len": 64, "max_completion_len": 16}
    model = FROZEN.build(architecture, **options)
    spec, program = "sub Y' mul x cos x", "add cos x mul x sin x"
    batch = batch_of_one(model, model.write_inputs([context(spec)])[0], program)
    (ids,), (labels,), number = batch["input_ids"].tolist(), batch["labels"].tolist(), WORDS.index
    answer = [number(word) for word in program.split()] + [number("</s>")]
    assert ids == [number(word) for word in f"{spec} <SPECIAL_5>".split()] + answer
    assert labels == [IGNORE_INDEX] * 7 + answer
    assert model.generator.get_input_embeddings().weight.shape == model.generator.lm_head.weight.shape == (91, 48)
    ends = (model.generator.config.eos_token_id, model.generator.config.pad_token_id)
    assert ends == (number("</s>"), number("<pad>"))
    loaded = load_generator(save_checkpoint(model, tmp_path / "symbolic.ckpt"))
    assert loaded.template == "symbolic" and ask(loaded, [spec], 2) == ask(model, [spec], 2)
    plain = FROZEN.build(architecture, output_bias=False, **options)
    assert export(save_checkpoint(plain, tmp_path / "plain.ckpt"), tmp_path / "out").max_difference < 1e-4
    exported = load_generator(tmp_path / "out")
    assert type(exported) is CausalGenerator and exported.template == "symbolic"
    texts = [[text for text, _ in candidates] for candidates in (ask(exported, [spec], 2)[0], ask(plain, [spec], 2)[0])]
    assert texts[0] == texts[1]


# --------------------------------------------------------------------------------- bodies, checkpoints


def test_a_trained_body_between_words_of_another_tokenizer(body, words, monkeypatch):
    monkeypatch.chdir(body.parent)
    model = FROZEN.build({"body": "body", "tokenizer": "words"}, num_layers=1, body_dropout=0.0)
    trained = AutoModelForCausalLM.from_pretrained(body).state_dict()
    assert len(model.generator.transformer.h) == 1 and len(model.tokenizer) == 300
    assert torch.equal(model.generator.transformer.h[0].mlp.c_fc.weight, trained["transformer.h.0.mlp.c_fc.weight"])
    assert model.generator.lm_head.weight.shape == (300, 48) and model.generator.lm_head.bias.shape == (300,)
    assert model.hparams["model_name"] == {"body": str(body), "tokenizer": str(words)}
    assert model.generator.config.eos_token_id == model.tokenizer.eos_token_id == 2
    drawn = FROZEN.build({"body": "body", "tokenizer": "words"}, pretrained=False)
    assert not torch.equal(drawn.generator.transformer.h[0].mlp.c_fc.weight, trained["transformer.h.0.mlp.c_fc.weight"])


def test_a_checkpoint_holds_the_frozen_weights_and_loads_where_the_body_is_gone(body, words, tmp_path):
    model = FROZEN.build({"body": str(body), "tokenizer": str(words)}, num_layers=1, **SLIDES)
    torch.nn.init.normal_(model.generator.lm_head.bias)
    checkpoint = save_checkpoint(model, tmp_path / "model.ckpt")
    shutil.rmtree(body)
    loaded = load_generator(checkpoint)
    assert type(loaded) is FrozenTransformerGenerator and loaded.policy.trained_groups == ["norms", "positions"]
    ids = torch.arange(3, 60)[None]
    assert torch.equal(logits(loaded, ids), logits(model, ids))
    assert ask(loaded, ["p q : Prop"], 2) == ask(model, ["p q : Prop"], 2)
    again = FrozenTransformerGenerator.load(save_checkpoint(loaded, tmp_path / "again.ckpt"), freeze=False)
    assert torch.equal(logits(again, ids), logits(model, ids))
    assert {name for name, p in again.generator.named_parameters() if p.requires_grad} == {
        name for name, role in again.roles.items() if role not in ("attention", "feed_forward")
    }


def test_a_model_without_an_output_bias_is_exported(tmp_path):
    model = FROZEN.build(output_bias=False)
    checkpoint = save_checkpoint(model, tmp_path / "plain.ckpt")
    assert export(checkpoint, tmp_path / "out").max_difference < 1e-4
    ids = torch.arange(3, 60)[None]
    written = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    torch.testing.assert_close(written(ids).logits, logits(model, ids), atol=1e-5, rtol=1e-4)
    with pytest.raises(ConfigError, match=r"output layer has a bias, .*output_bias: false"):
        export(save_checkpoint(FROZEN.build(), tmp_path / "biased.ckpt"), tmp_path / "other")


def test_what_does_not_fit_together_is_refused(body):
    with pytest.raises(ConfigError, match="beside body stands tokenizer alone"):
        FROZEN.build({"body": str(body), "tokenizer": "bytes", "n_layer": 1})
    with pytest.raises(ConfigError, match="lora trains adapters beside a model"):
        FROZEN.build(lora={"r": 2})
    with pytest.raises(ConfigError, match="trained_groups is 'ln'"):
        FROZEN.build(trained_groups=["ln"])
    with pytest.raises(ConfigError, match="max_seq_len is 500, but the model has 400 positions"):
        FROZEN.build(max_seq_len=500)


# -------------------------------------------------------------------------------------- command line


def test_the_command_line_trains_it_under_its_short_name_and_resumes(tmp_path):
    values = config(write_splits(tmp_path / "data"), tmp_path, FROZEN, max_steps=1, limit_val_batches=0)
    values["model"]["class_path"] = "FrozenTransformerGenerator"
    values["model"]["init_args"] |= {"trained_groups": ["norms"], "body_dropout": 0.0}
    made = run("fit", tmp_path, values)
    assert type(made.model) is FrozenTransformerGenerator and made.model.policy.trained_groups == ["norms"]
    saved = next((tmp_path / "run").rglob("last.ckpt"))
    resumed = run("fit", tmp_path, values, "--ckpt_path", str(saved), "--trainer.max_steps", "2")
    assert resumed.trainer.global_step == 2


def test_the_command_line_explains_its_options(capsys):
    with pytest.raises(SystemExit):
        main(
            [
                "fit",
                "--model=FrozenTransformerGenerator",
                "--model.model_name=x",
                "--data.data_path=y",
                "--print_config",
            ]
        )
    printed = yaml.safe_load(capsys.readouterr().out)["model"]["init_args"]
    assert printed["trained_groups"] == ["norms", "positions"] and printed["output_bias"] is True
    assert printed["pretrained"] is True and printed["num_layers"] is None
