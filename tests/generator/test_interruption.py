"""Runs that a signal ends: what was trained is saved, the exit status tells the signal, and a line how to go on."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from generator.main import main
from retrieval.training.signals import Interrupted
from tests.generator.cli_fakes import config
from tests.generator.families import DECODER_ONLY, ENCODER_DECODER

ROOT = Path(__file__).resolve().parents[2]

# A callback that sends this process a signal, at the hook and step that its options tell.
SENDER = """
import os, signal
import pytorch_lightning as pl

class Sender(pl.Callback):
    def __init__(self, hook: str, number: int, step: int = 0) -> None:
        self.number, self.step = number, step
        setattr(self, hook, self.send)

    def send(self, trainer, *args, **kwargs):
        if trainer.global_step >= self.step:
            os.kill(os.getpid(), self.number)
"""


def arguments(folder: Path, values: dict, hook: str, number: int, step: int) -> list[str]:
    (folder / "sender.py").write_text(SENDER)
    sender = {"class_path": "sender.Sender", "init_args": {"hook": hook, "number": int(number), "step": step}}
    values["trainer"]["callbacks"] = [sender]
    (folder / "given.yaml").write_text(yaml.safe_dump(values, allow_unicode=True))
    return ["fit", "--config", str(folder / "given.yaml")]


@pytest.fixture
def long_run(family, eight_path, tmp_path, monkeypatch):
    """A run of many steps with a validation behind each 100, of each family."""
    monkeypatch.syspath_prepend(tmp_path)
    values = config(eight_path, tmp_path, family, max_epochs=-1, max_steps=1000, enable_progress_bar=False)
    values["trainer"] |= {"val_check_interval": 100, "check_val_every_n_epoch": None, "log_every_n_steps": 20}
    return values


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_a_signal_before_the_first_validation_saves_and_says_how_to_go_on(long_run, tmp_path, number, capsys):
    with pytest.raises(Interrupted) as stopped:
        main(arguments(tmp_path, long_run, "on_before_backward", number, 6))
    assert stopped.value.code == 128 + number
    last = tmp_path / "run" / "version_0" / "checkpoints" / "last.ckpt"
    metrics = json.loads((last.parents[1] / "metrics.json").read_text())
    assert metrics["status"] == "interrupted" and metrics["num_steps"] == 7
    assert metrics["last_checkpoint"] == str(last) and torch.load(last, weights_only=True)["global_step"] == 7
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("interrupted")]
    name = {signal.SIGTERM: "SIGTERM", signal.SIGINT: "Ctrl-C"}[number]
    assert said == [f"interrupted by {name} at step 7: go on with the same command and --ckpt_path {last}"]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL, "what was there before"


@pytest.mark.parametrize("family", [ENCODER_DECODER], ids=["encoder_decoder"])
@pytest.mark.parametrize("hook", ["on_train_batch_start", "on_before_optimizer_step", "on_validation_batch_start"])
def test_an_interrupted_run_goes_on_as_if_it_had_not_been(long_run, tmp_path, hook, capsys):
    long_run["trainer"] |= {"val_check_interval": 6, "max_steps": 14}
    whole = main(arguments(tmp_path, long_run, hook, signal.SIGTERM, 99))
    with pytest.raises(Interrupted):
        main(arguments(tmp_path, long_run, hook, signal.SIGTERM, 5))
    last = tmp_path / "run" / "version_1" / "checkpoints" / "last.ckpt"
    resumed = main([*arguments(tmp_path, long_run, hook, signal.SIGTERM, 99), "--ckpt_path", str(last)])
    assert resumed.trainer.global_step == 14
    for one, two in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(one, two)
    best = [json.loads((tmp_path / "run" / f"version_{n}" / "metrics.json").read_text())["best"] for n in (0, 2)]
    assert best[0] == best[1], "a validation that was broken off is done again, whole"


@pytest.mark.parametrize("family", [DECODER_ONLY], ids=["decoder_only"])
def test_a_signal_before_the_first_step_leaves_nothing_and_says_so(long_run, tmp_path, capsys):
    with pytest.raises(Interrupted):
        main(arguments(tmp_path, long_run, "on_train_start", signal.SIGINT, 0))
    assert "at step 0: nothing was saved; start it again" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.ckpt"))


@pytest.mark.parametrize("family", [DECODER_ONLY], ids=["decoder_only"])
@pytest.mark.parametrize("hook", ["setup", "on_validation_batch_start"])
def test_ctrl_c_ends_an_evaluation_with_its_status_too(long_run, tmp_path, hook, capsys):
    with pytest.raises(Interrupted) as stopped:
        main(["validate", *arguments(tmp_path, long_run, hook, signal.SIGINT, 0)[1:]])
    assert stopped.value.code == 130
    assert "interrupted by Ctrl-C: start it again" in capsys.readouterr().err


@pytest.mark.parametrize("family", [ENCODER_DECODER], ids=["encoder_decoder"])
def test_a_process_that_is_terminated_ends_with_143_and_no_traceback(long_run, tmp_path):
    args = arguments(tmp_path, long_run, "on_train_batch_start", signal.SIGTERM, 3)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "generator.main", *args]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 143, done.stderr
    assert "Traceback" not in done.stderr and "interrupted by SIGTERM at step 3" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
@pytest.mark.parametrize("family", [ENCODER_DECODER], ids=["encoder_decoder"])
def test_a_signal_to_the_whole_group_saves_though_workers_load_the_data(long_run, tmp_path, number):
    """As `timeout` and a terminal send it."""
    long_run["data"]["num_workers"] = 2
    args = arguments(tmp_path, long_run, "on_before_backward", number, 3)
    sender = tmp_path / "sender.py"
    sender.write_text(SENDER.replace("os.kill(os.getpid()", "os.killpg(0"))
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "generator.main", *args]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, start_new_session=True)
    assert done.returncode == 128 + number, done.stderr
    assert "at step 4: go on with" in done.stderr
    assert (tmp_path / "run" / "version_0" / "checkpoints" / "last.ckpt").is_file()


@pytest.mark.parametrize("family", [ENCODER_DECODER], ids=["encoder_decoder"])
def test_two_ranks_stop_at_the_same_step_whichever_has_the_signal(long_run, tmp_path):
    """The second process alone has it; the first one saves."""
    long_run["trainer"] |= {"devices": 2, "strategy": "ddp"}
    args = arguments(tmp_path, long_run, "on_before_backward", signal.SIGTERM, 3)
    sender = (tmp_path / "sender.py").read_text()
    (tmp_path / "sender.py").write_text(sender.replace("if trainer", "if trainer.global_rank and trainer"))
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "generator.main", *args]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 143, done.stderr[-3000:]
    assert re.search("interrupted by SIGTERM at step 4: go on with .*last.ckpt", done.stderr)
    [last] = tmp_path.rglob("last.ckpt")
    assert torch.load(last, weights_only=True)["global_step"] == 4


@pytest.mark.parametrize("family", [ENCODER_DECODER], ids=["encoder_decoder"])
def test_slurm_queues_the_job_again_behind_the_step_and_the_job_goes_on(long_run, tmp_path, monkeypatch, capsys):
    """With a scontrol that only writes down what it is asked."""
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f"#!/bin/sh\necho $@ > {tmp_path}/asked\n")
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", str(scontrol.parent), prepend=":")
    slurm = {"SLURM_NTASKS": 1, "SLURM_JOB_NAME": "train", "SLURM_JOB_ID": 77, "SLURM_LOCALID": 0, "SLURM_PROCID": 0}
    for name, value in {**slurm, "SLURM_NODEID": 0, "SLURM_NNODES": 1}.items():
        monkeypatch.setenv(name, str(value))
    long_run["trainer"] |= {"logger": False, "default_root_dir": str(tmp_path / "runs"), "max_steps": 9}
    long_run["trainer"] |= {"val_check_interval": 4}
    whole = main(arguments(tmp_path, long_run, "on_before_backward", signal.SIGUSR1, 99))
    slow = arguments(tmp_path, long_run, "on_before_optimizer_step", signal.SIGUSR1, 5)
    main(slow)
    folder = tmp_path / "runs" / "generator" / "slurm_77"
    assert (tmp_path / "asked").read_text() == "requeue 77\n"
    first = min(folder.glob("hpc_ckpt_*.ckpt"))
    assert torch.load(first, weights_only=True)["global_step"] == 6, "not in the middle of the step"
    for other in set(folder.glob("hpc_ckpt_*.ckpt")) - {first}:
        other.unlink()
    again = main(arguments(tmp_path, long_run, "on_before_backward", signal.SIGUSR1, 99))
    assert "hpc_ckpt_1.ckpt" in again.trainer.ckpt_path
    for one, two in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, two)
