"""Columns of known steps: which may be looked up, and files that are read as they were written, or refused."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from common import Context, DataError, Pos
from retrieval.leandojo.columns import position_key
from retrieval.step_columns import Columns, StepColumns, check_ends, check_lengths, check_range


class Known(StepColumns):
    format_version = 1
    what = "known steps"
    kinds: ClassVar = {"theorem_of": torch.int32, "file_of": torch.int32, "position_of": torch.int64}

    @classmethod
    def check(cls, columns: Columns, paths: list[str]) -> None:
        check_lengths(columns, "file_of", "position_of")
        check_range("theorem_of", columns["theorem_of"], 0, len(columns["file_of"]))


POSITIONS = [position_key(Pos(line, 1)) for line in (1, 10, 20, 1)]
COLUMNS = {  # three theorems of A.v, with two, one and one steps, and one of B.v with one
    "theorem_of": torch.tensor([0, 0, 1, 2, 3], dtype=torch.int32),
    "file_of": torch.tensor([0, 0, 0, 1], dtype=torch.int32),
    "position_of": torch.tensor(POSITIONS),
}
PATHS = ["A.v", "B.v"]


def seen(path: str, line: int | None, imported: tuple[str, ...] = (), free: bool = False) -> list[int]:
    context = Context(path, "t", None if line is None else Pos(line, 1), "")
    found = Known(COLUMNS, PATHS).visible(context, imported, np.full(5, free))
    return np.flatnonzero(found).tolist()


def test_what_stands_before_a_theorem_is_seen_and_its_own_proof_never() -> None:
    assert seen("A.v", 10) == [0, 1] and seen("A.v", 15) == [0, 1, 2] and seen("A.v", 1) == []
    assert seen("A.v", 10, ("B.v", "unknown.v")) == [0, 1, 4] and seen("C.v", 5, ("A.v",)) == [0, 1, 2, 3]
    assert seen("A.v", None, ("B.v",)) == []  # where it stands is not known
    assert seen("A.v", 10, free=True) == [0, 1, 3, 4] and seen("C.v", 1, free=True) == [0, 1, 2, 3, 4]


def test_columns_and_paths_come_back(tmp_path: Path) -> None:
    made = Known(COLUMNS, PATHS)
    made.save(tmp_path / "c")
    again = Known.load(tmp_path / "c")
    assert again.paths == PATHS and len(again) == 5 and again.file_of_step.tolist() == [0, 0, 0, 0, 1]
    assert again.digest() == made.digest() != Known(COLUMNS, ["A.v", "C.v"]).digest()
    assert again.file_number("B.v") == 1 and again.file_number("C.v") == -1


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"file_of": COLUMNS["position_of"]}, r"file_of is torch\.int64"),
        ({"position_of": COLUMNS["position_of"][None]}, r"of shape \(1, 4\)"),
        ({"position_of": COLUMNS["position_of"][:3]}, "its columns differ in length"),
        ({"theorem_of": COLUMNS["theorem_of"] + 1}, r"theorem_of has numbers outside 0\.\.3"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, changed: Columns, why: str) -> None:
    made = Known(COLUMNS, PATHS)
    made._tensors = {name: column.clone() for name, column in (COLUMNS | changed).items()}
    made.save(tmp_path / "c")
    with pytest.raises(DataError, match=rf"c: holds no known steps \(.*{why}.*make the folder again"):
        Known.load(tmp_path / "c")


def test_other_files_versions_and_fewer_columns_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text").write_text("no columns")
    made = Known(COLUMNS, PATHS)
    made._tensors = {name: column for name, column in COLUMNS.items() if name != "file_of"}
    made.save(tmp_path / "fewer")
    for name, why in (("text", ""), ("missing", ""), ("fewer", "there is no 'file_of'")):
        with pytest.raises(DataError, match=rf"{name}: holds no known steps \(.*{why}"):
            Known.load(tmp_path / name)
    Known(COLUMNS, PATHS).save(tmp_path / "new")
    monkeypatch.setattr(Known, "format_version", 2)
    with pytest.raises(DataError, match="format version 1; this program reads 2"):
        Known.load(tmp_path / "new")


@pytest.mark.parametrize("ends", [[3, 2, 5], [-1, 5], [2, 4], [2, 6]])
def test_ends_have_to_rise_to_the_end_of_the_buffer(ends: list[int]) -> None:
    check_ends("texts", torch.tensor([2, 2, 5]), 5)
    with pytest.raises(ValueError, match="texts do not end where they should"):
        check_ends("texts", torch.tensor(ends), 5)
