"""RetrievalDataModule: which examples there are, their negatives, labels, and what is refused."""

import json
import logging
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from common import ConfigError, DataError
from retrieval.datamodule import RetrievalDataModule
from retrieval.negatives import Negatives
from tests.retrieval.fakes import CITED, STATES, write_library


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_library(tmp_path)


def module(data: Path, stage: str = "fit", **options: Any) -> RetrievalDataModule:
    made = RetrievalDataModule(str(data), "google/byt5-small", **{"max_seq_len": 128, **options})
    made.setup(stage)
    return made


def batches(loader: Any) -> list[Any]:
    return [{k: v.tolist() if isinstance(v, torch.Tensor) else v for k, v in batch.items()} for batch in loader]


# ----------------------------------------------------------------------------------------- examples


def test_training_has_one_example_for_each_cited_premise(data: Path) -> None:
    train = module(data).datasets["train"]
    assert [train[i]["premises"][0] for i in range(len(train))] == list(CITED)
    assert [train[i]["state"] for i in range(len(train))] == list(STATES)
    assert train.source_lengths.tolist() == [len(state.encode()) + 1 for state in STATES]


def test_a_step_that_cites_two_premises_is_two_examples(data_path: Path, library_path: Path) -> None:
    for split in ("train", "val"):
        (data_path / f"{split}.json").write_text((data_path / "test.json").read_text())
    train = module(data_path, corpus_path=str(library_path)).datasets["train"]
    assert [(train[i]["premises"][0], train[i]["positives"]) for i in range(len(train))] == [
        (0, [0]),
        (6, [6]),
        (1, [1, 10]),
        (10, [1, 10]),
    ]


def test_evaluation_leaves_out_what_cites_nothing_and_prediction_does_not(data: Path) -> None:
    everything = module(data, None)
    assert [len(everything.datasets[role]) for role in ("val", "test")] == [8, 8]
    predicted = everything.datasets["predict-val"]
    assert [predicted[i]["state"] for i in (8, 9)] == ["⊢ nothing is cited", "⊢ what is cited is gone"]
    assert len(predicted) == 10, "a step from no goals is no context"
    assert "premise_ids" not in next(iter(everything.val_dataloader()))


