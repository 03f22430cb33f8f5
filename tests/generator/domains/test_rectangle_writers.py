"""The writers of the series, against the curves that are known of them."""

import itertools
import math

import numpy as np
import pytest

from common import DataError
from generator.domains import make_domain
from generator.domains.base import Problem
from generator.domains.logistic import LogisticRegression
from generator.domains.rectangle_dsl import NUMBER_OF, PROGRAMS, TEXTS, read_spec
from generator.domains.rectangle_writers import BASELINES, Unigram, features_of, manual, tight
from generator.domains.solved import within
from generator.domains.synthesize import Synthesizer

BUDGETS = (1, 2, 5, 10, 19, 50, 99)
SIMULATED = {  # of 12,000 problems, from exact probabilities, at BUDGETS
    "dsl": (0.165, 0.197, 0.230, 0.272, None, 0.469, 0.591),
    "tight": (0.133, 0.211, 0.345, 0.466, None, 0.756, 0.857),
    "manual": (0.342, 0.406, 0.512, 0.599, None, 0.803, 0.872),
    "manual_raw": (0.419, 0.473, 0.547, 0.617, None, 0.805, 0.873),
    "unigram": (0.710, 0.873, 0.967, 0.989, None, 0.999, 1.0),
    "unigram_as_published": (0.324, 0.463, 0.659, 0.782, None, 0.925, 0.954),
}
INDEPENDENT = make_domain("rectangle", {"splits": "independent"})


@pytest.fixture(scope="module")
def test_problems():
    return INDEPENDENT.problems(11, "test", 700)


@pytest.fixture(scope="module")
def writers():
    """By name; the two unigrams have learnt as one, from 5,000 problems."""
    train = INDEPENDENT.problems(11, "train", 5000)
    learnt_from = {"bigram": train[:1500]}
    made = {
        name: make(0, lambda name=name: learnt_from.get(name, train))
        for name, make in BASELINES.items()
        if name != "unigram_as_published"
    }
    learnt = made["unigram"].distribution
    published = Unigram(train[:50], as_published=True)
    published.models = learnt.models
    made["unigram_as_published"] = type(made["unigram"])("unigram_as_published", published)
    return made


@pytest.mark.parametrize("name", SIMULATED)
def test_curves_are_those_that_are_known_within_three_standard_errors(name, writers, test_problems):
    chances = [writers[name].success_probability(problem.spec) for problem in test_problems]
    rows = within(chances, 99)
    for budget, known in zip(BUDGETS, SIMULATED[name], strict=True):
        if known is not None:
            column = rows[:, budget - 1]
            # of both samples, and what rounding and another training set (unigrams) may add
            error = column.std() * math.sqrt(1 / len(column) + 1 / 12_000) + 0.0005
            slack = 0.01 if "unigram" in name else 0.0
            assert abs(column.mean() - known) < 3 * error + slack, (budget, column.mean(), known)


def test_the_limit_of_ten_examples_gives_the_other_known_curve():
    problems = make_domain("rectangle", {"splits": "independent", "max_examples": 10}).problems(3, "test", 700)
    writer = BASELINES["dsl"](0, list)
    column = within([writer.success_probability(problem.spec) for problem in problems], 10)
    for budget, known in ((1, 0.276), (10, 0.436)):
        assert abs(column[:, budget - 1].mean() - known) < 3 * column[:, budget - 1].std() / math.sqrt(700) + 0.0005


@pytest.mark.parametrize("name", ["dsl", "tight", "manual", "bigram"])
def test_what_is_sampled_is_what_is_computed(name, writers, test_problems):
    outcomes = Synthesizer(writers[name], INDEPENDENT, 5).solve([problem.spec for problem in test_problems])
    solved = np.mean([outcome.is_solved for outcome in outcomes])
    chances = within([writers[name].success_probability(problem.spec) for problem in test_problems], 5)[:, -1]
    assert abs(solved - chances.mean()) < 3.5 * math.sqrt((chances * (1 - chances)).sum()) / len(chances) + 1e-9


