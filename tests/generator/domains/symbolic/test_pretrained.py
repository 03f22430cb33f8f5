"""Pretrained encoder-decoders on prefix text, from folders: T5, Marian and mBART, whose targets begin differently."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import (
    MarianConfig,
    MarianMTModel,
    MBartConfig,
    MBartForConditionalGeneration,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from common import IGNORE_INDEX, DataError
from generator import load_generator
from generator.domains.datamodule import DomainDataModule
from generator.domains.model_writer import SampleWriter
from generator.domains.symbolic.vocabulary import WORDS
from generator.model import RetrievalAugmentedGenerator
from tests.fakes import quiet_trainer
from tests.generator.domains.symbolic.model_fakes import add_domains
from tests.generator.families import ask

LIMITS = {"max_inp_seq_len": 64, "max_oup_seq_len": 16}
_SIZES = {
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "max_position_embeddings": 64,
    "dropout": 0.0,
    "init_std": 0.1,
}
_SIZES |= {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
_OURS = 4  # special tokens in front of the words: begin, fill, end, unknown
EN, RO = len(WORDS) + _OURS, len(WORDS) + _OURS + 1
_VOCABULARY = len(WORDS) + _OURS + 2


def save(kind: str, folder: Path) -> str:
    """Write a tiny model with a tokenizer of its own, as one of the hub looks."""
    torch.manual_seed(0)
    names = ["<begin>", "<fill>", "<end>", "<unknown>", *WORDS, "en_XX", "ro_RO"]
    words: Any = Tokenizer(WordLevel({name: number for number, name in enumerate(names)}, unk_token="<unknown>"))
    words.pre_tokenizer = WhitespaceSplit()
    special = [("<end>", 2), ("en_XX", EN)]
    ending = "$A <end> en_XX" if kind == "mbart" else "$A <end>"
    words.post_processor = TemplateProcessing(single=ending, special_tokens=special[: 1 + (kind == "mbart")])
    PreTrainedTokenizerFast(
        tokenizer_object=words,
        eos_token="<end>",
        pad_token="<fill>",
        unk_token="<unknown>",
        additional_special_tokens=["en_XX", "ro_RO"],
        clean_up_tokenization_spaces=False,
    ).save_pretrained(folder)
    ids: dict[str, Any] = {"vocab_size": _VOCABULARY, "pad_token_id": 1, "eos_token_id": 2}
    model: Any
    if kind == "t5":
        sizes = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 1, "num_heads": 4, "dropout_rate": 0.0}
        model = T5ForConditionalGeneration(T5Config(**ids, **sizes, decoder_start_token_id=1))
    elif kind == "marian":
        config = MarianConfig(**ids, **_SIZES, decoder_start_token_id=1, forced_eos_token_id=None)
        model = MarianMTModel(config)
    else:
        config = MBartConfig(**ids, **_SIZES, bos_token_id=0, decoder_start_token_id=RO, forced_eos_token_id=None)
        model = MBartForConditionalGeneration(config)
    model.save_pretrained(folder)
    return str(folder)


@pytest.fixture(autouse=True)
def _domains(monkeypatch: pytest.MonkeyPatch) -> None:
    add_domains(monkeypatch)


@pytest.fixture(params=["t5", "marian", "mbart"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def build(folder: str, **options: Any) -> RetrievalAugmentedGenerator:
    return RetrievalAugmentedGenerator(folder, **{"engine": "transformers", "num_beams": 2, **LIMITS, **options})


def data(folder: str, **options: Any) -> DomainDataModule:
    few = {"num_train": 4, "num_val": 2, "num_test": 2, "fresh": False, "num_proposals": 2, "batch_size": 4}
    return DomainDataModule("backwards", folder, **{**few, **LIMITS, **options})


def test_it_is_trained_validated_and_asked(kind: str, tmp_path: Path) -> None:
    folder = save(kind, tmp_path / "hub")
    model, module = build(folder, lr=1e-2, warmup_steps=5), data(folder)
    module.setup("fit")
    dataset = module.datasets["train"]
    batch = dataset.collate([dataset[index] for index in range(4)])
    with torch.no_grad():
        before, _ = model.eval().loss_of(batch)
    trainer = quiet_trainer(tmp_path, max_epochs=40, check_val_every_n_epoch=40)
    trainer.fit(model.train(), module)
    assert {"loss_val", "top1_acc_val", "solved@1_val"} <= trainer.callback_metrics.keys()
    with torch.no_grad():
        after, _ = model.eval().loss_of(batch)
    assert after < before / 2
    problems = [dataset.problem(0, index) for index in range(4)]
    found = ask(model, [problem.spec for problem in problems], 2)
    for problem, candidates in zip(problems, found, strict=True):
        for text, log_prob in candidates:
            if text == problem.program:  # what was learnt; the loss and the search count the same tokens
                assert SampleWriter(model).log_prob(problem.spec, text) == pytest.approx(log_prob, rel=1e-3, abs=1e-3)
    trainer.save_checkpoint(tmp_path / "learnt.ckpt")
    loaded = load_generator(tmp_path / "learnt.ckpt", device="cpu", engine="transformers")
    assert ask(loaded, [problem.spec for problem in problems], 2) == found


def test_training_begins_a_target_as_decoding_does_and_ends_it_at_eos(kind: str, tmp_path: Path) -> None:
    folder = save(kind, tmp_path / "hub")
    model, module = build(folder).eval(), data(folder)
    module.setup("fit")
    dataset = module.datasets["train"]
    batch = dataset.collate([dataset[index] for index in range(4)])
    labels, given = batch["tactic_ids"], model._given(batch["tactic_ids"])
    for row, read, text in zip(labels, given, batch["tactic"], strict=True):
        trained = row[row != IGNORE_INDEX].tolist()
        assert trained == [_OURS + WORDS.index(word) for word in text.split()] + [2], "no language behind EOS"
        start = {"t5": 1, "marian": 1, "mbart": RO}[kind]
        assert read[: len(trained)].tolist() == [start, *trained[:-1]] and (read != IGNORE_INDEX).all()
    loss, count = model.loss_of(batch)
    assert count == int((labels != IGNORE_INDEX).sum())
    if kind != "mbart":  # which begins with the language that a target ends with
        with torch.no_grad():
            theirs = model.generator(batch["state_ids"], attention_mask=batch["state_mask"], labels=labels).loss
        torch.testing.assert_close(loss, theirs)


def test_a_text_that_inference_would_cut_by_its_bytes_is_refused_in_training(tmp_path: Path) -> None:
    folder = save("t5", tmp_path / "hub")
    with pytest.raises(DataError, match=r"max_inp_seq_len is 20, but .sub Y.* takes \d+ bytes; raise it"):
        data(folder, max_inp_seq_len=20).setup("fit")
