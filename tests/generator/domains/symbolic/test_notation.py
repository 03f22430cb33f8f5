"""What people type, infix and LaTeX, becomes the words of problems; nothing else is read, and nothing is run."""

import random
import sys
from collections.abc import Iterator

import pytest
import sympy as sp

from generator.domains.base import MalformedError, SpecError
from generator.domains.symbolic.notation import answer_of_user, equation_of_user, integrand_of_user
from generator.domains.symbolic.prefix import (
    FUNCTION,
    SYMBOLS,
    UnwritableError,
    X,
    expression_of,
    text_of,
    to_expression,
)
from generator.domains.symbolic.printing import to_infix, to_latex
from generator.domains.symbolic.tokens import NotationError
from generator.domains.symbolic.vocabulary import LEAD

Y = FUNCTION(X)
Y1, Y2 = sp.Derivative(Y, X), sp.Derivative(Y, (X, 2))
SIN, COS, LOG = sp.sin(X), sp.cos(X), sp.log(X)


def integrand(text: str) -> sp.Expr:
    """What the specification of an integral says."""
    written = integrand_of_user(text)
    assert written.startswith(LEAD + " ")
    return expression_of(written.removeprefix(LEAD))


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        ("x*cos(x)", X * COS),
        ("2 x cos(x)", 2 * X * COS),
        ("2x", 2 * X),
        ("x**2 + x^3", X**2 + X**3),
        ("-x^2", -(X**2)),
        ("x^-2", X**-2),
        ("x^2^3", X**8),
        ("1/2x", X / 2),
        ("2(x+1)(x+2)/3", sp.Rational(2, 3) * ((X + 1) * (X + 2))),
        ("e^x + E**x + exp(x)", 3 * sp.exp(X)),
        ("e^-x^2", sp.exp(-(X**2))),
        ("sin x cos x", SIN * COS),
        ("sin 2 pi x + 1", sp.sin(2 * sp.pi * X) + 1),
        ("sin x^2", sp.sin(X**2)),
        ("sin(x)^2 - sin^3 x", SIN**2 - SIN**3),
        ("sin^-1 x + arccos(x) + arsinh x", sp.asin(X) + sp.acos(X) + sp.asinh(X)),
        ("ln ln x", sp.log(LOG)),
        ("sin -x", -SIN),
        ("log(x, 10) + log_2 x", LOG / sp.log(10) + LOG / sp.log(2)),
        ("log_10 x + log_0.5 x", LOG / sp.log(10) - LOG / sp.log(2)),
        ("|x| + ln|x+1| + ||x|-2|", sp.Abs(X) + sp.log(sp.Abs(X + 1)) + sp.Abs(sp.Abs(X) - 2)),
        ("x|x|", X * sp.Abs(X)),
        ("0.25x + .5", X / 4 + sp.S.Half),
        ("sqrt(x) + cbrt(x) + root(x, 5)", sp.sqrt(X) + X ** sp.Rational(1, 3) + X ** sp.Rational(1, 5)),
        ("[x + 1]/[x]", (X + 1) / X),
        ("x − 2·π", X - 2 * sp.pi),
        ("a0*x + y", SYMBOLS["a0"] * X + SYMBOLS["y"]),
        ("integrate(x*cos(x), x)", X * COS),
        ("∫ x + cos x dx", X + COS),
        ("int log(x, 2)", LOG / sp.log(2)),
        ("int dx/x", 1 / X),
        ("int dx", sp.Integer(1)),
        ("mul x cos x", X * COS),
        ("sub Y' mul x cos x", X * COS),
    ],
)
def test_infix_is_read_as_people_mean_it(text: str, expression: sp.Expr) -> None:
    assert integrand(text) == expression


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        (r"\frac{1}{x}", 1 / X),
        (r"\frac12 x + \frac x3", X / 2 + X / 3),
        (r"\sin x \cos^{2} x", SIN * COS**2),
        (r"\sqrt[3]{x} + \sqrt{x+1} + \sqrt 2", X ** sp.Rational(1, 3) + sp.sqrt(X + 1) + sp.sqrt(2)),
        (r"\int x\cos x\,dx", X * COS),
        (r"$\displaystyle \int \frac{dx}{x^2+1}$", 1 / (X**2 + 1)),
        (r"\int 1 + xe^{x} \, \mathrm{d}x", 1 + X * sp.exp(X)),
        (r"\left( x+1 \right)^{2} \cdot \left[ x \right]", (X + 1) ** 2 * X),
        (r"e^{-x^2}", sp.exp(-(X**2))),
        (r"\ln\left|x\right| - \lvert x \rvert", sp.log(sp.Abs(X)) - sp.Abs(X)),
        (r"\left|x\left|x+1\right|\right|", sp.Abs(X * sp.Abs(X + 1))),
        (r"\log_{2} x + \log_2{x}", 2 * LOG / sp.log(2)),
        (r"\frac.5x + \sqrt.25", 1 / (2 * X) + sp.S.Half),
        (r"\cos 2\pi x", sp.cos(2 * sp.pi * X)),
        (r"\operatorname{asinh}{\left(x \right)} + \arctan x", sp.asinh(X) + sp.atan(X)),
        (r"\sin^{-1}(x)", sp.asin(X)),
        (r"a_{0} x + a_1", SYMBOLS["a0"] * X + SYMBOLS["a1"]),
    ],
)
def test_latex_is_read_as_people_mean_it(text: str, expression: sp.Expr) -> None:
    assert integrand(text) == expression


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        ("y' - y = x", Y1 - Y - X),
        ("y'' + y = 0", Y2 + Y),
        ("y'' + y", Y2 + Y),
        ("dy/dx = x*y", Y1 - X * Y),
        ("d^2y/dx^2 + dy(x)/dx", Y2 + Y1),
        ("f'(x) = f(x)*(x+1)", Y1 - Y * (X + 1)),
        ("y*y' = sin(y(x))", Y * Y1 - sp.sin(Y)),
        ("diff(y, x) + diff(y(x), x, 2)", Y1 + Y2),
        ("Derivative(f(x), (x, 2)) - f(x)", Y2 - Y),
        (r"\frac{dy}{dx} = \frac{y}{x}", X * Y1 - Y),
        ("2*y' = 3*x/2", 4 * Y1 - 3 * X),
        ("4*y' - 2*y", 2 * Y1 - Y),
        (r"\frac{d^2 y}{dx^2} + y", Y2 + Y),
        (r"\frac{d}{dx} f{\left(x \right)} + f{\left(x \right)}", Y1 + Y),
        (r"y^{\prime\prime} + \frac{y'}{x} = 0", X * Y2 + Y1),
        ("add Y' Y", Y1 + Y),
    ],
)
def test_equations_are_what_is_zero_by_them(text: str, expression: sp.Expr) -> None:
    assert expression_of(equation_of_user(text)) == expression


