"""A fused retriever is one folder, which opens wherever a retriever does and ranks as its parts together."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from common import ConfigError, Context, DataError, Pos
from retrieval import fuse as command
from retrieval import predict
from retrieval.bm25 import BM25Options, BM25Retriever
from retrieval.corpus import Corpus
from retrieval.evaluate import evaluate
from retrieval.fused import FusedRetriever, local_parts, read_fused, write_fused
from retrieval.fusion import fuse
from retrieval.index import main as index_main
from retrieval.leandojo.traces import TracedTactics
from retrieval.load import load_retriever
from retrieval.model import PremiseRetriever
from retrieval.neighbors import main as neighbors_main
from retrieval.predictions.reader_writer import Predictions
from retrieval.retriever import Retriever
from tests.retrieval.fakes import STATES
from tests.retrieval.retrieved_fakes import write_retrieved

pytest.importorskip("bm25s")
CONTEXTS = [Context("Main.lean", "stranger", Pos(800, 1), state) for state in STATES]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with library/data, library/corpus.jsonl, retriever.ckpt, index/, neighbors/ and fused/."""
    home = tmp_path_factory.mktemp("home")
    data = write_retrieved(home)
    neighbors_main([f"--data_path={data}", f"--output_dir={home / 'neighbors'}", "--max_share=1"])
    make(home, home / "fused", "--weights", "1", "2", "0.5", "--rank_offset=3", "--name_weight=0.25")
    return home


@pytest.fixture(scope="module")
def corpus(home: Path) -> Corpus:
    return Corpus(home / "library" / "corpus.jsonl")


def make(home: Path, folder: Path, *options: str) -> None:
    parts = ["--parts", "bm25", str(home / "neighbors"), str(home / "retriever.ckpt")]
    data = [f"--data_path={home / 'library' / 'data'}", f"--corpus_path={home / 'library' / 'corpus.jsonl'}"]
    command.main([*parts, *data, f"--output_dir={folder}", *options])


def ready(retriever: Retriever, corpus: Corpus) -> Retriever:
    retriever.load_corpus(corpus)
    return retriever


def test_it_ranks_as_its_parts_together(home: Path, corpus: Corpus) -> None:
    fused = ready(load_retriever(home / "fused"), corpus)
    parts = [
        ready(part, corpus)
        for part in (
            BM25Retriever(name_weight=0.25),
            load_retriever(home / "neighbors"),
            PremiseRetriever.load(home / "retriever.ckpt"),
        )
    ]
    expected = fuse([part.rank(CONTEXTS, 100)[1] for part in parts], 5, [1.0, 2.0, 0.5], 3.0)
    scores, numbers = fused.rank(CONTEXTS, 5)
    torch.testing.assert_close(scores, expected[0])
    assert torch.equal(numbers, expected[1])
    premises, found = fused.retrieve(STATES[0], "Main.lean", "stranger", (800, 1), k=5)
    assert [premise.full_name for premise in premises] == [corpus[number].full_name for number in numbers[0].tolist()]
    assert found == pytest.approx(scores[0].tolist())


