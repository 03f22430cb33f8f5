"""Columns of steps are read as they were written, and what is no such file is refused with its path."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from common import DataError
from retrieval.step_columns import Columns, digest_columns, load_columns, save_columns

KINDS = {"of": torch.int32, "ends": torch.int64}
COLUMNS = {"of": torch.tensor([0, 1], dtype=torch.int32), "ends": torch.tensor([3, 5])}


def accept(columns: Columns, paths: list[str]) -> None:
    if columns["of"].max() > len(paths):
        raise ValueError("of has too large a number")


def load(path: Path) -> tuple[Columns, list[str]]:
    return load_columns(path, 1, KINDS, accept, "steps")


def test_columns_and_paths_come_back(tmp_path: Path) -> None:
    save_columns(tmp_path / "c", COLUMNS, ["A.v"], 1)
    columns, paths = load(tmp_path / "c")
    assert paths == ["A.v"] and all(torch.equal(columns[name], COLUMNS[name]) for name in COLUMNS)
    assert digest_columns(columns, paths) == digest_columns(COLUMNS, ["A.v"]) != digest_columns(COLUMNS, ["B.v"])


@pytest.mark.parametrize(
    ("columns", "paths", "version", "why"),
    [
        (COLUMNS, ["A.v"], 2, "format version 2; this program reads 1"),
        ({"of": COLUMNS["of"]}, ["A.v"], 1, "there is no 'ends'"),
        (COLUMNS | {"ends": COLUMNS["of"]}, ["A.v"], 1, r"ends is torch\.int32"),
        (COLUMNS | {"of": COLUMNS["of"][None]}, ["A.v"], 1, r"of shape \(1, 2\)"),
        (COLUMNS, [], 1, "of has too large a number"),
    ],
)
def test_what_does_not_fit_is_refused(
    tmp_path: Path, columns: Columns, paths: list[str], version: int, why: str
) -> None:
    save_columns(tmp_path / "c", {name: each.clone() for name, each in columns.items()}, paths, version)
    with pytest.raises(DataError, match=rf"c: holds no steps \(.*{why}.*make the folder again"):
        load(tmp_path / "c")


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no columns")
    for name in ("text", "missing"):
        with pytest.raises(DataError, match=f"{name}: holds no steps"):
            load(tmp_path / name)
