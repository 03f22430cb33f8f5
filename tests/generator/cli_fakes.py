"""The command line as tests call it."""

import json
from pathlib import Path

import yaml

from generator.main import main
from tests.fakes import TINY, write_splits


def config(data_path: Path, folder: Path, **trainer) -> dict:
    return {
        "seed_everything": 1,
        "model": {"model_name": TINY, "lr": 1e-3, "warmup_steps": 2, "num_beams": 2, "log_text_every_n_steps": 2},
        "data": {"data_path": str(data_path), "batch_size": 2, "max_inp_seq_len": 128, "max_oup_seq_len": 32},
        "trainer": {
            "accelerator": "cpu",
            "max_epochs": 2,
            "num_sanity_val_steps": 0,
            "log_every_n_steps": 1,
            "logger": {
                "class_path": "pytorch_lightning.loggers.TensorBoardLogger",
                "init_args": {"save_dir": str(folder), "name": "run", "default_hp_metric": False},
            },
            **trainer,
        },
    }


def run(subcommand: str, folder: Path, values: dict, *extra: str):
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(values, allow_unicode=True))
    return main([subcommand, "--config", str(path), *extra])


def fit(folder: Path):
    """A finished run: its folder of runs, its own folder, and its configuration."""
    values = config(write_splits(folder / "data"), folder)
    run("fit", folder, values)
    return folder, folder / "run" / "version_0", values


def best(fitted) -> str:
    return json.loads((fitted[1] / "metrics.json").read_text())["best_checkpoint"]
