"""The command lines of generators on a domain: fit, validate, test, predict, suggest; and `generate`."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import yaml

from common import ConfigError
from generator.domains import make_domain
from generator.domains.__main__ import main as domains
from generator.load import load_generator
from generator.main import main
from generator.suggest import main as suggest
from generator.training.prediction_writer import read_predictions

ROOT = Path(__file__).parents[3]
SMOKE = ROOT / "configs" / "generator" / "rectangle_smoke.yaml"
CAUSAL = {
    "class_path": "generator.causal.CausalGenerator",
    "init_args": {
        "model_name": {"model_type": "gpt2", "n_embd": 32, "n_layer": 1, "n_head": 2, "n_positions": 96},
        "lr": 3.0e-3,
        "warmup_steps": 5,
        "num_beams": 1,
    },
}


def smoke(name: str, folder: Path) -> dict[str, Any]:
    """The smoke configuration, also for a decoder-only model."""
    values = yaml.safe_load(SMOKE.read_text())
    values["trainer"]["logger"]["init_args"]["save_dir"] = str(folder)
    if name == "decoder_only":
        values["model"] = CAUSAL
        data = values["data"]["init_args"]
        del data["max_inp_seq_len"], data["max_oup_seq_len"]
        data |= {"template": "spec-program", "max_seq_len": 96, "max_completion_len": 16}
    return values


@pytest.fixture(scope="module", params=["encoder_decoder", "decoder_only"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """The folder of a finished fit, its configuration, and what it printed."""
    folder, printed = tmp_path_factory.mktemp(request.param), io.StringIO()
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(smoke(request.param, folder)))
    with redirect_stdout(printed):
        main(["fit", "--config", str(config)])
    return folder / "rectangle_smoke" / "version_0", config, printed.getvalue()


def best(folder: Path) -> str:
    return str(json.loads((folder / "metrics.json").read_text())["best_checkpoint"])


def test_metrics_of_the_domain_are_kept_and_choose_the_checkpoint(run: tuple[Path, Path, str]) -> None:
    folder, _, printed = run
    metrics = json.loads((folder / "metrics.json").read_text())
    named = {"solved@1_val", "solved@10_val", "valid_syntax_val", "distinct_val", "sequence_nll_val", "perplexity_val"}
    assert named | {"floor_val", "above_floor_val", "loss_val"} <= set(metrics)
    assert "solved@1_val=" in Path(metrics["best_checkpoint"]).name
    assert "What it suggests" in printed


def test_validate_and_test_say_the_same_of_a_checkpoint(run: tuple[Path, Path, str]) -> None:
    folder, config, _ = run
    metrics = [
        main([verb, "--config", str(config), "--ckpt_path", best(folder)]).trainer for verb in ("validate", "test")
    ]
    said = json.loads((folder / "metrics.json").read_text())["best"]
    assert float(metrics[0].callback_metrics["loss_val"]) == pytest.approx(said["loss_val"], rel=1e-4)
    assert float(metrics[0].callback_metrics["solved@10_val"]) == pytest.approx(said["solved@10_val"], abs=1e-5)
    assert {"solved@1_test", "above_floor_test"} <= set(metrics[1].callback_metrics)


def test_predict_writes_candidates_for_each_problem(run: tuple[Path, Path, str]) -> None:
    folder, config, _ = run
    made = main(["predict", "--config", str(config), "--ckpt_path", best(folder), "--data.predict_split", "val"])
    records = list(read_predictions(Path(made.trainer.log_dir) / "predictions"))
    domain = make_domain("rectangle")
    assert len(records) == 8 and all("candidates" in record for record in records)
    found = {record["tactic_idx"]: record for record in records}
    problems = domain.problems(3407, "val", 8)
    for index, problem in enumerate(problems):
        assert problem.spec in found[index]["state"] and found[index]["tactic"] == problem.program


def test_a_checkpoint_answers_as_any_tactic_generator_does(run: tuple[Path, Path, str]) -> None:
    folder, _, _ = run
    generator = load_generator(best(folder), device="cpu")
    candidates = generator.generate(
        state="[11+50-]", file_path="", theorem_full_name="", theorem_pos=None, num_samples=3
    )
    assert len(candidates) <= 3 and candidates == sorted(candidates, key=lambda each: -each[1])
    printed = io.StringIO()
    with redirect_stdout(printed):
        suggest(["[11+50-]", "--ckpt_path", best(folder), "--num_samples", "3", "--device", "cpu"])
    shown = printed.getvalue().splitlines()
    assert len(shown) == max(1, len(candidates)), "so little trained, it may write nothing, which is said"


def test_evaluate_takes_a_checkpoint_of_training(run: tuple[Path, Path, str], tmp_path: Path) -> None:
    folder, _, _ = run
    few = ["--num_problems", "3", "--budget", "4", "--device", "cpu"]
    with redirect_stdout(io.StringIO()):
        domains(["evaluate", "--ckpt_path", best(folder), "--output_dir", str(tmp_path), *few])
    metrics = json.loads((tmp_path / "model.json").read_text())
    assert metrics["num_problems"] == 3 and metrics["num_proposals"] == 12
    assert metrics["nll"] > metrics["nll_floor"] > 0


def test_a_decoder_only_model_needs_prompts(tmp_path: Path) -> None:
    values = smoke("decoder_only", tmp_path)
    del values["data"]["init_args"]["template"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(ConfigError, match=r"set data\.template to spec-program"):
        main(["fit", "--config", str(tmp_path / "config.yaml")])
