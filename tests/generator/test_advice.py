"""What a run says that was not validated, or whose options lead elsewhere than one would think."""

import json
import os
from pathlib import Path

import pytest
import torch

from common import ConfigError, DataError, NextstepError
from retrieval.training.divergence import DivergedError
from tests.generator.cli_fakes import config, run
from tests.generator.families import ENCODER_DECODER

one_family = pytest.mark.parametrize("family", [ENCODER_DECODER], ids=["encoder_decoder"])


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"limit_val_batches": 0}, "trainer.limit_val_batches is 0"),
        (
            {"check_val_every_n_epoch": 5},
            "trainer.check_val_every_n_epoch is 5, and the run ended at step 4, in epoch 1",
        ),
        (
            {"val_check_interval": 9, "check_val_every_n_epoch": None},
            "the first one comes behind batch 9 (trainer.val_check_interval is 9), and the run ended behind batch 4",
        ),
        (
            {"max_steps": 3},
            "the first one comes behind batch 4 (trainer.val_check_interval is 1.0), and trainer.max_steps, "
            "which is 3, ended the run behind batch 3",
        ),
    ],
    ids=["limit", "epochs", "interval", "max_steps"],
)
def test_a_run_without_validation_names_the_option_that_is_the_cause(
    family, eight_path, tmp_path, capsys, options, reason
):
    cli = run("fit", tmp_path, config(eight_path, tmp_path, family, **{"max_epochs": 1, **options}))
    printed = capsys.readouterr().out
    assert f"validation: none: {reason}\n" in printed and "What it suggests" in printed
    metrics = json.loads(Path(cli.trainer.log_dir, "metrics.json").read_text())
    assert metrics["no_validation"] == reason and "best" not in metrics


@one_family
@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--trainer.max_epochs=1"], "nothing was left to train on at step 4; raise trainer.max_epochs, which is 1"),
        (["--trainer.max_steps=4"], "nothing was left to train on at step 4; raise trainer.max_steps, which is 4"),
    ],
)
def test_a_run_that_has_nothing_left_to_do_says_so(family, eight_path, tmp_path, capsys, options, reason):
    first = run("fit", tmp_path, config(eight_path, tmp_path, family, max_epochs=1))
    last = Path(first.trainer.log_dir, "checkpoints", "last.ckpt")
    second = config(eight_path, tmp_path, family, max_epochs=5)
    run("fit", tmp_path, second, "--ckpt_path", str(last), *options)
    assert f"validation: none: {reason}\n" in capsys.readouterr().out


@one_family
def test_steps_longer_than_an_epoch_are_said(family, eight_path, tmp_path, caplog):
    run("fit", tmp_path, config(eight_path, tmp_path, family, max_epochs=1, accumulate_grad_batches=8))
    assert "trainer.accumulate_grad_batches is 8, but an epoch has 4 batches" in caplog.text


def test_a_run_that_diverges_has_failed(family, eight_path, tmp_path):
    values = config(eight_path, tmp_path, family, max_epochs=50, gradient_clip_val=None)
    options = values["model"].get("init_args", values["model"])
    options |= {"lr": 1e30, "warmup_steps": 1}
    with pytest.raises((DivergedError, NextstepError)):
        run("fit", tmp_path, values)
    assert json.loads((tmp_path / "run" / "version_0" / "metrics.json").read_text())["status"] == "failed"
    for path in tmp_path.rglob("*.ckpt"):
        weights = torch.load(path, weights_only=True)["state_dict"].values()
        assert all(weight.isfinite().all() for weight in weights)


def test_what_libraries_say_about_themselves_is_left_out(family, eight_path, tmp_path, capfd, recwarn):
    values = config(eight_path, tmp_path, family, max_steps=6, enable_progress_bar=False)
    cli = run("fit", tmp_path, values)
    last = str(Path(cli.trainer.log_dir, "checkpoints", "last.ckpt"))
    run("fit", tmp_path, values, "--ckpt_path", last, "--trainer.max_steps", "7")
    run("predict", tmp_path, values, "--ckpt_path", last)
    shown = capfd.readouterr()
    for text in ("FLOPs", "Tip:", "weights_only", "TPU", "Mode"):
        assert text not in shown.out + shown.err
    assert not [w for w in recwarn if "dirpath has changed" in str(w.message)]


# ------------------------------------------------------------------------------------- which checkpoint


@one_family
def test_last_and_best_are_those_of_the_newest_run_of_the_name(family, eight_path, tmp_path, caplog):
    values = config(eight_path, tmp_path, family, max_epochs=1)
    first = run("fit", tmp_path, values, "--ckpt_path", "last")
    assert "This is the first run of its name, and starts from the beginning" in caplog.text
    assert first.trainer.global_step == 4
    second = run("fit", tmp_path, values, "--ckpt_path", "last", "--trainer.max_epochs", "2")
    assert second.trainer.ckpt_path == str(tmp_path / "run" / "version_0" / "checkpoints" / "last.ckpt")
    assert second.trainer.global_step == 8
    judged = run("validate", tmp_path, values, "--ckpt_path", "best")
    best = json.loads(Path(second.trainer.log_dir, "metrics.json").read_text())["best_checkpoint"]
    assert judged.trainer.ckpt_path == best


@one_family
@pytest.mark.parametrize("word", ["last", "best", "hpc"])
def test_a_checkpoint_that_a_word_means_is_looked_for_and_checked_like_a_path(family, eight_path, tmp_path, word):
    values = config(eight_path, tmp_path, family, default_root_dir=str(tmp_path))
    with pytest.raises(ConfigError, match=f"ckpt_path {word}: none was found in .*; give the path of a checkpoint"):
        run("validate", tmp_path, values, "--ckpt_path", word)
    folder = tmp_path / "run" / "version_0" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "last.ckpt").write_bytes(b"no checkpoint")
    (tmp_path / "hpc_ckpt_3.ckpt").write_bytes(b"no checkpoint")
    (folder.parent / "metrics.json").write_text(json.dumps({"best_checkpoint": str(folder / "last.ckpt")}))
    with pytest.raises(DataError, match=r"(last|hpc_ckpt_3)\.ckpt: cannot be read as a Lightning checkpoint"):
        run("validate", tmp_path, values, "--ckpt_path", word)


@one_family
def test_the_best_checkpoint_stays_the_best_when_a_run_goes_on_elsewhere(family, eight_path, tmp_path, caplog, capsys):
    values = config(eight_path, tmp_path, family, max_epochs=1)
    first = run("fit", tmp_path, values)
    last = Path(first.trainer.log_dir, "checkpoints", "last.ckpt")
    [best] = last.parent.glob("step=*")
    checkpoint = torch.load(last, weights_only=True)
    for key, state in checkpoint["callbacks"].items():
        if "top1_acc_val" in key:  # better than any to come
            state["best_k_models"] = {path: torch.tensor(2.0) for path in state["best_k_models"]}
            state["best_model_score"] = state["kth_value"] = torch.tensor(2.0)
    torch.save(checkpoint, last)
    options = ("--ckpt_path", str(last), "--trainer.max_epochs", "2")
    second = run("fit", tmp_path, values, *options)
    metrics = json.loads(Path(second.trainer.log_dir, "metrics.json").read_text())
    assert metrics["best_checkpoint"] == str(best) and best.is_file()
    os.remove(best)
    capsys.readouterr()
    third = run("fit", tmp_path, values, *options)
    assert f"the best checkpoint so far, {best}, is gone; the next one will count as the best" in caplog.text
    assert f"checkpoint: {third.trainer.log_dir}" in capsys.readouterr().out
