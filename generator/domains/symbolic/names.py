"""The names that people write for what the prefix words say, and what is read as an error with a hint."""

from __future__ import annotations

import difflib

from generator.domains.symbolic.vocabulary import ARITY, COEFFICIENTS, VARIABLES

UNKNOWN_NAMES = ("y", "f", "Y")  # of the function that an equation is about
INTEGRAL_NAMES = ("int", "integral", "integrate", "Integral")
DERIVATIVE_NAMES = ("diff", "Derivative")
DIFFERENTIAL = "dx"

_TRIGONOMETRIC = ("sin", "cos", "tan", "cot", "sec", "csc")
_HYPERBOLIC = tuple(f"{name}h" for name in _TRIGONOMETRIC)
INVERSES = {name: f"a{name}" for name in (*_TRIGONOMETRIC, *_HYPERBOLIC)}
FUNCTIONS: dict[str, str] = {
    **{word: word for word in ("exp", "sqrt", "ln", "sign", "abs", *INVERSES, *INVERSES.values())},
    **{f"arc{name}": inverse for name, inverse in INVERSES.items()},
    **{f"ar{name}": INVERSES[name] for name in _HYPERBOLIC},
    **{"log": "ln", "Abs": "abs", "sgn": "sign", "cosec": "csc", "tg": "tan", "ctg": "cot"},
}
ROOTS = {"cbrt": 1, "root": 2}  # and how many arguments they take
LEAVES: dict[str, str] = {
    **{name: name for name in (*VARIABLES, *COEFFICIENTS, "pi", "E", "I")},
    **{"e": "E", "i": "I", "π": "pi"},
    **dict.fromkeys(("C", "c", "C1", "c1"), "a8"),
    **dict.fromkeys(("C2", "c2"), "a9"),
}
# words that no one writes but in prefix notation
PREFIX_ONLY = frozenset(
    [word for word in ARITY if word not in FUNCTIONS and word not in ("f", "g", "h")] + ["INT+", "INT-"]
)

_MAX_PARTS = 4
_ALL = (*FUNCTIONS, *ROOTS, *LEAVES)


def hint(name: str) -> str:
    """Return what may have been meant by a name that is not known, as the end of a sentence.

    >>> hint("xcos")
    '; write x*cos'
    >>> hint("xsinx")
    '; write x*sin(x)'
    >>> hint("sing")
    '; did you mean sin?'
    """
    if name.startswith("d") and name[1:] in VARIABLES + UNKNOWN_NAMES:
        return "; it stands at the end of an integral in x, or in dy/dx of an equation"
    if name in UNKNOWN_NAMES:
        return "; equations have an unknown function, integrands none"
    if 1 < len(parts := _split(name)) <= _MAX_PARTS:
        written = parts.pop()
        for part in reversed(parts):
            written = f"{part}({written})" if part in FUNCTIONS else f"{part}*{written}"
        return f"; write {written}"
    close = difflib.get_close_matches(name, _ALL, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else "; names are x, e, pi, a0 to a9, and functions such as sin"


def _split(name: str) -> list[str]:
    """The known names that a longer one is made of, the longest first; none if there is a rest."""
    parts: list[str] = []
    while name:
        part = next((name[:size] for size in range(min(len(name), 8), 0, -1) if name[:size] in _ALL), "")
        if not part:
            return []
        parts.append(part)
        name = name[len(part) :]
    return parts
