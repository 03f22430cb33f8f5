"""Whether an answer solves an integral or a differential equation, decided exactly; this runs in children of a pool.

Judging an answer is a row of steps, each an item of the pool with a limit of its own, as sympy may take for ever and
nothing else stops it. What decides is exact: the *residual*, hyp' - f or the equation with the answer in it, becomes 0
(or its difference to a known answer does). Numbers only reject, and those that do have bounds on their errors.

Source: section B of the evaluation of Lample & Charton (arXiv:1912.01412): simplify(answer - reference) == 0, or the
answer in the equation simplifies to 0.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal

import sympy as sp

from generator.domains.seeds import stable_seed
from generator.domains.symbolic.bounds import Undefined, determinant, enclose
from generator.domains.symbolic.branches import near
from generator.domains.symbolic.prefix import FUNCTION, SYMBOLS, X, to_expression
from generator.domains.symbolic.vocabulary import LEAD, UNKNOWN
from generator.domains.verdicts import MalformedError, VerdictKind

Step = Literal["screen", "rewrite", "branch", "compare", "simplify"]
# the cheap ones first: of 25 drawn integrals whose residual was not 0 at once, `rewrite` settled all, in 0.05 s each,
# where `simplify` took 0.44 s (means; Xeon, Sapphire Rapids)
STEPS: tuple[Step, ...] = ("screen", "branch", "rewrite", "compare", "simplify")

MAX_WORDS = 2000  # of an answer
_DERIVATIVES = tuple(sp.Derivative(FUNCTION(X), (X, order)) for order in (2, 1))
_NUM_POINTS = 20
_NUM_DECIDING = 4  # points at which a residual vanishes, or is not 0, that are enough
_NUM_OF_EQUATIONS = 12  # that of an equation must not be 0 at: a solution may hold on one branch, for some constants
_NUM_PROVING = 2  # that are needed to reject
_NOT_OF_ANSWERS = {*UNKNOWN, "f", "g", "h", "derivative"}


@dataclass(frozen=True, slots=True)
class Question:
    """An answer to judge.

    Attributes:
        spec: prefix words of the problem
        answer: what is said to solve it
        reference: an answer that is known to hold, or ""
        is_equation: whether it is a differential equation, which may have local and particular solutions
        place: values of all symbols at which the residual is real and vanishes, once such are known
    """

    spec: str
    answer: str
    reference: str = ""
    is_equation: bool = False
    place: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Evidence:
    """At how many points a residual is not 0, and where it may be.

    Attributes:
        real: points at which it is not 0, and everything in it is real
        complex: points at which it is not 0, where something in it is not real
        vanishing: points at which it cannot be told from 0
        example: a point of the first two kinds
        place: a point of the third kind at which everything is real, as values of symbols
    """

    real: int = 0
    complex: int = 0
    vanishing: int = 0
    example: str = ""
    place: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """What a step has found.

    Attributes:
        kind: the verdict; None if the step does not decide
        message: why
        is_general: of a solution of a differential equation, see `Verdict`
        evidence: of numbers, by the first step
        is_local: whether it holds around the question's place, and was not shown to do so everywhere
    """

    kind: VerdictKind | None
    message: str = ""
    is_general: bool | None = None
    evidence: Evidence = field(default_factory=Evidence)
    is_local: bool = False


def take_step(task: tuple[Step, Question]) -> Finding:
    """Do a step of judging an answer.

    Raises:
        Exception: whatever sympy raises
    """
    step, question = task
    return _STEPS[step](question)


# ------------------------------------------------------------------------------------------------
# Problems and answers


@lru_cache(maxsize=1024)
def read_problem(spec: str) -> tuple[sp.Expr, int]:
    """Return the equation of a problem, which is to be 0, and its order: that of its highest derivative.

    Raises:
        MalformedError: if the words are no problem
    """
    words = spec.split()
    names = sorted({"f", "g", "h", "derivative"} & set(words))
    if names:
        raise MalformedError(
            f"a problem cannot have the word {names[0]!r}; write the function that is sought as Y, Y', Y''"
        )
    try:
        if words[:2] == LEAD.split():
            equation = _DERIVATIVES[1] - to_expression(words[2:])
        else:
            equation = to_expression(words)
    except MalformedError as error:
        raise MalformedError(f"the problem {spec[:80]!r} cannot be read: {error}") from error
    if equation.has(sp.zoo, sp.nan, sp.oo, -sp.oo):
        raise MalformedError(f"the problem {spec[:80]!r} is infinite or has no value")
    order = next((2 - place for place, each in enumerate(_DERIVATIVES) if equation.has(each)), 0)
    if order == 0:
        raise MalformedError(f"the problem {spec[:80]!r} has no Y' or Y''")
    return equation, order


def read_answer(text: str) -> sp.Expr:
    """Return the expression of an answer.

    Raises:
        MalformedError: if the words are no expression, or speak of functions that nobody knows
    """
    words = text.split()
    if len(words) > MAX_WORDS:
        raise MalformedError(f"has {len(words):,} words, over {MAX_WORDS:,}")
    for word in words:
        if word in _NOT_OF_ANSWERS:
            raise MalformedError(f"{word!r} cannot stand in an answer, which is an expression of x")
    return to_expression(words)


def residual(question: Question) -> sp.Expr:
    """Return what an answer leaves of the equation, which is 0 if it holds."""
    return residual_of(question.spec, read_answer(question.answer))


def residual_of(spec: str, answer: sp.Expr) -> sp.Expr:
    """Return what an expression leaves of the equation of a problem."""
    equation, order = read_problem(spec)
    slopes = [answer]
    for _ in range(order):
        slopes.append(slopes[-1].diff(X))
    rules: dict[Any, sp.Expr] = {FUNCTION(X): answer, _DERIVATIVES[1]: slopes[1]}
    if order == 2:
        rules[_DERIVATIVES[0]] = slopes[2]
    return equation.xreplace(rules)


# ------------------------------------------------------------------------------------------------
# Steps


def _screen(question: Question) -> Finding:
    """Read, substitute, and look at numbers."""
    try:
        answer = read_answer(question.answer)
    except MalformedError as error:
        return Finding("malformed", str(error))
    if question.answer == question.reference:
        return _verified(question, answer)
    if answer.has(sp.zoo, sp.nan, sp.oo, -sp.oo):
        return Finding("rejected", "is infinite, or has no value")
    left = residual_of(question.spec, answer)
    if left.has(sp.zoo, sp.nan, sp.oo, -sp.oo):
        return Finding("rejected", "makes the equation infinite, or without a value")
    if left == 0:
        return _verified(question, answer)
    evidence = look(left, _NUM_OF_EQUATIONS if question.is_equation else _NUM_DECIDING)
    if not evidence.vanishing and evidence.real + evidence.complex >= _NUM_PROVING:
        return Finding("rejected", f"the equation does not hold at {evidence.example}", evidence=evidence)
    return Finding(None, evidence=evidence)


def _rewrite(question: Question) -> Finding:
    """Multiply out; bring the residual to one denominator, as it is and in exponentials."""
    left = residual(question)
    return _verified(question) if sp.expand(left) == 0 or is_zero(left) else Finding(None)


def is_zero(expression: sp.Expr) -> bool:
    """Whether an expression becomes 0 over one denominator: one that does is 0 wherever it has a value."""
    return any(
        sp.expand(sp.together(expression.rewrite(sp.exp) if in_exponentials else expression).as_numer_denom()[0]) == 0
        for in_exponentials in (False, True)
    )


def _branch(question: Question) -> Finding:
    """Look whether an equation holds around a place, in the form that it has there."""
    point = {SYMBOLS[name]: value for name, value in question.place}
    try:
        left = near(residual(question), point)
    except Undefined as error:
        return Finding(None, f"no branch is known: {error}")
    if left == 0 or sp.expand(left) == 0 or is_zero(left) or sp.simplify(left) == 0:
        return replace(_verified(question), is_local=True)
    return Finding(None)


def _compare(question: Question) -> Finding:
    """Compare with the reference, of an integral up to a constant."""
    if not question.reference:
        return Finding(None)
    gap = sp.simplify(read_answer(question.answer) - read_answer(question.reference))
    is_constant = X not in gap.free_symbols and not gap.has(sp.zoo, sp.nan, sp.oo)
    if gap == 0 or (not question.is_equation and is_constant):
        return _verified(question)
    return Finding(None)


def _simplify(question: Question) -> Finding:
    left = sp.simplify(residual(question))
    return (
        _verified(question) if left.is_zero else Finding(None, f"simplified, {str(left)[:80]} is left of the equation")
    )


_STEPS: Mapping[Step, Callable[[Question], Finding]] = {
    "screen": _screen,
    "rewrite": _rewrite,
    "branch": _branch,
    "compare": _compare,
    "simplify": _simplify,
}


def _verified(question: Question, answer: sp.Expr | None = None) -> Finding:
    if not question.is_equation:
        return Finding("verified")
    is_general, message = generality(question.spec, read_answer(question.answer) if answer is None else answer)
    return Finding("verified", message, is_general)


# ------------------------------------------------------------------------------------------------
# Numbers


def look(expression: sp.Expr, enough: int, seed: int = 0) -> Evidence:
    """Return at which points an expression is not 0, of points that follow from the seed.

    Points are looked at until it vanishes at some, or is not 0 at enough; x is positive and negative in turn.
    """
    rng = random.Random(stable_seed("points", seed))
    symbols = sorted(expression.free_symbols | {X}, key=lambda symbol: str(symbol.name))
    real = imaginary = vanishing = 0
    example, place = "", tuple[tuple[str, float], ...]()
    for number in range(_NUM_POINTS):
        point = {symbol: _coordinate(rng, number) for symbol in symbols}
        try:
            ball, is_real = enclose(expression, point)
        except (Undefined, ArithmeticError, ValueError, TypeError, RecursionError):
            continue
        if not ball.excludes_zero:
            vanishing += 1
            if is_real:
                place = place or tuple((str(symbol.name), value) for symbol, value in point.items())
        else:
            real += is_real
            imaginary += not is_real
            example = example or shown_point((symbol.name, value) for symbol, value in point.items())
        if vanishing >= _NUM_DECIDING or real + imaginary >= enough:
            break
    return Evidence(real, imaginary, vanishing, example, place)


def shown_point(point: Iterable[tuple[str, float]]) -> str:
    """Return a point in a few characters."""
    return ", ".join(f"{name} = {value:.4g}" for name, value in point)


def _coordinate(rng: random.Random, number: int) -> float:
    """A random value, exact in binary, whose size and sign change from point to point."""
    low, high = ((7, 61), (67, 190), (193, 500))[number // 2 % 3]  # 64ths
    size = rng.randrange(low, high) / 64 + rng.randrange(2**20) / 2**30
    return -size if number % 2 else size


# ------------------------------------------------------------------------------------------------
# General solutions


def generality(spec: str, answer: sp.Expr) -> tuple[bool, str]:
    """Return whether a solution has as many effective constants as the equation's order, and what it lacks.

    They are effective and independent where the determinant of the derivatives of the solution, and of its slope, with
    respect to the constants is not 0, which bounds on its value prove.
    """
    equation, order = read_problem(spec)
    if answer.is_zero:
        return False, "the function 0"
    constants = sorted(answer.free_symbols - equation.free_symbols - {X}, key=lambda symbol: str(symbol.name))
    slopes = [answer, answer.diff(X)][:order]
    groups = itertools.combinations(constants, order)
    if any(_is_independent(slopes, group) for group in groups):
        return True, ""
    return False, f"a particular solution: it has not {order} independent constant{'s' * (order > 1)}"


def _is_independent(slopes: Sequence[sp.Expr], constants: Sequence[sp.Symbol]) -> bool:
    rng = random.Random(0)
    rows = [[slope.diff(constant) for constant in constants] for slope in slopes]
    symbols = sorted(sp.Matrix(rows).free_symbols | {X}, key=lambda symbol: str(symbol.name))
    for number in range(_NUM_POINTS):
        point = {symbol: _coordinate(rng, number) for symbol in symbols}
        try:
            balls = [[enclose(each, point)[0] for each in row] for row in rows]
            if determinant(balls).excludes_zero:
                return True
        except (Undefined, ArithmeticError, ValueError, TypeError, RecursionError):
            continue
    return False
