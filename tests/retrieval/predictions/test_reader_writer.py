import errno
import json
import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from common import ConfigError, DataError, Pos
from retrieval.corpus import Corpus
from retrieval.leandojo.provenance import Provenance
from retrieval.predictions import reader_writer as predictions_module
from retrieval.predictions.files import RetrievalContext, hash_state
from retrieval.predictions.reader_writer import Predictions, PredictionWriter
from tests.retrieval.conftest import LIBRARY, write_corpus

K = 4


def _contexts(num: int, first: int = 0) -> list[RetrievalContext]:
    return [
        RetrievalContext(
            Provenance("", "", f"F{i % 3}.lean", f"theorem «é» {i // 2}", Pos(i // 2 + 1, 1), i % 2),
            hash_state(f"⊢ {i}"),
        )
        for i in range(first, first + num)
    ]


def _rows(num: int, first: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Row i holds the numbers i, i + 1, ... of twelve premises, and fewer of them the larger i is."""
    index = torch.arange(first, first + num)[:, None]
    lacking = torch.arange(K)[None] >= K - index % K
    numbers = ((index + torch.arange(K)) % 12).masked_fill(lacking, -1)
    scores = (1.0 / (index + 1) - torch.arange(K)).masked_fill(lacking, -torch.inf)
    return numbers, scores


def _write(folder: Path, corpus: Corpus, num: int = 10, **options: Any) -> None:
    settings = {"retriever": "test", "k": K, "split": "val", "num_contexts": num} | options
    with PredictionWriter(folder, corpus, **settings) as writer:
        for first in range(0, num, 4):
            size = min(4, num - first)
            writer.write(_contexts(size, first), *_rows(size, first))


def test_what_was_written_is_read(tmp_path: Path, library: Corpus) -> None:
    _write(tmp_path / "new" / "folder", library)
    read = Predictions.load(tmp_path / "new" / "folder", library)
    numbers, scores = _rows(10)
    assert (len(read), read.k, read.retriever, read.splits) == (10, K, "test", ["val"])
    assert read.contexts == _contexts(10)
    assert read.premise_numbers.dtype == np.int32 and read.scores.dtype == np.float32
    np.testing.assert_array_equal(read.premise_numbers, numbers)
    np.testing.assert_array_equal(read.scores, scores.numpy())
    assert read.retrieved(2) == [2, 3] and read.retrieved(4) == [4, 5, 6, 7]


def test_contexts_are_found(tmp_path: Path, library: Corpus) -> None:
    _write(tmp_path, library, num=100)
    read = pickle.loads(pickle.dumps(Predictions.load(tmp_path, library)))
    for row, context in enumerate(_contexts(100)):
        assert read.find(context.provenance) == row
        assert read.find(replace(context.provenance, url="u", commit="c")) == row, "files do not say the repository"
        assert read.find(replace(context.provenance, tactic_idx=context.provenance.tactic_idx + 2)) is None
    first = Provenance(file_path="F0.lean", full_name="theorem «é» 0")
    assert read.find(first) == 0
    assert read.find(replace(first, start=Pos(1, 2))) is None
    assert read.find(replace(first, full_name="theorem")) is None


def test_large_sets_are_written_in_shards(tmp_path: Path, library: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictions_module, "ROWS_PER_SHARD", 8)
    _write(tmp_path, library, num=30)
    assert len(list(tmp_path.glob("*.safetensors"))) == 4
    read = Predictions.load(tmp_path, library)
    np.testing.assert_array_equal(read.premise_numbers, _rows(30)[0])
    np.testing.assert_array_equal(read.scores, _rows(30)[1].numpy())
    assert read.contexts == _contexts(30)


def test_splits_share_a_folder(tmp_path: Path, library: Corpus) -> None:
    _write(tmp_path, library, num=6, split="val")
    with PredictionWriter(tmp_path, library, retriever="test", k=K, split="test", num_contexts=5) as writer:
        writer.write(_contexts(5, first=50), *_rows(5))
    read = Predictions.load(tmp_path, library)
    assert read.splits == ["test", "val"]
    assert [read.contexts[row] for row in read.rows_of("val")] == _contexts(6)
    assert [read.contexts[row] for row in read.rows_of("test")] == _contexts(5, first=50)


def test_ranks_write_apart_and_are_read_as_one(tmp_path: Path, library: Corpus) -> None:
    """As DistributedSampler shares five contexts between two ranks: the first is repeated at the end."""
    for rank, order in enumerate([[0, 2, 4], [1, 3, 0]]):
        settings = {"retriever": "test", "k": K, "split": "val", "num_contexts": 5, "rank": rank, "num_ranks": 2}
        with PredictionWriter(tmp_path, library, **settings) as writer:  # type: ignore[arg-type]
            numbers, scores = _rows(5)
            writer.write([_contexts(5)[i] for i in order], numbers[order], scores[order])
    read = Predictions.load(tmp_path, library)
    assert len(read) == 5 and sorted(read.contexts, key=_contexts(5).index) == _contexts(5)
    for row, context in enumerate(read.contexts):
        index = _contexts(5).index(context)
        assert read.find(context.provenance) == row
        assert read.premise_numbers[row].tolist() == _rows(5)[0][index].tolist()


def test_narrow_rows_and_other_types_are_padded(tmp_path: Path, library: Corpus) -> None:
    with PredictionWriter(tmp_path, library, retriever="test", k=3, split="val", num_contexts=3) as writer:
        writer.write(_contexts(1), np.array([[7, 1]]), np.array([[0.5, 0.25]]))
        writer.write(_contexts(1, 1), torch.tensor([[2]]), torch.tensor([[0.5]], dtype=torch.bfloat16))
        writer.write(_contexts(1, 2), torch.zeros(1, 0, dtype=torch.int64), torch.zeros(1, 0))
    read = Predictions.load(tmp_path, library)
    assert read.premise_numbers.tolist() == [[7, 1, -1], [2, -1, -1], [-1, -1, -1]]
    assert read.scores.tolist() == [[0.5, 0.25, -np.inf], [0.5, -np.inf, -np.inf], [-np.inf] * 3]
    assert read.retrieved(2) == []


def test_a_new_run_replaces_the_split(tmp_path: Path, library: Corpus) -> None:
    for rank in range(2):
        _write(tmp_path, library, num=10, rank=rank, num_ranks=2)
    _write(tmp_path, library, num=7)
    assert len(Predictions.load(tmp_path, library)) == 7
    assert sorted(path.name for path in tmp_path.glob("val*")) == [
        "val-0-of-1.00000.jsonl",
        "val-0-of-1.00000.safetensors",
        "val-0-of-1.json",
    ]
    _write(tmp_path, library, num=3, retriever="another")
    assert Predictions.load(tmp_path, library).retriever == "another"


def test_an_empty_split_is_a_complete_one(tmp_path: Path, library: Corpus) -> None:
    _write(tmp_path, library, num=0)
    read = Predictions.load(tmp_path, library)
    assert (len(read), read.contexts, read.premise_numbers.shape) == (0, [], (0, K))
    assert read.find(Provenance(file_path="F0.lean", full_name="x")) is None


# --- refusals --------------------------------------------------------------------------------------


def test_a_crash_leaves_an_incomplete_set(tmp_path: Path, library: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictions_module, "ROWS_PER_SHARD", 4)
    with (
        pytest.raises(KeyboardInterrupt),
        PredictionWriter(tmp_path, library, retriever="test", k=K, split="val", num_contexts=10) as writer,
    ):
        writer.write(_contexts(4), *_rows(4))
        writer.write(_contexts(2, 4), *_rows(2, 4))
        raise KeyboardInterrupt
    with pytest.raises(DataError, match="incomplete: it has predictions for 4 of the 10 contexts of val, and 0 of 1"):
        Predictions.load(tmp_path, library)


def test_a_missing_rank_or_row_is_noticed(tmp_path: Path, library: Corpus) -> None:
    _write(tmp_path / "rank", library, num=6, num_contexts=12, rank=1, num_ranks=2)
    with pytest.raises(DataError, match="6 of the 12 contexts of val, and 1 of 2 ranks finished"):
        Predictions.load(tmp_path / "rank", library)
    _write(tmp_path / "row", library, num=11, num_contexts=12)
    with pytest.raises(DataError, match="11 of the 12 contexts"):
        Predictions.load(tmp_path / "row", library)


def test_predictions_of_another_corpus_are_refused(tmp_path: Path, library: Corpus) -> None:
    _write(tmp_path, library)
    other = Corpus(
        write_corpus(tmp_path / "other.jsonl", [*LIBRARY, {"path": "E.lean", "imports": [], "premises": []}])
    )
    with pytest.raises(DataError, match=f"hash {library.content_hash}, but .* has {other.content_hash}"):
        Predictions.load(tmp_path, other)


def test_one_folder_is_for_one_retriever(tmp_path: Path, library: Corpus) -> None:
    _write(tmp_path, library, num=2)
    with pytest.raises(ConfigError, match="holds predictions of 'test' for val .* joined by 'bm25'"):
        _write(tmp_path, library, num=2, split="test", retriever="bm25")
    _write(tmp_path / "b", library, num=2, split="test", retriever="bm25")
    for path in (tmp_path / "b").iterdir():
        path.rename(tmp_path / path.name)
    with pytest.raises(DataError, match="mixes 'bm25' with k 4 .test. and 'test'"):
        Predictions.load(tmp_path, library)


def test_files_of_different_runs_are_refused(tmp_path: Path, library: Corpus) -> None:
    _write(tmp_path, library, num=3, num_contexts=6, rank=0, num_ranks=2)
    _write(tmp_path, library, num=3, num_contexts=5, rank=1, num_ranks=2)
    with pytest.raises(DataError, match="come from different runs"):
        Predictions.load(tmp_path, library)


def test_missing_and_broken_files_are_named(tmp_path: Path, library: Corpus) -> None:
    with pytest.raises(DataError, match="none holds no predictions"):
        Predictions.load(tmp_path / "none", library)
    _write(tmp_path, library)
    shard, lines, part = (tmp_path / f"val-0-of-1{x}" for x in (".00000.safetensors", ".00000.jsonl", ".json"))
    whole, whole_lines, whole_part = shard.read_bytes(), lines.read_bytes(), part.read_text()

    for size in (len(whole) - 5, 40, 0):
        shard.write_bytes(whole[:size])
        with pytest.raises(DataError, match="00000.safetensors is truncated or broken"):
            Predictions.load(tmp_path, library)
    shard.unlink()
    with pytest.raises(DataError, match="00000.safetensors is missing"):
        Predictions.load(tmp_path, library)
    shard.write_bytes(whole)

    for text, message in [
        (whole_lines[:-30], "broken predictions"),
        (b"".join(whole_lines.splitlines(keepends=True)[:-1]), r"premise_numbers \[10, 4\], not \(9, 4\)"),
    ]:
        lines.write_bytes(text)
        with pytest.raises(DataError, match=message):
            Predictions.load(tmp_path, library)
    lines.unlink()
    with pytest.raises(DataError, match="cannot read .*jsonl: No such file"):
        Predictions.load(tmp_path, library)
    lines.write_bytes(whole_lines)

    for text in ("{", "[]", "{}", json.dumps(json.loads(whole_part) | {"extra": 1})):
        part.write_text(text)
        with pytest.raises(DataError, match="val-0-of-1.json: not the description of predictions"):
            Predictions.load(tmp_path, library)
    part.write_text(json.dumps(json.loads(whole_part) | {"format_version": 9}))
    with pytest.raises(DataError, match="format version 9, but this program reads version 1"):
        Predictions.load(tmp_path, library)
    part.write_text(whole_part)
    assert len(Predictions.load(tmp_path, library)) == 10


def test_numbers_outside_the_corpus_are_refused(tmp_path: Path, library: Corpus) -> None:
    with PredictionWriter(tmp_path, library, retriever="test", k=1, split="val", num_contexts=1) as writer:
        writer.write(_contexts(1), torch.tensor([[12]]), torch.tensor([[0.5]]))
    with pytest.raises(DataError, match="the corpus has 12 premises"):
        _ = Predictions.load(tmp_path, library).premise_numbers


def test_a_full_disk_is_reported(tmp_path: Path, library: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = PredictionWriter(tmp_path, library, retriever="test", k=K, split="val", num_contexts=4)
    writer.write(_contexts(4), *_rows(4))

    def full(*paths: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        with pytest.raises(DataError, match="cannot write predictions to .*No space left"):
            writer.close()
    with pytest.raises(DataError, match="incomplete: .* 0 of the 4"):
        Predictions.load(tmp_path, library)


def test_wrong_arguments_are_refused(tmp_path: Path, library: Corpus) -> None:
    with pytest.raises(ConfigError, match="k is 0"):
        _write(tmp_path, library, k=0)
    with pytest.raises(ConfigError, match="split is 'a-b'"):
        _write(tmp_path, library, split="a-b")
    with (
        pytest.raises(ValueError, match="3 contexts, 2 rows"),
        PredictionWriter(tmp_path, library, retriever="test", k=K, split="val", num_contexts=4) as writer,
    ):
        writer.write(_contexts(3), *_rows(2))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_contexts": "10"}, "num_contexts is '10'; it must be of type int"),
        ({"num_ranks": "../x"}, "num_ranks is '../x'"),
        ({"num_ranks": True}, "num_ranks is 'True'"),
        ({"split": "../x"}, "split is '../x'; it must be a word"),
        ({"split": "test"}, "it describes test-0-of-1"),
        ({"rank": 1}, "out of its range"),
        ({"num_shards": -1}, "out of its range"),
        ({"k": 0}, "out of its range"),
        ({"complete": "yes"}, "complete is 'yes'; it must be of type bool"),
    ],
    ids=str,
)
def test_a_description_that_says_something_odd_is_refused(
    tmp_path: Path, library: Corpus, values: dict[str, Any], message: str
) -> None:
    _write(tmp_path, library)
    path = tmp_path / "val-0-of-1.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    with pytest.raises(DataError, match=f"val-0-of-1.json: not the description of predictions .*{message}"):
        Predictions.load(tmp_path, library)


def test_predictions_that_are_replaced_are_told(
    tmp_path: Path, library: Corpus, caplog: pytest.LogCaptureFixture
) -> None:
    _write(tmp_path, library)
    assert not caplog.text
    _write(tmp_path, library, num=4)
    assert f"{tmp_path}: replaces the predictions of 'test' for val" in caplog.text


def test_two_processes_do_not_mix_their_predictions(tmp_path: Path, library: Corpus) -> None:
    settings = {"retriever": "test", "k": K, "split": "val", "num_contexts": 4}
    first = PredictionWriter(tmp_path, library, **settings)
    first.write(_contexts(4), *_rows(4))
    _write(tmp_path, library, num=4)
    with pytest.raises(DataError, match="another process writes predictions for val to this folder"):
        first.close()
    assert len(Predictions.load(tmp_path, library)) == 4


def test_a_context_with_half_a_character_is_refused(tmp_path: Path, library: Corpus) -> None:
    _write(tmp_path, library, num=1)
    path = tmp_path / "val-0-of-1.00000.jsonl"
    path.write_bytes(path.read_bytes().replace(b"F0.lean", b"F\xed\xa0\x80.lean"))
    with pytest.raises(DataError, match="broken predictions"):
        Predictions.load(tmp_path, library)
