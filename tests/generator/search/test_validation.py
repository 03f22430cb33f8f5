"""Pass@1 in training: what is searched and logged, and that training is the same with it and without."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from common import ConfigError
from generator.environments.base import BrokenEnvironmentError, ProofState, Statement, Theorem
from generator.environments.scripted import ScriptedEnvironment
from generator.search.validation import ProofSearch, report_proof
from generator.training.next_step_generator import NextStepGenerator
from retrieval.training.last_checkpoint import LastCheckpoint
from retrieval.training.resume import ResumePoint
from tests.fakes import EIGHT, quiet_trainer, write_splits
from tests.generator.cli_fakes import config, run
from tests.generator.families import ENCODER_DECODER, Family
from tests.ranks import find_free_port, run_two_ranks

SCRIPT = {
    "starts": {f"Lib.thm{i}": state for i, (state, _) in enumerate(EIGHT)},
    "tactics": {state: {tactic: "no goals"} for state, tactic in EIGHT},
}


class Disturbing(ScriptedEnvironment):
    """A prover that draws random numbers, as samplers do, and leaves gradients switched off."""

    def start(self, theorem: Theorem | Statement) -> ProofState:
        torch.rand(3), np.random.rand(3), random.random()
        return super().start(theorem)


class Breaking(ScriptedEnvironment):
    """A prover that starts a proof once, and never again."""

    num_starts = 0

    def start(self, theorem: Theorem | Statement) -> ProofState:
        Breaking.num_starts += 1
        if Breaking.num_starts > 1:
            raise BrokenEnvironmentError("the pipe is closed")
        return super().start(theorem)


class Failing(ScriptedEnvironment):
    """A prover with a bug."""

    def run_tactic(self, state: ProofState, tactic: str) -> Any:
        raise RuntimeError("a bug")


@pytest.fixture
def script(tmp_path: Path) -> str:
    path = tmp_path / "script.json"
    path.write_text(json.dumps(SCRIPT))
    return str(path)


@pytest.fixture
def knows_five(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every model knows the tactics of the first five theorems; of the others none."""
    monkeypatch.setattr(NextStepGenerator, "decode", _decode_five)


def _decode_five(self: Any, inputs: Any, num_candidates: int) -> list[list[tuple[str, float]]]:
    return [
        [(tactic, -0.5) for state, tactic in EIGHT[:5] if text and state in text][:num_candidates] for text in inputs
    ]


def searching(script: str, environment: str = "scripted", **options: Any) -> ProofSearch:
    return ProofSearch(environment, {"script": script}, num_workers=2, **options)


def fit(family: Family, folder: Path, *callbacks: pl.Callback, ckpt_path: Path | None = None, **options: Any) -> Any:
    data = family.data(write_splits(folder / "data"), batch_size=3)
    model = family.build({**family.architecture, **family.dropout})
    trainer = quiet_trainer(
        folder, callbacks=list(callbacks), enable_checkpointing=True, **{"max_epochs": 2, **options}
    )
    trainer.fit(model, data, ckpt_path=ckpt_path, weights_only=True)
    return model


def weights_of(model: Any) -> list[torch.Tensor]:
    return [weight.detach().clone() for weight in model.state_dict().values()]


def test_it_counts_the_theorems_that_the_model_proves(
    family: Family, script: str, tmp_path: Path, knows_five: None
) -> None:
    search = searching(script)
    model = fit(family, tmp_path, search, max_epochs=1)
    assert float(model.trainer.callback_metrics["Pass@1_val"]) == 5 / 8
    assert (search.num_proved, search.num_searched, len(search.results)) == (5, 8, 8)
    assert {result.proof for result in search.results if result.status == "proved"} == {(t,) for _, t in EIGHT[:5]}


def test_training_is_the_same_to_the_bit_with_proof_search_and_without(
    family: Family, script: str, tmp_path: Path
) -> None:
    pl.seed_everything(3)
    without = weights_of(fit(family, tmp_path / "without", val_check_interval=2))
    drawn = torch.rand(2), np.random.rand(2), random.random()
    pl.seed_everything(3)
    search = searching(script, f"{__name__}.Disturbing")
    model = fit(family, tmp_path / "with", search, val_check_interval=2)
    assert len(search.results) == 8 and model.training
    assert all(torch.equal(a, b) for a, b in zip(without, weights_of(model), strict=True))
    again = torch.rand(2), np.random.rand(2), random.random()
    assert torch.equal(drawn[0], again[0]) and (drawn[1] == again[1]).all() and drawn[2] == again[2]


