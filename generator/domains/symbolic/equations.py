"""Differential equations of the first and second order, made from their solutions.

A drawn function of x and a constant c is solved for c, which gives c = S(x, f); the derivative of S in x is an equation
that f solves for every c. For the second order this is done twice. A problem is the equation's left side, in the words
x, Y, Y', Y''; the answer is the solution, with the constants a8 and a9.

c stands in the drawn function once, so that it is set free step by step with the inverses of what stands around it,
where sympy's `solve` tries everything it has.

Source: Lample & Charton (arXiv:1912.01412), sections 3.2 and 3.3.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence

import numpy as np
import sympy as sp

from generator.domains.symbolic.forms import (
    Dropped,
    canonical,
    check_size,
    drawn_expression,
    shortest,
    simplified,
    tidied,
    written,
)
from generator.domains.symbolic.numeric import values
from generator.domains.symbolic.options import DrawingOptions, Task
from generator.domains.symbolic.prefix import FUNCTION, SYMBOLS, X
from generator.domains.symbolic.trees import draw_num_operators, draw_tree

Pair = tuple[list[str], list[str]]

_F = FUNCTION(X)
_D1, _D2 = sp.Derivative(_F, X), sp.Derivative(_F, (X, 2))
_PROBES = tuple(sign * size for size in (0.1, 0.9, 1.1, 1.9) for sign in (1, -1))  # of every symbol
_MIN_SHARE = 0.2  # of probes at which the equation must hold: roots and inverses hold on one branch
_MIN_PROBES = 8
_MOST_EXPANDED = 150  # words of an equation that is expanded too
_TOLERANCE = 1e-10  # of the sum of the terms' sizes


def first_order(rng: random.Random, options: DrawingOptions) -> Pair:
    """Draw a function of x and a8, and the equation of the first order that it solves.

    Raises:
        Dropped: if the try gives no problem
    """
    solution, answer, wanted = _solution(rng, options, "ode1", ("a8",))
    constant = _solved(solution - _F, SYMBOLS["a8"], rng)
    equation = _without_factors(constant.diff(X), _D1)
    return _problem(equation, _D1, solution, answer, options, rng, wanted)


def second_order(rng: random.Random, options: DrawingOptions) -> Pair:
    """Draw a function of x, a8 and a9, and the equation of the second order that it solves.

    Raises:
        Dropped: if the try gives no problem
    """
    solution, answer, wanted = _solution(rng, options, "ode2", ("a8", "a9"))
    first = _solved(solution - _F, SYMBOLS["a8"], rng)
    second = _solved(_without_factors(first.diff(X), SYMBOLS["a9"]), SYMBOLS["a9"], rng)
    equation = _without_factors(second.diff(X), _D2)
    return _problem(equation, _D2, solution, answer, options, rng, wanted)


def _solution(
    rng: random.Random, options: DrawingOptions, task: Task, constants: tuple[str, ...]
) -> tuple[sp.Expr, list[str], int]:
    wanted = draw_num_operators(rng, *options.operator_range(task), rare=False)
    try:
        words = draw_tree(rng, wanted, options, constants)
    except ValueError as error:
        raise Dropped("too few leaves") from error
    solution, answer = canonical(tidied(drawn_expression(words, constants)))
    if not {"x", *constants}.issubset(answer):
        raise Dropped("constant")
    check_size(options, answer, wanted=wanted, of=answer)
    if "I" in answer:
        raise Dropped("not real")
    return solution, answer, wanted


def _problem(
    equation: sp.Expr,
    order: sp.Expr,
    solution: sp.Expr,
    answer: list[str],
    options: DrawingOptions,
    rng: random.Random,
    wanted: int,
) -> Pair:
    if rng.random() < options.simplified:
        equation = _without_factors(simplified(equation, options), order)
    equation, problem = canonical(equation)
    if not equation.has(order) or equation.has(SYMBOLS["a8"], SYMBOLS["a9"]):
        raise Dropped("no equation")
    if "I" in problem:
        raise Dropped("not real")
    check_size(options, problem, wanted=wanted, of=problem)
    if not holds(equation, solution):
        raise Dropped("does not hold")
    return problem, answer


def _without_factors(expression: sp.Expr, needed: sp.Expr) -> sp.Expr:
    """The factors of a numerator that have something in them: where it is 0, one of them is, or one that says nothing.

    Raises:
        Dropped: if nothing is left
    """
    numerator = sp.together(expression).as_numer_denom()[0]
    factored = sp.factor_terms(numerator)
    if len(written(factored)) <= _MOST_EXPANDED:  # where terms cancel, the expanded form is shorter
        factored = shortest((factored, sp.factor_terms(sp.expand(numerator))))
    factors = sp.Mul.make_args(factored)
    kept = [factor for factor in factors if factor.has(needed)]
    if not kept:
        raise Dropped("no equation")
    bases = [factor.base if factor.is_Pow and factor.exp.is_positive else factor for factor in kept]
    return sp.Mul(*bases)


# ------------------------------------------------------------------------------------------------
# Solving for a constant


def _solved(expression: sp.Expr, constant: sp.Symbol, rng: random.Random) -> sp.Expr:
    """What a constant is where an expression is 0; of several branches a random one.

    Raises:
        Dropped: if it cannot be set free, or does not depend on x
    """
    value = _set_free(expression, constant, rng)
    if not value.has(X) or not (value.free_symbols - {X} or value.has(_F)):
        raise Dropped("constant")
    return value


def _set_free(expression: sp.Expr, constant: sp.Symbol, rng: random.Random) -> sp.Expr:
    value: sp.Expr = sp.S.Zero
    while expression != constant:
        inner = [operand for operand in expression.args if operand.has(constant)]
        if len(inner) != 1:
            expression, value = _linear(expression - value, constant), sp.S.Zero
            if expression == constant:
                break
            continue
        expression, value = _inverted(expression, inner[0], value, rng)
    return value


def _linear(expression: sp.Expr, constant: sp.Symbol) -> sp.Expr:
    """An expression that is 0 where another is, with a constant in it once; Dropped if it is not found."""
    part = _common_part(expression, constant)
    unknown = sp.Dummy("u", real=True)
    replaced = expression.xreplace({part: unknown})
    if replaced.has(constant):
        raise Dropped("not solved")
    slope = replaced.diff(unknown)
    if slope.has(unknown) or slope.is_zero:
        raise Dropped("not solved")
    return part + sp.together(replaced.xreplace({unknown: sp.S.Zero}) / slope)


def _common_part(expression: sp.Expr, constant: sp.Symbol) -> sp.Expr:
    """The largest expression that a constant always stands in: sin(c) of x*sin(c) + sin(c)**2."""
    part: sp.Expr = constant
    while True:
        around = {node for node in sp.preorder_traversal(expression) if part in node.args}
        if len(around) != 1 or (larger := around.pop()) == expression:
            return part
        part = larger


def _inverted(node: sp.Expr, inner: sp.Expr, value: sp.Expr, rng: random.Random) -> tuple[sp.Expr, sp.Expr]:
    """The operand of a node that equals a value, and what the operand then equals."""
    if node.is_Add:
        return inner, value - sp.Add(*[operand for operand in node.args if operand is not inner])
    if node.is_Mul:
        return inner, value / sp.Mul(*[operand for operand in node.args if operand is not inner])
    if node.is_Pow and inner is node.exp:
        return inner, sp.log(value) / sp.log(node.base)
    if node.is_Pow:
        root = value ** (1 / node.exp)
        is_even = node.exp.is_Rational and node.exp.p % 2 == 0
        return inner, rng.choice((root, -root)) if is_even else root
    branches = _INVERSES.get(node.func)
    if branches is None:
        raise Dropped("not solved")
    return inner, rng.choice(branches)(value)


_INVERSES: dict[type[sp.Expr], Sequence[Callable[[sp.Expr], sp.Expr]]] = {
    sp.exp: [sp.log],
    sp.log: [sp.exp],
    sp.sin: [sp.asin, lambda value: sp.pi - sp.asin(value)],
    sp.cos: [sp.acos, lambda value: 2 * sp.pi - sp.acos(value)],
    sp.tan: [sp.atan],
    sp.asin: [sp.sin],
    sp.acos: [sp.cos],
    sp.atan: [sp.tan],
    sp.sinh: [sp.asinh],
    sp.cosh: [sp.acosh, lambda value: -sp.acosh(value)],
    sp.tanh: [sp.atanh],
    sp.asinh: [sp.sinh],
    sp.acosh: [sp.cosh],
    sp.atanh: [sp.tanh],
    sp.Abs: [lambda value: value, lambda value: -value],
}


# ------------------------------------------------------------------------------------------------
# Does a solution hold?


def holds(equation: sp.Expr, solution: sp.Expr) -> bool:
    """Whether a solution makes an equation 0 at one probe in five of those where it has a value.

    Probes give every symbol each of eight values. The solution was derived with inverses, which hold on one branch: as
    in the original, a fifth is asked for, so that a problem is no more than "solved somewhere". At the others the
    equation is not 0 by far. What is compared with 0 is the sum of the equation's terms, beside the sum of their sizes.
    """
    names = ["x", *sorted(symbol.name for symbol in (equation.free_symbols | solution.free_symbols) - {X})]
    if len(names) > 4:  # coefficients: some probes for each
        rng = np.random.default_rng(0)
        columns = rng.choice(_PROBES, (len(names), 512))
    else:
        columns = np.array(list(itertools.product(_PROBES, repeat=len(names)))).T
    point = {name: column.astype(np.complex128) for name, column in zip(names, columns, strict=True)}
    derivatives = [solution]
    for _ in range(2 if equation.has(_D2) else 1):
        derivatives.append(derivatives[-1].diff(X))
    point |= {"Y" + "'" * order: values(written(each), point, np.complex128) for order, each in enumerate(derivatives)}
    terms = np.array([values(written(term), point, np.complex128) for term in sp.Add.make_args(equation)])
    with np.errstate(all="ignore"):
        size = np.abs(terms).sum(0) if len(terms) > 1 else 1.0
        residual = np.abs(terms.sum(0))
        finite = np.isfinite(residual) & np.isfinite(size)
        zero = residual <= _TOLERANCE * size
    return bool(finite.sum() >= _MIN_PROBES and zero[finite].mean() >= _MIN_SHARE)
