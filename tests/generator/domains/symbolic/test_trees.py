"""Random expressions: all shapes are as likely, exactly, and leaves and operators are those that were asked for."""

import random
from collections import Counter
from fractions import Fraction
from itertools import accumulate

import pytest

from common import ConfigError
from generator.domains.symbolic import trees
from generator.domains.symbolic.options import BINARY, UNARY, DrawingOptions
from generator.domains.symbolic.trees import draw_num_operators, draw_shape, draw_tree, num_ways, place_weights
from generator.domains.symbolic.vocabulary import ARITY, num_operators


def shapes(num_left: int) -> list[tuple[int, ...]]:
    """All trees with operators of one and two operands, as arities in prefix order, without the sampler."""
    if num_left == 0:
        return [(0,)]
    found = [(1, *inner) for inner in shapes(num_left - 1)]
    for left in range(num_left):
        found += [(2, *one, *other) for one in shapes(left) for other in shapes(num_left - 1 - left)]
    return found


class Scripted(random.Random):
    """Draws the numbers that it is given."""

    def __init__(self, numbers: list[int]) -> None:
        super().__init__()
        self.numbers = iter(numbers)

    def randrange(self, *_: int) -> int:  # type: ignore[override]
        return next(self.numbers)


def probabilities(num_left: int) -> Counter[tuple[int, ...]]:
    """The exact probability of each shape, from every way that the sampler can go."""
    found: Counter[tuple[int, ...]] = Counter()

    def follow(num_free: int, left: int, drawn: list[int], probability: Fraction) -> None:
        if left == 0:
            found[tuple(draw_shape(Scripted(drawn), num_left))] += probability
            return
        weights = place_weights(num_free, left)
        for choice, (weight, end) in enumerate(zip(weights, accumulate(weights), strict=True)):
            if weight:
                after = num_free - choice % num_free + choice // num_free
                follow(after, left - 1, [*drawn, end - 1], probability * Fraction(weight, sum(weights)))

    follow(1, num_left, [], Fraction(1))
    return found


def test_ways_are_the_large_schroeder_numbers_and_those_of_a_choice_add_up() -> None:
    assert [num_ways(1, left) for left in range(8)] == [1, 2, 6, 22, 90, 394, 1806, 8558]
    for num_free in range(1, 12):
        for left in range(1, 12):
            assert sum(place_weights(num_free, left)) == num_ways(num_free, left)
    assert [len(shapes(left)) for left in range(6)] == [num_ways(1, left) for left in range(6)]


@pytest.mark.parametrize("left", [0, 1, 2, 3, 4, 5])
def test_every_shape_has_exactly_the_same_probability(left: int) -> None:
    assert probabilities(left) == {shape: Fraction(1, num_ways(1, left)) for shape in shapes(left)}


def test_trees_are_whole_and_have_as_many_operators_as_were_asked_for_and_x() -> None:
    rng, options = random.Random(0), DrawingOptions()
    for number in range(300):
        words = draw_tree(rng, number % 16, options)
        assert num_operators([word for word in words if word != "div"]) + words.count("div") == number % 16
        assert "x" in words and set(words) <= {*UNARY, *BINARY, "x", "INT+", *"12345"}


def test_operators_come_by_weight_among_those_of_their_arity() -> None:
    rng, options = random.Random(1), DrawingOptions(operators={"add": 3, "mul": 1, "sin": 1})
    found = Counter(word for _ in range(400) for word in draw_tree(rng, 10, options) if word in ARITY)
    assert set(found) == {"add", "mul", "sin"}
    assert 0.7 < found["add"] / (found["add"] + found["mul"]) < 0.8


def test_unknowns_stand_once_and_too_few_leaves_are_refused() -> None:
    rng, options = random.Random(2), DrawingOptions()
    for _ in range(100):
        try:
            words = draw_tree(rng, 5, options, ("a8", "a9"))
        except ValueError:
            continue
        assert words.count("a8") == words.count("a9") == 1 and "x" in words
    with pytest.raises(ValueError, match="too few"):
        draw_tree(rng, 1, DrawingOptions(operators={"sin": 1, "add": 1e-9}), ("a8", "a9"))


def test_coefficients_constants_and_larger_numbers_are_drawn_where_they_are_asked_for() -> None:
    options = DrawingOptions(
        num_coefficients=2,
        max_int=12,
        leaf_probabilities={"variable": 1, "coefficient": 1, "integer": 1, "constant": 1},
    )
    rng = random.Random(3)
    found = {word for _ in range(300) for word in draw_tree(rng, 6, options)}
    assert {"a0", "a1", "pi", "E", "INT+", "0"} <= found and "a2" not in found


def test_one_number_in_forty_is_below_the_least() -> None:
    rng = random.Random(4)
    drawn = [draw_num_operators(rng, 4, 15) for _ in range(8000)]
    assert set(drawn) == set(range(16)) and 0.018 < sum(number < 4 for number in drawn) / 8000 < 0.033
    assert min(draw_num_operators(rng, 4, 15, rare=False) for _ in range(2000)) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_ops": 0}, "max_ops is 0"),
        ({"min_ops": 9, "max_ops": 8}, "min_ops is 9"),
        ({"num_coefficients": 9}, "num_coefficients is 9"),
        ({"num_coefficients": 2}, "leaf_probabilities.coefficient"),
        ({"operators": {"adds": 1}}, "a name in operators is 'adds'"),
        ({"operators": {"add": 1}}, "takes 1 operands"),
        ({"operators": {"add": -1.0, "sin": 1}}, "weight of add is -1.0"),
        ({"leaf_probabilities": {"variable": 0}}, "are all 0"),
        ({"simplified": 1.5}, "simplified is 1.5"),
        ({"simplification": "slow"}, "simplification is 'slow'"),
        ({"timeout_s": 0.0}, "timeout_s is 0.0"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DrawingOptions(**options)  # type: ignore[arg-type]


def test_a_sampler_that_forgets_the_places_it_passed_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The probabilities as the paper prints them, with one weight for every place, are not uniform."""
    monkeypatch.setattr(trees, "place_weights", lambda num_free, left: [1] * (2 * num_free))
    monkeypatch.setitem(globals(), "place_weights", trees.place_weights)
    assert len(set(probabilities(3).values())) > 1
