"""Random expressions: all shapes with a number of operators are as likely, operators and leaves are drawn by weight.

A shape has operators of one or two operands. D(e, n) counts the ways in which n operators can still be placed when e
places are free; the next operator goes to one of them in proportion to the ways that this leaves, and places before it
become leaves. Whole numbers throughout, so that "as likely" is exact.

Source: Lample & Charton (arXiv:1912.01412), appendix C, where the probability of a place is
misprinted: L ** e for L ** k.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from functools import cache
from itertools import accumulate

from generator.domains.symbolic.options import BINARY, UNARY, DrawingOptions
from generator.domains.symbolic.vocabulary import COEFFICIENTS, PLUS


@cache
def num_ways(num_free: int, num_operators: int) -> int:
    """Return D(e, n), the number of ways to place n operators in e free places and those that they bring.

    >>> [num_ways(1, n) for n in range(6)]
    [1, 2, 6, 22, 90, 394]
    """
    if num_free == 0:
        return 0
    if num_operators == 0:
        return 1
    return (
        num_ways(num_free - 1, num_operators)
        + num_ways(num_free, num_operators - 1)
        + num_ways(num_free + 1, num_operators - 1)
    )


def place_weights(num_free: int, num_operators: int) -> list[int]:
    """Return how many ways go on from each choice; their sum is `num_ways`.

    Returns:
        For free places 0, 1, ...: an operator of one operand there; then the same for two operands.
    """
    left = num_operators - 1
    unary = [num_ways(num_free - place, left) for place in range(num_free)]
    return unary + [num_ways(num_free - place + 1, left) for place in range(num_free)]


def draw_shape(rng: random.Random, num_operators: int) -> list[int]:
    """Return the arities of a tree in prefix order, 0 for a leaf; every tree is as likely."""
    shape, num_free, last = [-1], 1, -1  # -1 is a free place; those up to `last` are decided
    for left in range(num_operators, 0, -1):
        ends = list(accumulate(place_weights(num_free, left)))
        choice = bisect_right(ends, rng.randrange(ends[-1]))
        arity, skipped = 1 + choice // num_free, choice % num_free
        free = [place for place in range(last + 1, len(shape)) if shape[place] == -1]
        last = free[skipped]
        for place in free[:skipped]:
            shape[place] = 0
        shape[last : last + 1] = [arity] + [-1] * arity
        num_free += arity - 1 - skipped
    return [max(arity, 0) for arity in shape]


def draw_tree(
    rng: random.Random, num_operators: int, options: DrawingOptions, unknowns: tuple[str, ...] = ()
) -> list[str]:
    """Return the prefix words of a random expression that has x in it wherever there is room.

    Args:
        rng: what decides
        num_operators: in it
        options: weights, numbers and coefficients
        unknowns: leaves that must be there, each once, such as a8

    Raises:
        ValueError: if there are too few leaves for them and x
    """
    shape = draw_shape(rng, num_operators)
    leaves: list[list[str]] = [_leaf(rng, options) for _ in range(shape.count(0))]
    if len(leaves) < len(unknowns) + bool(unknowns):
        raise ValueError("too few leaves")
    leaves[: len(unknowns)] = [[unknown] for unknown in unknowns]
    if ["x"] not in leaves:
        leaves[-1] = ["x"]
    rng.shuffle(leaves)
    words: list[str] = []
    for arity in shape:
        words += [_operator(rng, arity, options)] if arity else leaves.pop()
    return words


def _operator(rng: random.Random, arity: int, options: DrawingOptions) -> str:
    names, ends = _weights(tuple(options.operators.items()), arity)
    return rng.choices(names, cum_weights=ends)[0]


@cache
def _weights(operators: tuple[tuple[str, float], ...], arity: int) -> tuple[list[str], list[float]]:
    given = dict(operators)
    names = [name for name in (UNARY if arity == 1 else BINARY) if given.get(name)]
    return names, list(accumulate(given[name] for name in names))


def _leaf(rng: random.Random, options: DrawingOptions) -> list[str]:
    kinds = options.leaf_probabilities
    (kind,) = rng.choices(list(kinds), weights=list(kinds.values()))
    if kind == "variable":
        return ["x"]
    if kind == "integer":
        return [PLUS, *str(rng.randint(1, options.max_int))]
    return [rng.choice(("pi", "E") if kind == "constant" else COEFFICIENTS[: options.num_coefficients])]


def draw_num_operators(rng: random.Random, fewest: int, most: int, rare: bool = True) -> int:
    """Return a number of operators, each as likely; one time in 40, where `rare`, of those below `fewest`."""
    if rare and rng.randrange(40) == 0:
        return rng.randrange(fewest)
    return rng.randint(fewest, most)