def test_the_words_are_those_of_files_of_problems() -> None:
    assert integrand_of_user("x*cos(x)") == "sub Y' mul x cos x"
    assert integrand_of_user("x*x") == "sub Y' pow x INT+ 2"
    assert integrand_of_user(" sub Y'  mul x  cos x ") == "sub Y' mul x cos x"
    assert integrand_of_user("mul cos x x") == "sub Y' mul x cos x"
    assert equation_of_user("y' - y") == "add mul INT- 1 Y Y'" == equation_of_user("add mul INT- 1 Y Y'")


def test_answers_have_constants_and_may_name_the_function() -> None:
    for text in ("C*exp(x)", "y = C exp(x)", "y(x) = a8*e^x", r"y = C_{1} e^{x}", "mul a8 exp x"):
        assert answer_of_user(text) == "mul a8 exp x"
    assert expression_of(answer_of_user("c1*x + c_2")) == SYMBOLS["a8"] * X + SYMBOLS["a9"]
    assert answer_of_user("add x") == "add x"  # words are left for the checker to judge
    with pytest.raises(MalformedError, match=r"missing at the end \(column 4\)"):
        answer_of_user("x**")


@pytest.mark.parametrize(
    ("text", "message", "marked"),
    [
        ("x*", "missing at the end", 2),
        ("* x", "missing before '*'", 0),
        ("(x + 1", "'(' is never closed", 0),
        ("x + |x", "'|' is never closed", 4),
        ("x + 1)", "unexpected ')'", 5),
        ("[x)", "unexpected ')'", 2),
        ("()", "missing before ')'", 1),
        ("xcos(x)", "'xcos' is not known; write x*cos", 0),
        ("2 sinx", "'sinx' is not known; write sin(x)", 2),
        ("2 sing(x)", "'sing' is not known; did you mean sin?", 2),
        ("__import__('os')", "'__import__' is not known", 0),
        ("x.__class__", "the character '.' has no meaning", 1),
        ("lambda x", "'lambda' is not known", 0),
        ("x; x", "the character ';' has no meaning", 1),
        ("x\x1b[2J", "the character '\\x1b' has no meaning", 1),
        ("2 3", "two numbers in a row", 2),
        ("1e5", "'e5' is not known", 1),
        ("sin", "sin has no argument; write sin(x)", 3),
        ("sin*x", "sin has no argument", 3),
        ("sin(x, 2)", "sin takes one argument", 0),
        ("ln^-1 x", "ln^-1 is not clear; write 1/ln(x)", 0),
        ("root(x)", "root takes 2 arguments", 0),
        ("x, 2", "unexpected ','", 1),
        ("y' = x", 'unexpected "\'"; equations have an unknown function', 1),
        ("x = 2", "unexpected '='; equations have", 2),
        ("f(x)", "'f' is not known; equations have", 0),
        ("x dx", "'dx' is not known; it stands at the end of an integral", 2),
        ("int x dt", "'dt' is not known; it stands at the end of an integral", 6),
        ("int x + dx/x", "dx is no term of a sum", 8),
        ("int dx/x + 1", "dx is no term of a sum", 4),
        ("int dx + 1", "dx stands at the end", 4),
        ("int x dx dx", "a second dx", 9),
        ("integrate(x, t)", "integrals are in x", 13),
        (r"\int_0^1 x dx", "integrals have no bounds", 4),
        (r"\int \sin(dx)", "dx stands at the end", 10),
        (r"\frac{1}", "missing at the end", 8),
        (r"\frac{1}{x", "'{' is never closed", 8),
        (r"\foo x", r"the command \foo has no meaning", 0),
        (r"\input{/etc/passwd}", r"the command \input has no meaning", 0),
        ("(" * 500 + "x", "nested more than 60 deep", 60),
        ("sin " * 500 + "x", "nested more than 60 deep", 240),
        ("|(" * 200 + "x", "nested more than 60 deep", 60),
    ],
)
def test_what_is_no_integrand_is_refused_with_a_mark_where(text: str, message: str, marked: int) -> None:
    with pytest.raises(NotationError) as refused:
        integrand_of_user(text)
    reason, line, mark = str(refused.value).split("\n")
    assert message in reason and reason.endswith(f"(column {marked + 1})")
    assert line.isprintable() and len(line) < 80 and mark.index("^") < 80
    if len(text) < 60:
        assert mark == "  " + " " * marked + "^" and len(line) == 2 + len(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "there is no expression"),
        ("  \n", "there is no expression"),
        ("x" + "+x" * 3000, "6,001 characters; at most 4,000"),
        ("1/0", "infinite"),
        ("0/0", "infinite"),
        ("9^9^9^9", "a power of a number"),
        ("1" * 2000, "a number has 2,000 digits"),
        ("add x", "'add' takes 2 operands"),
    ],
)
def test_what_is_no_function_is_refused(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        integrand_of_user(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("y = x", "no derivative of y"),
        ("y' - y' = 0", "no derivative of y"),
        ("y''' = 0", "derivatives up to order 2"),
        ("y(0) = 1", "a function of x alone"),
        ("y' = y(x+1)", r"put \* before the bracket"),
        ("y' = 1 = 2", "unexpected '='"),
        ("dy/dt = 1", "'dy' is not known"),
        ("d^2y/dx = 1", "orders above and below differ"),
        ("diff(x, y) = 1", r"write diff\(y, x\)"),
        ("diff(y", r"write diff\(y, x\)"),
        (r"\frac{d^2y}{dx} = 1", "orders above and below differ"),
    ],
)
def test_what_is_no_equation_is_refused(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        equation_of_user(text)


def test_long_sums_and_chains_of_signs_and_powers_do_not_recurse() -> None:
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(300)
    try:
        assert integrand("-" * 2000 + "x") == X
        assert len(integrand("+".join(f"x^{n}" for n in range(1, 200))).args) == 199
        assert integrand("x" + "^1" * 90) == X
    finally:
        sys.setrecursionlimit(limit)


UNARY = (
    "sqrt pow2 pow3 inv ln exp sin cos tan cot sec csc asin acos atan acot sinh cosh tanh coth asinh acosh atanh "
    "abs sign"
).split()
BINARY = "add sub mul div add mul pow rac".split()


def drawn(rng: random.Random, num_operators: int, leaves: list[str]) -> list[str]:
    """Prefix words of a random tree."""
    if num_operators == 0:
        return rng.choice([*leaves, f"INT+ {' '.join(str(rng.randint(0, 30)))}", f"INT- {rng.randint(1, 5)}"]).split()
    if rng.random() < 0.5:
        return [rng.choice(UNARY), *drawn(rng, num_operators - 1, leaves)]
    left = rng.randint(0, num_operators - 1)
    return [rng.choice(BINARY), *drawn(rng, left, leaves), *drawn(rng, num_operators - 1 - left, leaves)]


def expressions(seed: int, count: int, leaves: str) -> Iterator[sp.Expr]:
    """Random expressions that have words."""
    rng = random.Random(seed)
    while count:
        try:
            found = to_expression(drawn(rng, rng.randint(0, 8), leaves.split()))
            text_of(found)
        except (MalformedError, UnwritableError):
            continue
        count -= 1
        yield found


def test_what_is_printed_is_read_as_the_same_expression() -> None:
    for expression in expressions(0, 150, "x x x x pi E y a8 I"):
        for text in (to_infix(expression), to_latex(expression)):
            assert expression_of(answer_of_user(text)) == expression, text
            assert integrand(text) == expression, text


def test_equations_that_are_printed_are_read_as_the_same_equation() -> None:
    for expression in expressions(1, 40, "x x Y Y' Y''"):
        equation = expression + Y1
        if not equation.atoms(sp.Derivative):
            continue
        spec = equation_of_user(to_infix(equation))
        for text in (f"{to_infix(equation)} = 0", to_latex(equation), to_infix(expression_of(spec))):
            assert equation_of_user(text) == spec, text


PIECES = (
    r"x y f ( ) [ ] { } | + - * / ^ ' = , _ sin ln log exp sqrt dx dy/dx \frac \sqrt \left( \right) \left| \right| "
    r"\cdot \int int 2 3.5 .5 10 e pi C a0 Derivative diff root d \log_ INT+ add mul Y Y' \ \, $ #"
).split() + ["\x00", "\u00b2"]


def test_whatever_is_typed_is_read_or_refused() -> None:
    rng = random.Random(3)
    for _ in range(1500):
        text = rng.choice(["", " "]).join(rng.choices(PIECES, k=rng.randint(1, 10)))
        for read in (integrand_of_user, equation_of_user, answer_of_user):
            try:
                words = read(text)
            except (SpecError, MalformedError) as refused:
                assert str(refused), text
            else:
                assert words == " ".join(words.split()), text
