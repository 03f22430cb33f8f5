"""The language of rectangles: cells and labels, programs, their texts, and all programs at once as arrays.

A program is four numbers T, D, L, R (top, down, left, right), as text `[1,3,1,4]`: the cell in row i and column j,
counted from 0 at the top left, is inside if T <= i <= D and L <= j <= R. A specification lists cells, each with + for
inside or - for outside, as text `[11+50-34+]`.

Shape legend: E examples of a specification, 2401 programs (four digits 0..6), 36 cells.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import product
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from generator.domains.base import MalformedError, SpecError

SIZE = 6
DIGITS = SIZE + 1  # of a program: 0..6
NUM_PROGRAMS = DIGITS**4
MAX_EXAMPLES = 10_000

_SPEC = re.compile(r"\[((?:[0-9]{2}[+-])*)\]")
_PROGRAM = re.compile(r"\[([0-6]),([0-6]),([0-6]),([0-6])\]")

Program = tuple[int, int, int, int]


class Example(NamedTuple):
    """A cell, and whether it is inside the rectangle."""

    row: int
    column: int
    is_inside: bool


Spec = tuple[Example, ...]


def spec_to_str(spec: Iterable[Example]) -> str:
    """Return the text of a specification.

    >>> spec_to_str([Example(1, 1, True), Example(5, 0, False)])
    '[11+50-]'
    """
    return "[" + "".join(f"{i}{j}{'+' if inside else '-'}" for i, j, inside in spec) + "]"


def read_spec(text: str) -> Spec:
    """Read the text of a specification.

    Raises:
        SpecError: if it is none, has no or too many examples, a cell outside the grid, or examples that no rectangle
            fits
    """
    match = _SPEC.fullmatch(text)
    if match is None:
        raise SpecError(f"the spec {text[:80]!r} is none of this domain; write cells and signs, such as [11+50-34+]")
    body = match[1]
    if not 3 <= len(body) <= 3 * MAX_EXAMPLES:
        raise SpecError(f"the spec has {len(body) // 3:,} examples; give 1 to {MAX_EXAMPLES:,}, such as [11+50-34+]")
    spec = tuple(Example(int(body[k]), int(body[k + 1]), body[k + 2] == "+") for k in range(0, len(body), 3))
    for i, j, _ in spec:
        if max(i, j) >= SIZE:
            raise SpecError(f"the spec has the cell {i}{j}; rows and columns of the grid are 0 to {SIZE - 1}")
    _check_possible(spec)
    return spec


def program_to_str(program: Program) -> str:
    """Return the text of a program.

    >>> program_to_str((1, 3, 1, 4))
    '[1,3,1,4]'
    """
    return f"[{program[0]},{program[1]},{program[2]},{program[3]}]"


def read_program(text: str) -> Program:
    """Read `[T,D,L,R]`, nine characters.

    Raises:
        MalformedError: for every other text
    """
    match = _PROGRAM.fullmatch(text)
    if match is None:
        raise MalformedError("is no program [T,D,L,R] of four digits 0 to 6")
    top, down, left, right = match.groups()
    return int(top), int(down), int(left), int(right)


def is_inside(program: Program, row: int, column: int) -> bool:
    """Run a program on a cell; one with T > D or L > R has nothing inside, and is a program all the same."""
    top, down, left, right = program
    return top <= row <= down and left <= column <= right


def draw_program(rng: random.Random) -> Program:
    """Draw from the prior: T and L of 0..4, then the height of 1..6-T and the width of 1..6-L; D = T + height."""
    top, left = rng.randrange(SIZE - 1), rng.randrange(SIZE - 1)
    return top, top + rng.randint(1, SIZE - top), left, left + rng.randint(1, SIZE - left)


def _check_possible(spec: Spec) -> None:
    """Raise SpecError if no rectangle has all + inside and all - outside."""
    labels: dict[tuple[int, int], bool] = {}
    for i, j, inside in spec:
        if labels.setdefault((i, j), inside) != inside:
            raise SpecError(f"no program exists: cell {i}{j} is both + and -")
    if inside_cells := [cell for cell, inside in labels.items() if inside]:
        rows, columns = zip(*inside_cells, strict=True)
        least = min(rows), max(rows), min(columns), max(columns)  # every rectangle around the + has these cells inside
        for (i, j), inside in labels.items():
            if not inside and is_inside(least, i, j):
                raise SpecError(f"no program exists: cell {i}{j} is -, and lies within the rectangle around all +")


# ------------------------------------------------------------------------------------------------
# All programs at once

PROGRAMS: tuple[Program, ...] = tuple(product(range(DIGITS), repeat=4))  # type: ignore[arg-type]
TEXTS = tuple(program_to_str(program) for program in PROGRAMS)
NUMBER_OF = {text: number for number, text in enumerate(TEXTS)}


@cache
def inside_table() -> npt.NDArray[np.bool_]:
    """Return which cells each program has inside, (36, 2401)."""
    top, down, left, right = np.array(PROGRAMS).T
    rows, columns = (np.array(cells)[:, None] for cells in zip(*product(range(SIZE), repeat=2), strict=True))
    table: npt.NDArray[np.bool_] = (top <= rows) & (rows <= down) & (left <= columns) & (columns <= right)
    return table


@cache
def prior() -> npt.NDArray[np.float64]:
    """Return how probable `draw_program` makes each program, (2401,): 400 of them are above 0."""
    top, down, left, right = np.array(PROGRAMS).T

    def of_side(low: npt.NDArray[np.int64], high: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        is_drawn = (low < SIZE - 1) & (low < high)
        return np.where(is_drawn, 1 / ((SIZE - 1) * np.maximum(1, SIZE - low)), 0.0)

    return of_side(top, down) * of_side(left, right)


def consistent(spec: Sequence[Example]) -> npt.NDArray[np.bool_]:
    """Return which programs hold for a specification, (2401,)."""
    cells = [each.row * SIZE + each.column for each in spec]
    labels = np.array([each.is_inside for each in spec])
    holds: npt.NDArray[np.bool_] = (inside_table()[cells] == labels[:, None]).all(axis=0)
    return holds


def posterior(spec: Sequence[Example]) -> npt.NDArray[np.float64]:
    """Return the probability of each program given a specification, (2401,).

    Where no program of the prior holds, those that hold are equally probable: a single row or column is never drawn.
    """
    holds = consistent(spec)
    weights = prior() * holds
    total = weights.sum()
    shares: npt.NDArray[np.float64] = weights / total if total > 0 else holds / holds.sum()
    return shares
