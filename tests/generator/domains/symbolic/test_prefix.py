"""Prefix words: 91 of them, read into sympy's expressions and written from them, and nothing else gets in."""

import sys

import pytest
import sympy as sp

from generator.domains.base import MalformedError
from generator.domains.symbolic.prefix import FUNCTION, UnwritableError, X, expression_of, text_of
from generator.domains.symbolic.vocabulary import ARITY, OPERATORS, WORDS, num_operators


def test_the_words_have_the_numbers_that_published_files_and_models_use() -> None:
    assert len(WORDS) == len(set(WORDS)) == 91
    expected = {"<s>": 0, "</s>": 1, "pi": 10, "x": 12, "a0": 16, "abs": 26, "rac": 60, "sec": 61, "sqrt": 66}
    expected |= {"tanh": 69, "I": 70, "INT+": 71, "Y": 78, "Y''": 80, "0": 81, "4": 85, "9": 90}
    assert {word: WORDS.index(word) for word in expected} == expected
    assert len(OPERATORS) == 44 and sorted(ARITY.values()).count(2) == 8


@pytest.mark.parametrize(
    ("words", "expression"),
    [
        ("INT- 4 0", sp.Integer(-40)),
        ("INT+ 0", sp.Integer(0)),
        ("div INT- 1 INT+ 2", -sp.S.Half),
        ("sqrt x", sp.sqrt(X)),
        ("pow x div INT+ 3 INT+ 2", X ** sp.Rational(3, 2)),
        ("add cos x mul x sin x", sp.cos(X) + X * sp.sin(X)),
        ("add INT+ 1 add x exp x", 1 + X + sp.exp(X)),
        ("mul INT- 1 ln abs x", -sp.log(sp.Abs(X))),
        ("pow x INT- 1", 1 / X),
        ("add mul x Y' mul INT- 1 Y", X * sp.Derivative(FUNCTION(X), X) - FUNCTION(X)),
        ("Y''", sp.Derivative(FUNCTION(X), (X, 2))),
        ("mul pi E", sp.pi * sp.E),
    ],
)
def test_words_are_read_and_what_is_written_says_the_same(words: str, expression: sp.Expr) -> None:
    assert expression_of(words) == expression
    assert expression_of(text_of(expression)) == expression


@pytest.mark.parametrize(
    ("words", "expression"),
    [
        ("inv x", 1 / X),
        ("rac x INT+ 3", X ** sp.Rational(1, 3)),
        ("sub x INT+ 1", X - 1),
        ("pow2 x", X**2),
        ("derivative f x x", sp.Derivative(FUNCTION(X), X)),
        ("derivative derivative f x x x", sp.Derivative(FUNCTION(X), (X, 2))),
    ],
)
def test_words_that_sympy_turns_into_others_are_read_too(words: str, expression: sp.Expr) -> None:
    assert expression_of(words) == expression


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "no words"),
        ("add x", "'add' takes 2 operands, and only 1 follow"),
        ("sin", "takes 1 operand, and only 0"),
        ("x x", "more words follow"),
        ("add x y z", "more words follow"),
        ("INT+", "no digits follow"),
        ("INT+ x", "no digits follow"),
        ("3", "cannot stand here"),
        ("</s>", "cannot stand here"),
        ("( x )", "cannot stand here"),
        ("__import__('os')", "none of the 91 words"),
        ("x**2", "none of the 91 words"),
        ("pow INT+ 9 9 9 9 pow INT+ 9 9 9 9 INT+ 9 9", "power of a number"),
        ("pow INT+ 2 INT- 9 9 9 9 9 9 9", "power of a number"),
        ("INT+ " + "9 " * 2000, "a number has 2,000 digits"),
        ("sin " * 500 + "x", "nested more than 100 deep"),
        ("sin " * 50_000 + "x", "nested more than 100 deep"),
    ],
)
def test_what_is_no_expression_is_refused_with_the_first_reason(words: str, message: str) -> None:
    with pytest.raises(MalformedError, match=message):
        expression_of(words)


def test_reading_and_writing_does_not_recurse_over_words() -> None:
    terms = " ".join(f"add pow x INT+ {' '.join(str(n))}" for n in range(2, 402)) + " x"
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(250)
    try:
        expression = expression_of(terms)
        assert len(expression.args) == 401
        assert expression_of(text_of(expression)) == expression
    finally:
        sys.setrecursionlimit(limit)


def test_division_by_zero_is_an_expression_that_has_no_words() -> None:
    infinite = expression_of("pow INT+ 0 INT- 1")
    assert infinite == sp.zoo
    with pytest.raises(UnwritableError, match="zoo cannot be written"):
        text_of(infinite)
    for expression in (sp.Float(0.5), sp.erf(X), sp.Symbol("q"), sp.Derivative(FUNCTION(X), (X, 3)), sp.oo):
        with pytest.raises(UnwritableError):
            text_of(expression)


def test_variables_are_real_and_not_zero_so_that_factors_cancel() -> None:
    assert expression_of("mul x pow x INT- 1") == 1
    assert expression_of("sqrt pow x INT+ 2") == sp.Abs(X)


def test_operators_are_counted_without_those_of_numbers() -> None:
    assert num_operators("add div INT- 3 INT+ 2 mul x cos x".split()) == 3
    assert num_operators("div x INT+ 2".split()) == 1
    assert num_operators(["x"]) == 0
