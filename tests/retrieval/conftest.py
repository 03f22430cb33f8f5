"""A library of a dozen premises in six files, written by hand.

Basic <- Or <-+
  ^           +- List <- Empty <- Top
  +--- Nat <--+
"""

import json
from pathlib import Path
from typing import Any

import pytest

from retrieval.corpus import Corpus
from tests.retrieval.fakes import write_library


def _premise(name: str, start: list[int], end: list[int], code: str | None = None) -> dict[str, Any]:
    code = f"theorem {name} : True" if code is None else code
    return {"full_name": name, "code": code, "start": start, "end": end, "kind": "commanddeclaration"}


LIBRARY = [
    {
        "path": "Basic.lean",
        "imports": [],
        "premises": [
            _premise("And.symm", [1, 1], [2, 9], "theorem And.symm : a ∧ b → b ∧ a"),
            _premise("Iff.symm", [4, 1], [5, 9], "theorem Iff.symm (h : a ↔ b) : b ↔ a"),
        ],
    },
    {
        "path": "Or.lean",
        "imports": ["Basic.lean"],
        "premises": [_premise("Or.symm", [1, 1], [1, 20]), _premise("helper", [3, 1], [3, 20])],
    },
    {
        "path": "Nat.lean",
        "imports": ["Basic.lean"],
        "premises": [
            _premise("Nat.Prime", [1, 1], [6, 5], "structure Nat.Prime where two_le : 2 ≤ p"),
            _premise("Nat.Prime.two_le", [2, 3], [2, 20]),
            _premise("helper", [8, 1], [8, 20]),
            _premise("Nat.succ_pred", [9, 1], [9, 30]),
        ],
    },
    {
        "path": "List.lean",
        "imports": ["Or.lean", "Nat.lean"],
        "premises": [
            _premise("List.map", [1, 1], [3, 2]),
            _premise("List.length_map", [5, 1], [5, 40]),
            _premise("List.map", [7, 1], [7, 40]),
        ],
    },
    {"path": "Empty.lean", "imports": ["List.lean"], "premises": []},
    {"path": "Top.lean", "imports": ["Empty.lean"], "premises": [_premise("«top-most»", [2, 1], [2, 10])]},
]


def write_corpus(path: Path, files: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(file) + "\n" for file in files), encoding="utf-8")
    return path


@pytest.fixture
def library_path(tmp_path: Path) -> Path:
    """corpus.jsonl of the library above."""
    return write_corpus(tmp_path / "corpus.jsonl", LIBRARY)


@pytest.fixture
def library(library_path: Path) -> Corpus:
    """The library above."""
    return Corpus(library_path)


def _step(state: str, *premises: tuple[str, str, list[int]]) -> dict[str, Any]:
    """A step that cites premises, each given by name, path and position of its definition."""
    tactic = "simp " + " ".join(name for name, _, _ in premises)
    marked = "simp " + " ".join(f"<a>{name}</a>" for name, _, _ in premises)
    cited = [{"full_name": name, "def_path": path, "def_pos": pos, "def_end_pos": pos} for name, path, pos in premises]
    return {
        "tactic": tactic,
        "annotated_tactic": [marked, cited],
        "state_before": state,
        "state_after": "no goals",
    }


THEOREMS: list[dict[str, Any]] = [
    {
        "url": "u",
        "commit": "c",
        "file_path": "Nat.lean",
        "full_name": "Nat.succ_pred",
        "start": [9, 1],
        "end": [9, 30],
        "traced_tactics": [
            _step("⊢ a ∧ b → b ∧ a", ("And.symm", "Basic.lean", [1, 9]), ("And.symm", "Basic.lean", [2, 1])),
            _step("n : ℕ\n⊢ n = n"),
            _step("⊢ helper", ("helper", "Nat.lean", [8, 5]), ("gone", "Gone.lean", [1, 1])),
        ],
    },
    {
        "url": "u",
        "commit": "c",
        "file_path": "Top.lean",
        "full_name": "«top-most»",
        "start": [2, 1],
        "end": [2, 10],
        "traced_tactics": [
            _step("⊢ b ↔ a", ("Iff.symm", "Basic.lean", [4, 1]), ("List.map", "List.lean", [7, 2])),
        ],
    },
]


@pytest.fixture
def data_path(tmp_path: Path) -> Path:
    """Folder with val.json and test.json: two theorems on the library, four steps, three of them citing.

    The theorems of test.json are those of val.json under names with a prime.
    """
    folder = tmp_path / "data"
    folder.mkdir()
    for split, prime in (("val", ""), ("test", "'")):
        theorems = [theorem | {"full_name": f"{theorem['full_name']}{prime}"} for theorem in THEOREMS]
        (folder / f"{split}.json").write_text(json.dumps(theorems), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the splits of the library whose contexts are learnt from, see `fakes`; corpus.jsonl lies beside it."""
    return write_library(tmp_path_factory.mktemp("library"))


@pytest.fixture(scope="module")
def corpus(data: Path) -> Corpus:
    """The corpus of that library."""
    return Corpus(data.parent / "corpus.jsonl")