def test_what_cannot_be_located_is_reported_once(data: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        made = module(data, "validate")
        list(made.val_dataloader())
        made.setup("validate")
    lost = [record.getMessage() for record in caplog.records if "not in the corpus" in record.getMessage()]
    assert lost == [f"{data / 'val.json'}: 1 of 9 cited premises are not in the corpus"]


def test_a_long_state_keeps_its_goal(data: Path) -> None:
    theorems = json.loads((data / "train.json").read_text())
    theorems[0]["traced_tactics"][0]["state_before"] = "h : p\n" * 100 + "⊢ the goal"
    (data / "train.json").write_text(json.dumps(theorems))
    made = module(data)
    state = made.datasets["train"][0]["state"]
    assert state.endswith("⊢ the goal") and len(state.encode()) == 127
    assert made.datasets["train"].source_lengths[0] == 128


# ---------------------------------------------------------------------------------------- negatives


def test_negatives_are_accessible_not_cited_and_some_from_the_same_file(data: Path) -> None:
    train = module(data).datasets["train"]
    for epoch in range(20):
        for index in range(8):
            example = train[epoch, index]
            target, *negatives = example["premises"]
            accessible = train.corpus.accessible_mask(example["file_path"], example["start"])
            assert len(set(negatives)) == 3 and not set(negatives) & set(example["positives"])
            assert all(accessible[number] for number in negatives)
            assert sum(number // 4 == target // 4 for number in negatives) == 1


def test_every_negative_is_drawn_sooner_or_later(data: Path) -> None:
    train = module(data).datasets["train"]
    drawn = {number for epoch in range(60) for number in train[epoch, 0]["premises"][1:]}
    assert drawn == {1, 2, 3, 4, 5, 6, 7}


def test_examples_depend_on_seed_epoch_and_index_alone(data: Path) -> None:
    train, again = module(data).datasets["train"], module(data).datasets["train"]
    keys = [(epoch, index) for epoch in range(4) for index in range(8)]
    first = {key: train[key]["premises"] for key in keys}
    random.shuffle(keys)
    np.random.seed(0)
    assert all(again[key]["premises"] == first[key] for key in keys)
    assert len({tuple(first[epoch, 0]) for epoch in range(4)}) > 1, "epochs differ"
    other = module(data, seed=1).datasets["train"]
    assert any(other[key]["premises"] != first[key] for key in keys)


def test_where_few_premises_are_accessible_there_are_fewer_negatives(data: Path) -> None:
    theorems = json.loads((data / "train.json").read_text())
    theorems[0] |= {"file_path": "First.lean", "start": [15, 1]}  # two premises end before that, one is cited
    theorems[1] |= {"file_path": "First.lean", "start": [39, 1]}  # four, all of one file
    (data / "train.json").write_text(json.dumps(theorems))
    train = module(data, batch_size=8).datasets["train"]
    assert train[0]["premises"] == [0, 1]
    assert train[1]["premises"][0] == 1 and set(train[1]["premises"][1:]) == {0, 2, 3}
    batch = train.collate([train[0], train[1]])
    assert batch["targets"].tolist() == [0, 2] and len(batch["premise_ids"]) == 6


def test_no_negatives_at_all_are_in_batch_negatives_only(data: Path) -> None:
    train = module(data, num_negatives=0, num_in_file_negatives=0).datasets["train"]
    assert [train[i]["premises"] for i in range(8)] == [[number] for number in CITED]


# ------------------------------------------------------------------------------------------ batches


def test_labels_mark_every_premise_that_a_context_cites(data: Path) -> None:
    made = module(data, batch_size=8)
    (batch,) = made.train_dataloader()
    numbers = batch["premise_numbers"].tolist()
    assert len(numbers) == 32 == len(batch["premise_ids"])
    expected = [[number == CITED[index] for number in numbers] for index in batch["index"]]
    assert batch["labels"].tolist() == expected
    assert [numbers[t] for t in batch["targets"].tolist()] == [CITED[index] for index in batch["index"]]
    shared = [row for row, index in enumerate(batch["index"]) if index in (6, 7)]
    assert batch["labels"][shared].sum(dim=1).min() >= 2, "the other context's own premise is positive too"


def test_texts_of_a_batch_are_what_the_retriever_reads(data: Path) -> None:
    made = module(data, batch_size=8)
    (batch,) = made.train_dataloader()
    premise = made.tokenizer.decode(batch["premise_ids"][0], skip_special_tokens=True)
    assert premise == made.corpus[int(batch["premise_numbers"][0])].serialize() and "<a>" in premise
    assert made.tokenizer.batch_decode(batch["state_ids"], skip_special_tokens=True) == batch["state"]


def test_workers_change_nothing_and_epochs_differ(data: Path) -> None:
    made = {workers: module(data, batch_size=3, num_workers=workers) for workers in (0, 2)}
    seen = {}
    for workers, each in made.items():
        loader = each.train_dataloader()
        epochs = []
        for epoch in range(2):
            loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
            epochs.append(batches(loader))
        seen[workers] = epochs
    assert seen[0] == seen[2]
    assert seen[0][0] != seen[0][1]


def test_the_corpus_stands_beside_the_data_or_where_it_is_said(data: Path, tmp_path: Path) -> None:
    assert len(module(data, "validate").corpus) == 9
    moved = tmp_path / "elsewhere.jsonl"
    (tmp_path / "corpus.jsonl").rename(moved)
    assert len(module(data, "validate", corpus_path=str(moved)).corpus) == 9


# ----------------------------------------------------------------------------------------- refusals


def test_missing_files_are_answered_with_how_to_make_them(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: no train\.json, val\.json; .*as configs/retrieval/quickstart\.yaml"):
        module(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"gone\.jsonl: there is no such file.*as configs/retrieval/quickstart\.yaml"):
        module(data, corpus_path="gone.jsonl")


def test_data_of_another_corpus_are_refused(data: Path, library_path: Path) -> None:
    with pytest.raises(DataError, match=r"1 of its source files, first Main\.lean, are not in .*corpus\.jsonl"):
        module(data, corpus_path=str(library_path))


def test_a_split_that_cites_nothing_is_refused(data: Path) -> None:
    theorems = json.loads((data / "val.json").read_text())[8:]
    (data / "val.json").write_text(json.dumps(theorems))
    with pytest.raises(DataError, match=r"val\.json.*none of them cites a premise"):
        module(data)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"max_seq_len": -1}, "max_seq_len is -1"),
        ({"num_workers": -1}, "num_workers is -1"),
        ({"num_negatives": 1, "num_in_file_negatives": 2}, "num_in_file_negatives is 2 and num_negatives 1"),
        ({"num_in_file_negatives": -1}, "num_in_file_negatives is -1"),
        ({"predict_splits": []}, "predict_splits is empty"),
        ({"predict_splits": ["dev"]}, "predict_splits is 'dev'; choose one of train, val, test"),
    ],
)
def test_options_that_cannot_be_used_are_named(data: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RetrievalDataModule(str(data), "google/byt5-small", **options)


def test_negatives_from_the_file_are_a_part_of_all() -> None:
    with pytest.raises(ConfigError, match="num_in_file_negatives is 2 and num_negatives 1"):
        Negatives(num_negatives=1, num_in_file_negatives=2)


def test_what_the_tokenizer_cannot_write_of_states_and_premises_is_said(
    data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def read(*known: str) -> None:
        letters = {"<unk>": 0, "</s>": 1, **{letter: i for i, letter in enumerate(known, 2)}}
        backend = Tokenizer(models.WordLevel(letters, unk_token="<unk>"))
        backend.pre_tokenizer = pre_tokenizers.Split("", "isolated")  # a token for each letter
        backend.decoder = decoders.Fuse()
        made = RetrievalDataModule(str(data), "google/byt5-small", max_seq_len=128)
        made.__dict__["tokenizer"] = PreTrainedTokenizerFast(
            tokenizer_object=backend, eos_token="</s>", unk_token="<unk>", pad_token="</s>"
        )
        with caplog.at_level(logging.INFO):
            made.setup("validate")

    everything = sorted({*map(chr, range(32, 127)), *"".join(STATES)})
    read(*everything)
    assert "2 of" not in caplog.text and "read back" not in caplog.text
    read(*(letter for letter in everything if letter != "¬"))
    assert "2 of 10 states are other texts when their tokens are read back ('h : ¬p" in caplog.text
    for letter, where in {"⊢": r"val\.json: 10 of 10 states", "e": r"corpus\.jsonl: 9 of 9 premises"}.items():
        with pytest.raises(ConfigError, match=where + ".* read back .*google/byt5-small"):
            read(*(other for other in everything if other != letter))