def test_the_weights_are_fitted_where_none_are_given(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(home, tmp_path / "fitted", "--num_states=6", "--k=1")
    printed = capsys.readouterr().out.splitlines()
    assert printed[-6].startswith("on 6 steps  R@1") and [line.split()[-1] for line in printed[-5:-1]][-1] == "fused"
    parts, weights, offset, depth = read_fused(tmp_path / "fitted")
    assert isinstance(parts[0], BM25Options) and sum(weights) == pytest.approx(1) and depth == 100
    about = json.loads((tmp_path / "fitted" / "nextstep.json").read_text())["options"]["about"]
    assert (about["fit"], about["num_states"], about["seed"], about["split"]) == ("Recall@1", 6, 0, "val")
    assert f"offset {offset:g}" in printed[-1]


def test_what_predict_writes_is_what_evaluate_measures(home: Path, corpus: Corpus, tmp_path: Path) -> None:
    data = home / "library" / "data"
    arguments = [f"--ret_ckpt_path={home / 'fused'}", f"--data_path={data}", f"--corpus_path={corpus.path}"]
    predict.main([*arguments, f"--output_dir={tmp_path / 'preds'}", "--splits", "train", "val", "--k=4"])
    predictions = Predictions.load(tmp_path / "preds", corpus)
    assert (predictions.splits, predictions.k, predictions.retriever) == (["train", "val"], 4, str(home / "fused"))
    traced = TracedTactics.load(data / "val.json")
    row = predictions.find(traced[3].provenance)
    assert row is not None
    origin = traced[3].provenance
    asked = Context(origin.file_path, origin.full_name, origin.start, traced[3].state)
    assert predictions.retrieved(row) == ready(load_retriever(home / "fused"), corpus).rank([asked], 4)[1][0].tolist()
    written, asked_row = evaluate(data, corpus.path, [tmp_path / "preds"], ["val"], retrievers=[str(home / "fused")])
    assert written.recall_at_1 == asked_row.recall_at_1 and asked_row.retriever == str(home / "fused")


def test_saved_embeddings_go_to_the_part_that_embeds(
    home: Path, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index_main([f"--ret_ckpt_path={home / 'fused'}", f"--corpus_path={corpus.path}", f"--output_dir={tmp_path / 'i'}"])
    plain, fast = load_retriever(home / "fused"), load_retriever(home / "fused")
    plain.load_corpus(corpus)
    fast.load_corpus(corpus, tmp_path / "i")
    assert isinstance(fast, FusedRetriever)
    dense = fast.parts[2]
    assert isinstance(dense, PremiseRetriever) and dense.index is not None, "before anything is asked"
    assert torch.equal(plain.rank(CONTEXTS, 5)[1], fast.rank(CONTEXTS, 5)[1])
    make(home, tmp_path / "fitted", "--num_states=6")
    with monkeypatch.context() as patched:  # nothing is embedded again
        patched.setattr(PremiseRetriever, "reindex_corpus", lambda *args: pytest.fail("embeds"))
        make(home, tmp_path / "fast", "--num_states=6", f"--index_path={tmp_path / 'i'}")
    assert read_fused(tmp_path / "fast")[1:] == read_fused(tmp_path / "fitted")[1:]
    without = FusedRetriever([BM25Retriever()])
    with pytest.raises(ConfigError, match=r"0 parts of fused\(bm25\) embed, and not one"):
        without.load_corpus(corpus, tmp_path / "i")
    write_fused(tmp_path / "lexical", [BM25Options()], [1.0], 60, 100, {})
    with pytest.raises(ConfigError, match="has 0 encoders to embed with"):
        index_main(
            [f"--ret_ckpt_path={tmp_path / 'lexical'}", f"--corpus_path={corpus.path}", f"--output_dir={tmp_path}/j"]
        )


def test_it_moves_with_its_parts(home: Path, corpus: Corpus, tmp_path: Path) -> None:
    shutil.copytree(home, tmp_path / "moved")
    before, after = (ready(load_retriever(each / "fused"), corpus) for each in (home, tmp_path / "moved"))
    assert torch.equal(before.rank(CONTEXTS, 5)[1], after.rank(CONTEXTS, 5)[1])
    parts = local_parts(tmp_path / "moved" / "fused")
    assert [path.resolve() for path in parts] == [
        (tmp_path / "moved" / name).resolve() for name in ("neighbors", "retriever.ckpt")
    ]
    assert local_parts(home / "neighbors") == []


def test_a_fused_retriever_is_no_part_of_another(home: Path, tmp_path: Path) -> None:
    write_fused(tmp_path / "outer", [str(home / "fused")], [1.0], 60, 100, {})
    with pytest.raises(ConfigError, match="is a fused retriever, and cannot be a part of one"):
        load_retriever(tmp_path / "outer")


def test_wrong_options_are_refused_before_anything_is_read(home: Path, tmp_path: Path) -> None:
    for options, message in (
        (["--weights", "1", "2"], "3 parts and 2 weights"),
        (["--weights", "1", "2", "0"], "a weight is 0"),
        (["--rank_offset=3"], "rank_offset is fitted with the weights"),
        (["--depth=0"], "depth is 0"),
        (["--b=2"], "b between 0 and 1"),
    ):
        with pytest.raises(ConfigError, match=message):
            make(home, tmp_path / "made", *options)
    with pytest.raises(ConfigError, match="0 parts and 0 weights"):
        FusedRetriever([])
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"parts": []},
        {"parts": [{"path": 3}]},
        {"parts": [{"bm25": {"b": 7}}]},
        {"parts": [{"bm25": {"c": 1}}]},
        {"weights": ["a"]},
        {"weights": [-1.0]},
        {"depth": 1.5},
        {"rank_offset": -1},
    ],
)
def test_folders_that_are_none_are_refused(tmp_path: Path, change: dict[str, object]) -> None:
    write_fused(tmp_path / "fused", [BM25Options()], [1.0], 60, 100, {})
    path = tmp_path / "fused" / "nextstep.json"
    settings = json.loads(path.read_text())
    settings["options"] |= change
    path.write_text(json.dumps(settings))
    with pytest.raises(DataError, match="is not what retrieval.fuse writes"):
        load_retriever(tmp_path / "fused")


def test_bm25_is_a_word_and_a_folder_of_that_name_a_path(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    assert isinstance(load_retriever("bm25"), BM25Retriever)
    shutil.copytree("neighbors", "bm25", dirs_exist_ok=True)
    assert load_retriever("./bm25").name == "bm25"
    assert isinstance(load_retriever("bm25"), BM25Retriever)