def test_unigram_never_proposes_what_is_never_drawn(writers, test_problems):
    proposed = writers["unigram"].propose([problem.spec for problem in test_problems[:100]], 0, 100)
    programs = [tuple(map(int, text[1:-1].split(","))) for row in proposed for text, _ in row]
    top, down, left, right = (set(values) for values in zip(*programs, strict=True))
    assert top | left <= {0, 1, 2, 3, 4} and down | right <= {1, 2, 3, 4, 5, 6}


def test_as_published_every_down_and_right_is_one_too_small(writers, test_problems):
    """The column of a probability was taken for the label, and there is no label 0."""
    for problem in test_problems[:20]:
        spec = read_spec(problem.spec)
        right = writers["unigram"].distribution(spec).reshape(7, 7, 7, 7)
        wrong = writers["unigram_as_published"].distribution(spec).reshape(7, 7, 7, 7)
        assert np.allclose(wrong[:, :6, :, :6], right[:, 1:, :, 1:]) and not right[:, 0].any()
        assert wrong[:, 0].any() and not wrong[:, 6].any()


def test_posterior_solves_all_at_once_and_no_writer_s_loss_is_below_its(writers, test_problems):
    assert all(math.isclose(writers["posterior"].success_probability(p.spec), 1) for p in test_problems)
    loss = {n: -np.mean([writers[n].log_prob(p.spec, p.program) for p in test_problems[:300]]) for n in writers}
    assert loss["posterior"] < loss["bigram"] < loss["tight"]
    assert loss["posterior"] < loss["unigram"] < loss["tight"] < loss["dsl"]
    assert math.isclose(loss["dsl"], math.log(2401)) and math.isclose(loss["all_strings"], 9 * math.log(100))


@pytest.mark.parametrize("name", [name for name in BASELINES if name != "all_strings"])
def test_log_probs_are_those_of_the_proposals_and_sum_to_one(name, writers):
    spec = "[11+50-34+]"
    assert math.isclose(writers[name].distribution(read_spec(spec)).sum(), 1)
    for text, log_prob in writers[name].propose([spec], 0, 40)[0]:
        assert log_prob == pytest.approx(writers[name].log_prob(spec, text)) and log_prob <= 1e-9
    assert writers[name].log_prob(spec, "no program") == -math.inf


def test_manual_takes_rows_and_columns_of_inside_cells_and_else_falls_back():
    distribution = manual(tight)(read_spec("[11+34+00-]"))
    expected = set(itertools.product((1, 3), (1, 3), (1, 4), (1, 4)))
    assert {PROGRAMS[k] for k in distribution.nonzero()[0]} == expected
    nothing_inside = read_spec("[11-]")
    assert np.array_equal(manual(tight)(nothing_inside), tight(nothing_inside))


def test_all_strings_are_nine_printable_characters():
    rows = BASELINES["all_strings"](0, list).propose(["[11+]"], 0, 50)[0]
    assert all(len(text) == 9 and text.isascii() and log_prob == -9 * math.log(100) for text, log_prob in rows)
    assert len({text for text, _ in rows}) == 50


def test_logistic_regression_is_at_the_minimum_of_scikit_learn_s_objective():
    """Its gradient vanishes: sums of residuals for intercepts, and residuals' products plus weights for the others."""
    problems = INDEPENDENT.problems(2, "train", 300)
    features = features_of([read_spec(problem.spec) for problem in problems])
    labels = np.array([int(problem.program[3]) for problem in problems])  # D: its classes are 1..6
    model = LogisticRegression(features, labels)
    assert model.classes.tolist() == [1, 2, 3, 4, 5, 6]
    residuals = model.probabilities(features) - (labels[:, None] == model.classes)
    assert np.abs(features.T @ residuals + model.weights[:-1]).max() < 1e-2
    assert np.abs(residuals.sum(axis=0)).max() < 1e-2


def test_a_label_that_is_missing_from_training_is_never_proposed_and_no_problem_is_refused():
    one = [Problem("[11+50-]", "[1,3,1,4]"), Problem("[11+51-]", "[1,2,1,4]")]
    distribution = Unigram(one)(read_spec("[11+]"))
    assert {TEXTS[k] for k in distribution.nonzero()[0]} == {"[1,3,1,4]", "[1,2,1,4]"}
    assert NUMBER_OF["[1,3,1,4]"] == 1 * 343 + 3 * 49 + 7 + 4
    with pytest.raises(DataError, match="no problems to learn from"):
        Unigram([])
