"""sympy itself as a writer, the baseline of symbolic mathematics: its `integrate`, or its `dsolve`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import sympy as sp

from common import Candidate
from generator.domains.base import Problem
from generator.domains.symbolic.pool import Pool
from generator.domains.symbolic.prefix import FUNCTION, SYMBOLS, UnwritableError, X, expression_of, text_of
from generator.domains.writers import Writer

SYMPY = "sympy"
SECONDS = 10.0  # that sympy has for a problem
_LEAD = "sub Y' "
_CONSTANTS = {"C1": SYMBOLS["a8"], "C2": SYMBOLS["a9"]}


def solved_by_sympy(spec: str) -> list[str]:
    """Return the answers of sympy to a problem; it may take for ever.

    Raises:
        Exception: whatever sympy raises
    """
    if spec.startswith(_LEAD):
        found = [sp.integrate(expression_of(spec.removeprefix(_LEAD)), X)]
    else:
        solutions = sp.dsolve(sp.Eq(expression_of(spec), 0), FUNCTION(X))
        equations = solutions if isinstance(solutions, list) else [solutions]
        found = [each.rhs for each in equations if each.lhs == FUNCTION(X)]
    answers = []
    for each in found:
        renamed = each.xreplace({symbol: _CONSTANTS.get(symbol.name, symbol) for symbol in each.free_symbols})
        try:
            answers.append(text_of(renamed))
        except UnwritableError:  # an integral that is left, a piecewise function, a special one
            continue
    return answers


class SympyWriter(Writer):
    """Proposes what sympy finds within a time; its log-probability says nothing and is 0.

    Attributes:
        pool: of processes that solve
    """

    def __init__(self, seconds: float = SECONDS, num_workers: int = 1, name: str = SYMPY) -> None:
        """Keep the settings.

        Args:
            seconds: for a problem
            num_workers: processes
            name: in results
        """
        self.name, self.seconds = name, seconds
        self.pool: Pool[str, list[str]] = Pool(solved_by_sympy, num_workers, seconds)
        self._found: dict[str, list[str]] = {}

    def propose(self, specs: Sequence[str], first: int, count: int) -> list[list[Candidate]]:
        """See `Writer.propose`."""
        new = [spec for spec in dict.fromkeys(specs) if spec not in self._found]
        for spec, result in zip(new, self.pool.map(new), strict=True):
            self._found[spec] = result.value or []
        return [[(answer, 0.0) for answer in self._found[spec][first : first + count]] for spec in specs]


def sympy_writer(seed: int, learn: Callable[[], Sequence[Problem]]) -> Writer:
    """Return the writer; it learns nothing, and has no chance in it."""
    return SympyWriter()
