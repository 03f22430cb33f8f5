"""`python -m generator.rank` ranks any generator as `validate` ranks a model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from common import ConfigError, DataError
from generator.interface.wrappers import FixedTacticGenerator
from generator.rank import ask, draw_steps, main, rank
from generator.training.metrics import TopkAccuracy
from generator.training.prediction_writer import read_predictions
from retrieval.leandojo.traces import TracedTactics
from tests.fakes import write_splits


@pytest.fixture
def data_path(tmp_path: Path) -> Path:
    return write_splits(tmp_path / "data")


def test_metrics_and_predictions_are_written_as_predict_writes_them(
    data_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(
        ["--tactics", "left,right,exact h", "--data_path", str(data_path), "--output_dir", str(tmp_path / "out")]
        + ["--num_candidates", "2"]
    )
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (metrics["top1_acc_val"], metrics["top2_acc_val"]) == (0.125, 0.25) and "top3_acc_val" not in metrics
    assert "val: top1 12.5%  top2 25.0%, of 8 steps" in capsys.readouterr().out
    records = list(read_predictions(tmp_path / "out" / "predictions"))
    assert len(records) == 8 and {"file_path", "full_name", "start", "tactic_idx", "state", "tactic"} < set(records[0])
    accuracy = TopkAccuracy(2)
    accuracy.update([[c["tactic"] for c in r["candidates"]] for r in records], [r["tactic"] for r in records])
    assert accuracy.curve().tolist() == [metrics["top1_acc_val"], metrics["top2_acc_val"]]
    with pytest.raises(DataError, match="earlier predictions"):
        main(["--tactics", "left", "--data_path", str(data_path), "--output_dir", str(tmp_path / "out")])


def test_some_steps_are_drawn_by_seed_and_stay_in_their_order(data_path: Path) -> None:
    traced = TracedTactics.load(data_path / "val.json")
    first, again, other = draw_steps(traced, 4, 0), draw_steps(traced, 4, 0), draw_steps(traced, 4, 1)
    assert first == again != other
    assert [traced[:].index(step) for step in first] == sorted(traced[:].index(step) for step in first)
    assert draw_steps(traced, 99, 0) == draw_steps(traced, None, 0) == traced[:]


def test_batches_change_nothing_and_contexts_tell_where_a_step_is(data_path: Path) -> None:
    steps = TracedTactics.load(data_path / "val.json")[:]
    generator = FixedTacticGenerator({step.state: step.tactic for step in steps})
    assert ask(generator, steps, 3, batch_size=3) == ask(generator, steps, 3, batch_size=100)
    assert [found[0][0] for found in ask(generator, steps, 3)] == [step.tactic for step in steps]
    context = steps[1].context
    assert (context.path, context.theorem_full_name, context.state) == ("Lib/File1.lean", "Lib.thm1", steps[1].state)


def test_wrong_options_are_refused(data_path: Path) -> None:
    with pytest.raises(ConfigError, match="nobody proposes tactics"):
        rank(data_path)
    with pytest.raises(ConfigError, match="num_states"):
        rank(data_path, num_states=0, tactics="auto")  # type: ignore[call-arg]
    with pytest.raises(DataError, match=r"none\.json"):
        rank(data_path, split="none", tactics="auto")  # type: ignore[call-arg]
