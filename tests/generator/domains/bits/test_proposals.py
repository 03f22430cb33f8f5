"""The most probable strings of independent bits: best first, exact, and samples of the same distribution."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch

from generator.decoding.settings import Sampling
from generator.domains.bits.proposals import best_strings, log_probs_of, sampled_strings


def drawn(n: int, seed: int = 0, scale: float = 2.0):
    torch.manual_seed(seed)
    return log_probs_of(scale * torch.randn(n, 2))


def by_brute_force(log_probs):
    texts = ["".join(bits) for bits in itertools.product("01", repeat=len(log_probs))]
    found = {text: sum(log_probs[i, int(bit)] for i, bit in enumerate(text)) for text in texts}
    return sorted(found.items(), key=lambda each: -each[1])


@pytest.mark.parametrize("n", [1, 2, 5, 8])
@pytest.mark.parametrize("seed", range(3))
def test_all_strings_come_best_first_with_their_log_probabilities(n, seed):
    log_probs = drawn(n, seed)
    found, wanted = best_strings(log_probs, 2**n + 5), by_brute_force(log_probs)
    assert [text for text, _ in found] == [text for text, _ in wanted]
    assert [p for _, p in found] == pytest.approx([p for _, p in wanted])
    assert math.fsum(math.exp(p) for _, p in found) == pytest.approx(1.0)


def test_the_first_few_are_those_of_all():
    log_probs = drawn(12)
    found, wanted = best_strings(log_probs, 20), by_brute_force(log_probs)[:20]
    assert [text for text, _ in found] == [text for text, _ in wanted] and len(found) == 20


def test_ties_are_all_there_and_each_once():
    log_probs = np.full((6, 2), math.log(0.5))
    found = best_strings(log_probs, 64)
    assert len({text for text, _ in found}) == 64 and {round(p, 9) for _, p in found} == {round(6 * math.log(0.5), 9)}


def test_a_long_string_with_certain_bits_is_no_trouble():
    log_probs = drawn(1000, scale=1.0)
    log_probs[0] = [0.0, -math.inf]
    found = best_strings(log_probs, 50)
    assert len(found) == 50 and all(text[0] == "0" and len(text) == 1000 for text, _ in found)
    assert all(a[1] >= b[1] for a, b in itertools.pairwise(found)) and all(math.isfinite(p) for _, p in found)


def test_samples_come_as_often_as_they_are_probable():
    log_probs = drawn(3)
    counts = Counter(text for text, _ in sampled_strings(log_probs, 20_000, Sampling(), seed=1))
    for text, log_prob in by_brute_force(log_probs):
        assert counts[text] / 20_000 == pytest.approx(math.exp(log_prob), abs=0.015)


def test_a_sample_has_the_models_own_log_probability_whatever_it_was_drawn_from():
    log_probs = drawn(4)
    known = dict(by_brute_force(log_probs))
    cold = sampled_strings(log_probs, 200, Sampling(temperature=0.2), seed=1)
    assert all(p == pytest.approx(known[text]) for text, p in cold) and cold[0][1] >= cold[-1][1]
    warm = sampled_strings(log_probs, 200, Sampling(temperature=5.0), seed=1)
    assert len({text for text, _ in cold}) < len({text for text, _ in warm})


@pytest.mark.parametrize("sampling", [Sampling(top_k=1), Sampling(top_p=0.01)])
def test_what_is_left_of_a_narrow_distribution_is_the_best_string(sampling):
    log_probs = drawn(6)
    [(best, _)] = best_strings(log_probs, 1)
    assert {text for text, _ in sampled_strings(log_probs, 30, sampling, seed=0)} == {best}


def test_samples_follow_from_their_seed():
    log_probs = drawn(30)
    a, b, c = (sampled_strings(log_probs, 5, Sampling(), seed=seed) for seed in (1, 1, 2))
    assert a == b != c
