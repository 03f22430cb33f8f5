r"""What a user types for a problem or an answer: prefix words, infix or LaTeX, as the texts of a domain.

A text with one of the words that no one writes but in prefix notation (INT+, add, mul, ...) is prefix, one with a
backslash or braces LaTeX, every other infix.
"""

from __future__ import annotations

from collections.abc import Callable

import sympy as sp

from generator.domains.base import MalformedError, SpecError
from generator.domains.symbolic import infix, latex
from generator.domains.symbolic.forms import Dropped, canonical
from generator.domains.symbolic.names import PREFIX_ONLY
from generator.domains.symbolic.prefix import to_expression
from generator.domains.symbolic.reader import Reader
from generator.domains.symbolic.tokens import MAX_LENGTH, Words, quoted
from generator.domains.symbolic.vocabulary import UNKNOWN

LEAD = "sub Y'"  # before an integrand: what is 0 by the equation that its integral solves


def integrand_of_user(text: str) -> str:
    r"""Return the specification of an integral.

    >>> integrand_of_user("x*cos(x)") == integrand_of_user(r"\int x \cos x \, dx") == "sub Y' mul x cos x"
    True

    Raises:
        SpecError: showing where the text cannot be read
    """
    if is_prefix(text):
        words = text.split()
        return " ".join(words) if words[:2] == LEAD.split() else f"{LEAD} {_canonical(words, text)}"
    return f"{LEAD} {_canonical(_reader(text, has_unknown=False).integrand(), text)}"


def equation_of_user(text: str) -> str:
    """Return the specification of a differential equation: what is 0 by it, without denominators, as problems have it.

    >>> equation_of_user("y' - y = x")
    "add mul INT- 1 x add mul INT- 1 Y Y'"

    Raises:
        SpecError: showing where the text cannot be read, or if it has no derivative
    """
    if is_prefix(text):
        return " ".join(text.split())
    found = _canonical(_reader(text, has_unknown=True).equation(), text, _numerator)
    if not set(UNKNOWN[1:]) & set(found.split()):
        raise SpecError(f"the equation {quoted(text)} has no derivative of y; write one as y' or dy/dx")
    return found


def answer_of_user(text: str) -> str:
    """Return a function as a program; C, C1 and C2 are the constants a8, a8 and a9.

    >>> answer_of_user("y = C*exp(x) - x")
    'add mul INT- 1 x mul a8 exp x'

    Raises:
        MalformedError: showing where the text cannot be read
    """
    if is_prefix(text):
        return " ".join(text.split())
    try:
        return _canonical(_reader(text, has_unknown=False).answer(), text)
    except SpecError as error:
        raise MalformedError(str(error)) from error


def is_prefix(text: str) -> bool:
    """Whether a text is in prefix words."""
    return not PREFIX_ONLY.isdisjoint(text.split())


def _reader(text: str, *, has_unknown: bool) -> Reader:
    if not text.strip():
        raise SpecError("there is no expression; write one such as x*cos(x)")
    if len(text) > MAX_LENGTH:
        raise SpecError(f"the expression has {len(text):,} characters; at most {MAX_LENGTH:,} are read")
    read = latex.reader_of if latex.is_latex(text) else infix.reader_of
    return read(text, has_unknown=has_unknown)


def _canonical(
    words: Words | list[str], text: str, change: Callable[[sp.Expr], sp.Expr] = lambda expression: expression
) -> str:
    """Words in the order and the operators of files of problems, which are sympy's."""
    try:
        return " ".join(canonical(change(to_expression(words)))[1])
    except (MalformedError, Dropped) as error:
        raise SpecError(f"{quoted(text)} cannot be taken: {error}") from error


def _numerator(equation: sp.Expr) -> sp.Expr:
    numerator = sp.factor_terms(sp.together(equation).as_numer_denom()[0])
    return numerator.as_coeff_Mul()[1]
