"""Negatives are drawn without a mask of all premises, and are those that were drawn from one."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from retrieval.corpus import Corpus
from retrieval.negatives import Negatives, Runs
from tests.retrieval.negatives_by_mask import by_mask


def random_corpus(path: Path, seed: int) -> Corpus:
    """Thirty files, some of them empty, of premises some of which hold those behind them."""
    rng = random.Random(seed)
    files = []
    for i in range(30):
        places = sorted((rng.randrange(1, 60), rng.randrange(9)) for _ in range(rng.choice((0, 0, 1, 5, 20))))
        premises = [
            {"full_name": f"p{i}.{n}", "code": "code", "kind": "theorem"}
            | {"start": [line, column + 1], "end": [line + rng.choice((0, 1, 30)), 20]}
            for n, (line, column) in enumerate(places)
        ]
        imports = [str(j) for j in rng.sample(range(i), min(i, rng.randrange(3)))]
        files.append({"path": str(i), "imports": imports, "premises": premises})
    path.write_text("".join(json.dumps(file) + "\n" for file in files))
    return Corpus(path)


@pytest.mark.parametrize("seed", range(4))
def test_the_draws_are_those_from_a_mask_of_all_premises(seed: int, tmp_path: Path) -> None:
    corpus, rng = random_corpus(tmp_path / "corpus.jsonl", seed), random.Random(seed)
    most, sizes = 0, set()
    for index in range(500):
        place = (str(rng.randrange(30)), [rng.randrange(1, 70), 1])
        accessible = corpus.accessible_mask(*place).nonzero().flatten().tolist()
        cited = rng.sample(range(len(corpus)), 2) + rng.sample(accessible, min(len(accessible), rng.randrange(4)))
        target, positives = cited[-1], list(dict.fromkeys(reversed(cited)))
        num = rng.choice((0, 1, 3, 8, 60))
        wanted = Negatives(num, rng.randrange(num + 1))
        expected = by_mask(corpus, place, target, positives, wanted, np.random.default_rng([seed, 7, index]))
        found = wanted.draw(corpus, place, target, positives, np.random.default_rng([seed, 7, index]))
        assert found == expected
        most, sizes = max(most, len(found)), sizes | {len(found) == num}
    assert most > 20 and sizes == {True, False}, "there were too few, and enough"


@pytest.mark.parametrize("seed", range(4))
def test_runs_hold_what_a_mask_marks(seed: int, tmp_path: Path) -> None:
    corpus = random_corpus(tmp_path / "corpus.jsonl", seed)
    for file in corpus.paths:
        for line in (1, 30, 99):
            firsts, sizes = corpus.accessible_runs(file, [line, 1])
            expected = corpus.accessible_mask(file, [line, 1]).nonzero().flatten().tolist()
            assert Runs(firsts, sizes).all().tolist() == expected
            assert (sizes > 0).all() and (np.diff(firsts) > 0).all()


def test_what_is_left_out_counts_wherever_it_stands() -> None:
    firsts, sizes = np.array([3, 10, 20]), np.array([4, 1, 3])
    for left_out in ([], [10], [3, 22, 6], [6, 3, 3], [0, 7, 19, 23, 99], [3, 4, 5, 6, 10, 20, 21, 22]):
        runs = Runs(firsts, sizes, left_out)
        expected = [number for number in (3, 4, 5, 6, 10, 20, 21, 22) if number not in left_out]
        assert runs.all().tolist() == expected and len(runs) == len(expected)


def test_no_runs_have_no_numbers() -> None:
    empty = np.array([], dtype=np.int64)
    runs = Runs(empty, empty, [3])
    assert len(runs) == 0 and runs.draw(0, np.random.default_rng(0)).tolist() == []


def test_the_file_of_a_premise_is_found_by_its_number(tmp_path: Path) -> None:
    corpus = random_corpus(tmp_path / "corpus.jsonl", 1)
    for number, premise in enumerate(corpus):
        assert corpus.numbers_beside(number) == corpus.numbers_in_file(premise.path)
