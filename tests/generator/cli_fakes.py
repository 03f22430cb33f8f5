"""The command line as tests call it."""

import io
import json
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from generator.main import GeneratorCLI, main
from tests.fakes import write_splits
from tests.generator.families import ENCODER_DECODER, Family


def config(data_path: Path, folder: Path, family: Family = ENCODER_DECODER, **trainer: Any) -> dict[str, Any]:
    """A short run; its model and data are written with their classes where these are not the defaults."""
    model = {"model_name": dict(family.architecture), "lr": 1e-3, "warmup_steps": 2, "num_beams": 2}
    model |= {"log_text_every_n_steps": 2}
    # the lengths and the template of the model follow those of the data
    data = {"data_path": str(data_path), "batch_size": 2, **family.lengths, **family.data_options}
    if family.generator is not ENCODER_DECODER.generator:
        model = {"class_path": family.class_name, "init_args": model}
        data = {"class_path": family.data_class_name, "init_args": data}
    return {
        "seed_everything": 1,
        "model": model,
        "data": data,
        "trainer": {
            "accelerator": "cpu",
            "max_epochs": 2,
            "num_sanity_val_steps": 0,
            "log_every_n_steps": 1,
            "logger": {
                "class_path": "retrieval.training.tensorboard.TensorBoard",
                "init_args": {"save_dir": str(folder), "name": "run", "default_hp_metric": False},
            },
            **trainer,
        },
    }


def run(subcommand: str, folder: Path, values: dict[str, Any], *extra: str) -> GeneratorCLI:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(values, allow_unicode=True))
    return main([subcommand, "--config", str(path), *extra])


@dataclass(frozen=True)
class Fitted:
    """A finished run.

    Attributes:
        folder: of runs, where its data is too
        version: its own folder
        values: its configuration
        printed: what it printed
        cli: the command line, with its model and trainer
    """

    folder: Path
    version: Path
    values: dict[str, Any]
    printed: str
    cli: GeneratorCLI

    @property
    def metrics(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.version / "metrics.json").read_text())
        return found

    @property
    def best(self) -> str:
        return str(self.metrics["best_checkpoint"])


def fit(folder: Path, family: Family = ENCODER_DECODER) -> Fitted:
    values, printed = config(write_splits(folder / "data"), folder, family), io.StringIO()
    with redirect_stdout(printed):
        cli = run("fit", folder, values)
    return Fitted(folder, folder / "run" / "version_0", values, printed.getvalue(), cli)
