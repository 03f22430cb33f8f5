"""Each run has a folder of its own, and overwrites nothing that another one wrote, or that it was started with."""

from pathlib import Path
from typing import Any

import pytest
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger

from retrieval.training.run_folder import new_run_folder, run_folder, write_config
from tests.fakes import quiet_trainer


class OtherLogger(Logger):
    """As those of services are: it says where all its runs are."""

    def __init__(self, save_dir: Path, version: Any) -> None:
        super().__init__()
        self._save_dir, self._version = str(save_dir), version

    name = "mine"
    save_dir = property(lambda self: self._save_dir)
    version = property(lambda self: self._version)

    def log_metrics(self, *args: Any, **options: Any) -> None: ...

    def log_hyperparams(self, *args: Any, **options: Any) -> None: ...


@pytest.mark.parametrize(
    ("logger", "folder"),
    [
        (False, "root"),
        (TensorBoardLogger, "lightning_logs/version_0"),
        (CSVLogger, "lightning_logs/version_0"),
        (lambda save_dir: OtherLogger(save_dir, 4), "mine/version_4"),
        (lambda save_dir: OtherLogger(save_dir, "x7"), "mine/x7"),
    ],
    ids=["none", "tensorboard", "csv", "other", "other_named"],
)
def test_the_folder_of_a_run_is_its_own(tmp_path: Path, logger: Any, folder: str) -> None:
    trainer = quiet_trainer(tmp_path / "root", logger=logger and logger(tmp_path))
    assert run_folder(trainer) == tmp_path / folder


def test_runs_without_a_logger_are_numbered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [new_run_folder(tmp_path, "generator") for _ in range(3)]
    assert folders == [tmp_path / "generator" / f"version_{i}" for i in range(3)] and all(f.is_dir() for f in folders)


def test_a_job_that_is_queued_again_finds_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"SLURM_NTASKS": "1", "SLURM_JOB_NAME": "train", "SLURM_JOB_ID": "77"}.items():
        monkeypatch.setenv(name, value)
    assert [new_run_folder(tmp_path, "a") for _ in range(2)] == [tmp_path / "a" / "slurm_77"] * 2


def test_a_configuration_that_is_there_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("mine: 1\n")
    written = [write_config(tmp_path, text).name for text in ("a: 1\n", "a: 1\n", "b: 1\n", "mine: 1\n")]
    assert written == ["config_1.yaml", "config_1.yaml", "config_2.yaml", "config.yaml"]
    assert (tmp_path / "config.yaml").read_text() == "mine: 1\n"
