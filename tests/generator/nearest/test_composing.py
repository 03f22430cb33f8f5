"""Candidates are composed of others' parts and this state's names, and an order of them is learnt, written and read."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from common import Candidate, ConfigError, Context, DataError
from generator import load_generator
from generator.nearest.composing import COMPOSED, COMPOSED_STATE, compose, describe_composed, fitting_of
from generator.nearest.features import Uses
from generator.nearest.generator import NearestTacticGenerator
from generator.nearest.make import nearest
from generator.nearest.ranked import COMPOSED_FILE
from tests.generator.nearest.lookup_fakes import ADD, NGRAMS, write_library

WORDS = {"with", "rewrite", "apply", "destruct", "auto", "trivial"}
GOAL = "n : nat\nHa : n = 0\nHb : n = 1\n⊢ n + n = 0"


def ranked(*tactics: str) -> list[Candidate]:
    """Tactics of falling probability."""
    return [(tactic, math.log(0.5 / 2**place)) for place, tactic in enumerate(tactics)]


def new(goal: str, *tactics: str) -> dict[str, str]:
    found = compose(ranked(*tactics), goal, WORDS.__contains__, fitting=fitting_of(goal, None))
    return {tactic: origin.kind for tactic, origin in found.items()}


def test_each_hypothesis_of_the_state_is_tried_for_one_that_is_named() -> None:
    found = new(GOAL, "rewrite Ha")
    assert found["rewrite Hb"] == found["rewrite n"] == "hypothesis"
    assert new(GOAL, "destruct H7")["destruct Ha"] == "hypothesis"  # one that is not there
    assert "rewrite Ha" not in found  # which is known already


def test_lemmas_of_one_candidate_are_tried_in_another() -> None:
    found = new(GOAL, "rewrite plus_comm", "apply mult_assoc with n")
    assert found["rewrite mult_assoc"] == found["apply plus_comm with n"] == "lemma"
    assert not any("with mult" in tactic for tactic in found)


def test_compound_tactics_lose_parts_and_take_those_of_others() -> None:
    found = new(GOAL, "split; ring", "now auto", "left")
    assert found["split"] == found["ring"] == found["auto"] == found["left; ring"] == found["left; auto"] == "part"


def test_introductions_take_the_names_that_the_goal_binds() -> None:
    goal = "⊢ forall (a b : nat) (P : a = b), b = a"
    found = new(goal, "intros x; auto")
    assert found["intros a b P"] == found["intros a"] == found["intros a b P; auto"] == "binders"
    assert new("⊢ forall n m : nat, n = m", "auto")["intros n m"] == "binders"


def test_nothing_blank_is_composed() -> None:
    assert not [tactic for tactic in new("", ";", "; auto", "now ", "auto;") if not tactic.strip()]


@pytest.mark.parametrize("goal", ["", "⊢", "no turnstile", "⊢ forall", "⊢ forall , a", "a : b :\n⊢ c\n\nd", GOAL])
def test_all_candidates_are_described_those_of_the_learnt_order_first(goal: str) -> None:
    known = ranked("rewrite Ha", "", "(((", "split; auto")
    fitting = fitting_of(goal, None)
    composed = compose(known, goal, WORDS.__contains__, fitting=fitting)
    table = describe_composed(
        known, goal, Uses({"rewrite Ha": 3}, {}, {}), composed, WORDS.__contains__, fitting=fitting
    )
    assert table.tactics == [*(tactic for tactic, _ in known), *composed]
    assert table.candidates.shape == (len(table.tactics), len(COMPOSED)) and table.state.shape == (len(COMPOSED_STATE),)
    assert np.isfinite(table.candidates).all() and np.isfinite(table.state).all()
    is_known = table.candidates[:, COMPOSED.index("is known")]
    assert is_known.tolist() == [1.0] * len(known) + [0.0] * len(composed)


def test_probabilities_of_a_template_are_added() -> None:
    known = ranked("rewrite Ha", "rewrite Hb", "auto")
    fitting = fitting_of(GOAL, None)
    composed = compose(known, GOAL, WORDS.__contains__, fitting=fitting)
    table = describe_composed(known, GOAL, Uses({}, {}, {}), composed, WORDS.__contains__, fitting=fitting)
    shares = table.candidates[:, COMPOSED.index("share of the template of hypotheses")]
    assert math.exp(shares[table.tactics.index("rewrite n")]) == pytest.approx(0.75, abs=1e-3)
    assert math.exp(shares[table.tactics.index("auto")]) == pytest.approx(0.125, abs=1e-3)


# ------------------------------------------------------------------------------------------------
# As part of a lookup


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_library(tmp_path_factory.mktemp("library"))


@pytest.fixture(scope="module")
def folder(splits: Path) -> Path:
    folder = splits.parent / "composed"
    nearest(splits, folder, ngrams=NGRAMS, num_held_out=4, num_ranked=6, num_composed=6)
    return folder


def ask(path: Path, state: str, position: tuple[int, int] = (1, 1)) -> list[Candidate]:
    return load_generator(str(path)).generate(state, "New.v", "t", position, 500)


def test_a_folder_proposes_what_no_known_step_says(splits: Path, folder: Path) -> None:
    nearest(splits, splits.parent / "ranked", ngrams=NGRAMS, num_held_out=4, num_ranked=6)
    known, composed = (ask(path, ADD[0][0]) for path in (splits.parent / "ranked", folder))
    assert {tactic for tactic, _ in known} < {tactic for tactic, _ in composed}
    assert sum(math.exp(p) for _, p in composed) <= 1 + 1e-5
    assert [p for _, p in composed] == sorted((p for _, p in composed), reverse=True)
    assert ask(folder, "∀∀∀") == []


def test_a_theorems_own_proof_is_no_source(folder: Path) -> None:
    generator = load_generator(str(folder))
    assert isinstance(generator, NearestTacticGenerator) and generator.ranked is not None
    state = "p q : Prop\nh : p /\\ q\n⊢ q /\\ p"
    found = []
    for position in ((20, 1), (90, 1)):  # its own, and that of another theorem of the file
        context = Context("B.v", "and", position, state)
        table = generator.ranked.composed_table(context, generator.visible(context), adapt_names=True)
        found.append([] if table is None else [tactic for tactic in table.tactics if "hp hq" in tactic])
    assert not found[0] and found[1]


def test_folders_that_say_nothing_of_composing_open_as_before(splits: Path, tmp_path: Path) -> None:
    nearest(splits, tmp_path / "old", ngrams=NGRAMS, num_held_out=4, num_ranked=6)
    before = ask(tmp_path / "old", ADD[0][0])
    settings = json.loads((tmp_path / "old" / "nextstep.json").read_text(encoding="utf-8"))
    assert settings["options"].pop("is_composed") is False
    (tmp_path / "old" / "nextstep.json").write_text(json.dumps(settings), encoding="utf-8")
    assert ask(tmp_path / "old", ADD[0][0]) == before


def test_a_missing_or_broken_order_is_refused(splits: Path, tmp_path: Path) -> None:
    nearest(splits, tmp_path / "made", ngrams=NGRAMS, num_held_out=4, num_ranked=6, num_composed=6)
    for break_it in (lambda path: path.write_bytes(b"broken"), Path.unlink):
        break_it(tmp_path / "made" / COMPOSED_FILE)
        with pytest.raises(DataError, match="composed"):
            load_generator(str(tmp_path / "made"))


def test_composing_needs_a_learnt_order(splits: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="num_composed is 5 and num_ranked 0"):
        nearest(splits, tmp_path / "made", num_composed=5)
    with pytest.raises(ConfigError, match="num_composed is -1"):
        nearest(splits, tmp_path / "made", num_ranked=5, num_composed=-1)
