"""The language of rectangles: what programs mean, how problems are drawn, and what is refused."""

import math
import random
from collections import Counter

import numpy as np
import pytest

from generator.domains import make_domain
from generator.domains.base import MalformedError, SpecError
from generator.domains.rectangle_dsl import (
    NUMBER_OF,
    PROGRAMS,
    TEXTS,
    Example,
    consistent,
    draw_program,
    inside_table,
    is_inside,
    posterior,
    prior,
    read_program,
    read_spec,
    spec_to_str,
)

DOMAIN = make_domain("rectangle")


def test_all_four_bounds_are_inclusive():
    inside = {(i, j) for i in range(6) for j in range(6) if is_inside((0, 3, 4, 5), i, j)}
    assert inside == {(i, j) for i in (0, 1, 2, 3) for j in (4, 5)}


def test_an_empty_rectangle_is_a_right_answer_where_nothing_is_inside():
    assert DOMAIN.check("[00-55-]", "[3,1,0,6]").holds
    assert DOMAIN.check("[00-55-]", "[0,0,6,5]").holds
    assert not DOMAIN.check("[00-55+]", "[3,1,0,6]").holds


def test_a_rejection_names_the_cell():
    verdict = DOMAIN.check("[11+50-]", "[0,5,0,5]")
    assert (verdict.kind, verdict.message) == ("rejected", "cell 50 must be outside") and verdict.seconds > 0


def test_there_are_2401_programs_of_which_400_are_drawn_with_225_meanings():
    weights = prior()
    drawn = weights.nonzero()[0]
    assert len(PROGRAMS) == 2401 and len(drawn) == 400 and math.isclose(weights.sum(), 1)
    assert len({inside_table()[:, k].tobytes() for k in drawn}) == 225
    assert math.isclose(weights[NUMBER_OF["[1,3,1,4]"]], 0.0016)
    assert math.isclose(weights[drawn].max(), 0.01) and math.isclose(weights[drawn].min(), 1 / 900)
    assert round(sum(t > d or left > r for t, d, left, r in PROGRAMS) / 2401, 2) == 0.67  # empty ones


def test_the_sampler_draws_from_the_prior():
    rng, num = random.Random(0), 20_000
    counts = Counter(draw_program(rng) for _ in range(num))
    observed = np.array([counts[program] for program in PROGRAMS])
    expected = num * prior()
    drawn = expected > 0
    chi_squared = ((observed[drawn] - expected[drawn]) ** 2 / expected[drawn]).sum()
    assert not observed[~drawn].any() and chi_squared < 399 + 4 * math.sqrt(2 * 399)


@pytest.mark.parametrize("limit", [10, 20])
def test_the_number_of_examples_is_uniform_up_to_the_limit_and_cells_repeat(limit):
    domain = make_domain("rectangle", {"max_examples": limit})
    rng = random.Random(1)
    drawn = [domain.draw(rng)[0] for _ in range(4000)]
    counts = Counter(map(len, drawn))
    assert set(counts) == set(range(1, limit + 1))
    assert all(abs(count - 4000 / limit) < 4 * math.sqrt(4000 / limit) for count in counts.values())
    assert any(len(set(spec)) < len(spec) for spec in drawn)


def test_the_text_of_the_post_s_example():
    cells = "11+ 50- 34+ 45- 04+ 23+ 33+ 45- 03+ 43+ 00+ 52- 41+ 12+ 55- 03+".split()
    spec = [Example(int(cell[0]), int(cell[1]), cell[2] == "+") for cell in cells]
    text = spec_to_str(spec)
    assert text == "[11+50-34+45-04+23+33+45-03+43+00+52-41+12+55-03+]" and len(text) == 50
    assert read_spec("[11+50-]") == (Example(1, 1, True), Example(5, 0, False))


