"""Datasets that data modules get by themselves: the built-in one, and LeanDojo Benchmark 4."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from common import ConfigError, DataError
from generator.data.download import download_leandojo_benchmark_4
from generator.environments.propositional_benchmark import build_propositional_benchmark
from retrieval.training.datamodule import SPLITS, missing_splits

KnownDataset = Literal["propositional", "leandojo_benchmark_4"]
_BENCHMARK_SPLITS = ("random", "novel_premises")


def get_dataset(dataset: KnownDataset, data_path: Path, num_theorems: int, seed: int) -> None:
    """Make or download a dataset where a split is missing.

    Args:
        dataset: which
        data_path: the folder of its splits, named after the way in which it is split
        num_theorems: of "propositional"
        seed: of "propositional"

    Raises:
        ConfigError: if a propositional dataset is there, but not of this num_theorems and seed; or if data_path is no
            place for a dataset
        DataError: if the dataset cannot be had
    """
    if not missing_splits(data_path, SPLITS):
        if dataset == "propositional":
            _check_made_with(data_path.parent, {"num_theorems": num_theorems, "seed": seed})
        return
    if data_path.name not in _BENCHMARK_SPLITS:
        raise ConfigError(
            f"data_path is {str(data_path)!r}; with dataset={dataset} its last part is one of "
            f"{', '.join(_BENCHMARK_SPLITS)}, the two ways in which the benchmark is split"
        )
    try:
        if dataset == "propositional":
            build_propositional_benchmark(data_path.parent, num_theorems, seed)
        else:
            download_leandojo_benchmark_4(data_path.parent)
    except FileExistsError as error:
        raise DataError(f"data_path {data_path} has no splits, and {error}") from error


def _check_made_with(folder: Path, wanted: dict[str, int]) -> None:
    """Raise ConfigError if a dataset's metadata.json has other numbers; those that it lacks are not checked."""
    try:
        made = json.loads((folder / "metadata.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    if not isinstance(made, dict):
        return
    other = {name: made[name] for name, value in wanted.items() if made.get(name, value) != value}
    if other:
        asked = " and ".join(f"{name} is {wanted[name]}" for name in other)
        found = " and ".join(f"{name} {value}" for name, value in other.items())
        give = " ".join(f"--data.{name} {value}" for name, value in other.items())
        raise ConfigError(
            f"{asked}, but the dataset in {folder} was made with {found}. Remove {folder} to have it made anew, "
            f"or give {give}; --data.dataset null reads whatever is there"
        )
