"""Problems of integration: an integrand f, and a function F with F' = f.

`prim_fwd` integrates a drawn f, `prim_bwd` differentiates a drawn F, `prim_ibp` integrates by parts. A problem is
written `sub Y' f`, with answer F.

Source: Lample & Charton (arXiv:1912.01412), section 3; what differs from their code is said where it does.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import sympy as sp
from sympy.integrals.heurisch import components, heurisch
from sympy.integrals.risch import NonElementaryIntegral, risch_integrate
from sympy.integrals.trigonometry import trigintegrate

from generator.domains.symbolic.forms import (
    Dropped,
    canonical,
    check_size,
    drawn_expression,
    read,
    simplified,
    tidied,
    without_constant_term,
    written,
)
from generator.domains.symbolic.numeric import agree
from generator.domains.symbolic.options import DrawingOptions
from generator.domains.symbolic.parts import Known, draw_parts
from generator.domains.symbolic.prefix import X
from generator.domains.symbolic.trees import draw_num_operators, draw_tree
from generator.domains.symbolic.vocabulary import LEAD

Pair = tuple[list[str], list[str]]  # words of a problem, and of its answer

_LEAD = LEAD.split()  # the whole is no canonical form, and is never read and written again
# The parallel Risch algorithm on 166 drawn terms, by the functions and roots in a term, x being one: of 57 with two it
# integrated 19, of 62 with three 2, of 49 with more none, and 76 took more than 3 s (Xeon, Sapphire Rapids, loaded).
_MOST_NODES = {1: 60, 2: 24, 3: 14}  # of an expression that it is tried on, by that number


def backward(rng: random.Random, options: DrawingOptions) -> Pair:
    """Draw a function and differentiate it.

    Raises:
        Dropped: if the try gives no problem
    """
    wanted = draw_num_operators(rng, *options.operator_range("prim_bwd"))
    simplify = rng.random() < options.simplified
    drawn = drawn_expression(draw_tree(rng, wanted, options))
    primitive, answer = canonical(tidied(without_constant_term(drawn)))
    check_size(options, answer, wanted=wanted, of=answer)
    return _problem(primitive.diff(X), answer, simplify, options)


def forward(rng: random.Random, options: DrawingOptions) -> Pair:
    """Draw a function and integrate it.

    Raises:
        Dropped: if the try gives no problem
    """
    wanted = draw_num_operators(rng, *options.operator_range("prim_fwd"))
    drawn = drawn_expression(draw_tree(rng, wanted, options))
    if rng.random() < 0.5:
        drawn = without_constant_term(drawn)
    integrand, words = canonical(tidied(drawn))
    check_size(options, words, wanted=wanted, of=words)
    _check_real(words)
    primitive, answer = canonical(without_constant_term(antiderivative(integrand)))
    check_size(options, answer)
    _check_derivative(primitive, words)
    return [*_LEAD, *words], answer


def by_parts(rng: random.Random, options: DrawingOptions, known: Known) -> Pair:
    """Draw F and G until the integral of F'G or FG' is known, and give the other one's.

    The original draws one pair a try and keeps what it finds for later ones; here the known integrals are those of one
    set that every try has, so that a try depends on its number alone. Pairs are looked up by values of F'G and FG',
    which takes no sympy.

    Raises:
        Dropped: if the try gives no problem
    """
    first, second, inner, factor = draw_parts(rng, options, known)
    drop_factor = rng.random() < 0.5
    simplify = rng.random() < options.simplified
    left, right, part = read(first), read(second), read(inner)
    # (left * right)' = left' * right + left * right', and factor * part is an integral of one of them
    integrand = left * right.diff(X)
    primitive = sp.expand_mul(left * right) - factor * part
    if drop_factor:
        constant, integrand = integrand.as_independent(X, as_Add=False)
        if constant.is_zero:
            raise Dropped("constant")
        primitive = sp.expand_mul(primitive / constant)
    primitive, answer = canonical(without_constant_term(primitive))
    check_size(options, answer)
    pair = _problem(integrand, answer, simplify, options)
    _check_derivative(primitive, pair[0][len(_LEAD) :])
    return pair


def _problem(integrand: sp.Expr, answer: list[str], simplify: bool, options: DrawingOptions) -> Pair:
    """The problem of an integrand, which is simplified or not."""
    _, words = canonical(integrand)
    if simplify:
        plain, (_, words) = words, canonical(simplified(integrand, options))
        if words != plain and not agree(words, plain):
            raise Dropped("simplified to something else")
    if "x" not in words:
        raise Dropped("constant")
    _check_real(words)
    check_size(options, [*_LEAD, *words], answer)
    return [*_LEAD, *words], answer


def _check_real(words: Sequence[str]) -> None:
    if "I" in words:
        raise Dropped("not real")


def _check_derivative(primitive: sp.Expr, integrand: list[str]) -> None:
    """Raise Dropped unless the derivative of one is the other, at points."""
    if not agree(written(primitive.diff(X)), integrand):
        raise Dropped("derivative does not agree")


def antiderivative(integrand: sp.Expr) -> sp.Expr:
    """Return an integral that sympy finds, term by term.

    Its Risch algorithm decides what has no trigonometric functions, the parallel one (heurisch) is tried on the rest:
    what sympy's `integrate` finds, without the rules that take long and hardly ever find more.

    Raises:
        Dropped: if there is no elementary one, or none is found
    """
    terms = sorted(sp.Add.make_args(sp.expand_mul(integrand)), key=lambda term: -term.count_ops())
    return sp.Add(*[_of_term(term) for term in terms])  # the hardest first: when one fails, all do


def _of_term(term: sp.Expr) -> sp.Expr:
    constant, rest = term.as_independent(X, as_Add=False)
    found = _integral(rest)
    if found is None or found.has(sp.Integral, sp.Piecewise):
        raise Dropped("no integral found")
    return sp.expand_mul(constant * found)


def _integral(term: sp.Expr) -> sp.Expr | None:
    if term == 1:
        return X
    try:
        found = risch_integrate(term, X)
    except NotImplementedError:
        pass
    else:
        if found.has(NonElementaryIntegral):
            raise Dropped("no elementary integral")
        return found
    found = trigintegrate(term, X, conds="none") if term.has(sp.sin, sp.cos) else None
    if found is not None:
        return found
    if sum(1 for _ in sp.preorder_traversal(term)) > _MOST_NODES.get(len(components(term, X)), 0):
        raise Dropped("too large to integrate")
    return heurisch(term, X)
