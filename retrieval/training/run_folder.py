"""Where a run keeps what it writes: a folder of its own, whatever logger it has."""

from __future__ import annotations

import os
from pathlib import Path

import pytorch_lightning as pl
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_info, rank_zero_only

from retrieval.training.files import writing_file

CONFIG_FILE = "config.yaml"


def run_folder(trainer: pl.Trainer) -> Path:
    """Return the folder of this run: the logger's, or the default root without one.

    All ranks have to ask at the same point, since rank 0 tells the others.
    """
    logger = trainer.loggers[0] if trainer.loggers else None
    if logger is None or logger.save_dir is None or isinstance(logger, TensorBoardLogger | CSVLogger):
        return Path(trainer.log_dir or trainer.default_root_dir)
    # other loggers tell only where all their runs are; checkpoints go into a folder for each, as Lightning names it
    version = logger.version if isinstance(logger.version, str) else f"version_{logger.version}"
    folder: str = trainer.strategy.broadcast(str(Path(logger.save_dir, str(logger.name), version)))
    return Path(folder)


def new_run_folder(root: Path, name: str) -> Path:
    """Make the folder of a run that has no logger, and so none that another run would write to.

    It is version_0, version_1 and so on in the folder `name`; under SLURM it is named after the job, which finds its
    own checkpoint there when it is queued again. Only rank 0 makes one, and tells the others when they ask.
    """
    if SLURMEnvironment.detect():
        return root / name / f"slurm_{os.environ['SLURM_JOB_ID']}"
    version = 0
    while True:
        folder = root / name / f"version_{version}"
        if getattr(rank_zero_only, "rank", 0):
            return folder
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            version += 1
        else:
            return folder


def write_config(folder: Path, text: str) -> Path:
    """Write the configuration of a run as config.yaml, or as config_1.yaml and so on where other ones are there.

    What is there may be what this run was started with, or that of a run that used the folder before.
    """
    path, number = folder / CONFIG_FILE, 0
    while path.exists() and path.read_bytes() != text.encode():
        number += 1
        path = folder / f"config_{number}.yaml"
    if number:
        rank_zero_info(f"{folder / CONFIG_FILE} is another configuration, and kept; that of this run is {path}")
    with writing_file(path) as part:
        part.write_text(text, encoding="utf-8")
    return path
