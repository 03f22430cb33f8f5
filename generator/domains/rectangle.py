"""Rectangles on a 6 x 6 grid from labelled cells: the domain of the program-synthesis primer (E. Pu, 2022).

`rectangle_dsl` says what specifications and programs are, `rectangle_writers` has the writers of the series.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from common import ConfigError
from generator.domains.base import Domain, DomainOptions, MakeWriter, PublishedCurve
from generator.domains.rectangle_dsl import (
    MAX_EXAMPLES,
    SIZE,
    TEXTS,
    Example,
    Program,
    Spec,
    draw_program,
    is_inside,
    posterior,
    program_to_str,
    read_program,
    read_spec,
    spec_to_str,
)
from generator.domains.rectangle_writers import BASELINES

__all__ = ["Program", "Rectangle", "RectangleOptions", "Spec", "program_to_str", "spec_to_str"]


@dataclass(frozen=True)
class RectangleOptions(DomainOptions):
    """How problems are drawn.

    Attributes:
        max_examples: cells of a specification are 1 to this many, each number as likely. The primer's own examples and
            curves have up to 20, its text says 10
    """

    max_examples: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.max_examples <= MAX_EXAMPLES:
            raise ConfigError(f"max_examples is {self.max_examples}; it must be from 1 to {MAX_EXAMPLES:,}")


class Rectangle(Domain[Spec, Program]):
    """See the module."""

    name: ClassVar[str] = "rectangle"
    Options: ClassVar[type[DomainOptions]] = RectangleOptions
    options: RectangleOptions

    def draw(self, rng: random.Random) -> tuple[Spec, Program]:
        """Return a rectangle of the prior, and cells drawn with replacement."""
        program = draw_program(rng)
        cells = (divmod(rng.randrange(SIZE * SIZE), SIZE) for _ in range(rng.randint(1, self.options.max_examples)))
        return tuple(Example(i, j, is_inside(program, i, j)) for i, j in cells), program

    def write_spec(self, spec: Spec) -> str:
        """See `spec_to_str`."""
        return spec_to_str(spec)

    def read_spec(self, text: str) -> Spec:
        """See `rectangle_dsl.read_spec`."""
        return read_spec(text)

    def write_program(self, program: Program) -> str:
        """Return `[T,D,L,R]`."""
        return program_to_str(program)

    def read_program(self, text: str) -> Program:
        """See `rectangle_dsl.read_program`."""
        return read_program(text)

    def refutation(self, spec: Spec, program: Program) -> str:
        """Name the first cell that is on the wrong side."""
        top, down, left, right = program
        for i, j, wanted in spec:
            if (top <= i <= down and left <= j <= right) != wanted:
                return f"cell {i}{j} must be {'inside' if wanted else 'outside'}"
        return ""

    def key(self, spec: Spec) -> str:
        """Return the examples in order, each once."""
        return spec_to_str(sorted(set(spec)))

    def baselines(self) -> Mapping[str, MakeWriter]:
        """See `rectangle_writers`."""
        return BASELINES

    def posterior(self, spec: str) -> Mapping[str, float]:
        """Return the prior over the 400 programs of `draw`, of those that hold."""
        weights = posterior(self._spec(spec))
        return {TEXTS[k]: float(weights[k]) for k in weights.nonzero()[0]}

    def groups(self, spec: Spec) -> Mapping[str, str]:
        """By the number of examples, and whether one is inside."""
        low = (len(spec) - 1) // 5 * 5 + 1
        return {
            "examples": f"{low}-{low + 4}",
            "inside": "some inside" if any(each.is_inside for each in spec) else "none inside",
        }

    def show(self, spec: str, program: str | None = None) -> str:
        """Draw the grid: + and - are examples, . other cells; what a program has inside stands in brackets."""
        labels = {(i, j): "+" if inside else "-" for i, j, inside in self._spec(spec)}
        rectangle = None if program is None else self.read_program(program)
        lines = ["    " + "".join(f"{j}  " for j in range(SIZE)).rstrip()]
        for i in range(SIZE):
            cells = ""
            for j in range(SIZE):
                mark = labels.get((i, j), ".")
                cells += f"[{mark}]" if rectangle is not None and is_inside(rectangle, i, j) else f" {mark} "
            lines.append(f" {i} {cells}".rstrip())
        return "\n".join(lines)

    # read off the figures of the posts, to about 0.005
    published: ClassVar[tuple[PublishedCurve, ...]] = (
        PublishedCurve(
            "dsl", "DSL, primer", {1: 0.171, 2: 0.197, 5: 0.227, 10: 0.268, 19: 0.337, 50: 0.459, 99: 0.585}
        ),
        PublishedCurve(
            "tight", "tight, primer", {1: 0.109, 2: 0.187, 5: 0.337, 10: 0.463, 19: 0.584, 50: 0.746, 99: 0.836}
        ),
        PublishedCurve(
            "manual", "manual, primer", {1: 0.343, 2: 0.403, 5: 0.501, 10: 0.609, 19: 0.693, 50: 0.792, 99: 0.868}
        ),
        PublishedCurve(
            "unigram_as_published",
            "unigram, primer",
            {1: 0.334, 2: 0.469, 5: 0.662, 10: 0.789, 19: 0.882, 50: 0.939, 99: 0.962},
        ),
        PublishedCurve(
            "model",
            "ByT5-base, primer",
            {1: 0.429, 2: 0.64, 3: 0.745, 5: 0.845, 7: 0.918, 10: 0.947, 15: 0.98, 19: 0.986},
        ),
    )
