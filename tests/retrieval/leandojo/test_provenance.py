"""Provenance: one record, told alike by examples, batches and files."""

from dataclasses import dataclass

import pytest

from common import DataError, Pos
from retrieval.leandojo.provenance import Provenance, StepExample, provenance_lists, provenances_of

ORIGIN = Provenance("https://example.org/a", "c0ffee", "A/B.lean", "A.b", Pos(3, 1), 2)


@dataclass(frozen=True, eq=False, kw_only=True)
class Example(StepExample):
    """An example of some dataset."""

    tactic: str


EXAMPLE = Example(state="⊢ p", tactic="simp", provenance=ORIGIN, index=7)


def test_an_example_is_read_like_a_dictionary_of_all_its_fields() -> None:
    assert EXAMPLE == {
        "state": "⊢ p",
        "tactic": "simp",
        "url": "https://example.org/a",
        "commit": "c0ffee",
        "file_path": "A/B.lean",
        "full_name": "A.b",
        "start": Pos(3, 1),
        "tactic_idx": 2,
        "index": 7,
    }
    assert EXAMPLE["file_path"] == EXAMPLE.provenance.file_path and EXAMPLE["tactic"] == EXAMPLE.tactic
    for name in ("provenance", "place", "_names"):
        assert name not in EXAMPLE
        with pytest.raises(KeyError):
            EXAMPLE[name]


def test_examples_are_equal_where_all_their_fields_are() -> None:
    again = Example(state="⊢ p", tactic="simp", provenance=ORIGIN, index=7)
    elsewhere = Example(state="⊢ p", tactic="simp", provenance=Provenance(), index=7)
    assert EXAMPLE == again and EXAMPLE != elsewhere


def test_a_batch_gives_back_the_provenance_of_each_example() -> None:
    origins = [ORIGIN, Provenance(), Provenance(file_path="C.lean", start=Pos(9, 2))]
    batch = provenance_lists(origins)
    assert batch["start"] == [(3, 1), (1, 1), (9, 2)] and batch["tactic_idx"] == [2, 0, 0]
    assert provenances_of({**batch, "state": ["⊢ p"] * 3}) == origins


def test_files_tell_all_but_the_repository() -> None:
    assert ORIGIN.to_record() == {"file_path": "A/B.lean", "full_name": "A.b", "start": [3, 1], "tactic_idx": 2}
    assert Provenance.from_record(ORIGIN.to_record()) == Provenance("", "", "A/B.lean", "A.b", Pos(3, 1), 2)
    with pytest.raises(DataError):
        Provenance.from_record(ORIGIN.to_record() | {"start": [0, 1]})
    assert str(ORIGIN) == "A.b (A/B.lean:3:1)" and ORIGIN.place == ("A/B.lean", Pos(3, 1))
