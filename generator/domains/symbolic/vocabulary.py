"""The 91 words that expressions are written in, and how many operands each takes.

Source: Lample & Charton (arXiv:1912.01412), with the order of the files that were published with it.
"""

from __future__ import annotations

_OPERATORS = (
    "abs acos acosh acot acoth acsc acsch add asec asech asin asinh atan atanh cos cosh cot coth csc csch derivative "
    "div exp f g h inv ln mul pow pow2 pow3 pow4 pow5 rac sec sech sign sin sinh sqrt sub tan tanh"
).split()

VARIABLES = ("x", "y", "z", "t")
COEFFICIENTS = tuple(f"a{number}" for number in range(10))
CONSTANTS = ("pi", "E", "I")
DIGITS = tuple("0123456789")
PLUS, MINUS = "INT+", "INT-"  # a whole number is one of these and its digits: INT- 4 2
LEAD = "sub Y'"  # before an integrand, to make an equation of it
UNKNOWN = ("Y", "Y'", "Y''")  # the function that is sought, f(x), and its derivatives

WORDS: tuple[str, ...] = (
    *("<s>", "</s>", "<pad>", "(", ")", *(f"<SPECIAL_{number}>" for number in range(5, 10))),
    *("pi", "E", *VARIABLES, *COEFFICIENTS, *_OPERATORS),
    *("I", PLUS, MINUS, "INT", "FLOAT", "-", ".", "10^", *UNKNOWN, *DIGITS),
)

ARITY: dict[str, int] = {
    **dict.fromkeys(_OPERATORS, 1),
    **dict.fromkeys(("add", "sub", "mul", "div", "pow", "rac", "derivative", "g"), 2),
    "h": 3,
}
OPERATORS = frozenset(ARITY)

LEAVES = frozenset((*VARIABLES, *COEFFICIENTS, *CONSTANTS, *UNKNOWN))  # expressions of one word; numbers have more

# What the special words mean here. In the published models 0 ends (and begins) a text and 1 pads.
BOS, EOS, PAD, SEPARATOR = "<s>", "</s>", "<pad>", "<SPECIAL_5>"


def num_operators(words: list[str]) -> int:
    """Return how many operators an expression has; the sign and the division of a number count as none."""
    count = 0
    for place, word in enumerate(words):
        is_fraction = word == "div" and words[place + 1 : place + 2] in ([PLUS], [MINUS])
        count += word in OPERATORS and not is_fraction
    return count