def test_a_run_that_goes_on_ends_as_one_that_was_not_stopped(
    family: Family, script: str, tmp_path: Path, knows_five: None
) -> None:
    def callbacks(folder: str) -> list[pl.Callback]:
        best = ModelCheckpoint(tmp_path / folder / "best", monitor="Pass@1_val", mode="max")
        return [searching(script), best, ResumePoint(), LastCheckpoint()]

    options = {"max_epochs": 2, "val_check_interval": 2}
    kind = Family(**{**vars(family), "dropout": {}})
    whole = fit(kind, tmp_path / "whole", *callbacks("whole"), **options)
    fit(kind, tmp_path / "half", *callbacks("half"), **{**options, "max_epochs": None, "max_steps": 2})
    last = tmp_path / "half" / "checkpoints" / "last.ckpt"
    resumed = fit(kind, tmp_path / "half", *callbacks("half"), ckpt_path=last, **options)
    assert all(torch.equal(a, b) for a, b in zip(weights_of(whole), weights_of(resumed), strict=True))
    assert float(resumed.trainer.callback_metrics["Pass@1_val"]) == 5 / 8


def test_the_same_theorems_are_searched_each_time(script: str, tmp_path: Path, knows_five: None) -> None:
    chosen = []
    for seed in (1, 2):
        pl.seed_everything(seed)
        search = searching(script, num_theorems=3)
        fit(ENCODER_DECODER, tmp_path / str(seed), search, max_epochs=1)
        chosen.append({result.theorem for result in search.results})
    assert chosen[0] == chosen[1] and len(chosen[0]) == 3


def test_theorems_that_cannot_be_started_are_left_out_and_told(tmp_path: Path, knows_five: None) -> None:
    path = tmp_path / "script.json"
    starts = {name: state for name, state in SCRIPT["starts"].items() if name not in ("Lib.thm0", "Lib.thm7")}
    path.write_text(json.dumps({**SCRIPT, "starts": starts}))
    search = searching(str(path))
    with pytest.warns(UserWarning, match="2 of 8 theorems are left out of Pass@1_val, the first: the script has no"):
        model = fit(ENCODER_DECODER, tmp_path, search, max_epochs=1)
    assert float(model.trainer.callback_metrics["Pass@1_val"]) == pytest.approx(4 / 6)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ("Breaking", "8 of 8 theorems are left out .* the pipe is closed"),
        ("Failing", "RuntimeError: a bug; the run goes on"),
    ],
)
def test_a_prover_that_breaks_does_not_end_training(
    environment: str, message: str, script: str, tmp_path: Path, knows_five: None
) -> None:
    Breaking.num_starts = 0
    search = searching(script, f"{__name__}.{environment}")
    with pytest.warns(UserWarning, match=message):
        model = fit(ENCODER_DECODER, tmp_path, search, max_epochs=1)
    assert "Pass@1_val" not in model.trainer.callback_metrics and model.trainer.state.finished


def test_what_is_wrong_is_said_before_training(script: str, tmp_path: Path) -> None:
    empty = tmp_path / "empty.json"
    empty.write_text("{}")
    cases = [
        (searching(str(empty)), "starts none of the 8 theorems of val; the first: the script has no theorem"),
        (searching(script, data_path=str(tmp_path / "nowhere")), "give one as proof_search.data_path"),
        (ProofSearch("propositonal"), "did you mean propositional?"),
        (ProofSearch("scripted", {"scrpt": script}), "did you mean script?"),
    ]
    for search, message in cases:
        with pytest.raises(ConfigError, match=message.replace("?", r"\?")):
            fit(ENCODER_DECODER, tmp_path, search, max_epochs=1)
    with pytest.raises(ConfigError, match="num_theorems is 0"):
        ProofSearch("scripted", num_theorems=0)
    with pytest.raises(ConfigError, match="a search needs a limit"):
        ProofSearch("scripted", max_expansions=None, max_seconds=None)


def test_without_a_prover_nothing_is_searched(tmp_path: Path) -> None:
    model = fit(ENCODER_DECODER, tmp_path, ProofSearch(), max_epochs=1)
    assert "Pass@1_val" not in model.trainer.callback_metrics


# --------------------------------------------------------------------------------- the command line