def test_every_drawn_problem_reads_back_and_holds():
    for index in range(200):
        problem = DOMAIN.problem(3, "train", index)
        assert DOMAIN.write_spec(DOMAIN.read_spec(problem.spec)) == problem.spec
        assert DOMAIN.write_program(DOMAIN.read_program(problem.program)) == problem.program
        assert DOMAIN.check(problem.spec, problem.program).holds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1,3,1]",
        "[1,3,1,7]",
        "[1, 3,1,4]",
        "[1,3,1,4]\n",
        " [1,3,1,4]",
        "(1,3,1,4)",
        "[1,3,1,-4]",
        "[1,3,1,4,]",
        "[١,3,1,4]",
        "[[1,3,1,4]]",
        "[1,3,1,4]" * 1000,
        "__import__('os').system('touch ran')",
        "\x00",
    ],
)
def test_other_texts_are_malformed_programs_and_never_run(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MalformedError):
        read_program(text)
    assert DOMAIN.check("[11+]", text).kind == "malformed" and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "none of this domain"),
        ("[]", "0 examples"),
        ("[66+]", "cell 66"),
        ("[06-]", "cell 06"),
        ("[11+", "none of this domain"),
        ("[11]", "none of this domain"),
        ("[11 +]", "none of this domain"),
        ("[((1, 1), True)]", "none of this domain"),
        ("[11+11-]", "no program exists: cell 11 is both"),
        ("[11+13+12-]", "no program exists: cell 12 is -, and lies within"),
        ("[00+55+33-]", "no program exists: cell 33"),
        ("[" + "11+" * 10_001 + "]", "10,001 examples"),
    ],
)
def test_a_spec_that_is_none_or_that_no_program_fits_is_said_at_once(text, reason):
    with pytest.raises(SpecError, match=reason):
        read_spec(text)
    with pytest.raises(SpecError):
        DOMAIN.check(text, "[1,3,1,4]")


def test_a_spec_is_refused_exactly_where_no_program_fits():
    rng = random.Random(2)
    possible = 0
    for _ in range(400):
        spec = tuple(Example(rng.randrange(6), rng.randrange(6), rng.random() < 0.5) for _ in range(rng.randint(1, 5)))
        exists = bool(consistent(spec).any())
        possible += exists
        if exists:
            assert read_spec(spec_to_str(spec)) == spec
        else:
            with pytest.raises(SpecError, match="no program exists"):
                read_spec(spec_to_str(spec))
    assert 50 < possible < 350


def test_the_posterior_is_the_prior_over_what_holds():
    problem = DOMAIN.problem(0, "test", 5)
    found = DOMAIN.posterior(problem.spec)
    holding = [text for text in TEXTS if prior()[NUMBER_OF[text]] > 0 and DOMAIN.check(problem.spec, text).holds]
    assert set(found) == set(holding) and math.isclose(sum(found.values()), 1)
    ratio = {round(found[text] / prior()[NUMBER_OF[text]], 9) for text in holding}
    assert len(ratio) == 1


def test_a_single_row_that_is_never_drawn_has_a_posterior_too():
    spec = read_spec("[00+01+02+03+04+05+10-20-]")
    weights = posterior(spec)
    assert math.isclose(weights.sum(), 1) and not weights[~consistent(spec)].any()


def test_loss_has_the_floor_that_is_known():
    """0.27 to 0.29 nats a token over ten tokens."""
    problems = make_domain("rectangle", {"splits": "independent"}).problems(0, "test", 600)
    entropies = [-sum(p * math.log(p) for p in DOMAIN.posterior(problem.spec).values()) for problem in problems]
    assert 2.6 < np.mean(entropies) < 3.0


def test_specs_that_say_the_same_have_the_same_key():
    assert DOMAIN.key(read_spec("[11+50-11+]")) == DOMAIN.key(read_spec("[50-11+]"))
    assert DOMAIN.key(read_spec("[11+]")) != DOMAIN.key(read_spec("[11-]"))


def test_the_picture_shows_examples_and_rectangle():
    lines = DOMAIN.show("[11+50-]", "[1,2,0,1]").splitlines()
    assert lines[2] == " 1 [.][+] .  .  .  ." and lines[3] == " 2 [.][.] .  .  .  ." and lines[6].startswith(" 5  - ")
    assert "[" not in DOMAIN.show("[11+50-]")
