"""Models of both families on prefix words: from ids to training, checkpoint, export and answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

from common import ByteTokenizer, ConfigError, DataError, load_tokenizer
from generator import load_generator
from generator.architectures.encoder_decoder import build_seq2seq
from generator.domains.base import Problem
from generator.domains.model_writer import SampleWriter
from generator.export import export
from tests.fakes import TINY, quiet_trainer
from tests.generator.domains.symbolic.model_fakes import add_domains, build, data
from tests.generator.families import ask, context

FAMILIES = ("encoder_decoder", "decoder_only")
LONG = "sub Y' " + " ".join(["mul", "INT+", "1", "exp"] * 6) + " x"  # 27 words, and over three times as many bytes


@pytest.fixture(autouse=True)
def _domains(monkeypatch: pytest.MonkeyPatch) -> None:
    add_domains(monkeypatch)


@pytest.fixture(scope="module", params=FAMILIES)
def learnt(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Any, list[Problem], Path]:
    """A model that knows eight problems by heart, the problems, and its checkpoint."""
    with pytest.MonkeyPatch.context() as patch:
        add_domains(patch)
        family, folder = request.param, tmp_path_factory.mktemp(request.param)
        module, model = data(family), build(family, lr=3e-3, warmup_steps=10, optimizer="muon")
        trainer = quiet_trainer(folder, max_epochs=80, limit_val_batches=0)
        trainer.fit(model, module)
        trainer.save_checkpoint(folder / "learnt.ckpt")
        return family, model.eval(), [module.datasets["train"].problem(0, i) for i in range(8)], folder / "learnt.ckpt"


def answers(model: Any, problems: list[Problem]) -> list[str]:
    return [found[0][0] for found in ask(model, [problem.spec for problem in problems], 2)]


# ------------------------------------------------------------------------------------------------ ids


@pytest.mark.parametrize(("layout", "eos", "pad"), [("symbolic", 1, 2), ("symbolic-lc", 0, 1)])
def test_an_encoder_decoders_special_ids_are_its_tokenizers(layout: str, eos: int, pad: int) -> None:
    config: Any = build_seq2seq({**TINY, "tokenizer": layout}).config
    assert config.vocab_size == 91
    assert (config.eos_token_id, config.pad_token_id, config.decoder_start_token_id) == (eos, pad, 0)


def test_what_an_architecture_says_itself_counts_and_bytes_stay_as_they_were() -> None:
    config: Any = build_seq2seq(
        {**TINY, "tokenizer": "symbolic", "vocab_size": 128, "decoder_start_token_id": 2}
    ).config
    assert (config.vocab_size, config.decoder_start_token_id, config.eos_token_id) == (128, 2, 1)
    for tokenizer, size in (("bytes", 384), ("bytes+0", 384), ("bytes+200", 459)):
        config = build_seq2seq({**TINY, "tokenizer": tokenizer}).config
        assert (config.vocab_size, config.pad_token_id, config.eos_token_id, config.decoder_start_token_id) == (
            size,
            0,
            1,
            0,
        )


def test_a_vocabulary_that_is_too_small_is_refused() -> None:
    with pytest.raises(ConfigError, match="vocab_size is 90, but the tokenizer has 91 tokens; leave it out"):
        build_seq2seq({**TINY, "tokenizer": "symbolic", "vocab_size": 90})
    tokenizer = load_tokenizer({"tokenizer": "symbolic"})
    tokenizer.pad_token = None
    with pytest.raises(ConfigError, match="no EOS or no padding token"):
        build_seq2seq(TINY, tokenizer)
    assert build_seq2seq(TINY, ByteTokenizer()).config.vocab_size == 384


# ------------------------------------------------------------------------------------------- training


def test_eight_problems_are_learnt_by_heart_and_found_again(learnt: Any) -> None:
    family, model, problems, checkpoint = learnt
    expected = [problem.program for problem in problems]
    assert answers(model, problems) == expected
    loaded = load_generator(checkpoint, device="cpu")
    assert type(loaded.tokenizer) is type(model.tokenizer) and len(loaded.tokenizer) == 91  # type: ignore[attr-defined]
    assert ask(loaded, [p.spec for p in problems], 2) == ask(model, [p.spec for p in problems], 2)


def test_an_exported_model_says_the_same_under_transformers(learnt: Any, tmp_path: Path) -> None:
    family, model, problems, checkpoint = learnt
    export(checkpoint, tmp_path / "exported")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "exported")
    kind: Any = AutoModelForSeq2SeqLM if family == "encoder_decoder" else AutoModelForCausalLM
    theirs = kind.from_pretrained(tmp_path / "exported").eval()
    for problem in problems[:3]:
        text = model.write_inputs([context(problem.spec)])[0]
        ids = tokenizer(text, return_tensors="pt", add_special_tokens=family == "encoder_decoder")
        found = theirs.generate(**ids, num_beams=4, num_return_sequences=4, max_new_tokens=16, length_penalty=0.0)
        found = found if family == "encoder_decoder" else found[:, ids["input_ids"].shape[1] :]
        texts = [text for text in tokenizer.batch_decode(found, skip_special_tokens=True) if text]
        ours = [text for text, _ in ask(model, [problem.spec], 4)[0]]
        assert ours[:2] == list(dict.fromkeys(texts))[:2]
    again = load_generator(tmp_path / "exported", device="cpu")
    assert answers(again, problems) == [problem.program for problem in problems]


def test_samples_of_a_model_that_has_learnt_are_its_answers(learnt: Any) -> None:
    _, model, problems, _ = learnt
    drawn = SampleWriter(model, block_size=4).draw(problems[0].spec, 0)
    assert [text for text, _ in drawn].count(problems[0].program) >= 3


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_changes_neither_loss_nor_answers(family: str) -> None:
    model, module = build(family).eval(), data(family)
    module.setup("fit")
    dataset = module.datasets["train"]
    examples = [dataset[index] for index in range(8)]
    with torch.no_grad():
        together, count = model.loss_of(dataset.collate(examples))
        alone = [model.loss_of(dataset.collate([example])) for example in examples]
    problems = [dataset.problem(0, index) for index in range(8)]
    assert count == sum(each for _, each in alone) == sum(len(p.program.split()) + 1 for p in problems), (
        "EOS is trained"
    )
    torch.testing.assert_close(together * count, sum(loss * each for loss, each in alone), rtol=1e-4, atol=1e-4)
    several = ask(model, [problem.spec for problem in problems], 2)
    for problem, found in zip(problems, several, strict=True):
        [[*one]] = ask(model, [problem.spec], 2)
        assert [text for text, _ in one] == [text for text, _ in found]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_seed_trains_the_same_weights(family: str, tmp_path: Path) -> None:
    weights = []
    for _ in range(2):
        model = build(family)
        quiet_trainer(tmp_path, max_epochs=3, limit_val_batches=0).fit(model, data(family))
        weights.append(torch.cat([parameter.flatten() for parameter in model.parameters()]))
    assert torch.equal(*weights)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_long_problem_reaches_the_model_whole_or_not_at_all(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(family)
    [text] = model.write_inputs([context(LONG)])
    assert text is not None and text.startswith(LONG), "its bytes are more than its limit of tokens, its words are not"
    too_long = f"{LONG} {LONG}"
    if family == "encoder_decoder":
        with pytest.raises(DataError, match=r"takes 55 tokens, and the limit is 32; raise max_inp_seq_len"):
            ask(model, [too_long], 2)
    else:
        with pytest.warns(UserWarning, match=r"no candidates for one state: .* raise max_seq_len"):
            assert ask(model, [too_long], 2) == [[]]


# --------------------------------------------------------------------------------- several generators


def made(folder: Path, domain: str, seed: int, **sizes: int) -> str:
    from generator.domains import make_domain
    from generator.domains.problem_files import write_problem_files

    write_problem_files(make_domain(domain), folder, {"train": 30, "val": 5, "test": 5, **sizes}, seed)  # type: ignore[dict-item]
    return str(folder)


def test_problems_of_several_generators_are_trained_on_together(tmp_path: Path, capsys: Any) -> None:
    folders = [made(tmp_path / "one", "backwards", 1), made(tmp_path / "two", "backwards_too", 2)]
    module = data("encoder_decoder", data_path=folders, num_train=None, num_val=4, num_test=None)
    module.setup()
    assert [len(module.datasets[role]) for role in ("train", "val", "test")] == [60, 8, 10], "num_val of each folder"
    # a folder of the same domain whose held-out problems another one trains on
    mixed = made(tmp_path / "mixed", "backwards", 1, train=5, val=3)
    lines = (tmp_path / "one" / "train.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "mixed" / "val.jsonl").write_text("".join(lines[:3]))
    module = data("encoder_decoder", data_path=[folders[0], mixed], num_train=None, num_val=None)
    module.setup("fit")
    train, val = module.datasets["train"], module.datasets["val"]
    specs = {train.problem(0, index).spec for index in range(len(train))}
    assert not specs & {val.problem(0, index).spec for index in range(len(val))}
    assert len(train) == 30 + 5 - 3 - 3, "three of the first folder, and the same three of the second"


@pytest.mark.parametrize(
    ("paths", "message"), [([], r"data_path is \[\]"), (["a", "a"], "give at least one folder, and each once")]
)
def test_no_folder_and_the_same_one_twice_are_refused(paths: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        data("encoder_decoder", data_path=paths)


def test_a_folder_of_another_domain_is_refused_among_several(tmp_path: Path) -> None:
    folders = [made(tmp_path / "one", "backwards", 1), made(tmp_path / "two", "regex", 2)]
    with pytest.raises(DataError, match="is of domain regex, not backwards"):
        data("encoder_decoder", data_path=folders, num_train=None, num_val=None).setup("fit")
