"""Datasets that data modules get by themselves: the built-in one, and LeanDojo Benchmark 4."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from common import ConfigError, DataError, NextstepError, check_choice
from generator.data.download import download_leandojo_benchmark_4
from generator.environments.propositional_benchmark import (
    DEFAULT_THEOREMS,
    MIN_THEOREMS,
    build_propositional_benchmark,
)
from retrieval.training.datamodule import SPLITS, missing_splits
from retrieval.training.files import one_at_a_time

KnownDataset = Literal["propositional", "leandojo_benchmark_4"]
_BENCHMARK_SPLITS = ("random", "novel_premises")


@dataclass(frozen=True)
class BuiltIn:
    """A dataset that data modules get by themselves where data_path has no splits.

    Attributes:
        dataset: "propositional" is built on the spot, "leandojo_benchmark_4" is downloaded; without it the data must be
            there. Of what is drawn at random the seed of the data module decides; to vary it over one dataset that is
            there, leave `dataset` out
        dataset_options: what it is made with, such as num_theorems: 8000 of "propositional"; a dataset that is there
            must have been made so
        num_theorems: of "propositional", where dataset_options does not say
    """

    dataset: KnownDataset | None = None
    dataset_options: dict[str, Any] | None = None
    num_theorems: int = DEFAULT_THEOREMS

    def __post_init__(self) -> None:
        check_choice("dataset", self.dataset, (None, *get_args(KnownDataset)))
        accepted = {"propositional": {"num_theorems"}}.get(self.dataset or "", set())
        for name in self.dataset_options or {}:
            if name not in accepted:
                takes = f"it takes {', '.join(sorted(accepted))}" if accepted else "it takes none"
                raise ConfigError(f"dataset_options: dataset {self.dataset} has no option {name!r}; {takes}")
        object.__setattr__(self, "num_theorems", (self.dataset_options or {}).get("num_theorems", self.num_theorems))
        if self.num_theorems < MIN_THEOREMS:
            raise ConfigError(f"num_theorems is {self.num_theorems}; it must be at least {MIN_THEOREMS}")


def get_dataset(built_in: BuiltIn, data_path: Path, seed: int) -> None:
    """Make or download a dataset where a split is missing; nothing if none is asked for.

    Args:
        built_in: which, and how it is made
        data_path: the folder of its splits, named after the way in which it is split
        seed: of what is drawn at random

    Raises:
        ConfigError: if a propositional dataset is there, but not of this size and seed; or if data_path is no place for
            a dataset
        DataError: if the dataset cannot be had
    """
    if built_in.dataset is None:
        return
    if missing_splits(data_path, SPLITS):
        if data_path.name not in _BENCHMARK_SPLITS:
            raise ConfigError(
                f"data_path is {str(data_path)!r}; with dataset={built_in.dataset} its last part is one of "
                f"{', '.join(_BENCHMARK_SPLITS)}, the two ways in which the benchmark is split"
            )
        folder = data_path.parent.resolve()
        with suppress(OSError):  # the maker says what is wrong
            folder.parent.mkdir(parents=True, exist_ok=True)
        # nodes that share a disk, or two runs, may ask at once: one makes it, the others find it
        with one_at_a_time(folder):
            _make(built_in, data_path, seed)
    if built_in.dataset == "propositional":
        _check_made_with(data_path.parent, {"num_theorems": built_in.num_theorems, "seed": seed})


def _make(built_in: BuiltIn, data_path: Path, seed: int) -> None:
    """Make or download a dataset, unless another process has done so."""
    if not missing_splits(data_path, SPLITS):
        return
    try:
        if built_in.dataset == "propositional":
            build_propositional_benchmark(data_path.parent, built_in.num_theorems, seed)
        else:
            download_leandojo_benchmark_4(data_path.parent)
    except NextstepError as error:
        if not missing_splits(data_path, SPLITS):  # a file system without locks let another process in
            return
        if isinstance(error, FileExistsError):
            raise DataError(f"data_path {data_path} has no splits, and {error}") from error
        raise


def _check_made_with(folder: Path, wanted: dict[str, int]) -> None:
    """Raise ConfigError if a dataset's metadata.json has other numbers; those that it lacks are not checked."""
    try:
        made = json.loads((folder / "metadata.json").read_text(encoding="utf-8"))
    except (OSError, RecursionError, ValueError):
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