def test_the_command_line_monitors_logs_and_ends_with_a_proof(
    script: str, tmp_path: Path, knows_five: None, capsys: pytest.CaptureFixture[str]
) -> None:
    values = config(write_splits(tmp_path / "data"), tmp_path)
    values["proof_search"] = {"environment": "scripted", "environment_options": {"script": script}}
    values["checkpoint"] = {"monitor": "Pass@1_val", "mode": "max", "filename": "{step}-{Pass@1_val:.3f}"}
    cli = run("fit", tmp_path, values)
    printed = capsys.readouterr().out
    version = tmp_path / "run" / "version_0"
    metrics = json.loads((version / "metrics.json").read_text())
    assert metrics["Pass@1_val"] == metrics["best"]["Pass@1_val"] == 5 / 8
    assert Path(metrics["best_checkpoint"]).name == "step=4-Pass@1_val=0.625.ckpt"
    events = EventAccumulator(str(version))
    events.Reload()
    assert [event.value for event in events.Scalars("Pass@1_val")] == [5 / 8] * 2
    assert (
        "It proves 5 of 8 theorems of val that it has not seen; one of them, with the proof that it found:\n" in printed
    )
    shown = printed.split("found:\n")[1]
    assert any(f"    {tactic}" in shown for _, tactic in EIGHT[:5])
    run("validate", tmp_path, values, f"--ckpt_path={metrics['best_checkpoint']}")
    evaluated = json.loads((tmp_path / "run" / "version_1" / "metrics.json").read_text())
    assert evaluated["Pass@1_val"] == 5 / 8
    assert cli.trainer.callback_metrics["Pass@1_val"] == 5 / 8


def test_theorems_of_the_built_in_data_are_found_and_shown_as_lean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from generator.environments.propositional_benchmark import build_propositional_benchmark

    build_propositional_benchmark(tmp_path / "data", 100, progress=False)
    path = tmp_path / "data" / "random"
    steps = [step for theorem in json.loads((path / "val.json").read_text()) for step in theorem["traced_tactics"]]
    tactic_of = {step["state_before"]: step["tactic"] for step in steps}
    monkeypatch.setattr(
        NextStepGenerator, "decode", lambda self, inputs, n: [[(tactic_of.get(i, "x"), -0.5)] for i in inputs]
    )
    search = ProofSearch("propositional", num_theorems=10)
    trainer = quiet_trainer(tmp_path, max_epochs=1, callbacks=[search], limit_train_batches=1, limit_val_batches=1)
    long = {"max_inp_seq_len": 1024, "max_oup_seq_len": 128}
    trainer.fit(ENCODER_DECODER.build(**long), ENCODER_DECODER.data(path, **long))
    assert search.num_proved > 0
    report_proof(trainer)
    printed = capsys.readouterr().out
    assert f"It proves {search.num_proved} of {search.num_searched} theorems" in printed
    lines = printed.split("found:\n\n")[1].rstrip("\n").split("\n")
    assert lines[0].startswith("    theorem ") and "import" not in printed
    longest = max((result.proof or () for result in search.results), key=len)
    assert lines[-len(longest) :] == [f"      {tactic}" for tactic in longest]


def test_sharded_weights_are_not_searched(
    script: str, tmp_path: Path, knows_five: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(NextStepGenerator, "is_sharded", True)
    model = fit(ENCODER_DECODER, tmp_path, searching(script), max_epochs=1)
    assert "Pass@1_val" not in model.trainer.callback_metrics
    assert "no Pass@1_val: it needs a generator whose weights are whole" in caplog.text


# --------------------------------------------------------------------------------------------- ranks


def _run_rank(rank: int, folder: str) -> None:
    NextStepGenerator.decode = _decode_five  # type: ignore[method-assign, assignment]
    search = searching(str(Path(folder, "script.json")))
    ddp = {"strategy": "ddp", "devices": 2, "max_epochs": 1}
    model = fit(ENCODER_DECODER, Path(folder, "run"), search, **ddp)
    metric = float(model.trainer.callback_metrics["Pass@1_val"])
    names = sorted(result.theorem.full_name for result in search.results if isinstance(result.theorem, Theorem))
    Path(folder, f"rank{rank}.json").write_text(json.dumps([metric, names]))


def test_ranks_share_the_theorems_and_know_the_same(script: str, tmp_path: Path) -> None:
    run_two_ranks(_run_rank, find_free_port(), str(tmp_path))
    (first, names), (second, others) = (json.loads((tmp_path / f"rank{r}.json").read_text()) for r in (0, 1))
    assert first == second == 5 / 8
    assert sorted([*names, *others]) == sorted(SCRIPT["starts"]) and len(names) == len(others) == 4
