"""A ranking learns which candidates are right, gives proper probabilities, and is written and read whole."""

from __future__ import annotations

import math
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch

from common import ConfigError, Context, DataError
from generator import load_generator
from generator.nearest.features import CANDIDATE, STATE, Table
from generator.nearest.generator import NearestTacticGenerator
from generator.nearest.make import nearest
from generator.nearest.ranked import GOALS_FILE, NAMES_FILE, RANKING_FILE, SHAPES_FILE, WHOLES_FILE
from generator.nearest.ranking import Ranking, learn
from tests.generator.nearest.lookup_fakes import ADD, AND, NGRAMS, write_library


def examples(number: int, seed: int, *, right: int = 3) -> list[tuple[Table, str]]:
    """States with candidates of random features; the right one is the greatest by the feature `right`."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(number):
        num = int(rng.integers(2, 12))
        features = np.zeros((num, len(CANDIDATE)), dtype=np.float32)
        features[:, :6] = rng.normal(size=(num, 6))
        state = rng.normal(size=len(STATE)).astype(np.float32)
        tactics = [f"t{place}" for place in range(num)]
        is_known = state[0] > 0  # else none of them is
        tactic = tactics[int(features[:, right].argmax())] if is_known else "another"
        found.append((Table(tactics, features, state), tactic))
    return found


@pytest.fixture(scope="module")
def ranking() -> Ranking:
    return learn(examples(900, seed=0))


def test_it_learns_which_candidate_is_right_and_when_none_is(ranking: Ranking) -> None:
    held_out = examples(200, seed=1)
    known = [(ranking.rank(table), tactic) for table, tactic in held_out if tactic != "another"]
    assert sum(found[0][0] == tactic for found, tactic in known) > 0.8 * len(known)
    untaught = [(Ranking().eval().rank(table), tactic) for table, tactic in held_out if tactic != "another"]
    assert sum(found[0][0] == tactic for found, tactic in untaught) < 0.5 * len(untaught)

    def mass(is_known: bool) -> float:
        tables = [table for table, tactic in held_out if (tactic != "another") == is_known]
        return float(np.mean([sum(math.exp(p) for _, p in ranking.rank(table)) for table in tables]))

    assert mass(True) > 0.8 and mass(False) < 0.2


def test_probabilities_are_proper_and_best_first(ranking: Ranking) -> None:
    for table, _ in examples(20, seed=2):
        found = [p for _, p in ranking.rank(table)]
        assert found == sorted(found, reverse=True) and sum(map(math.exp, found)) <= 1 + 1e-5


def test_padding_changes_nothing(ranking: Ranking) -> None:
    (table, _), (other, _) = examples(2, seed=3)
    width = max(len(table.tactics), len(other.tactics))
    candidates = torch.zeros(2, width, len(CANDIDATE))
    is_there = torch.zeros(2, width, dtype=torch.bool)
    for row, each in enumerate((table, other)):
        candidates[row, : len(each.tactics)] = torch.from_numpy(each.candidates)
        is_there[row, : len(each.tactics)] = True
    with torch.no_grad():
        both = ranking(candidates, torch.from_numpy(np.stack([table.state, other.state])), is_there)
    for row, each in enumerate((table, other)):
        alone = dict(ranking.rank(each))
        assert both[row, : len(each.tactics)].tolist() == pytest.approx([alone[t] for t in each.tactics], abs=1e-5)


def test_the_same_tables_and_seed_give_the_same_ranking_and_leave_random_numbers_alone() -> None:
    before = torch.get_rng_state()
    first, again, other = (learn(examples(40, seed=0), seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    assert not torch.equal(first.inner.weight, other.inner.weight)


def test_nothing_right_is_nothing_to_learn_from() -> None:
    with pytest.raises(ConfigError, match="no right tactic is among the candidates"):
        learn([(table, "another") for table, _ in examples(5, seed=0)])


def test_a_file_is_read_as_it_was_written_and_others_are_refused(ranking: Ranking, tmp_path: Path) -> None:
    ranking.save(tmp_path / "r.safetensors")
    table, _ = examples(1, seed=4)[0]
    assert Ranking.load(tmp_path / "r.safetensors").rank(table) == ranking.rank(table)
    written = (tmp_path / "r.safetensors").read_bytes()
    for name, content in {"half": written[: len(written) // 2], "empty": b"", "text": b"{}"}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=f"{name}: is no ranking"):
            Ranking.load(tmp_path / name)
    with pytest.raises(DataError, match="is no ranking"):
        Ranking.load(tmp_path / "missing")
    with pytest.raises(DataError, match="made with other features"):
        Ranking.load(tmp_path / "r.safetensors", [*CANDIDATE[1:], CANDIDATE[0]])
    for name, value, what in (("linear.bias", math.nan, "no numbers"), ("deviation", 0.0, "is not above 0")):
        broken = Ranking()
        broken.state_dict()[name].fill_(value)
        broken.save(tmp_path / "broken.safetensors")
        with pytest.raises(DataError, match=f"{name} .*{what}"):
            Ranking.load(tmp_path / "broken.safetensors")


def test_a_ranking_is_always_written_in_the_same_bytes(ranking: Ranking, tmp_path: Path) -> None:
    ranking.save(tmp_path / "here.safetensors")
    context = get_context("spawn")
    for number in range(3):  # the order of a file's header may differ from process to process
        process = context.Process(target=_write_again, args=(tmp_path / "here.safetensors", tmp_path / str(number)))
        process.start()
        process.join()
        assert (tmp_path / str(number)).read_bytes() == (tmp_path / "here.safetensors").read_bytes()


def _write_again(source: Path, target: Path) -> None:
    Ranking.load(source).save(target)


# ------------------------------------------------------------------------------------------------
# As part of a lookup


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_library(tmp_path_factory.mktemp("library"))


@pytest.fixture(scope="module")
def folder(splits: Path) -> Path:
    nearest(splits, splits.parent / "ranked", ngrams=NGRAMS, num_held_out=4, num_ranked=6)
    return splits.parent / "ranked"


def ask(generator: object, state: str, path: str = "New.v", pos: tuple[int, int] = (1, 1)) -> list[tuple[str, float]]:
    assert isinstance(generator, NearestTacticGenerator)
    return generator.generate(state, path, "t", pos, 32)


def test_a_folder_with_a_ranking_opens_like_one_without(splits: Path, folder: Path) -> None:
    nearest(splits, splits.parent / "plain", ngrams=NGRAMS, num_held_out=4)
    ranked, plain = (load_generator(str(path)) for path in (folder, splits.parent / "plain"))
    found = ask(ranked, ADD[0][0])
    assert {tactic for tactic, _ in found} == {tactic for tactic, _ in ask(plain, ADD[0][0])}
    assert found != ask(plain, ADD[0][0]) and sum(math.exp(p) for _, p in found) <= 1
    assert ask(ranked, "∀∀∀") == []


def test_a_ranking_never_sees_the_theorems_own_proof(folder: Path) -> None:
    generator = load_generator(str(folder))
    assert "induction n" in dict(ask(generator, ADD[0][0], "A.v", (9, 1)))
    assert "induction n" not in dict(ask(generator, ADD[0][0], "A.v", (1, 1)))
    assert isinstance(generator, NearestTacticGenerator) and generator.ranked is not None
    context = Context("A.v", "add", (1, 1), ADD[1][0])  # whose "auto" counts nothing, and that of mul does
    table = generator.ranked.table(context, generator.visible(context), adapt_names=True)
    assert table is not None
    uses = table.candidates[table.tactics.index("auto"), CANDIDATE.index("uses")]
    assert np.expm1(uses) == pytest.approx(1)


def test_options_of_the_lookup_hold_for_a_ranked_one(folder: Path) -> None:
    adapted, written = (load_generator(str(folder), adapt_names=value) for value in (True, False))
    state = "a b : nat\n⊢ a + b = b + a"
    assert "induction b" in dict(ask(adapted, state)) and "induction n" in dict(ask(written, state))
    before = load_generator(str(folder), only_before=True)
    assert ask(before, AND[0][0], "A.v", (1, 1)) == []


@pytest.mark.parametrize("name", [RANKING_FILE, GOALS_FILE, SHAPES_FILE, WHOLES_FILE, NAMES_FILE])
def test_a_folder_with_a_broken_or_missing_part_is_refused(splits: Path, name: str, tmp_path: Path) -> None:
    nearest(splits, tmp_path / "made", ngrams=NGRAMS, num_held_out=4, num_ranked=6)
    for break_it in (lambda path: path.write_bytes(b"broken"), Path.unlink):
        break_it(tmp_path / "made" / name)
        with pytest.raises(DataError, match=name.replace(".", r"\.")):
            load_generator(str(tmp_path / "made"))


def test_a_number_below_zero_is_refused(splits: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="num_ranked is -1"):
        nearest(splits, tmp_path / "made", num_ranked=-1)
