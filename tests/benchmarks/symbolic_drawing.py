"""How many problems of symbolic mathematics does a core draw in a second, and how many does a plain sympy loop?

    python tests/benchmarks/symbolic_drawing.py --seconds 30

Both sides draw with the same sampler, in turns, in one process, and with the same limits of seconds of the processor
for a try. The plain loop does what the task says with sympy's own functions, and simplifies always:
`simplify(F.diff(x))`, `integrate`, `solve`, and the substitution of a solution simplified to 0. Every problem of ours
is looked at again: the derivative of an answer must have the integrand's values, and a solution hold. The last line is
JSON.
"""

import argparse
import json
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import sympy as sp
from machine import facts
from sympy.core.cache import clear_cache
from sympy.core.random import seed as seed_sympy

from generator.domains.symbolic.checker import is_zero, residual_of
from generator.domains.symbolic.drawing import attempt
from generator.domains.symbolic.equations import holds
from generator.domains.symbolic.forms import drawn_expression, without_constant_term
from generator.domains.symbolic.numeric import agree
from generator.domains.symbolic.options import TASKS, DrawingOptions, Task
from generator.domains.symbolic.parts import Known, known_integrals
from generator.domains.symbolic.prefix import FUNCTION, SYMBOLS, X, expression_of, text_of, to_words
from generator.domains.symbolic.trees import draw_num_operators, draw_tree

OPTIONS = DrawingOptions()
Y = FUNCTION(X)
Try = Callable[[int], tuple[str, str] | None]  # by its number
PRIMITIVES: dict[sp.Expr, sp.Expr] = {}  # the running cache of the plain loop, by integrand


class OutOfTime(BaseException):
    """The processor has worked on a try for as long as it may."""


def limited(function: Try, number: int, seconds: float) -> tuple[str, str] | None:
    """What a try gives, or None where it raises or takes longer."""

    def stop(*_: object) -> None:
        raise OutOfTime

    signal.signal(signal.SIGVTALRM, stop)
    with suppress(Exception, OutOfTime):
        try:
            signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
            return function(number)
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    return None


# ------------------------------------------------------------------------------------------------ the plain loop


def plain(task: Task, rng: random.Random) -> tuple[str, str] | None:
    """A problem as a plain loop draws it, with the same expressions and the same checks of words."""
    unknowns = {"ode1": ("a8",), "ode2": ("a8", "a9")}.get(task, ())
    wanted = draw_num_operators(rng, *OPTIONS.operator_range(task), rare=not unknowns)
    drawn = drawn_expression(draw_tree(rng, wanted, OPTIONS, unknowns), unknowns)
    if task == "prim_bwd":
        primitive = without_constant_term(drawn)
        return written(sp.simplify(primitive.diff(X)), primitive)
    if task == "prim_fwd":
        primitive = sp.integrate(drawn, X)
        if primitive.has(sp.Integral, sp.Piecewise):
            return None
        return written(drawn, sp.simplify(primitive))
    if task == "prim_ibp":
        return plain_parts(drawn, drawn_expression(draw_tree(rng, rng.randint(1, OPTIONS.max_ops_g), OPTIONS)))
    equation = drawn - Y
    for constant, name in ((SYMBOLS["a8"], "Y'"), (SYMBOLS["a9"], "Y''"))[: len(unknowns)]:
        solutions = [each for each in sp.solve(equation, constant) if each.has(X)]
        equation = sp.simplify(sp.factor(rng.choice(solutions).diff(X)))
        if not equation.has(expression_of(name)):
            return None
    if sp.simplify(equation.subs(Y, drawn).doit()) != 0:
        return None
    return written(equation, drawn)


def plain_parts(left: sp.Expr, right: sp.Expr) -> tuple[str, str] | None:
    """Integration by parts with what was found before; a pair has two ways."""
    for function in (left, right):
        PRIMITIVES[sp.simplify(function.diff(X))] = function
    for one, other in ((left, right), (right, left)):
        known = PRIMITIVES.get(sp.simplify(one.diff(X) * other))
        if known is not None:
            integrand = sp.simplify(one * other.diff(X))
            PRIMITIVES[integrand] = sp.simplify(one * other - known)
            return written(integrand, PRIMITIVES[integrand])
    return None


def written(problem: sp.Expr, answer: sp.Expr) -> tuple[str, str] | None:
    """Both as words, where they are within the limits."""
    texts = text_of(problem), text_of(answer)
    return texts if max(len(text.split()) for text in texts) + 2 <= OPTIONS.max_length else None


# ------------------------------------------------------------------------------------------------------- both sides


def ours(task: Task, seed: int, known: Known) -> tuple[str, str] | None:
    """A problem as `generate` draws it."""
    outcome = attempt(task, OPTIONS, known, seed)
    return None if outcome.reason else (outcome.spec, outcome.program)


def is_right(task: Task, spec: str, program: str) -> bool:
    """Whether a problem's answer holds."""
    answer = expression_of(program)
    if task.startswith("ode"):
        return holds(expression_of(spec), answer)
    # values over 1e12 are no evidence for `agree`; an exact proof is slower
    return agree(to_words(answer.diff(X)), spec.split()[2:]) or is_zero(residual_of(spec, answer))


def measured(task: Task, seconds: float, known: Known) -> dict[str, dict[str, float]]:
    """Tries, problems and seconds of each side."""
    spent: Counter[str] = Counter()
    tries: Counter[str] = Counter()
    kept: Counter[str] = Counter()
    problems: list[tuple[str, str]] = []
    number = 0
    sides: dict[str, Try] = {
        "ours": lambda number: ours(task, number, known),
        "plain": lambda number: plain(task, random.Random(number)),
    }
    while any(spent[side] < seconds for side in ("ours", "plain")):
        number += 1
        for side in ("ours", "plain") if number % 2 else ("plain", "ours"):
            if spent[side] >= seconds:
                continue
            clear_cache()  # neither side profits from what the other has just asked sympy
            seed_sympy(number)
            start = time.process_time()
            made = limited(sides[side], number, OPTIONS.limit_s(task))
            spent[side] += time.process_time() - start  # type: ignore[assignment]
            tries[side] += 1
            kept[side] += made is not None
            if made is not None and side == "ours":
                problems.append(made)
    wrong = [problem for problem in problems if not is_right(task, *problem)]
    assert not wrong, wrong[0]
    return {side: {"tries": tries[side], "kept": kept[side], "seconds": spent[side]} for side in ("ours", "plain")}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0, help="of the processor, for each side of each task")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    args = parser.parse_args()
    known = known_integrals(OPTIONS)
    print("| task | ours: kept of tries | a second | plain loop: kept of tries | a second | ratio |")
    print("|---|--:|--:|--:|--:|--:|")
    found: dict[str, Any] = {}
    for task in args.tasks:
        row = found[task] = measured(task, args.seconds, known)
        rates = {side: row[side]["kept"] / row[side]["seconds"] for side in row}
        least = max(row["plain"]["kept"], 1) / row["plain"]["seconds"]
        sign = "" if row["plain"]["kept"] else "over "
        cells = [f"{row[side]['kept']:,} of {row[side]['tries']:,} | {rates[side]:.2f}" for side in ("ours", "plain")]
        print(f"| {task} | {cells[0]} | {cells[1]} | {sign}{rates['ours'] / least:.1f} |", flush=True)
    print(json.dumps({**facts(), "sympy": sp.__version__, "found": found}))


if __name__ == "__main__":
    main()
