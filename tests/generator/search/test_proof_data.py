"""Proofs that were found become data in the layout of LeanDojo, beside the data that was there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from common import ConfigError, DataError
from generator.environments.base import Theorem
from generator.search.loop import SearchResult
from generator.search.proof_data import write_with_proofs
from retrieval.leandojo.traces import TracedTactics
from tests.generator.search.prove_fakes import write_split

PROOF = SearchResult(Theorem("A.v", "a", (1, 1)), "proved", "", ("split", "done é", "done"), ("⊢ 0", "⊢ 7", "⊢ 1"))
UNPROVED = SearchResult(Theorem("A.v", "b", (2, 1)), "open")


@pytest.fixture
def splits(tmp_path: Path) -> Path:
    """Two theorems of train, whose steps are `step` at 0 and `done` at 1; and a val."""
    write_split(tmp_path / "data" / "train.json", [("A.v", "a"), ("A.v", "b")], ["step", "done"])
    return write_split(tmp_path / "data" / "val.json", [("B.v", "c")]).parent


def test_new_steps_stand_behind_the_theorems_of_the_split_and_known_ones_are_left_out(
    splits: Path, tmp_path: Path
) -> None:
    added = write_with_proofs([UNPROVED, PROOF], splits, tmp_path / "more")
    assert str(added) == "1 proofs of 3 steps; 2 steps of 1 proofs are not in the data already"
    old, new = (json.loads((folder / "train.json").read_text()) for folder in (splits, tmp_path / "more"))
    assert new[:-1] == old
    assert new[-1] | {"traced_tactics": None} == old[0] | {"traced_tactics": None}
    assert [(s["state_before"], s["tactic"], s["state_after"]) for s in new[-1]["traced_tactics"]] == [
        ("⊢ 0", "split", "⊢ 7"),
        ("⊢ 7", "done é", "⊢ 1"),  # `done` at 1 is in train
    ]
    assert (tmp_path / "more" / "val.json").read_bytes() == (splits / "val.json").read_bytes()
    traced = TracedTactics.load(tmp_path / "more" / "train.json")
    assert [traced[i].tactic for i in range(len(traced))] == ["step", "done", "step", "done", "split", "done é"]


def test_new_steps_may_be_repeated_and_nothing_new_changes_nothing(splits: Path, tmp_path: Path) -> None:
    write_with_proofs([PROOF], splits, tmp_path / "thrice", repeats=3)
    assert len(json.loads((tmp_path / "thrice" / "train.json").read_text())) == 2 + 3
    write_with_proofs([UNPROVED], splits, tmp_path / "same")
    assert (tmp_path / "same" / "train.json").read_bytes() == (splits / "train.json").read_bytes()
    known = SearchResult(PROOF.theorem, "proved", "", ("step", "done"), ("⊢ 0", "⊢ 1"))
    assert write_with_proofs([known], splits, tmp_path / "known").num_new_steps == 0
    assert (tmp_path / "known" / "train.json").read_bytes() == (splits / "train.json").read_bytes()


def test_of_the_old_theorems_some_may_be_drawn(splits: Path, tmp_path: Path) -> None:
    old = json.loads((splits / "train.json").read_text())
    drawn = []
    for seed in range(8):
        write_with_proofs([PROOF], splits, tmp_path / f"{seed}", num_old=1, seed=seed)
        kept, new = json.loads((tmp_path / f"{seed}" / "train.json").read_text())
        assert kept in old and new["traced_tactics"][0]["tactic"] == "split"
        drawn.append(kept["full_name"])
    assert set(drawn) == {"a", "b"}
    write_with_proofs([PROOF], splits, tmp_path / "all", num_old=9)
    assert json.loads((tmp_path / "all" / "train.json").read_text())[:-1] == old
    with pytest.raises(ConfigError, match="num_old is 0"):
        write_with_proofs([PROOF], splits, tmp_path / "none", num_old=0)


def test_a_proof_is_added_to_a_file_with_blanks_behind_its_last_bracket(splits: Path, tmp_path: Path) -> None:
    with (splits / "train.json").open("a") as file:
        file.write("\n\n")
    write_with_proofs([PROOF], splits, tmp_path / "more")
    assert len(json.loads((tmp_path / "more" / "train.json").read_text())) == 3


def test_what_does_not_fit_is_refused_and_nothing_is_written(splits: Path, tmp_path: Path) -> None:
    stranger = SearchResult(Theorem("C.v", "z"), "proved", "", ("done",), ("⊢ 1",))
    with pytest.raises(DataError, match=r"train.json: has no theorem C.v:z, which was proved; give the data"):
        write_with_proofs([stranger], splits, tmp_path / "more")
    old = SearchResult(PROOF.theorem, "proved", "", ("done",))
    with pytest.raises(DataError, match="A.v:a: its proof was kept without its states; search it again"):
        write_with_proofs([old], splits, tmp_path / "more")
    with pytest.raises(DataError, match=r"extra.json: No such file or directory; give a folder with this split"):
        write_with_proofs([PROOF], splits, tmp_path / "more", split="extra")
    with pytest.raises(ConfigError, match="repeats is 0"):
        write_with_proofs([PROOF], splits, tmp_path / "more", repeats=0)
    (splits / "train.json").write_text('[{"file_path": "A.v", "traced_tactics": [3]}]')
    with pytest.raises(DataError, match=r"train.json: theorem 0: it is 3, not an object with the fields of a step"):
        write_with_proofs([PROOF], splits, tmp_path / "more")
    assert not (tmp_path / "more").exists()
