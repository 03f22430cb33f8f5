"""What the command line says of mistakes, and which options follow which."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from common import ConfigError, DataError, NextstepError
from generator.main import GeneratorCLI, main
from generator.model import RetrievalAugmentedGenerator
from retrieval.training.cli import start
from retrieval.training.commands import run as run_command
from tests.fakes import TINY, save_pretrained
from tests.generator.cli_fakes import config, run
from tests.generator.families import ENCODER_DECODER

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def fitted(fit_once):
    return fit_once(ENCODER_DECODER)


@pytest.mark.parametrize(
    ("where", "key", "hint"),
    [("model", "num_beam", "num_beams"), ("data", "batchsize", "batch_size"), ("trainer", "max_epoch", "max_epochs")],
)
def test_a_wrong_key_is_answered_with_the_nearest_right_one(eight_path, tmp_path, capsys, where, key, hint):
    values = config(eight_path, tmp_path)
    values[where][key] = 3
    with pytest.raises(SystemExit):
        run("fit", tmp_path, values)
    message = capsys.readouterr().err
    assert f"did you mean '{hint}'" in message.replace(f"{where}.", "") and key in message
    assert "usage:" not in message


def test_a_wrong_section_is_answered_with_the_nearest_right_one(eight_path, tmp_path, capsys):
    values = config(eight_path, tmp_path)
    values["trainr"] = {"max_epochs": 1}
    with pytest.raises(SystemExit):
        run("fit", tmp_path, values)
    assert "did you mean 'trainer.max_epochs'" in capsys.readouterr().err


FOLLOWS = (
    r"model\.max_inp_seq_len is 64, but it follows data\.max_inp_seq_len, which is 128: set --data\.max_inp_seq_len"
)
MODEL = "generator.model.RetrievalAugmentedGenerator"


@pytest.mark.parametrize(
    "overlay",
    [
        {"model": {"max_inp_seq_len": 64}},
        {"model": {"init_args": {"max_inp_seq_len": 64}}},
        {"model": {"class_path": MODEL, "init_args": {"max_inp_seq_len": 64}}},
    ],
    ids=["flat", "init_args", "class_path"],
)
def test_an_option_that_another_one_decides_is_refused_in_every_form_of_yaml(eight_path, tmp_path, overlay):
    values = config(eight_path, tmp_path)
    (tmp_path / "overlay.yaml").write_text(yaml.safe_dump(overlay))
    with pytest.raises(ConfigError, match=FOLLOWS) as refused:
        run("fit", tmp_path, values, "--config", str(tmp_path / "overlay.yaml"))
    assert "\n" not in str(refused.value)


def test_an_option_that_another_one_decides_is_refused_in_one_file_and_in_a_dictionary(eight_path, tmp_path):
    values = config(eight_path, tmp_path)
    values["model"]["max_inp_seq_len"] = 64
    with pytest.raises(ConfigError, match=FOLLOWS):
        run("validate", tmp_path, values)
    values["model"] = {"class_path": MODEL, "init_args": values["model"]}
    values["data"] = {"class_path": "generator.datamodule.GeneratorDataModule", "init_args": values["data"]}
    with pytest.raises(ConfigError, match=FOLLOWS):
        main({"subcommand": "fit", "fit": values})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model.max_inp_seq_len", "64"], FOLLOWS),
        (["--model.max_inp_seq_len", "64", "--print_config"], FOLLOWS),
        (["--model.max_inp_seq_len", "2300"], "model.max_inp_seq_len is 2300, .* which is 128"),
        (["--data.model_name", "x"], "data.model_name is 'x', but it follows model.model_name, .* --model.model_name"),
    ],
    ids=["option", "print_config", "default", "data"],
)
def test_an_option_that_another_one_decides_is_refused_on_the_command_line(eight_path, tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        run("fit", tmp_path, config(eight_path, tmp_path), *options)


def test_a_default_of_the_data_decides_like_a_value_that_was_set(tmp_path):
    options = ["--model.model_name", "x", "--data.data_path", "y"]
    with pytest.raises(ConfigError, match="model.max_oup_seq_len is 5, .* data.max_oup_seq_len, which is 512"):
        main(["fit", *options, "--model.max_oup_seq_len", "5"])
    (tmp_path / "default.yaml").write_text("{model: {max_oup_seq_len: 512}, data: {data_path: y}}")
    with pytest.raises(ConfigError, match="model.max_oup_seq_len is 512, .* data.max_oup_seq_len, which is 5"):
        main(["fit", *options, "--config", str(tmp_path / "default.yaml"), "--data.max_oup_seq_len", "5"])


def made_from(tmp_path: Path, *parts: dict | str) -> GeneratorCLI:
    """Trainer, model and data from configurations, one on top of the other, and options."""
    args = []
    for i, part in enumerate(parts):
        if isinstance(part, dict):
            (tmp_path / f"{i}.yaml").write_text(yaml.safe_dump(part))
        args.append(part if isinstance(part, str) else f"--config={tmp_path / f'{i}.yaml'}")
    return start(GeneratorCLI, [], args, run=False)


def test_both_ends_may_say_the_same_and_a_later_configuration_changes_both(eight_path, tmp_path):
    values = config(eight_path, tmp_path)
    same = {
        "model": {"max_inp_seq_len": 64},
        "data": {"max_inp_seq_len": 64, "model_name": values["model"]["model_name"]},
    }
    assert made_from(tmp_path, values, same).model.limits.max_inp_seq_len == 64
    assert made_from(tmp_path, values, same, "--data.max_inp_seq_len=32").model.limits.max_inp_seq_len == 32
    assert made_from(tmp_path, values, "--model.max_inp_seq_len=32", "--data.max_inp_seq_len=32")
    other = made_from(tmp_path, values, same, {"model": {"model_name": {**TINY, "d_model": 16}}})
    assert other.datamodule.hparams["model_name"]["d_model"] == 16
    with pytest.raises(ConfigError, match="model.max_inp_seq_len is 32, .* which is 64"):
        made_from(tmp_path, values, same, "--model.max_inp_seq_len=32")


def test_an_option_that_the_data_do_not_have_is_the_models_own(eight_path, tmp_path):
    values = config(eight_path, tmp_path)
    gpt2 = {"model_type": "gpt2", "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 256}
    options = {"model_name": gpt2, "max_seq_len": 200, "max_completion_len": 20, "template": "llmstep"}
    values["model"] = {"class_path": "generator.causal.CausalGenerator", "init_args": options}
    model = made_from(tmp_path, values).model
    assert (model.max_seq_len, model.template) == (200, "llmstep")


def test_a_runs_own_configuration_evaluates_and_resumes_with_other_options(fitted, tmp_path):
    metrics, saved = fitted.metrics, str(fitted.version / "config.yaml")
    args = ["--config", saved, "--ckpt_path", metrics["last_checkpoint"], f"--trainer.logger.save_dir={tmp_path}"]
    assert main(["validate", *args, "--data.max_inp_seq_len", "64"]).model.limits.max_inp_seq_len == 64
    assert main(["fit", *args, "--trainer.max_epochs", "3"]).trainer.global_step == 12
    with pytest.raises(ConfigError, match=FOLLOWS):
        main(["validate", *args, "--model.max_inp_seq_len", "64"])


def test_a_folder_of_a_model_is_judged_without_any_checkpoint(fitted, tmp_path):
    folder, values, last = fitted.folder, fitted.values, fitted.metrics["last_checkpoint"]
    model = RetrievalAugmentedGenerator.load(last)
    save_pretrained(model, tmp_path / "hub")
    judged = run("validate", folder, values, "--ckpt_path", last).trainer.callback_metrics
    values = {**values, "model": {**values["model"], "model_name": str(tmp_path / "hub")}}
    alone = run("validate", tmp_path, values).trainer.callback_metrics
    assert float(alone["loss_val"]) == pytest.approx(float(judged["loss_val"]), rel=1e-5)
    assert float(alone["top2_acc_val"]) == float(judged["top2_acc_val"])


def test_a_missing_checkpoint_is_named(eight_path, tmp_path):
    with pytest.raises(DataError, match=r"gone\.ckpt: there is no such file"):
        run("validate", tmp_path, config(eight_path, tmp_path), "--ckpt_path", "gone.ckpt")


def test_a_checkpoint_of_another_class_is_named(eight_path, tmp_path):
    torch.save({"state_dict": {}, "generator": {"class": "generator.causal.CausalGenerator"}}, tmp_path / "other.ckpt")
    with pytest.raises(DataError, match=r"CausalGenerator, not of generator\.model"):
        run("validate", tmp_path, config(eight_path, tmp_path), "--ckpt_path", str(tmp_path / "other.ckpt"))


def test_a_users_error_is_one_line_without_traceback(tmp_path):
    values = config(tmp_path / "nowhere", tmp_path)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    command = [sys.executable, "-m", "generator.main", "fit", "--config", str(tmp_path / "config.yaml")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert not list(tmp_path.rglob("metrics.json")), "there was no run"
    assert "Traceback" not in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("error: data_path ") and "nowhere" in done.stderr


def test_nan_logits_are_one_line_that_names_the_input(fitted, tmp_path, capsys):
    folder, values = fitted.folder, fitted.values
    checkpoint = torch.load(fitted.best, weights_only=True)
    for name, weight in checkpoint["state_dict"].items():
        if name.endswith("decoder.final_layer_norm.weight"):
            weight.fill_(float("nan"))
    torch.save(checkpoint, tmp_path / "diverged.ckpt")
    with pytest.raises(SystemExit) as stopped:
        run_command(lambda: run("validate", folder, values, "--ckpt_path", str(tmp_path / "diverged.ckpt")))
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert stopped.value.code == 2
    assert re.match(r"error: input '.*': logits are NaN at step 1: check the weights", last), last


def test_a_negative_size_names_its_option(eight_path, tmp_path):
    values = config(eight_path, tmp_path)
    values["data"]["batch_size"] = -1
    with pytest.raises(NextstepError, match="batch_size is -1"):
        run("fit", tmp_path, values)
