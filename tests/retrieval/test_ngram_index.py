"""The index of n-grams finds what a search through all texts finds."""

from __future__ import annotations

import math
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from common import ConfigError, DataError
from retrieval.ngram_index import NgramIndex, NgramOptions, largest, ngrams, shares

TEXTS = [
    "n m : nat\n⊢ n + m = m + n",
    "n : nat\n⊢ n + 0 = n",
    "p q : Prop\nh : p ∧ q\n⊢ q ∧ p",
    "a",
    "p q : Prop\nh : p ∨ q\n⊢ q ∨ p",
]
QUERIES = [*TEXTS, "n k : nat\n⊢ n + k = k + n", "p : Prop\n⊢ q ∧ q ∧ q", "zzzz", ""]


def counts_of(text: str, options: NgramOptions) -> Counter[object]:
    units = list(text) if options.unit == "characters" else re.findall(r"\w+|[^\s\w]+", text)
    lengths = range(options.min_n, options.max_n + 1)
    return Counter(tuple(units[i : i + n]) for n in lengths for i in range(len(units) - n + 1))


def cosine(query: str, text: str, options: NgramOptions) -> float:
    """By the definition, with n-grams as they are and no index."""
    num_with = Counter(each for other in TEXTS for each in counts_of(other, options))

    def weigh(what: str) -> dict[object, float]:
        kept = {
            each: (1 + math.log(count)) * math.log((1 + len(TEXTS)) / (1 + num_with[each]))
            for each, count in counts_of(what, options).items()
            if num_with[each] <= max(1, options.max_share * len(TEXTS))
        }
        norm = math.sqrt(sum(value**2 for value in kept.values()))
        return {each: value / (norm or 1.0) for each, value in kept.items()}

    theirs = weigh(text)
    return sum(value * theirs.get(each, 0.0) for each, value in weigh(query).items())


@pytest.mark.parametrize(
    "options",
    [
        NgramOptions(max_share=1.0),
        NgramOptions(max_share=0.3),
        NgramOptions(unit="words", min_n=1, max_n=3, max_share=1.0),
    ],
    ids=["characters", "rare ones", "words"],
)
def test_similarities_are_the_cosines_of_weighted_counts(options: NgramOptions) -> None:
    index = NgramIndex.of(TEXTS, options)
    for query in QUERIES:
        expected = [cosine(query, text, options) for text in TEXTS]
        assert index.scores(query) == pytest.approx(expected, abs=1e-5)


def test_a_text_is_as_similar_to_itself_as_can_be_and_strangers_not_at_all() -> None:
    index = NgramIndex.of(TEXTS)
    for number, text in enumerate(TEXTS):
        if text != "a":  # which has no run of two characters
            scores = index.scores(text)
            assert scores[number] == pytest.approx(1, abs=1e-5) and scores.argmax() == number
    assert index.scores("zzzz").tolist() == index.scores("").tolist() == [0.0] * len(TEXTS)


def test_bm25_ranks_as_the_package_bm25s_does() -> None:
    bm25s = pytest.importorskip("bm25s")
    index = NgramIndex.of(TEXTS, NgramOptions("words", 1, 1, "bm25", max_share=1.0))
    words = [re.findall(r"\w+|[^\s\w]+", text) for text in TEXTS]
    theirs = bm25s.BM25(k1=1.5, b=0.75)
    theirs.index(words, show_progress=False)
    for query in QUERIES[:6]:
        expected = theirs.get_scores(sorted(set(re.findall(r"\w+|[^\s\w]+", query))))
        found = index.scores(query)
        factor = found.sum() / expected.sum()  # a share of what the query would score against itself
        assert found == pytest.approx(expected * factor, abs=1e-5)


def test_hashes_do_not_depend_on_the_process_and_differ_by_order_and_length() -> None:
    options = NgramOptions(min_n=1, max_n=2)
    keys, counts = ngrams("aba", options)
    assert counts.tolist().count(2) == 1 and len(keys) == 4  # a twice, b, ab, ba
    assert ngrams("ab", NgramOptions(min_n=2, max_n=2))[0].tolist() == [2374944612]
    assert (
        ngrams("ab", NgramOptions("words", 1, 1))[0].tolist() != ngrams("ba", NgramOptions("words", 1, 1))[0].tolist()
    )


def test_an_index_of_no_texts_or_of_empty_ones_finds_nothing() -> None:
    assert NgramIndex.of([]).scores("n + 0").tolist() == []
    assert NgramIndex.of(["", ""]).scores("n + 0").tolist() == [0.0, 0.0]


@pytest.mark.parametrize("options", [NgramOptions(), NgramOptions("words", 1, 2, "bm25", 0.5)])
def test_what_is_saved_is_found_again(options: NgramOptions, tmp_path: Path) -> None:
    index = NgramIndex.of(TEXTS, options)
    index.save(tmp_path / "index.safetensors", "some hash")
    loaded = NgramIndex.load(tmp_path / "index.safetensors", "some hash")
    assert loaded.options == options and len(loaded) == len(TEXTS) and loaded.num_pairs == index.num_pairs
    for query in QUERIES:
        np.testing.assert_array_equal(loaded.scores(query), index.scores(query))


def test_files_that_are_missing_broken_or_of_other_texts_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "index.safetensors"
    with pytest.raises(DataError, match="make it again"):
        NgramIndex.load(path, "x")
    NgramIndex.of(TEXTS).save(path, "x")
    with pytest.raises(DataError, match="made from texts with hash x, not y"):
        NgramIndex.load(path, "y")
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'format_version\\": 1', b'format_version\\": 7'))
    with pytest.raises(DataError, match="format version 7"):
        NgramIndex.load(path, "x")
    path.write_bytes(whole[:-20])
    with pytest.raises(DataError, match="is no index of n-grams"):
        NgramIndex.load(path, "x")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"unit": "lines"}, "unit"),
        ({"weighting": "tf"}, "weighting"),
        ({"min_n": 0}, "min_n"),
        ({"min_n": 3, "max_n": 2}, "max_n"),
        ({"max_share": 0.0}, "max_share"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        NgramOptions(**options)  # type: ignore[arg-type]


def test_the_largest_are_those_of_a_stable_sort() -> None:
    scores = np.random.default_rng(0).integers(0, 5, 60).astype(np.float32)
    expected = [place for place in np.argsort(-scores, kind="stable").tolist() if scores[place] > 0]
    for number in (0, 1, 7, 59, 60, 100):
        assert largest(scores, number).tolist() == expected[:number]


def test_shares_fall_with_likeness_and_rank_and_are_one_together() -> None:
    found = shares(
        np.array([[0.9, 0.9, 0.2, 0.1], [0.5, 0.5, 0.5, 0.5]], dtype=np.float32), temperature=0.2, decay=0.75
    )
    assert found.sum(axis=1).tolist() == pytest.approx([1, 1])
    assert (np.diff(found[0]) < 0).all() and found[1, 0] / found[1, 3] == pytest.approx(4**0.75)
    assert found[0, 0] / found[0, 2] == pytest.approx(math.exp(0.7 / 0.2) * 3**0.75, rel=1e-5)
    assert shares(np.array([0.5]), 0.2, 0.75).tolist() == [1.0] and len(shares(np.zeros(0), 0.2, 0.75)) == 0
