"""What is told of the theorem stands in front of the input: in training, inference, checkpoints and exports alike."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import transformers

from common import ByteTokenizer, ConfigError, Context, Pos, Premise, format_augmented_state
from generator import load_generator
from generator.data.dataset import GeneratorDataset
from generator.data.inputs import HeadingWriter, InputParts, PremiseParts, numbered, write_input
from generator.datamodule import GeneratorDataModule
from generator.export import export
from generator.interface.wrappers import CachingGenerator
from generator.model import RetrievalAugmentedGenerator
from generator.nearest.make import nearest
from generator.nearest.ranked import COMPOSED_FILE, RANKING_FILE
from retrieval.leandojo.traces import TracedTactics
from retrieval.training import kept_tokens
from tests.fakes import TINY, quiet_trainer, write_splits

TOLD = InputParts(tell_theorem=True)


def told(path: str, name: str, max_len: int) -> str:
    [heading] = HeadingWriter(TOLD, max_len)([Context(path, name, None, "⊢ p")])
    return heading


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
    assert told(path, name, 512) == heading
    assert HeadingWriter(InputParts(), 512)([Context(path, name, None, "⊢ p")]) == [""]


@pytest.mark.parametrize("max_len", [1, 8, 11, 12, 40, 64])
def test_a_heading_takes_a_quarter_at_most_and_its_end_stays(max_len: int) -> None:
    heading = told("theories/Init/é.v", "Coq.Init.é.plus_n_O", max_len)
    assert len(heading.encode()) <= max_len // 4
    assert (heading == "") == (max_len < 12)
    assert "theories/Init/é plus_n_O\n\n".endswith(heading)


def test_premises_and_state_share_what_the_heading_leaves() -> None:
    premise = Premise("A.v", "foo", Pos(1, 1), Pos(1, 9), "Lemma foo : 1 = 1")
    heading = told("A.v", "A.bar", 64)
    text = write_input(heading, "n : nat\n⊢ n = n", [premise], 64)
    assert text == "A bar\n\nLemma <a>foo</a> : 1 = 1\n\nn : nat\n⊢ n = n"
    assert write_input(heading, "n : nat\n⊢ n = n", [premise], 40) == "A bar\n\nn : nat\n⊢ n = n"
    assert len(write_input(heading, "h : p\n" * 20 + "⊢ q", [premise], 40).encode()) <= 39
    rng = random.Random(0)
    assert write_input("", "⊢ q", [premise], 64, 0.5, rng) == format_augmented_state(
        "⊢ q", [premise], 64, 0.5, random.Random(0)
    )


def test_a_long_state_leaves_premises_their_share_and_no_more() -> None:
    premises = [Premise("A.v", name, Pos(1, 1), Pos(1, 9), f"Lemma {name} : p") for name in ("one", "two")]
    state = "".join(f"h{number} : p\n" for number in range(9)) + "⊢ q"
    assert "Lemma" not in write_input("", state, premises, 80)
    of_both, of_one = (write_input("", state, premises, 80, premise_share=share) for share in (0.7, 0.4))
    assert of_both.startswith("Lemma <a>two</a> : p\n\nLemma <a>one</a> : p\n\n")
    assert of_one.startswith("Lemma <a>one</a> : p\n\n") and "two" not in of_one
    for text in (of_both, of_one):
        left = text.rpartition("\n\n")[2]
        assert len(text.encode()) == 79 and state.endswith(left) and left.endswith("⊢ q")


def test_what_premises_do_not_take_stays_with_the_state() -> None:
    premise = Premise("A.v", "one", Pos(1, 1), Pos(1, 9), "Lemma one : p")
    state = "h : p\n" * 20 + "⊢ q"
    plain = write_input("A b\n\n", state, [], 80)
    assert write_input("A b\n\n", state, [], 80, premise_share=0.5) == plain
    assert write_input("A b\n\n", state, [premise], 80, premise_share=0.1) == plain, "none that fits"
    dropped = write_input("A b\n\n", state, [premise], 80, 1.0, random.Random(0), premise_share=0.5)
    assert dropped == plain, "none that is kept"
    short = write_input("", "⊢ q", [premise], 80)
    assert write_input("", "⊢ q", [premise], 80, premise_share=0.01) == short != "⊢ q", "room is room"


def test_lengths_of_examples_hold_the_heading(tmp_path: Path) -> None:
    path = write_splits(tmp_path) / "train.json"
    with_heading = GeneratorDataset(path, tokenizer=ByteTokenizer(), parts=TOLD, is_train=True, **LIMITS)
    plain = GeneratorDataset(path, tokenizer=ByteTokenizer(), is_train=True, **LIMITS)
    for index in range(len(with_heading)):
        text = with_heading.example(0, index).state
        assert len(text.encode()) + 1 == with_heading.source_lengths[index] <= 64
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


def make_lookup(folder: Path) -> Path:
    """The lookup of eight steps, each of its own theorem."""
    data_path = write_splits(folder / "data")
    nearest(data_path, folder / "nearest", max_share=1.0)
    return data_path


def test_tactics_are_numbered_whole_and_nearest_to_the_state() -> None:
    assert numbered(["intros n m", "simpl;\n  auto"], 32) == "2 simpl; auto\n1 intros n m\n\n"
    assert numbered(["intros n m", "simpl"], 12) == "2 simpl\n\n"
    assert numbered(["intros n m"], 8) == numbered([], 100) == ""


def test_what_was_done_in_similar_states_stands_in_front(tmp_path: Path) -> None:
    data_path = make_lookup(tmp_path)
    parts = InputParts(nearest_path=str(tmp_path / "nearest"), num_nearest=2)
    dataset = GeneratorDataset(
        data_path / "train.json",
        tokenizer=ByteTokenizer(),
        parts=parts,
        is_train=True,
        **LIMITS | {"max_inp_seq_len": 128},
    )
    writer, lookup = HeadingWriter(parts, 128), load_generator(tmp_path / "nearest")
    for index in range(len(dataset)):
        example, step = dataset.example(0, index), dataset.traces[index]
        origin = example.provenance
        context = Context(origin.file_path, origin.full_name, origin.start, step.state)
        [proposed] = lookup.propose([context], 2)
        heading = numbered([tactic for tactic, _ in proposed], 64)
        assert writer([context]) == [heading]
        assert example.state == heading + step.state and heading.count("\n") > 1
        assert len(example.state.encode()) + 1 == dataset.source_lengths[index]


def test_what_is_kept_beside_the_data_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_tokens, "MIN_BYTES", 0)
    data_path = make_lookup(tmp_path)
    traces = TracedTactics.load(data_path / "train.json")
    parts = InputParts(tell_theorem=True, nearest_path=str(tmp_path / "nearest"))
    first = HeadingWriter(parts, 128).all_of(traces, progress=False)
    monkeypatch.setattr(HeadingWriter, "__call__", None)
    for library in (transformers, tokenizers):  # of which a lookup has no need
        monkeypatch.setattr(library, "__version__", "99")
    again = HeadingWriter(parts, 128).all_of(traces, progress=False)
    assert [*again] == [*first] and len(again) == len(traces)
    with pytest.raises(TypeError):  # asked anew
        HeadingWriter(replace(parts, num_nearest=3), 128).all_of(traces, progress=False)
    for learnt in (RANKING_FILE, COMPOSED_FILE):  # from other steps, or for longer, with the same settings
        (tmp_path / "nearest" / learnt).write_bytes(b"learnt anew")
        with pytest.raises(TypeError):
            HeadingWriter(parts, 128).all_of(traces, progress=False)
        (tmp_path / "nearest" / learnt).unlink()


def test_a_checkpoint_finds_its_lookup_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_lookup(tmp_path)
    monkeypatch.chdir(tmp_path)
    model = RetrievalAugmentedGenerator(dict(TINY), nearest_path="nearest", num_nearest=3, **LIMITS)
    assert model.reads_theorem and model.kept_options()["nearest_path"] == str(tmp_path / "nearest")
    [text] = model.write_inputs([Context("A.lean", "t", Pos(1, 1), "p q : Prop\n⊢ p ∨ q")])
    assert text.endswith("\n\np q : Prop\n⊢ p ∨ q") and text.partition("\n\n")[0].split("\n")[-1].startswith("1 ")


def test_options_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"num_nearest is 0"):
        InputParts(num_nearest=0)
    for share in (-0.1, 1.0, float("nan")):
        with pytest.raises(ConfigError, match=r"premise_share is .*; it must be at least 0 and below 1"):
            PremiseParts(premise_share=share)
    with pytest.raises(ConfigError, match=r"nearest_path .*/nothing: holds no lookup; make one with python -m"):
        RetrievalAugmentedGenerator(dict(TINY), nearest_path=str(tmp_path / "nothing"), **LIMITS)
