import json
import logging
import math
from pathlib import Path

import pytest
import torch

from common import ConfigError, DataError, Pos
from retrieval.bm25 import predict
from retrieval.corpus import Corpus, positive_premises
from retrieval.evaluate import evaluate, format_table, main
from retrieval.leandojo.provenance import Provenance
from retrieval.leandojo.traces import TracedTactics
from retrieval.predictions.files import RetrievalContext
from retrieval.predictions.reader_writer import Predictions, PredictionWriter

# what is retrieved for the four steps of the fixture data_path, which cite [0], [], [6], [1, 10]
GOOD = [[0, 1, 2], [3, 4, 5], [6, 5, 4], [1, 10, 3]]
BAD = [[1, 0, 2], [3, 4, 5], [5, 4, -1], [4, 3, 1]]


def _write(
    folder: Path, corpus: Corpus, data_path: Path, numbers: list[list[int]], splits: tuple[str, ...] = ("val", "test")
) -> Path:
    for split in splits:
        steps = TracedTactics.load(data_path / f"{split}.json")
        contexts = [RetrievalContext(step.provenance) for step in steps][: len(numbers)]
        with PredictionWriter(
            folder, corpus, retriever=folder.name, k=3, split=split, num_contexts=len(contexts)
        ) as writer:
            writer.write(contexts, torch.tensor(numbers), torch.zeros(len(numbers), 3))
    return folder


def test_positives_are_found_by_position_and_counted(
    library: Corpus, data_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    traced = TracedTactics.load(data_path / "val.json")
    with caplog.at_level(logging.WARNING):
        assert positive_premises(traced, library) == [[0], [], [6], [1, 10]]
    assert [record.getMessage() for record in caplog.records] == [
        f"{traced.path}: 1 of 6 cited premises are not in the corpus"
    ]


def test_one_table_for_all_predictions(
    tmp_path: Path, library: Corpus, data_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = _write(tmp_path / "good", library, data_path, GOOD)
    bad = _write(tmp_path / "bad", library, data_path, BAD, splits=("val",))
    output = tmp_path / "tables" / "table.json"
    main(
        [f"--data_path={data_path}", f"--corpus_path={library.path}", "--predictions", str(good), str(bad)]
        + [f"--output={output}"]
    )
    printed = capsys.readouterr().out.strip().splitlines()
    assert printed[-2:] == [
        f"| {good} | good | val | 83.3 | 100.0 | 1.000 | 3 |",
        f"| {bad} | bad | val | 0.0 | 50.0 | 0.278 | 3 |",
    ]
    rows = json.loads(output.read_text())["rows"]
    assert [row["recall_at_10"] for row in rows] == pytest.approx([1.0, (1 + 0 + 0.5) / 3])
    assert [row["mrr"] for row in rows] == pytest.approx([1.0, (1 / 2 + 0 + 1 / 3) / 3])
    everything = evaluate(data_path, library.path, [good])
    assert [row.split for row in everything] == ["val", "test"]


def test_a_split_without_citations_has_no_figures(tmp_path: Path, library: Corpus, data_path: Path) -> None:
    theorems = json.loads((data_path / "val.json").read_text())
    for theorem in theorems:
        for step in theorem["traced_tactics"]:
            step["annotated_tactic"] = [step["tactic"], []]
    (data_path / "val.json").write_text(json.dumps(theorems))
    good = _write(tmp_path / "good", library, data_path, GOOD, splits=("val",))
    (row,) = evaluate(data_path, library.path, [good], output=tmp_path / "t.json")
    assert row.num_contexts == 0 and math.isnan(row.mrr)
    assert json.loads((tmp_path / "t.json").read_text())["rows"][0]["mrr"] is None
    assert "nan" in format_table([row])


# --- fusion ----------------------------------------------------------------------------------------


def test_fused_predictions_are_a_new_set(tmp_path: Path, library: Corpus, data_path: Path) -> None:
    good = _write(tmp_path / "good", library, data_path, GOOD)
    bad = _write(tmp_path / "bad", library, data_path, BAD)
    rows = evaluate(data_path, library.path, [good, bad], splits=["test"], fuse_to=tmp_path / "fused")
    assert [row.retriever for row in rows] == ["good", "bad", "rrf(good, bad)"]
    fused = Predictions.load(tmp_path / "fused", library)
    assert fused.splits == ["test", "val"] and len(fused) == 8
    row = fused.find(Provenance("", "", "Nat.lean", "Nat.succ_pred", Pos(9, 1), 2))
    assert row is not None and fused.retrieved(row) == [5, 4, 6]
    rows = evaluate(data_path, library.path, [good, bad, bad], splits=["val"], fuse_to=tmp_path / "three")
    assert rows[-1].retriever == "rrf(good, bad, bad)" and rows[-1].mrr < rows[0].mrr


def test_retrievers_that_have_written_nothing_are_asked(tmp_path: Path, library: Corpus, data_path: Path) -> None:
    pytest.importorskip("bm25s")
    predict(data_path, library.path, tmp_path / "bm25", ["val"])
    written, asked = evaluate(data_path, library.path, [tmp_path / "bm25"], retrievers=["bm25"])
    assert (written.mrr, written.recall_at_1, written.recall_at_10) == (
        asked.mrr,
        asked.recall_at_1,
        asked.recall_at_10,
    )
    assert (asked.predictions, asked.retriever, asked.split, asked.num_contexts) == ("", "bm25", "val", 3)
    assert [row.split for row in evaluate(data_path, library.path, retrievers=["bm25"], splits=["val", "test"])] == [
        "val",
        "test",
    ]
    with pytest.raises(ConfigError, match="there is nothing to score"):
        evaluate(data_path, library.path)


# --- refusals --------------------------------------------------------------------------------------


def test_sets_that_do_not_fit_are_refused(tmp_path: Path, library: Corpus, data_path: Path) -> None:
    good = _write(tmp_path / "good", library, data_path, GOOD)
    val = _write(tmp_path / "val", library, data_path, GOOD, splits=("val",))
    short = _write(tmp_path / "short", library, data_path, GOOD[:3], splits=("val",))
    with pytest.raises(ConfigError, match="fuse_to joins two or more sets of predictions, but 1 are given"):
        evaluate(data_path, library.path, [good], fuse_to=tmp_path / "fused")
    with pytest.raises(ConfigError, match="splits test: not in all predictions, which have .*val: val"):
        evaluate(data_path, library.path, [good, val], splits=["test"])
    with pytest.raises(DataError, match=r"good has the splits \['test', 'val'\], and .*val \['val'\]"):
        evaluate(data_path, library.path, [good, val], fuse_to=tmp_path / "fused")
    for pair in ([val, short], [short, val]):
        with pytest.raises(DataError, match="differ in their contexts of val"):
            evaluate(data_path, library.path, pair, fuse_to=tmp_path / "fused")
    with pytest.raises(DataError, match="short lacks 1 of the 3 states of .*val.json that cite a premise"):
        evaluate(data_path, library.path, [short])
    with pytest.raises(DataError, match="none holds no predictions"):
        evaluate(data_path, library.path, [tmp_path / "none"])
