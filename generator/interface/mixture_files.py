"""The folder of a mixture: nextstep.json names its parts, and the weight of each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import Candidate, DataError
from generator.interface.mixture import MixedTacticGenerator
from retrieval.training.checkpoints import SETTINGS_FILE, class_path, read_settings, write_settings
from retrieval.training.files import writing_folder
from retrieval.training.parts import find_part, path_of_part

Part = str | list[Candidate]  # a checkpoint, folder or hub id; or the tactics that it always proposes


def write_mixture(
    folder: Path, parts: Sequence[Part], weights: Sequence[float], num_asked: int, about: dict[str, Any]
) -> None:
    """Write a new folder, from which `load_generator` makes a `MixedTacticGenerator`.

    Args:
        folder: to write
        parts: local ones are written as paths from this folder, so that all may be moved together
        weights: of each
        num_asked: see `MixedTacticGenerator`
        about: how the weights came about, for who reads the file

    Raises:
        ConfigError: if the folder is there and not empty
        DataError: if the system refuses to write
    """
    named = [{"path": path_of_part(part, folder)} if isinstance(part, str) else {"tactics": part} for part in parts]
    options = {"parts": named, "weights": list(weights), "num_asked": num_asked, "about": about}
    with writing_folder(folder, f"the mixture to {folder}") as place:
        write_settings(place, class_path(MixedTacticGenerator), options)


def read_mixture(folder: str | Path) -> tuple[list[Part], list[float], int]:
    """Return the parts, their weights, and how many candidates each is asked for at least.

    Raises:
        DataError: if nextstep.json is not what `write_mixture` writes
    """
    options = (read_settings(folder) or {}).get("options", {})
    where = Path(folder) / SETTINGS_FILE
    try:
        parts = [_read_part(part, Path(folder)) for part in options["parts"]]
        weights = [float(weight) for weight in options["weights"]]
        num_asked = options["num_asked"]
        if len(weights) != len(parts) or not parts or not all(0 < weight < math.inf for weight in weights):
            raise ValueError(f"{len(parts)} parts with weights {str(weights)[:60]}")
        if type(num_asked) is not int or num_asked < 1:
            raise ValueError(f"num_asked is {str(num_asked)[:60]!r}")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        what = f"there is no {error}" if isinstance(error, KeyError) else str(error)
        raise DataError(f"{where}: is not what generator.mix writes ({what}); make the mixture again") from error
    return parts, weights, num_asked


def local_parts(folder: Path) -> list[Path]:
    """Return the files and folders that a mixture is made of; none of another folder."""
    if (read_settings(folder) or {}).get("class") != class_path(MixedTacticGenerator):
        return []
    named = (Path(part) for part in read_mixture(folder)[0] if isinstance(part, str))
    return [path for path in named if path.exists()]


def _read_part(part: Any, folder: Path) -> Part:
    if "tactics" in part:
        tactics = [(tactic, float(log_prob)) for tactic, log_prob in part["tactics"]]
        if not all(isinstance(tactic, str) and log_prob <= 0 for tactic, log_prob in tactics):
            raise ValueError("tactics are no pairs of a text and a log-probability")
        return tactics
    return find_part(part["path"], folder)
