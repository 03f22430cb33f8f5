"""Which theorems are searched."""

import hashlib
import json
from pathlib import Path

import pytest

from common import ConfigError, DataError
from generator.environments import Statement, Theorem
from generator.search.theorems import TheoremOptions, choose, find_theorem, in_file_order, load_theorems
from tests.generator.search.prove_fakes import write_split

NAMES = [("B.v", "x"), ("A.v", "y"), ("B.v", "z"), ("A.v", "x"), ("C.v", "w")]


@pytest.fixture
def split(tmp_path: Path) -> Path:
    """Five theorems of three files; one name stands in two."""
    return write_split(tmp_path / "data" / "val.json", NAMES)


def pairs(theorems: object) -> list[tuple[str, str]]:
    """File and name of theorems."""
    assert isinstance(theorems, list)
    return [(theorem.file_path, theorem.full_name) for theorem in theorems]


def test_all_theorems_of_a_split_come_file_by_file_as_they_stand_there(split: Path) -> None:
    theorems = load_theorems(TheoremOptions(data_path=split))
    assert theorems == load_theorems(TheoremOptions(data_path=split.parent, split="val"))
    assert pairs(theorems) == [("A.v", "y"), ("A.v", "x"), ("B.v", "x"), ("B.v", "z"), ("C.v", "w")]
    assert theorems[0] == Theorem("A.v", "y", (2, 1))


def test_the_first_are_those_that_reprover_takes(split: Path) -> None:
    """ReProver sorts by md5 of file and name, joined by a colon, and takes the first."""
    expected = sorted(NAMES, key=lambda pair: hashlib.md5(f"{pair[0]}:{pair[1]}".encode()).hexdigest())[:3]
    found = load_theorems(TheoremOptions(data_path=split, num_theorems=3))
    assert sorted(pairs(found)) == sorted(expected)
    assert len(load_theorems(TheoremOptions(data_path=split, num_theorems=99))) == 5


def test_a_choice_by_seed_is_repeated_and_differs_between_seeds() -> None:
    theorems = [Theorem("A.v", f"t{i}") for i in range(50)]
    first, again, other = (choose(theorems, 10, "random", seed) for seed in (1, 1, 2))
    assert first == again != other and len(set(first)) == 10
    assert choose(theorems, 3, "first", 1) == theorems[:3]


def test_files_filter_theorems(split: Path) -> None:
    found = load_theorems(TheoremOptions(data_path=split, file_filter="[AC].v", num_theorems=9))
    assert {path for path, _ in pairs(found)} == {"A.v", "C.v"}
    with pytest.raises(DataError, match="holds no theorems whose file fits file_filter 'D/"):
        load_theorems(TheoremOptions(data_path=split, file_filter="D/*"))


def test_names_are_looked_up_in_a_split_wherever_they_stand(split: Path, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("# the interesting ones\nx\n\n  w  \n")
    found = load_theorems(TheoremOptions(data_path=split, names_path=names))
    assert pairs(found) == [("A.v", "x"), ("B.v", "x"), ("C.v", "w")]
    names.write_text("x\nnope\n")
    with pytest.raises(DataError, match=r"names.txt:2: .* has no theorem nope"):
        load_theorems(TheoremOptions(data_path=split, names_path=names))


def test_names_with_their_files_need_no_split(tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("A.v  lemma_é\nA.v x 12:1\n", encoding="utf-8")
    assert load_theorems(TheoremOptions(names_path=names)) == [Theorem("A.v", "lemma_é"), Theorem("A.v", "x", (12, 1))]
    for line in ("x", "A.v x 12", "A.v x 12:1 y"):
        names.write_text(f"A.v y\n{line}\n")
        with pytest.raises(DataError, match=rf"names.txt:2: '{line}' is not a file, a full name"):
            load_theorems(TheoremOptions(names_path=names))
    names.write_bytes(b"\xff")
    with pytest.raises(DataError, match="names.txt"):
        load_theorems(TheoremOptions(names_path=names))


def test_a_theorem_that_stands_twice_in_a_split_is_searched_once(tmp_path: Path) -> None:
    split = write_split(tmp_path / "val.json", NAMES[:2])
    twice = json.loads(split.read_text())
    split.write_text(json.dumps(twice + twice))
    assert len(load_theorems(TheoremOptions(data_path=split))) == 2


def test_theorems_of_one_name_at_two_places_are_two() -> None:
    twins = [Theorem("A.v", "x", (9, 1)), Theorem("A.v", "x", (2, 1)), Theorem("A.v", "x")]
    assert [theorem.start for theorem in in_file_order(twins)] == [None, (2, 1), (9, 1)]


def test_a_statement_stands_alone() -> None:
    options = TheoremOptions(statement="P -> P", header="Require Import List.", statement_name="easy")
    assert load_theorems(options) == [Statement("P -> P", "Require Import List.", "easy")]
    with pytest.raises(ConfigError, match="nothing to prove"):
        load_theorems(TheoremOptions())


def test_one_theorem_is_found_by_its_name_and_by_its_file_where_that_is_not_enough(split: Path) -> None:
    theorems = load_theorems(TheoremOptions(data_path=split))
    assert find_theorem(theorems, "w") == Theorem("C.v", "w", (5, 1))
    assert find_theorem(theorems, "B.v:x") == Theorem("B.v", "x", (1, 1))
    for name, message in (
        ("x", "several places; give one of A.v:x, B.v:x"),
        ("long_name", "no theorem long_name among"),
    ):
        with pytest.raises(ConfigError, match=message):
            find_theorem(theorems, name)
