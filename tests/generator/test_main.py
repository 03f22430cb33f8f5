"""The command line: training, checkpoints, evaluation, prediction."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from generator.main import main
from generator.training.prediction_writer import read_predictions
from retrieval.training.monitoring import ThroughputMonitor
from tests.fakes import EIGHT
from tests.generator.cli_fakes import config, run
from tests.generator.families import DECODER_ONLY, ENCODER_DECODER

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def fitted(family, fit_once):
    """A finished run of each family."""
    return fit_once(family)


of_encoder_decoder = pytest.mark.parametrize("family", [ENCODER_DECODER], ids=["encoder_decoder"])


# ------------------------------------------------------------------------------------------- what fit leaves


def test_fit_leaves_metrics_checkpoints_and_configuration(fitted):
    version, metrics = fitted.version, fitted.metrics
    assert metrics["status"] == "finished" and metrics["num_steps"] == 8
    assert {"loss_val", "top1_acc_val", "top2_acc_val"} <= set(metrics) and metrics["best"]["top1_acc_val"] >= 0
    assert Path(metrics["best_checkpoint"]).is_file() and Path(metrics["last_checkpoint"]).is_file()
    saved = str(version / "config.yaml")
    again = main(["validate", "--config", saved, "--ckpt_path", metrics["last_checkpoint"]])
    assert float(again.trainer.callback_metrics["loss_val"]) == pytest.approx(metrics["loss_val"])


def test_fit_ends_with_what_the_model_suggests(fitted):
    assert "validation: top1" in fitted.printed
    assert "\n    p q : Prop\n    h : q\n    ⊢ p ∨ q\n" in fitted.printed


def test_lengths_and_template_of_the_model_follow_those_of_the_data(fit_once):
    encoder_decoder, decoder_only = (fit_once(family).cli.model for family in (ENCODER_DECODER, DECODER_ONLY))
    limits = encoder_decoder.limits
    assert {name: getattr(limits, name) for name in ENCODER_DECODER.lengths} == ENCODER_DECODER.lengths
    assert {name: getattr(decoder_only, name) for name in DECODER_ONLY.lengths} == DECODER_ONLY.lengths
    assert decoder_only.template == "llmstep"


WIDTH = {ENCODER_DECODER: "d_model", DECODER_ONLY: "n_embd"}
NARROW = {family: {**family.architecture, name: 16} for family, name in WIDTH.items()}


def test_tensorboard_shows_scalars_texts_and_hyperparameters(family, fitted):
    version = fitted.version
    events = EventAccumulator(str(version)).Reload()
    scalars = set(events.Tags()["scalars"])
    expected = {"loss_train_step", "loss_train_epoch", "loss_val", "top1_acc_val", "top2_acc_val"}
    expected |= {"optimizer/lr-AdamW", "optimizer/grad_norm", "throughput/useful_bytes_per_s"}
    assert expected | {"throughput/model_flops_per_s", "throughput/padding_share"} <= scalars
    assert 0 <= events.Scalars("throughput/padding_share")[0].value < 1
    texts = {tag.removesuffix("/text_summary"): tag for tag in events.Tags()["tensors"]}
    shown = {"examples_train/0", "examples_val/0", "examples_val/1", "run_config"}
    assert shown <= set(texts) and max(texts) == "run_config", "TensorBoard sorts by name"
    assert WIDTH[family] in events.Tensors(texts["run_config"])[0].tensor_proto.string_val[0].decode()
    card = events.Tensors(texts["examples_val/0"])[0].tensor_proto.string_val[0].decode()
    assert "⊢" in card and "| log-prob | tactic |" in card
    assert len(events.Tensors(texts["examples_train/0"])) == 4, "every second of eight steps"
    assert any("hparams" in str(path) for path in version.rglob("hparams.yaml"))


def test_checkpoints_load_without_code_and_without_the_command_line(fitted):
    checkpoint = torch.load(fitted.best, weights_only=True)
    assert "_instantiator" not in checkpoint["hyper_parameters"]
    assert "num_beams" not in checkpoint["hyper_parameters"], "decoding settings are chosen at evaluation"


# -------------------------------------------------------------------------------------- evaluation and prediction


def test_decoding_settings_can_be_overridden_with_a_checkpoint(fitted):
    folder, values = fitted.folder, fitted.values
    cli = run("validate", folder, values, "--ckpt_path", fitted.best, "--model.num_beams", "3")
    assert cli.model.candidates.num_beams == 3 and "top3_acc_val" in cli.trainer.callback_metrics


def test_the_architecture_comes_from_the_checkpoint(family, fitted):
    other = config(fitted.folder / "data", fitted.folder, replace(family, architecture=NARROW[family]))
    cli = run("test", fitted.folder, other, "--ckpt_path", fitted.best)
    assert getattr(cli.model.generator.config, WIDTH[family]) == family.architecture[WIDTH[family]]
    assert {"loss_test", "top1_acc_test", "top2_acc_test"} <= set(cli.trainer.callback_metrics)


def test_predict_writes_every_example_once(fitted):
    folder, values = fitted.folder, fitted.values
    cli = run("predict", folder, values, "--ckpt_path", fitted.best, "--data.predict_split", "val")
    predictions = Path(cli.trainer.log_dir) / "predictions"
    records = list(read_predictions(predictions))
    assert sorted(r["full_name"] for r in records) == sorted(f"Lib.thm{i}" for i in range(8))
    assert sorted(r["tactic"] for r in records) == sorted(tactic for _, tactic in EIGHT)
    for record in records:
        log_probs = [c["log_prob"] for c in record["candidates"]]
        assert 0 < len(log_probs) <= 2 and log_probs == sorted(log_probs, reverse=True)
    description = json.loads((predictions / "rank0.json").read_text())
    assert description["finished"] and description["num_predictions"] == 8 and description["split"] == "val"


@of_encoder_decoder
def test_two_ranks_find_what_one_finds(fitted):
    """Eight examples in batches of three: unequal batches, two processes over gloo."""
    folder, values = fitted.folder, fitted.values
    ours = {**values, "data": {**values["data"], "eval_batch_size": 3, "predict_split": "val"}}
    found, figures = {}, {}
    for num_ranks in (1, 2):
        for subcommand in ("validate", "predict"):
            name = f"{subcommand}{num_ranks}"
            trainer = {**ours["trainer"], "devices": num_ranks, "strategy": "ddp" if num_ranks > 1 else "auto"}
            trainer["logger"] = {**trainer["logger"], "init_args": {"save_dir": str(folder), "name": name}}
            (folder / "ranks.yaml").write_text(yaml.safe_dump({**ours, "trainer": trainer}, allow_unicode=True))
            command = [sys.executable, "-m", "generator.main", subcommand, "--config", str(folder / "ranks.yaml")]
            modules = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
            environment = {**os.environ, "PYTHONPATH": modules, "OMP_NUM_THREADS": "1"}
            done = subprocess.run(
                [*command, "--ckpt_path", fitted.best], env=environment, capture_output=True, text=True, timeout=300
            )
            assert done.returncode == 0, done.stderr[-3000:]
            run_of = folder / name / "version_0"
            if subcommand == "validate":
                found[num_ranks, subcommand] = json.loads((run_of / "metrics.json").read_text())
                figures[num_ranks] = {path.name: path.read_bytes() for path in run_of.glob("figures/*.png")}
            else:
                records = sorted(read_predictions(run_of / "predictions"), key=lambda r: r["full_name"])
                assert len(list((run_of / "predictions").glob("*.jsonl"))) == num_ranks
                found[num_ranks, subcommand] = [[c["tactic"] for c in r["candidates"]] for r in records]
    one, two = found[1, "validate"], found[2, "validate"]
    assert one.pop("checkpoint") == two.pop("checkpoint") == fitted.best
    assert two == pytest.approx(one, rel=1e-5) and "top2_acc_val" in one
    assert found[1, "predict"] == found[2, "predict"] and len(found[1, "predict"]) == 8
    assert figures[1] == figures[2] and (len(figures[1]) == 4 or find_spec("matplotlib") is None), "to the last byte"


@of_encoder_decoder
def test_a_class_path_chooses_model_and_data(fitted):
    folder, values = fitted.folder, fitted.values
    explicit = {
        **values,
        "model": {"class_path": "generator.model.RetrievalAugmentedGenerator", "init_args": values["model"]},
        "data": {"class_path": "generator.datamodule.GeneratorDataModule", "init_args": values["data"]},
    }
    cli = run("validate", folder, explicit, "--ckpt_path", fitted.best)
    assert cli.model.limits.max_inp_seq_len == 128, "linked from the data"


# --------------------------------------------------------------------------------------------- loggers, options


@pytest.mark.parametrize(
    "trainer",
    [
        {"logger": False},
        {"logger": {"class_path": "pytorch_lightning.loggers.CSVLogger", "init_args": {"save_dir": "csv"}}},
        {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False},
        {"fast_dev_run": True},
    ],
    ids=["none", "csv", "bare", "fast_dev_run"],
)
def test_every_logger_and_none_will_do(eight_path, tmp_path, trainer, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = {"max_epochs": 1, "default_root_dir": str(tmp_path / "root"), **trainer}
    run("fit", tmp_path, config(eight_path, tmp_path, **options))
    if trainer.get("logger") is False:
        run("fit", tmp_path, config(eight_path, tmp_path, **options))
        for version in ("version_0", "version_1"):  # the second run leaves the first one's files alone
            folder = tmp_path / "root" / "generator" / version
            assert json.loads((folder / "metrics.json").read_text())["status"] == "finished"
            assert (folder / "config.yaml").is_file()
            assert (folder / "checkpoints" / "last.ckpt").is_file() == trainer.get("enable_checkpointing", True)
    assert not (tmp_path / "metrics.json").exists() and not (tmp_path / "checkpoints").exists()
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["trainer"]["default_root_dir"], "as it was given"


def test_steps_that_end_between_validations_leave_a_checkpoint_too(eight_path, tmp_path):
    values = config(eight_path, tmp_path, max_epochs=-1, max_steps=3)
    values["trainer"] |= {"val_check_interval": 2, "check_val_every_n_epoch": None}
    cli = run("fit", tmp_path, values)
    last = Path(cli.trainer.log_dir) / "checkpoints" / "last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == 3
    assert json.loads((last.parents[1] / "metrics.json").read_text())["last_checkpoint"] == str(last)


@pytest.mark.parametrize(("lr_decay", "lrs"), [(0.0, [0, 0.25, 0.5, 0.5]), (0.5, [0, 0.25, 0.5, 0.25])])
def test_the_optimizer_can_be_replaced_and_keeps_the_schedule(eight_path, tmp_path, lr_decay, lrs):
    values = config(eight_path, tmp_path, max_epochs=1)
    values["model"]["lr_decay"] = lr_decay
    values["optimizer"] = {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.5}}
    cli = run("fit", tmp_path, values)
    assert isinstance(cli.trainer.optimizers[0], torch.optim.SGD)
    events = EventAccumulator(cli.trainer.log_dir).Reload()
    assert [e.value for e in events.Scalars("optimizer/lr-SGD")] == lrs


def test_a_callback_of_the_configuration_replaces_the_default_of_its_kind(eight_path, tmp_path):
    values = config(eight_path, tmp_path, max_epochs=1)
    monitor = {"class_path": "retrieval.training.monitoring.ThroughputMonitor", "init_args": {"peak_flops_per_s": 1e12}}
    values["trainer"]["callbacks"] = [monitor]
    cli = run("fit", tmp_path, values)
    assert sum(isinstance(c, ThroughputMonitor) for c in cli.trainer.callbacks) == 1
    assert "throughput/mfu" in EventAccumulator(cli.trainer.log_dir).Reload().Tags()["scalars"]


# ------------------------------------------------------------------------------------------------------- resume


def losses(folder: Path) -> dict[int, float]:
    events = EventAccumulator(str(folder)).Reload()
    return {e.step: e.value for e in events.Scalars("loss_train_step")}


@pytest.mark.parametrize(("num_workers", "optimizer"), [(0, "adamw"), (2, "adamw"), (0, "muon")])
def test_resuming_in_the_middle_of_an_epoch_equals_never_stopping(eight_path, tmp_path, num_workers, optimizer):
    values = config(eight_path, tmp_path, max_epochs=3)
    values["model"] |= {"optimizer": optimizer, "lr_decay": 0.5 if optimizer == "muon" else 0.0}
    values["data"]["num_workers"] = num_workers
    values["trainer"]["callbacks"] = [
        {
            "class_path": "pytorch_lightning.callbacks.ModelCheckpoint",
            "init_args": {"every_n_train_steps": 1, "save_top_k": -1, "filename": "at-{step}"},
        }
    ]
    whole = run("fit", tmp_path, values)
    middle = Path(whole.trainer.log_dir) / "checkpoints" / "at-step=6.ckpt"  # four steps an epoch
    resumed = run("fit", tmp_path, values, "--ckpt_path", str(middle))
    expected = {step: loss for step, loss in losses(whole.trainer.log_dir).items() if step >= 6}
    assert losses(resumed.trainer.log_dir) == expected and len(expected) == 6
    for one, two in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(one, two)
    assert whole.trainer.callback_metrics["loss_val"] == resumed.trainer.callback_metrics["loss_val"]


def test_ctrl_c_keeps_a_checkpoint_that_resumes(eight_path, tmp_path):
    values = config(eight_path, tmp_path, max_epochs=10_000, enable_progress_bar=False)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    command = [sys.executable, "-m", "generator.main", "fit", "--config", str(tmp_path / "config.yaml")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    last = tmp_path / "run" / "version_0" / "checkpoints" / "last.ckpt"
    deadline = time.monotonic() + 120
    while not last.is_file() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=120)[0].decode()
    assert last.is_file(), output
    assert "Traceback" not in output, output
    metrics = json.loads((tmp_path / "run" / "version_0" / "metrics.json").read_text())
    assert metrics["status"] == "interrupted"
    num_epochs = torch.load(last, weights_only=True)["epoch"] + 2
    values["trainer"]["max_epochs"] = num_epochs
    cli = run("fit", tmp_path, values, "--ckpt_path", str(last))
    assert cli.trainer.current_epoch == num_epochs
