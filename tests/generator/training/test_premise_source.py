"""A generator that retrieves by itself reads what one reads that is given predictions."""

from pathlib import Path
from typing import Any

import pytest

from common import ConfigError, DataError
from generator.datamodule import GeneratorDataModule
from generator.model import RetrievalAugmentedGenerator
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
        ret_ckpt_path=str(folder / "retriever.ckpt"),
        corpus_path=str(data.parent / "corpus.jsonl"),
        **{"eval_num_retrieved": 4, **options},
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
