"""Hard negatives are what retrievers found and the step does not cite, and cost nothing where there are none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from common import ConfigError, DataError
from retrieval.corpus import Corpus, positive_premises
from retrieval.datamodule import RetrievalDataModule
from retrieval.leandojo.traces import TracedTactics
from retrieval.negatives import Negatives
from retrieval.predictions.files import RetrievalContext
from retrieval.predictions.reader_writer import PredictionWriter
from retrieval.retrieved_negatives import RetrievedNegatives
from tests.retrieval.fakes import CITED


def written(folder: Path, data: Path, corpus: Corpus, rows: list[list[int]], split: str = "train") -> str:
    """Predictions for the first steps of a split."""
    steps = TracedTactics.load(data / f"{split}.json", progress=False)[: len(rows)]
    with PredictionWriter(folder, corpus, retriever="r", k=4, split=split, num_contexts=len(rows)) as writer:
        writer.write([RetrievalContext(step.provenance) for step in steps], np.array(rows), np.zeros((len(rows), 4)))
    return str(folder)


def rotated(shift: int) -> list[list[int]]:
    """Four of the first eight premises for each of ten steps, one of which it may cite; and padding."""
    return [[(step + shift + i) % 8 for i in range(3)] + [-1] for step in range(10)]


def module(data: Path, *folders: str, **options: Any) -> RetrievalDataModule:
    hard = {"num_negatives": 3, "num_in_file_negatives": 0, "num_hard_negatives": 2, "hard_negatives_path": [*folders]}
    made = RetrievalDataModule(str(data), "google/byt5-small", max_seq_len=64, **{**hard, **options})
    made.setup("fit")
    return made


def test_they_are_the_best_of_each_retriever_and_never_cited(data: Path, corpus: Corpus, tmp_path: Path) -> None:
    first = written(tmp_path / "a", data, corpus, rotated(0))
    second = written(tmp_path / "b", data, corpus, rotated(3))
    made = module(data, first, second, max_hard_rank=2)
    train, drawn = made.datasets["train"], [set[int]() for _ in CITED]
    for epoch in range(30):
        for index, cited in enumerate(CITED):
            target, *negatives = train.example(epoch, index).premises
            assert target == cited and len(set(negatives)) == 3 and cited not in negatives
            drawn[index] |= set(negatives[:2])
    for index, cited in enumerate(CITED):
        assert drawn[index] == {(index + i) % 8 for i in (0, 1, 3, 4)} - {cited}


def test_what_is_lacking_is_drawn_as_other_negatives_are(data: Path, corpus: Corpus, tmp_path: Path) -> None:
    rows = [[cited, -1, -1, -1] for cited in CITED] + [[-1] * 4] * 2
    made = module(data, written(tmp_path / "a", data, corpus, rows))
    for index, cited in enumerate(CITED):
        _, *negatives = made.datasets["train"].example(0, index).premises
        assert len(negatives) == 3 and cited not in negatives


def test_only_as_many_as_asked_for_and_those_of_the_file_beside(corpus: Corpus) -> None:
    wanted = Negatives(num_negatives=3, num_in_file_negatives=1, num_hard_negatives=1, hard_negatives_path=["x"])
    for seed in range(40):
        found = wanted.draw(corpus, ("Main.lean", [95, 1]), 0, [0], np.random.default_rng(seed), [4, 2])
        in_file, hard, other = found
        assert in_file in {1, 2, 3} and hard in {4, 2} and len({in_file, hard, other, 0}) == 4


def test_without_them_the_draws_are_as_before(data: Path, corpus: Corpus) -> None:
    for seed in range(20):
        plain = Negatives(3, 1).draw(corpus, ("Main.lean", [95, 1]), 0, [0], np.random.default_rng(seed))
        given = Negatives(3, 1).draw(corpus, ("Main.lean", [95, 1]), 0, [0], np.random.default_rng(seed), [4, 5])
        assert plain == given


def test_validation_reads_no_hard_negatives(data: Path, tmp_path: Path) -> None:
    made = RetrievalDataModule(
        str(data),
        "google/byt5-small",
        num_negatives=1,
        num_in_file_negatives=0,
        num_hard_negatives=1,
        hard_negatives_path=[str(tmp_path / "gone")],
    )
    made.setup("validate")
    with pytest.raises(DataError, match="gone"):
        made.setup("fit")


def test_predictions_of_other_steps_are_refused(data: Path, corpus: Corpus, tmp_path: Path) -> None:
    val, few = tmp_path / "val", tmp_path / "few"
    written(val, data, corpus, rotated(0), split="val")
    written(few, data, corpus, rotated(0)[:5])
    traced = TracedTactics.load(data / "train.json", progress=False)
    positives = positive_premises(traced, corpus)
    for folder, number in ((val, 8), (few, 3)):
        with pytest.raises(DataError, match=f"has no predictions for {number} of the 8 steps of .*train.json"):
            RetrievedNegatives([folder], corpus, traced, positives, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_hard_negatives": 1}, "give both"),
        ({"hard_negatives_path": ["a"]}, "give both"),
        ({"num_hard_negatives": -1, "hard_negatives_path": ["a"]}, "num_hard_negatives is -1"),
        ({"num_hard_negatives": 3, "hard_negatives_path": ["a"]}, "more than the 3 of num_negatives"),
        ({"num_hard_negatives": 1, "hard_negatives_path": "a"}, "give a list of folders"),
        ({"max_hard_rank": 0}, "max_hard_rank is 0"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Negatives(**options)


def test_premises_are_written_in_the_form_that_is_asked_for(data: Path) -> None:
    from retrieval.model import PremiseRetriever
    from tests.retrieval.fakes import ENCODER

    texts = {}
    for form in ("marked", "name_first", "name", "code"):
        made = RetrievalDataModule(str(data), "google/byt5-small", max_seq_len=64, premise_form=form)
        made.setup("fit")
        batch = next(iter(made.train_dataloader()))
        row = batch["premise_numbers"].tolist().index(0)
        ids = batch["premise_ids"][row][batch["premise_mask"][row].bool()]
        texts[form] = made.tokenizer.decode(ids.tolist()[:-1])
        torch.manual_seed(0)
        model = PremiseRetriever(ENCODER, max_seq_len=64, premise_form=form).eval()
        model.load_corpus(made.corpus)
        assert torch.allclose(model.reindex_corpus().vectors([0]), model.encode([texts[form]]), atol=1e-6)
    code = "theorem symm : statement about And"
    assert texts == {
        "marked": "theorem <a>And.symm</a> : statement about And",
        "name_first": f"<a>And.symm</a> {code}",
        "name": "<a>And.symm</a>",
        "code": code,
    }
    with pytest.raises(ConfigError, match="premise_form is 'names'"):
        PremiseRetriever(ENCODER, premise_form="names")
    with pytest.raises(ConfigError, match="premise_form is 'names'"):
        RetrievalDataModule(str(data), "google/byt5-small", premise_form="names")
