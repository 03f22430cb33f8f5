"""Examples for training: never changed by reading, never cut at the goal, never longer than asked for."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from common import ByteTokenizer, ConfigError, Context, DataError, Pos, remove_marks
from generator.data.dataset import GeneratorDataset
from generator.data.inputs import PremiseParts
from generator.model import RetrievalAugmentedGenerator
from retrieval.corpus import Corpus
from retrieval.leandojo.provenance import Provenance
from retrieval.predictions.files import RetrievalContext
from retrieval.predictions.reader_writer import Predictions, PredictionWriter
from tests.fakes import TINY

CORPUS = [
    {
        "path": "Lib.lean",
        "imports": [],
        "premises": [
            {
                "full_name": f"Lib.lemma{i}",
                "code": f"theorem lemma{i} : " + "p ∧ " * i + "q",
                "start": [i, 1],
                "end": [i, 50],
                "kind": "",
            }
            for i in range(1, 9)
        ],
    }
]


def write_split(folder: Path, steps: list[tuple[str, Any]], split: str = "train") -> Path:
    """One theorem a step; a tactic is a text, or [text with marks, premises]."""
    records = [
        {
            "url": "u",
            "commit": "c",
            "file_path": "T.lean",
            "full_name": f"T.t{i}",
            "start": [i + 1, 1],
            "end": [i + 1, 2],
            "traced_tactics": [
                {
                    "tactic": tactic if isinstance(tactic, str) else remove_marks(tactic[0]),
                    "annotated_tactic": [tactic, []] if isinstance(tactic, str) else tactic,
                    "state_before": state,
                    "state_after": "no goals",
                }
            ],
        }
        for i, (state, tactic) in enumerate(steps)
    ]
    path = folder / f"{split}.json"
    path.write_text(json.dumps(records), encoding="utf-8")
    return path


def make(path: Path, **options: Any) -> GeneratorDataset:
    defaults = {"tokenizer": ByteTokenizer(), "max_inp_seq_len": 200, "max_oup_seq_len": 40, "is_train": True}
    return GeneratorDataset(path, **(defaults | {"progress": False} | options))


def retrieved(folder: Path, num_steps: int, ranks: list[int], name: str = "preds") -> dict[str, Any]:
    """A corpus, and predictions that give the same premises to each of the first steps of a split."""
    path = folder / "corpus.jsonl"
    path.write_text("".join(json.dumps(file) + "\n" for file in CORPUS), encoding="utf-8")
    corpus = Corpus(path)
    with PredictionWriter(
        folder / name, corpus, retriever="test", k=6, split="train", num_contexts=num_steps
    ) as writer:
        contexts = [
            RetrievalContext(Provenance("u", "c", "T.lean", f"T.t{i}", Pos(i + 1, 1))) for i in range(num_steps)
        ]
        writer.write(contexts, torch.tensor([ranks] * num_steps), torch.zeros(num_steps, len(ranks)))
    return {"corpus": corpus, "predictions": Predictions.load(folder / name, corpus)}


@pytest.fixture
def words() -> Any:
    """A tokenizer of words, as an example of one that does not count bytes."""
    tokenizer = Tokenizer(models.WordLevel({"<pad>": 0, "</s>": 1, "<unk>": 2, "a": 3, "⊢": 4}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


MARKED = [
    "exact <a>symm</a> h",
    [{"full_name": "And.symm", "def_path": "Lib.lean", "def_pos": [1, 1], "def_end_pos": [1, 2]}],
]


def test_an_example_has_the_texts_and_where_they_come_from(tmp_path: Path) -> None:
    dataset = make(write_split(tmp_path, [("2 goals\n⊢ p\n\n⊢ q", "constructor"), ("h : p\n⊢ p", MARKED)]))
    assert len(dataset) == 2
    assert dataset[0]["state"] == "⊢ p\n\n⊢ q"
    assert dataset[1] == {
        "state": "h : p\n⊢ p",
        "tactic": "exact symm h",
        "url": "u",
        "commit": "c",
        "file_path": "T.lean",
        "full_name": "T.t1",
        "start": Pos(2, 1),
        "tactic_idx": 0,
        "index": 1,
    }
    assert dataset[[1, 0]] == [dataset[1], dataset[0]] == dataset[[(0, 1), (3, 0)]]
    assert dataset[-1] == dataset[1]
    with pytest.raises(IndexError):
        dataset[2]


def test_marks_stay_where_they_are_asked_for(tmp_path: Path) -> None:
    path = write_split(tmp_path, [("⊢ p", MARKED)])
    kept, removed = make(path, keep_marks=True), make(path)
    assert (kept[0]["tactic"], removed[0]["tactic"]) == ("exact <a>symm</a> h", "exact symm h")
    assert kept.target_lengths.tolist() == [len("exact <a>symm</a> h") + 1]
    assert removed.target_lengths.tolist() == [len("exact symm h") + 1]
    full = make(path, keep_marks=True, tactic_names="full")
    assert full[0]["tactic"] == "exact <a>And.symm</a> h"
    assert full.target_lengths.tolist() == [len("exact <a>And.symm</a> h") + 1]


def test_tactics_that_cannot_be_marked_are_counted(tmp_path: Path) -> None:
    path = write_split(tmp_path, [("⊢ p", MARKED)])
    path.write_text(path.read_text(encoding="utf-8").replace("exact symm h", "exact symm _"), encoding="utf-8")
    assert make(path)[0]["tactic"] == make(path, keep_marks=True)[0]["tactic"] == "exact symm _"
    assert "without marks" not in make(path).summary()
    assert "1 tactics without marks (their annotated" in make(path, keep_marks=True).summary()


def test_a_long_target_leaves_training_and_stays_in_evaluation(tmp_path: Path) -> None:
    path = write_split(tmp_path, [("⊢ a", "x" * 9), ("⊢ b", "x" * 10), ("⊢ c", "é" * 5)])
    train = make(path, max_oup_seq_len=10)
    assert [train[i]["state"] for i in range(len(train))] == ["⊢ a"]
    assert train.num_long_targets == 2 and "2 tactics longer than max_oup_seq_len (left out" in train.summary()
    evaluation = make(path, max_oup_seq_len=10, is_train=False)
    assert len(evaluation) == 3 and "2 tactics longer than max_oup_seq_len (kept" in evaluation.summary()
    assert "6 tokens in and 10 out on average" in train.summary()
    assert "6 tokens in and 11 out on average" in evaluation.summary()
    batch = evaluation.collate(evaluation[[0, 1, 2]])
    assert batch["tactic_mask"].sum(dim=1).tolist() == [10, 11, 11]  # whole, with EOS


def test_a_long_state_keeps_its_goal_and_is_counted(tmp_path: Path) -> None:
    dataset = make(write_split(tmp_path, [("h : q\n" * 9 + "⊢ goal", "a"), ("⊢ b", "b")]), max_inp_seq_len=20)
    assert dataset[0]["state"].endswith("⊢ goal") and len(dataset[0]["state"].encode()) <= 19
    assert dataset.num_long_states == 1 and "1 states longer" in dataset.summary()


def test_a_batch_is_what_the_tokenizer_makes_of_the_texts(tmp_path: Path) -> None:
    dataset = make(write_split(tmp_path, [("⊢ p", "intro"), ("h : q\n⊢ p", MARKED)]))
    batch = dataset.collate(dataset[[0, 1]])
    inputs = ByteTokenizer()(batch["state"], padding=True, return_tensors="pt")
    assert batch["state_ids"].equal(inputs["input_ids"]) and batch["state_mask"].equal(inputs["attention_mask"])
    assert batch["state"] == ["⊢ p", "h : q\n⊢ p"] and batch["tactic"] == ["intro", "exact symm h"]
    lengths = batch["tactic_mask"].sum(dim=1).tolist()
    assert lengths == [len("intro") + 1, len("exact symm h") + 1]
    assert batch["tactic_ids"][0].tolist() == [b + 3 for b in b"intro"] + [1] + [-100] * (lengths[1] - lengths[0])
    assert (batch["start"], batch["tactic_idx"], batch["index"]) == ([(1, 1), (2, 1)], [0, 0], [0, 1])
    assert (batch["full_name"], batch["url"], batch["commit"]) == (["T.t0", "T.t1"], ["u"] * 2, ["c"] * 2)


def test_another_tokenizer_counts_its_own_tokens(tmp_path: Path, words: Any) -> None:
    path = write_split(tmp_path, [("⊢ a a", "a " * 12), ("⊢ a", "a " * 3)])
    dataset = make(path, tokenizer=words, max_oup_seq_len=12)
    assert dataset.num_long_targets == 1
    assert dataset.target_lengths.tolist() == [4] and dataset.source_lengths.tolist() == [3]
    batch = dataset.collate([dataset[0]])
    assert batch["state_ids"].tolist() == [[4, 3, 1]] and batch["tactic_ids"].tolist() == [[3, 3, 3, 1]]


# ------------------------------------------------------------------------------------------------
# Retrieved premises


def test_premises_stand_before_the_state_best_one_nearest(tmp_path: Path) -> None:
    path = write_split(tmp_path, [("⊢ p", "a")])
    dataset = make(path, **retrieved(tmp_path, 1, [2, 0, -1]), is_train=False)
    assert dataset[0]["state"] == (
        "theorem <a>Lib.lemma1</a> : p ∧ q\n\ntheorem <a>Lib.lemma3</a> : p ∧ p ∧ p ∧ q\n\n⊢ p"
    )
    assert dataset.source_lengths.tolist() == [len(dataset[0]["state"].encode()) + 1]


def test_premises_are_told_by_name_and_take_their_share_in_training_and_inference(tmp_path: Path) -> None:
    state = "".join(f"h{number} : p\n" for number in range(30)) + "⊢ q"
    options: dict[str, Any] = {"premise_share": 0.4, "premise_names_only": True}
    sources = retrieved(tmp_path, 1, [2, 1, 0])
    dataset = make(
        write_split(tmp_path, [(state, "a")]),
        premise_parts=PremiseParts(**options),
        max_inp_seq_len=120,
        p_drop=0.0,
        **sources,
    )
    text = dataset.example(0, 0).state
    names = "<a>Lib.lemma2</a>\n\n<a>Lib.lemma3</a>\n\n"
    assert text.startswith(names) and state.endswith(text.removeprefix(names)) and text.endswith("⊢ q")
    assert len(text.encode()) == 119 and dataset.source_lengths.tolist() == [120]
    model: Any = RetrievalAugmentedGenerator(dict(TINY), max_inp_seq_len=120, max_oup_seq_len=40, **options)
    premises = [sources["corpus"][number] for number in sources["predictions"].retrieved(0)]
    model._retrieve = lambda contexts: [premises]
    assert model.write_inputs([Context("T.lean", "T.t0", Pos(1, 1), state)]) == [text]
    assert model.kept_options() == model.kept_options() | options


def test_reading_an_example_again_gives_it_again(tmp_path: Path) -> None:
    """ReProver writes the augmented state back, so that a second epoch finds no premises for it."""
    path = write_split(tmp_path, [("⊢ p", "a"), ("⊢ q", "b")])
    sources = retrieved(tmp_path, 2, [3, 1, 0])
    dataset = make(path, **sources)
    first = [dataset[epoch, i] for epoch in range(4) for i in range(2)]
    dataset.collate(first)
    with pytest.raises(TypeError):
        first[0]["state"] += " changed by a reader"
    again = [dataset[epoch, i] for epoch in range(4) for i in range(2)]
    assert again == first and again[0] == make(path, **sources)[0, 0]


def test_dropout_follows_from_seed_epoch_and_index(tmp_path: Path) -> None:
    path = write_split(tmp_path, [("⊢ p", "a")] * 20)
    sources = retrieved(tmp_path, 20, [0, 1, 2])
    states = [make(path, **sources)[list(zip([e] * 20, range(20), strict=True))] for e in (0, 1)]
    counts = [[example["state"].count("theorem") for example in epoch] for epoch in states]
    assert counts[0] != counts[1] and {0, 1, 2, 3} == set(sum(counts, []))
    assert [e["state"] for e in make(path, seed=1, **sources)[list(range(20))]] != [e["state"] for e in states[0]]
    for options in ({"is_train": False}, {"p_drop": 0.0}):
        kept = make(path, **sources, **options)[list(range(20))]
        assert {example["state"].count("theorem") for example in kept} == {3}
    assert all("theorem" not in e["state"] for e in make(path, p_drop=1.0, **sources)[list(range(20))])


def test_a_step_without_predictions_is_named(tmp_path: Path) -> None:
    path = write_split(tmp_path, [("⊢ p", "a"), ("⊢ q", "x" * 99), ("⊢ q", "b"), ("⊢ r", "c")])
    with pytest.raises(DataError, match=r"2 of 3 steps have no predictions, first T\.t2 \(T\.lean:3:1\) tactic 0"):
        make(path, **retrieved(tmp_path, 2, [0]))
    assert len(make(path, **retrieved(tmp_path, 4, [0], name="complete"))) == 3


# ------------------------------------------------------------------------------------------------
# Properties

hypotheses = st.lists(st.sampled_from(["h : p ∧ q", "x : Nat", "«h x» : α", "long : " + "é" * 30]), max_size=9)
states = st.lists(
    st.builds(lambda lines, goal: "\n".join([*lines, f"⊢ {goal}"]), hypotheses, st.sampled_from("pqr∀𝔸")),
    min_size=1,
    max_size=3,
).map("\n\n".join)


@settings(max_examples=40, deadline=None)
@given(
    steps=st.lists(st.tuples(states, st.text("abλ", min_size=1, max_size=30)), min_size=1, max_size=6),
    max_inp=st.integers(8, 250),
    max_oup=st.integers(2, 40),
    ranks=st.lists(st.integers(-1, 7), min_size=1, max_size=6).map(lambda r: sorted(r, reverse=True)),
    with_premises=st.booleans(),
    premise_share=st.sampled_from([0.0, 0.3, 0.9]),
    premise_names_only=st.booleans(),
)
def test_inputs_fit_and_end_with_the_goal(
    tmp_path_factory: pytest.TempPathFactory,
    steps: list[tuple[str, str]],
    max_inp: int,
    max_oup: int,
    ranks: list[int],
    with_premises: bool,
    premise_share: float,
    premise_names_only: bool,
) -> None:
    folder = tmp_path_factory.mktemp("fit")
    sources = retrieved(folder, len(steps), ranks) if with_premises else {}
    limits = {"max_inp_seq_len": max_inp, "max_oup_seq_len": max_oup}
    premise_parts = PremiseParts(premise_share=premise_share, premise_names_only=premise_names_only)
    dataset = make(write_split(folder, steps), premise_parts=premise_parts, **limits, **sources)
    assert len(dataset) + dataset.num_long_targets == len(steps)
    for index in range(len(dataset)):
        example = dataset[2, index]
        batch = dataset.collate([example])
        state = steps[example["start"].line_nb - 1][0]
        length = batch["state_ids"].shape[1]
        assert length <= max_inp and length <= dataset.source_lengths[index]
        assert with_premises or length == dataset.source_lengths[index]
        assert batch["state_ids"][0, -1] == 1  # EOS
        goals = state.split("\n\n")
        if not (with_premises and premise_share):  # premises may take all but the last bytes
            assert any(example["state"].endswith(goal[-1]) for goal in goals)
            assert example["state"].endswith(state) == (len(state.encode()) <= max_inp - 1)
        assert batch["tactic_ids"].shape[1] == dataset.target_lengths[index] <= max_oup
        assert batch["tactic_ids"][0, -1] == 1


# ------------------------------------------------------------------------------------------------
# Refusals


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_inp_seq_len": 0}, "max_inp_seq_len is 0"),
        ({"max_oup_seq_len": -3}, "max_oup_seq_len is -3"),
        ({"p_drop": 1.5}, "p_drop is 1.5; it must be a probability from 0 to 1"),
        ({"p_drop": float("nan")}, "p_drop is nan"),
    ],
)
def test_an_option_out_of_range_is_named(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(write_split(tmp_path, [("⊢ p", "a")]), **options)


def test_a_corpus_without_predictions_is_refused(tmp_path: Path) -> None:
    corpus = retrieved(tmp_path, 1, [0])["corpus"]
    with pytest.raises(ConfigError, match="give both or neither"):
        make(write_split(tmp_path, [("⊢ p", "a")]), corpus=corpus)
