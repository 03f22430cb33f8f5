"""What is told of the theorem stands in front of the input: in training, inference, checkpoints and exports alike."""

import random
from pathlib import Path
from typing import Any

import pytest

from common import ByteTokenizer, Context, Pos, Premise, format_augmented_state
from generator import load_generator
from generator.data.dataset import GeneratorDataset
from generator.data.inputs import InputParts, write_input
from generator.datamodule import GeneratorDataModule
from generator.export import export
from generator.interface.wrappers import CachingGenerator
from generator.model import RetrievalAugmentedGenerator
from tests.fakes import TINY, quiet_trainer, write_splits

TOLD = InputParts(tell_theorem=True)
LIMITS: dict[str, Any] = {"max_inp_seq_len": 64, "max_oup_seq_len": 48}


@pytest.mark.parametrize(
    ("path", "name", "heading"),
    [
        ("theories/Lists/List.v", "Coq.Lists.List.app_nil_r", "theories/Lists/List app_nil_r\n\n"),
        (
            "theories/FSets/FMapAVL.v",
            "Coq.FSets.FMapAVL.Raw.Proofs.find_1",
            "theories/FSets/FMapAVL Raw.Proofs.find_1\n\n",
        ),
        ("Mathlib/Order/Basic.lean", "Nat.le_of_lt", "Mathlib/Order/Basic Nat.le_of_lt\n\n"),
        ("", "app_nil_r", "app_nil_r\n\n"),
        ("List.v", "", "List\n\n"),
        ("", "", ""),
    ],
)
def test_the_heading_says_file_and_theorem_once(path: str, name: str, heading: str) -> None:
    assert TOLD.heading(path, name, 512) == heading
    assert InputParts().heading(path, name, 512) == ""


@pytest.mark.parametrize("max_len", [1, 8, 11, 12, 40, 64])
def test_a_heading_takes_a_quarter_at_most_and_its_end_stays(max_len: int) -> None:
    heading = TOLD.heading("theories/Init/é.v", "Coq.Init.é.plus_n_O", max_len)
    assert len(heading.encode()) <= max_len // 4
    assert (heading == "") == (max_len < 12)
    assert "theories/Init/é plus_n_O\n\n".endswith(heading)


def test_premises_and_state_share_what_the_heading_leaves() -> None:
    premise = Premise("A.v", "foo", Pos(1, 1), Pos(1, 9), "Lemma foo : 1 = 1")
    heading = TOLD.heading("A.v", "A.bar", 64)
    text = write_input(heading, "n : nat\n⊢ n = n", [premise], 64)
    assert text == "A bar\n\nLemma <a>foo</a> : 1 = 1\n\nn : nat\n⊢ n = n"
    assert write_input(heading, "n : nat\n⊢ n = n", [premise], 40) == "A bar\n\nn : nat\n⊢ n = n"
    assert len(write_input(heading, "h : p\n" * 20 + "⊢ q", [premise], 40).encode()) <= 39
    rng = random.Random(0)
    assert write_input("", "⊢ q", [premise], 64, 0.5, rng) == format_augmented_state(
        "⊢ q", [premise], 64, 0.5, random.Random(0)
    )


def test_lengths_of_examples_hold_the_heading(tmp_path: Path) -> None:
    path = write_splits(tmp_path) / "train.json"
    told = GeneratorDataset(path, tokenizer=ByteTokenizer(), parts=TOLD, is_train=True, **LIMITS)
    plain = GeneratorDataset(path, tokenizer=ByteTokenizer(), is_train=True, **LIMITS)
    for index in range(len(told)):
        text = told.example(0, index).state
        assert len(text.encode()) + 1 == told.source_lengths[index] <= 64
        assert text.partition("\n\n")[2].endswith("⊢" + plain.example(0, index).state.rpartition("⊢")[2])
        assert text != plain.example(0, index).state


def test_checkpoint_and_export_write_the_input_that_was_trained_on(tmp_path: Path) -> None:
    data_path = write_splits(tmp_path / "data")
    model = RetrievalAugmentedGenerator(dict(TINY), tell_theorem=True, num_beams=2, **LIMITS)
    module = GeneratorDataModule(str(data_path), dict(TINY), tell_theorem=True, batch_size=8, **LIMITS)
    trainer = quiet_trainer(tmp_path, max_steps=1)
    trainer.fit(model, module)
    trainer.save_checkpoint(tmp_path / "told.ckpt")
    export(tmp_path / "told.ckpt", tmp_path / "folder")
    example = module.datasets["train"].example(0, 0)
    origin = example.provenance
    context = Context(origin.file_path, origin.full_name, origin.start, module.datasets["train"].traces[0].state)
    for path in (tmp_path / "told.ckpt", tmp_path / "folder"):
        loaded: Any = load_generator(path, cache_size=8)
        assert isinstance(loaded, CachingGenerator) and loaded.reads_theorem
        assert loaded.generator.write_inputs([context]) == [example.state] != [context.state]
