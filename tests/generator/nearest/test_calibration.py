"""Similarities become probabilities that are as large as they are right."""

import math

import numpy as np
import pytest

from common import ConfigError
from generator.nearest.calibration import Calibration, fit


def draw(calibration, num, seed=0, num_steps=6):
    """Held-out steps of a world in which a calibration is true."""
    rng = np.random.default_rng(seed)
    similarities = -np.sort(-rng.random((num, num_steps)), axis=1)
    is_right = np.zeros((num, num_steps), dtype=bool)
    for row, (similar, shares) in enumerate(zip(similarities, calibration.shares(similarities), strict=True)):
        if rng.random() < math.exp(calibration.log_known(similar[0])):
            is_right[row, rng.choice(num_steps, p=shares)] = True
    return list(similarities), list(is_right)


def test_shares_add_up_to_one_and_fall_with_similarity_and_rank():
    calibration = Calibration(temperature=0.1, decay=0.5)
    shares = calibration.shares(np.array([[0.9, 0.9, 0.5, 0.1]]))
    assert shares.shape == (1, 4) and shares.sum() == pytest.approx(1)
    assert shares[0, 0] / shares[0, 1] == pytest.approx(math.sqrt(2))
    assert shares[0, 0] / shares[0, 2] == pytest.approx(math.exp(0.4 / 0.1) * math.sqrt(3))


def test_where_the_truth_has_this_form_it_is_found_again():
    truth = Calibration(temperature=0.0728, decay=1.0, slope=5.0, offset=-3.0)
    found = fit(*draw(truth, 3000))
    assert found.temperature == pytest.approx(truth.temperature, rel=0.4)
    assert abs(found.decay - truth.decay) <= 0.25
    assert (found.slope, found.offset) == pytest.approx((truth.slope, truth.offset), abs=0.6)


def test_the_probability_of_being_known_is_right_on_the_whole():
    similarities, is_right = draw(Calibration(slope=3.0, offset=-1.0), 2000, seed=1)
    found = fit(similarities, is_right)
    mean = np.mean([math.exp(found.log_known(row[0])) for row in similarities])
    assert mean == pytest.approx(np.mean([row.any() for row in is_right]), abs=1e-3)


def test_few_and_one_sided_examples_give_numbers_all_the_same():
    rows = [np.array([0.9, 0.2]), np.array([0.5])]
    for right in ([[True, False], [True]], [[False, False], [False]], [[False, True], [False]]):
        found = fit(rows, [np.array(row) for row in right])
        assert all(math.isfinite(value) for value in (found.slope, found.offset, found.log_known(0.4)))
        assert found.log_known(0.4) <= 0
    with pytest.raises(ConfigError, match="nothing to fit"):
        fit([np.array([])], [np.array([], dtype=bool)])


def test_numbers_that_are_none_are_refused():
    with pytest.raises(ConfigError, match="temperature"):
        Calibration(temperature=0.0)
    with pytest.raises(ConfigError, match="slope"):
        Calibration(slope=math.nan)
