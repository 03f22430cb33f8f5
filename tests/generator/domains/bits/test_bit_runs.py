"""The command lines of bit tasks: fit, validate, predict, evaluate, solve, and the figure of several runs."""

from __future__ import annotations

import io
import json
import re
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import yaml

from common import ConfigError, DataError
from generator.domains.__main__ import main as domains
from generator.domains.learning import learning_chart, read_curve
from generator.main import main
from generator.training.prediction_writer import read_predictions
from retrieval.training.charts import Heatmap
from retrieval.training.drawing import draw
from tests.generator.domains.bits.bit_fakes import BODIES

ROOT = Path(__file__).parents[4]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """The folder of a short run of a configuration, its YAML, and what it printed."""
    folder, printed = tmp_path_factory.mktemp("runs"), io.StringIO()
    values: dict[str, Any] = yaml.safe_load((ROOT / "configs" / "generator" / "bit_xor_cpu.yaml").read_text())
    values["model"]["init_args"] |= {"model_name": BODIES["llama"], "stop_at": 0.4, "window": 6, "num_confirming": 40}
    values["data"]["init_args"] |= {"domain_options": {"n": 4}, "batch_size": 8, "num_val": 16, "num_test": 8}
    values["trainer"] |= {"max_steps": 20, "val_check_interval": 10, "log_every_n_steps": 2}
    values["trainer"]["logger"]["init_args"]["save_dir"] = str(folder)
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    with redirect_stdout(printed):
        main(["fit", "--config", str(folder / "config.yaml")])
    return folder / "bit_xor_cpu" / "version_0", folder / "config.yaml", printed.getvalue()


def test_a_run_tells_after_how_many_samples_it_stopped(run: tuple[Path, Path, str]) -> None:
    folder, _, printed = run
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["samples_to_40"] == metrics["num_samples"] == 8 * metrics["num_steps"] < 160
    assert {"acc_val", "solved@1_val", "loss_val", "seconds_to_40", "confirmed_acc"} <= set(metrics)
    assert "validation: loss" in printed and "acc " in printed and "a token" not in printed
    assert "acc_val=" in Path(metrics["best_checkpoint"]).name


def test_where_the_first_layer_looks_is_drawn(run: tuple[Path, Path, str]) -> None:
    pytest.importorskip("matplotlib")
    assert (run[0] / "figures" / "attention_val.png").stat().st_size > 3000
    chart = Heatmap("t", "positions", "x", "y", ((1.0, 0.0), (0.5, 0.5)))
    other = Heatmap("t", "positions", "x", "y", ((0.0, 1.0), (0.5, 0.5)))
    assert chart.num == 2 and (draw(chart) != draw(other)).any()


def test_validate_and_predict_take_the_checkpoint(run: tuple[Path, Path, str]) -> None:
    folder, config, _ = run
    metrics = json.loads((folder / "metrics.json").read_text())
    again = main(["validate", "--config", str(config), "--ckpt_path", metrics["last_checkpoint"]]).trainer
    assert float(again.callback_metrics["acc_val"]) == pytest.approx(metrics["acc_val"])
    made = main(["predict", "--config", str(config), "--ckpt_path", metrics["last_checkpoint"]])
    records = list(read_predictions(Path(made.trainer.log_dir) / "predictions"))
    assert len(records) == 8 and all(len(each["candidates"][0]["tactic"]) == 4 for each in records)


def test_the_commands_of_domains_take_the_checkpoint(
    run: tuple[Path, Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ["--domain", "bit_xor", "--domain_options.n", "4", "--device", "cpu"]
    model += ["--ckpt_path", str(run[0] / "checkpoints" / "last.ckpt")]
    domains(["solve", "0110 0101", *model, "--proposals", "beam", "--budget", "16"])
    assert re.search(r"\+ .*0011 +verified", capsys.readouterr().out), "16 candidates are all there are"
    for proposals in ("samples", "beam"):
        folder = tmp_path / proposals
        few = ["--num_problems", "3", "--budget", "16", "--output_dir", str(folder), "--proposals", proposals]
        domains(["evaluate", *model, *few])
        metrics = json.loads((folder / "model.json").read_text())
        assert metrics["num_problems"] == 3 and metrics["verdicts"]["malformed"] == 0
        if proposals == "beam":
            assert metrics["curve"]["share"][-1] == 1.0
        else:
            assert metrics["nll"] > 0 == metrics["nll_floor"]


def test_several_runs_are_drawn_in_one_figure(
    run: tuple[Path, Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    curve = read_curve(run[0])
    assert [samples for samples, _ in curve] == sorted(samples for samples, _ in curve) and len(curve) >= 2
    assert curve[0][0] == 16 and all(0 <= share <= 1 for _, share in curve)
    figure = tmp_path / "learning.png"
    words = ["learning", "--output_path", str(figure), "--runs", str(run[0]), str(run[0])]
    domains([*words, "--names", "one", "two"])
    printed = capsys.readouterr().out
    assert "one: 40% of bits after" in printed and figure.stat().st_size > 5000
    with pytest.raises(ConfigError, match="there are 1 names for 2 runs"):
        domains([*words, "--names", "one"])
    with pytest.raises(ConfigError, match="runs is missing"):
        domains(["learning", "--output_path", str(figure)])
    with pytest.raises(DataError, match="holds no events of TensorBoard"):
        domains(["learning", "--output_path", str(figure), "--runs", str(tmp_path)])
    assert learning_chart({"a": curve}).is_share
