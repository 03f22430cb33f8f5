"""The lookup proposes what was done in the most similar states, and only what it may look up."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common import ConfigError, Context, DataError, Pos
from generator import load_generator
from generator.nearest.generator import INDEX_FILE, STEPS_FILE, LookupOptions, NearestTacticGenerator
from generator.nearest.steps import StateText, Steps
from retrieval.ngram_index import NgramIndex
from tests.generator.nearest.lookup_fakes import ADD, AND, MUL, OR, make_lookup, write_library

STRANGER = "a b : nat\n⊢ a + b = b + a"


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_library(tmp_path_factory.mktemp("library"))


@pytest.fixture(scope="module")
def lookup(splits: Path) -> NearestTacticGenerator:
    return make_lookup(splits)


def ask(generator: Any, state: str, path: str = "New.v", pos: Any = (1, 1), num: int = 32) -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = generator.generate(state, path, "t", pos, num)
    return found


def tactics(*args: Any, **options: Any) -> set[str]:
    return {tactic for tactic, _ in ask(*args, **options)}


def test_the_tactics_of_the_nearest_states_come_first_each_once(lookup: NearestTacticGenerator) -> None:
    found = ask(lookup, ADD[0][0])
    assert found[0][0] == "induction n"
    assert len(found) == 3 and {tactic for tactic, _ in found} == {"induction n", "induction m", "auto"}  # twice auto
    assert [p for _, p in found] == sorted((p for _, p in found), reverse=True)
    assert ask(lookup, ADD[0][0], num=2) == found[:2]
    assert ask(lookup, AND[0][0])[0][0] == "destruct h as [hp hq]"


def test_neighbours_are_those_of_a_search_through_all_steps(lookup: NearestTacticGenerator) -> None:
    for state in (STRANGER, AND[1][0], MUL[0][0]):
        numbers, similarities = lookup.neighbors(Context("New.v", "t", None, state))
        scores = lookup.index.scores(state)[lookup.steps.text_of]
        expected = [i for i in np.argsort(-scores, kind="stable") if scores[i] > 0]
        assert numbers.tolist() == expected and similarities.tolist() == scores[expected].tolist()


def test_names_are_those_of_the_state_unless_they_shall_be_the_neighbours(splits: Path) -> None:
    assert ask(make_lookup(splits), STRANGER)[0][0] == "induction b"  # of two of type nat the last
    assert ask(make_lookup(splits, adapt_names=False), STRANGER)[0][0] == "induction n"


def test_probabilities_are_proper_and_less_where_nothing_is_similar(lookup: NearestTacticGenerator) -> None:
    near, far = (sum(math.exp(p) for _, p in ask(lookup, state)) for state in (ADD[0][0], "⊢ n < k"))
    known = math.exp(lookup.calibration.log_known(1.0))
    assert near == pytest.approx(known, abs=1e-4) and near <= 1
    assert (far < near) == (lookup.calibration.slope > 0)
    assert ask(lookup, "∀∀∀") == []  # shares nothing with any state


def test_as_many_neighbours_are_asked_as_the_option_says(splits: Path) -> None:
    assert len(ask(make_lookup(splits, num_neighbors=1), AND[0][0])) == 1
    with pytest.raises(ConfigError, match="num_neighbors"):
        LookupOptions(num_neighbors=0)


def test_the_proof_of_the_theorem_itself_is_never_looked_up(lookup: NearestTacticGenerator) -> None:
    assert "induction n" in tactics(lookup, ADD[0][0], "A.v", (2, 1))
    assert "induction n" not in tactics(lookup, ADD[0][0], "A.v", (1, 1))


@pytest.mark.parametrize(
    ("path", "pos", "has_or", "has_or2"),
    [
        ("A.v", (11, 1), True, False),  # behind it in its file
        ("A.v", (10, 1), False, False),  # its own
        ("A.v", (9, 1), False, False),  # before it
        ("B.v", (1, 1), True, False),  # in a file that imports A
        ("B.v", (31, 1), True, True),
        ("C.v", (99, 1), False, False),  # imports neither
        ("Unknown.v", (99, 1), False, False),
        ("B.v", None, False, False),  # nobody says where
    ],
)
def test_steps_of_earlier_splits_are_looked_up_only_behind_their_theorem(
    splits: Path, path: str, pos: Any, has_or: bool, has_or2: bool
) -> None:
    generator = make_lookup(splits, earlier=("val",))
    found = tactics(generator, OR[0][0], path, pos)
    assert ("right; exact hp" in found, "tauto" in found) == (has_or, has_or2)
    assert "split" in found  # of train, from anywhere


def test_without_a_corpus_what_stands_before_is_what_is_in_the_same_file(splits: Path) -> None:
    generator = make_lookup(splits, earlier=("val",), with_corpus=False)
    assert "tauto" in tactics(generator, OR[0][0], "B.v", (31, 1))
    assert "right; exact hp" not in tactics(generator, OR[0][0], "B.v", (31, 1))


def test_only_before_holds_for_the_steps_of_train_too(splits: Path) -> None:
    generator = make_lookup(splits, only_before=True)
    assert tactics(generator, ADD[0][0], "C.v", (99, 1)) == {"induction m", "auto"}  # C imports nothing
    assert tactics(generator, ADD[0][0], "B.v", (1, 1)) == {"induction n", "auto"}
    assert tactics(generator, ADD[0][0], "A.v", (1, 1)) == set()


@pytest.mark.parametrize(
    ("part", "characters", "expected"),
    [
        ("first", 100, "h : p\n⊢ p"),
        ("goal", 100, "⊢ p"),
        ("all", 100, "h : p\n⊢ p\n\n⊢ q"),
        ("first", 3, "⊢ p"),
    ],
)
def test_what_is_compared_of_a_state(part: Any, characters: int, expected: str) -> None:
    assert StateText(part, characters)("h : p\n⊢ p\n\n⊢ q") == expected


def test_a_folder_is_opened_by_load_generator_and_answers_the_same(splits: Path, tmp_path: Path) -> None:
    generator = make_lookup(splits, earlier=("val",), num_neighbors=7)
    generator.save(tmp_path / "lookup", {"train": "hash"})
    corpus_path = splits.parent / "corpus.jsonl"
    loaded = load_generator(tmp_path / "lookup", corpus_path=corpus_path, allow_sorry=False)
    for state, path, pos in ((STRANGER, "B.v", (31, 1)), (OR[0][0], "A.v", (11, 1)), (AND[1][0], "N.v", None)):
        assert ask(loaded, state, path, pos) == ask(generator, state, path, pos)
    assert len(ask(load_generator(tmp_path / "lookup", num_neighbors=1, cache_size=3), STRANGER)) == 1
    assert ask(load_generator(tmp_path / "lookup", adapt_names=False), STRANGER)[0][0] == "induction n"
    settings = json.loads((tmp_path / "lookup" / "nextstep.json").read_text())
    assert settings["options"]["sources"] == {"train": "hash"}
    assert not list((tmp_path / "lookup").glob("*.pkl"))
    with pytest.raises(ConfigError, match="NearestTacticGenerator has no option num_neighbours; did you mean"):
        load_generator(tmp_path / "lookup", num_neighbours=1)


def test_async_and_batches_answer_as_single_questions_do(lookup: NearestTacticGenerator) -> None:
    import asyncio

    states = [STRANGER, AND[0][0], "∀∀∀"]
    expected = [ask(lookup, state) for state in states]
    rows = (states, ["New.v"] * 3, ["t"] * 3, [(1, 1)] * 3, 32)
    assert lookup.batch_generate(*rows) == expected
    assert asyncio.run(_awaited(lookup, rows)) == expected
    assert lookup.retriever is None and lookup.eval() is lookup


async def _awaited(generator: NearestTacticGenerator, rows: tuple[Any, ...]) -> Any:
    return await generator.as_async().batch_generate(*rows)


@pytest.mark.parametrize("name", [STEPS_FILE, INDEX_FILE, "nextstep.json"])
@pytest.mark.parametrize("damage", ["missing", "truncated", "of another lookup"])
def test_a_folder_with_a_file_missing_broken_or_foreign_is_refused(
    splits: Path, tmp_path: Path, name: str, damage: str
) -> None:
    make_lookup(splits).save(tmp_path / "lookup", {})
    make_lookup(splits, earlier=("val",)).save(tmp_path / "other", {})
    path = tmp_path / "lookup" / name
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:-30])
    else:
        path.write_bytes((tmp_path / "other" / name).read_bytes())
    with pytest.raises(DataError):
        load_generator(tmp_path / "lookup")


def test_options_in_the_folder_that_are_none_are_refused(splits: Path, tmp_path: Path) -> None:
    make_lookup(splits).save(tmp_path / "lookup", {})
    path = tmp_path / "lookup" / "nextstep.json"
    settings = json.loads(path.read_text())
    for group, name, value in (
        ("lookup", "num_neighbors", "x"),
        ("text", "part", "last"),
        ("calibration", "slope", None),
    ):
        changed = json.loads(json.dumps(settings))
        changed["options"][group][name] = value
        path.write_text(json.dumps(changed))
        with pytest.raises(DataError, match=name):
            load_generator(tmp_path / "lookup")


def test_an_index_of_other_texts_is_refused(lookup: NearestTacticGenerator) -> None:
    with pytest.raises(DataError, match="make both again"):
        NearestTacticGenerator(lookup.steps, NgramIndex.of(["x"]))


def test_a_lookup_of_no_steps_proposes_nothing() -> None:
    generator = NearestTacticGenerator(Steps.of([], StateText()), NgramIndex.of([]))
    assert generator.propose([Context("A.v", "t", Pos(1, 1), "⊢ p")], 3) == [[]]
