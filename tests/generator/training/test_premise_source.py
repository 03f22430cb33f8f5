"""A generator that retrieves by itself reads what one reads that is given predictions."""

from pathlib import Path
from typing import Any

import pytest

from common import ConfigError, Context, DataError
from generator.datamodule import GeneratorDataModule
from generator.model import RetrievalAugmentedGenerator
from retrieval.corpus import Corpus
from retrieval.fused import FusedRetriever, write_fused
from retrieval.leandojo.traces import TracedTactics
from retrieval.lexical import BM25Options
from retrieval.predict import predict
from retrieval.predictions.reader_writer import Predictions
from tests.fakes import TINY
from tests.retrieval.retrieved_fakes import write_retrieved


@pytest.fixture(scope="module")
def retrieved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The data folder, and a folder with a retriever's checkpoint, its predictions and its index."""
    folder = tmp_path_factory.mktemp("retrieved")
    return write_retrieved(folder), folder


def build(data: Path, folder: Path, **options: Any) -> RetrievalAugmentedGenerator:
    return RetrievalAugmentedGenerator(
        model_name=TINY,
        max_inp_seq_len=400,
        corpus_path=str(data.parent / "corpus.jsonl"),
        **{"ret_ckpt_path": str(folder / "retriever.ckpt"), "eval_num_retrieved": 4, **options},
    ).eval()


@pytest.mark.parametrize("saved_index", [False, True])
def test_generate_reads_what_the_data_module_reads(
    retrieved: tuple[Path, Path], saved_index: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, folder = retrieved
    model = build(data, folder, index_path=str(folder / "index") if saved_index else None)
    module = GeneratorDataModule(
        str(data),
        TINY,
        max_inp_seq_len=400,
        corpus_path=str(data.parent / "corpus.jsonl"),
        preds_path=str(folder / "predictions"),
    )
    module.setup("validate")
    examples = module.datasets["val"]
    assert all("<a>" in examples[i]["state"] for i in range(len(examples))), "premises are there"

    read: list[str] = []
    monkeypatch.setattr(
        model.engine, "propose", lambda inputs, n, decoding: read.extend(inputs) or [[] for _ in inputs]
    )
    if saved_index:
        model.initialize()
    for i in range(len(examples)):
        step = examples.traces[i]
        origin = step.provenance
        read.clear()
        model.generate(step.state, Path(origin.file_path), origin.full_name, origin.start, num_samples=1)
        assert read[-1] == examples[i]["state"]


def test_a_fused_retriever_is_opened_as_any_other(retrieved: tuple[Path, Path], tmp_path: Path) -> None:
    """What `retrieval.predict` writes for a step is what a generator finds for it by itself."""
    pytest.importorskip("bm25s")
    data, folder = retrieved
    corpus_path = data.parent / "corpus.jsonl"
    write_fused(tmp_path / "fused", [BM25Options(), str(folder / "retriever.ckpt")], [2.0, 1.0], 3.0, 100, {})
    predict(str(tmp_path / "fused"), data, corpus_path, tmp_path / "predictions", ["val"], k=4)
    model = build(data, folder, ret_ckpt_path=str(tmp_path / "fused"))
    retriever = model.retriever
    assert isinstance(retriever, FusedRetriever) and model.eval().retriever is retriever
    predictions = Predictions.load(tmp_path / "predictions", Corpus(corpus_path))
    for step in TracedTactics.load(data / "val.json"):
        origin = step.provenance
        context = Context(origin.file_path, origin.full_name, origin.start, step.state)
        row = predictions.find(origin)
        assert row is not None
        found = [premise.full_name for premise in model._retrieve([context])[0]]
        assert found == [retriever._corpus()[number].full_name for number in predictions.retrieved(row)]
    model.generate("⊢ p", "Main.lean", "t", (800, 1), 1)
    build(data, folder, ret_ckpt_path=str(tmp_path / "fused"), index_path=str(folder / "index")).initialize()
    build(data, folder, ret_ckpt_path="bm25").generate("⊢ p", "Main.lean", "t", (800, 1), 1)
    with pytest.raises(ConfigError, match="bm25 embeds nothing"):
        build(data, folder, ret_ckpt_path="bm25", index_path=str(folder / "index")).initialize()


def test_the_retriever_is_no_part_of_the_generators_weights(retrieved: tuple[Path, Path]) -> None:
    model = build(*retrieved)
    before = set(model.state_dict())
    model.initialize()
    assert set(model.state_dict()) == before
    assert model.premise_source is not None
    assert model.premise_source.load("meta").device.type == "meta", "it follows the generator"
    assert not {"ret_ckpt_path", "corpus_path", "index_path", "eval_num_retrieved"} & set(model.hparams)


def test_what_does_not_fit_is_refused(retrieved: tuple[Path, Path]) -> None:
    data, folder = retrieved
    with pytest.raises(ConfigError, match="ret_ckpt_path and corpus_path belong together"):
        RetrievalAugmentedGenerator(model_name=TINY, ret_ckpt_path="x.ckpt")
    with pytest.raises(ConfigError, match="eval_num_retrieved is 0"):
        build(data, folder, eval_num_retrieved=0)
    with pytest.raises(DataError, match=r"'Gone\.lean' is not a file of the corpus"):
        build(data, folder).generate("⊢ p", "Gone.lean", "t", (1, 1), 1)
    with pytest.raises(DataError, match="holds no index"):
        build(data, folder, index_path=str(folder / "nowhere")).initialize()
