import json
import logging
import math
from pathlib import Path

import pytest
import torch

from common import ConfigError, DataError, Pos
from retrieval.corpus import Corpus, positive_premises
from retrieval.evaluate import evaluate, format_table, fuse, main
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


def _fused_by_hand(first: list[int], second: list[int]) -> list[tuple[int, float]]:
    scores: dict[int, float] = {}
    for side in (first, second):
        for rank, number in enumerate(side, start=1):
            if number >= 0:
                scores[number] = scores.get(number, 0.0) + 1 / (60 + rank)
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))


def test_fusion_sums_reciprocal_ranks() -> None:
    generator = torch.Generator().manual_seed(0)
    first = torch.stack([torch.randperm(9, generator=generator)[:5] for _ in range(40)])
    second = torch.stack([torch.randperm(9, generator=generator)[:3] for _ in range(40)])
    first[0, 2:], second[0], first[1], second[1] = -1, -1, -1, -1
    scores, numbers = fuse(first, second, k=6)
    for row in range(40):
        expected = _fused_by_hand(first[row].tolist(), second[row].tolist())[:6]
        num_padding = 6 - len(expected)
        # sums of equal ranks in another order differ in the last bit, so compare scores and sets
        assert scores[row, : len(expected)].tolist() == pytest.approx([score for _, score in expected])
        assert set(numbers[row].tolist()) - {-1} <= set(range(9))
        found = dict(zip(numbers[row].tolist(), scores[row].tolist(), strict=True))
        by_hand = dict(_fused_by_hand(first[row].tolist(), second[row].tolist()))
        assert all(by_hand[n] == pytest.approx(score) for n, score in found.items() if n >= 0)
        assert (numbers[row] == -1).sum() == (scores[row] == -torch.inf).sum() == num_padding


def test_fused_predictions_are_a_new_set(tmp_path: Path, library: Corpus, data_path: Path) -> None:
    good = _write(tmp_path / "good", library, data_path, GOOD)
    bad = _write(tmp_path / "bad", library, data_path, BAD)
    rows = evaluate(data_path, library.path, [good, bad], splits=["test"], fuse_to=tmp_path / "fused")
    assert [row.retriever for row in rows] == ["good", "bad", "rrf(good, bad)"]
    fused = Predictions.load(tmp_path / "fused", library)
    assert fused.splits == ["test", "val"] and len(fused) == 8
    row = fused.find(Provenance("", "", "Nat.lean", "Nat.succ_pred", Pos(9, 1), 2))
    assert row is not None and fused.retrieved(row) == [5, 4, 6]


# --- refusals --------------------------------------------------------------------------------------


def test_sets_that_do_not_fit_are_refused(tmp_path: Path, library: Corpus, data_path: Path) -> None:
    good = _write(tmp_path / "good", library, data_path, GOOD)
    val = _write(tmp_path / "val", library, data_path, GOOD, splits=("val",))
    short = _write(tmp_path / "short", library, data_path, GOOD[:3], splits=("val",))
    with pytest.raises(ConfigError, match="fuse_to joins two sets of predictions, but 1 are given"):
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
