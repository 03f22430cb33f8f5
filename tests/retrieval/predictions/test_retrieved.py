"""Retrieved premises by step, and the room they take."""

from pathlib import Path

import numpy as np
import pytest

from common import DataError
from retrieval.corpus import Corpus
from retrieval.leandojo.traces import TracedTactics
from retrieval.predictions.reader_writer import Predictions
from retrieval.predictions.retrieved import RetrievedPremises
from tests.retrieval.retrieved_fakes import write_retrieved


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Corpus, Predictions, TracedTactics]:
    folder = tmp_path_factory.mktemp("retrieved")
    data = write_retrieved(folder)
    corpus = Corpus(data.parent / "corpus.jsonl")
    predictions = Predictions.load(folder / "predictions", corpus)
    return corpus, predictions, TracedTactics.load(data / "val.json", progress=False)


def test_the_premises_of_a_step_are_its_own_best_first(parts: tuple[Corpus, Predictions, TracedTactics]) -> None:
    corpus, predictions, traces = parts
    steps = np.array([7, 0, 3])
    retrieved = RetrievedPremises(*parts, steps, progress=False)
    assert len(retrieved) == 3
    for index, number in enumerate(steps.tolist()):
        row = predictions.find(traces[number].provenance)
        assert row is not None and len(retrieved[index]) == 4
        assert retrieved[index] == [corpus[number] for number in predictions.retrieved(row)]


def test_what_they_take_is_their_bytes_and_never_more_than_the_room(
    parts: tuple[Corpus, Predictions, TracedTactics],
) -> None:
    retrieved = RetrievedPremises(*parts, np.arange(4), progress=False)
    whole = [sum(len(premise.serialize().encode()) + 2 for premise in retrieved[i]) for i in range(4)]
    room = np.array([10_000, whole[1], whole[2] - 1, 0])
    assert retrieved.num_bytes(room).tolist() == [whole[0], whole[1], whole[2] - 1, 0]


def test_steps_without_predictions_are_counted_and_the_first_is_named(
    parts: tuple[Corpus, Predictions, TracedTactics], tmp_path: Path
) -> None:
    corpus, predictions, traces = parts
    text = (
        traces.path.read_text(encoding="utf-8").replace("Main.thm2.", "Main.new2.").replace("Main.thm5.", "Main.new5.")
    )
    (tmp_path / "val.json").write_text(text, encoding="utf-8")
    other = TracedTactics.load(tmp_path / "val.json", progress=False)
    with pytest.raises(
        DataError, match=r"2 of 10 steps have no predictions, first Main\.new2\.val \(Main\.lean:21:1\)"
    ):
        RetrievedPremises(corpus, predictions, other, np.arange(len(other)), progress=False)
