"""The bit tasks as domains: what is drawn, read, judged and refused."""

import random

import pytest

from common import ConfigError, DataError
from generator.domains import make_domain
from generator.domains.base import SpecError
from generator.domains.bits.tasks import xor_of
from generator.domains.synthesize import Synthesizer


def test_xor_is_that_of_each_place():
    domain = make_domain("bit_xor", {"n": 40, "num_patterns": 3})
    for index in range(30):
        problem = domain.problem(0, "train", index)
        strings = problem.spec.split(" ")
        wanted = "".join(str(sum(int(s[i]) for s in strings) % 2) for i in range(40))
        assert problem.program == wanted == xor_of(strings) and len(strings) == 3
        assert domain.check(problem.spec, problem.program).holds
    assert xor_of(["0011", "0001"]) == "0010", "zeros in front stay"


def test_bits_are_fair_and_the_answer_tells_nothing_of_one_string():
    domain = make_domain("bit_xor", {"n": 50})
    problems = [domain.problem(0, "train", index) for index in range(200)]
    ones = [sum(int(bit) for bit in p.spec.replace(" ", "")) for p in problems]
    assert abs(sum(ones) / (200 * 100) - 0.5) < 0.02
    same = sum(a == b for p in problems for a, b in zip(p.spec[:50], p.program, strict=True))
    assert abs(same / (200 * 50) - 0.5) < 0.02


@pytest.mark.parametrize(
    ("program", "kind", "message"),
    [
        ("11111", "verified", ""),
        ("11101", "rejected", "bit 4 must be 1"),
        ("1111", "rejected", "has 4 bits, and must have 5"),
        ("111111", "rejected", "has 6 bits, and must have 5"),
        (" 11111", "malformed", "is no string of the digits 0 and 1"),
        ("11111\n", "malformed", "is no string"),
        ("", "malformed", "is no string"),
        ("1111²", "malformed", "is no string"),
        ("١1111", "malformed", "is no string"),
        ("__import__('os')", "malformed", "is no string"),
    ],
)
def test_an_answer_is_judged_strictly(program, kind, message):
    verdict = make_domain("bit_xor").check("01101 10010", program)
    assert verdict.kind == kind and message in verdict.message


@pytest.mark.parametrize(
    ("domain", "spec", "reason"),
    [
        ("bit_xor", "", "'' is no string of bits"),
        ("bit_xor", "01101", "a single string"),
        ("bit_xor", "01101 1001", "'1001' has 4 bits, but the first string has 5"),
        ("bit_xor", "01101  10010", "'' is no string of bits"),
        ("bit_xor", "01101 10012", "'10012' is no string of bits"),
        ("bit_xor", "01101 1001?", "is no string of bits"),
        ("bit_xor", "01\n10", "is no string of bits"),
        ("bit_xor", "0" * 60_000 + " " + "0" * 60_000, "at most 100,000 bits"),
        (
            "bit_memory",
            "0110 1?01 ????",
            "'1\\?01' is no string of bits; a specification is such as 0110 1001 0\\?1\\?",
        ),
        ("bit_memory", "0110 1001 x???", "is no string of bits and \\?"),
        ("bit_memory", "0110 1001 11??", "fits none of the strings"),
        ("bit_memory", "????", "a single string"),
    ],
)
def test_a_broken_specification_is_named(domain, spec, reason):
    with pytest.raises(SpecError, match=reason):
        make_domain(domain).read_spec(spec)


def test_memory_asks_for_one_of_the_strings_with_bits_hidden():
    domain = make_domain("bit_memory", {"n": 60, "num_patterns": 4})
    hidden = 0
    for index in range(50):
        problem = domain.problem(0, "train", index)
        *patterns, shown = problem.spec.split(" ")
        assert problem.program in patterns and len(patterns) == 4
        assert all(a in ("?", b) for a, b in zip(shown, problem.program, strict=True))
        hidden += shown.count("?")
    assert abs(hidden / (50 * 60) - 0.5) < 0.05


def test_memory_takes_every_string_that_fits_and_knows_how_probable_it_is():
    domain = make_domain("bit_memory")
    spec = "0110 0110 0011 1111 0?1?"
    assert domain.posterior(spec) == {"0110": 2 / 3, "0011": 1 / 3}
    assert domain.check(spec, "0110").holds and domain.check(spec, "0011").holds
    assert domain.check(spec, "1111").message == "bit 1 must be 0"
    assert domain.check(spec, "0111").message == "bit 4 must be 0", "it fits what is shown, and is none of the strings"


def test_symbols_are_numbered_in_the_order_of_the_text():
    assert make_domain("bit_xor").symbol_ids("01 10").tolist() == [0, 1, 1, 0]
    memory = make_domain("bit_memory")
    assert memory.symbol_ids("01 10 ?1").tolist() == [0, 1, 1, 0, 2, 1]
    assert [memory.values[i] for i in memory.symbol_ids("01 ??")] == [-1.0, 1.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("domain", "options", "reason"),
    [
        ("bit_xor", {"n": 0}, "n is 0; it must be at least 1"),
        ("bit_xor", {"num_patterns": 1}, "num_patterns is 1; xor is of at least 2 strings"),
        ("bit_xor", {"n": 10**6}, "at most 100,000 bits"),
        ("bit_xor", {"mask_share": 0.5}, "has no option 'mask_share'"),
        ("bit_xor", {"n": "5"}, "option n is '5'"),
        ("bit_memory", {"mask_share": 1.5}, "mask_share is 1.5; it must be a probability"),
        ("bit_memory", {"num_patterns": 0}, "num_patterns is 0"),
        ("bit_memory", {"num_pattern": 2}, "did you mean num_patterns"),
        ("bit_xor", {"splits": "apart"}, "splits is 'apart'"),
    ],
)
def test_options_are_checked(domain, options, reason):
    with pytest.raises((ConfigError, DataError), match=reason):
        make_domain(domain, options)


def test_a_picture_has_the_strings_one_below_another():
    assert make_domain("bit_xor").show("01101 10010", "11111") == "  01101\n  10010\n= 11111"
    assert make_domain("bit_memory").show("01 10 ?0") == "  01\n  10\n? ?0"
    assert len(make_domain("bit_memory").show(make_domain("bit_memory").problem(0, "val", 0).spec)) < 500


def test_guessing_solves_as_many_as_its_probability_says():
    domain = make_domain("bit_xor", {"n": 2})
    writer = domain.baselines()["random"](0, list)
    assert writer.success_probability("01 10") == 0.25 and writer.success_probability("01 10") < 1
    assert writer.log_prob("01 10", "11") == pytest.approx(-1.386, abs=1e-3)
    assert writer.log_prob("01 10", "111") is None and writer.log_prob("01 10", "1x") is None
    solve = Synthesizer(writer, domain, 1)
    rng = random.Random(0)
    specs = [domain.write_spec(domain.draw(rng)[0]) for _ in range(4)]
    shares = [
        sum(t.verdict.holds for t in Synthesizer(writer, domain, 200, stop_at_first=False)(s).tries) for s in specs
    ]
    assert all(25 < share < 75 for share in shares) and solve(specs[0]).num_samples == 1
