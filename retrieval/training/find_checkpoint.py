"""Which file the words last, best and hpc mean, given as ckpt_path."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning_fabric.plugins.environments.slurm import SLURMEnvironment

from common import ConfigError
from retrieval.training.last_checkpoint import LAST

WORDS = ("last", "best", "hpc")


def find_checkpoint(word: str, trainer: Mapping[str, Any], run_name: str) -> Path:
    """Return the checkpoint that a word means: of the runs of this name, the one that was written last.

    Args:
        word: "last", the state to go on from; "best", by the metric of its run; "hpc", what SLURM's signal to requeue
            has left
        trainer: options of the trainer, whose logger tells where the runs are
        run_name: name of the runs that have no logger

    Raises:
        ConfigError: if there is none
    """
    runs = _folder_of_runs(trainer, run_name)
    if word == "hpc":
        root = Path(trainer.get("default_root_dir") or ".")
        found, where = _of_slurm(_folder_of_job(runs)) or _of_slurm(root), f"{root} (trainer.default_root_dir)"
    elif word == "last":
        found, where = _newest(runs.glob(f"*/checkpoints/{LAST}*.ckpt")), f"{runs}/*/checkpoints/{LAST}.ckpt"
    else:
        found, where = _best(runs), f"{runs}/*/metrics.json"
    if found is None:
        raise ConfigError(f"ckpt_path {word}: none was found in {where}; give the path of a checkpoint")
    return found


def is_queued_again(trainer: Mapping[str, Any], run_name: str) -> bool:
    """Whether this is a job of SLURM that left a checkpoint when it was queued again, from which Lightning goes on."""
    root = Path(trainer.get("default_root_dir") or ".")
    has_logger = trainer.get("logger") is not False
    folder = root if has_logger else _folder_of_job(_folder_of_runs(trainer, run_name))
    return SLURMEnvironment.detect() and _of_slurm(folder) is not None


def _folder_of_runs(trainer: Mapping[str, Any], run_name: str) -> Path:
    """Where the folders of the runs of one name are."""
    logger, root = trainer.get("logger"), trainer.get("default_root_dir")
    logger = logger[0] if isinstance(logger, list) and logger else logger
    options: Any = getattr(logger, "get", lambda name: None)("init_args")
    if options:
        return Path(str(options.get("save_dir") or root or "."), str(options.get("name") or ""))
    return Path(root or "runs", run_name) if logger is False else Path(root or ".", "lightning_logs")


def _folder_of_job(runs: Path) -> Path:
    return runs / f"slurm_{os.environ.get('SLURM_JOB_ID', '')}"


def _of_slurm(folder: Path) -> Path | None:
    """The last one that Lightning's handler of the signal wrote."""
    numbers = {path: re.fullmatch(r"hpc_ckpt_(\d+)", path.stem) for path in folder.glob("hpc_ckpt_*.ckpt")}
    known = {path: int(match[1]) for path, match in numbers.items() if match}
    return max(known, key=lambda path: known[path]) if known else None


def _newest(paths: Any) -> Path | None:
    return max(paths, key=lambda path: path.stat().st_mtime, default=None)


def _best(runs: Path) -> Path | None:
    """What the newest run that has one calls its best checkpoint."""
    found = {}
    for path in runs.glob("*/metrics.json"):
        try:
            best = json.loads(path.read_text(encoding="utf-8")).get("best_checkpoint")
        except (OSError, ValueError, AttributeError):
            continue
        if best and Path(best).is_file():
            found[path] = Path(best)
    newest = _newest(found)
    return None if newest is None else found[newest]
