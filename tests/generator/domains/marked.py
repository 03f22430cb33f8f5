"""A domain whose programs say what their verdict is, and results of it, for tests of what is counted and drawn."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from common import Candidate
from generator.domains.base import Domain, MalformedError, Problem, Verdict
from generator.domains.results import evaluate_writer
from generator.domains.synthesize import Synthesizer
from generator.domains.writers import Writer


class Marked(Domain[int, str]):
    """A specification is a number; a program that begins with "yes" or "all" holds, the latter is general."""

    name = "marked"

    def __init__(self, options: Any = None) -> None:
        super().__init__(options)
        self.calls: list[list[tuple[str, str]]] = []

    def draw(self, rng: random.Random) -> tuple[int, str]:
        return rng.randrange(1000), "yes"

    def write_spec(self, spec: int) -> str:
        return str(spec)

    def read_spec(self, text: str) -> int:
        return int(text)

    def write_program(self, program: str) -> str:
        return program

    def read_program(self, text: str) -> str:
        if text.startswith("?"):
            raise MalformedError("no program")
        return text

    def refutation(self, spec: int, program: str) -> str:
        if program.startswith("late"):
            raise TimeoutError
        if program.startswith("boom"):
            raise ArithmeticError("boom")
        return "" if program.startswith(("yes", "all")) else "does not hold"

    def check(self, spec: str, program: str) -> Verdict:
        found = super().check(spec, program)
        is_general = program.startswith("all") if found.holds else None
        return Verdict(found.kind, found.message, found.seconds, is_general)

    def check_all(self, pairs: Sequence[tuple[str, str]]) -> list[Verdict]:
        self.calls.append(list(pairs))
        return super().check_all(pairs)

    def groups(self, spec: int) -> Mapping[str, str]:
        return {"operators": "1-2" if spec < 2 else "3-9" if spec < 10 else "10 or more"}


class SlowlyMarked(Marked):
    """The same with checks that take long."""

    name = "slowly_marked"
    is_slow: ClassVar[bool] = True


class Told(Writer):
    """Proposes for each specification what it is told."""

    is_beam = True

    def __init__(self, programs: Mapping[str, Sequence[str]], name: str = "told") -> None:
        self.programs, self.name, self.asked = programs, name, list[str]()

    def propose(self, specs: Sequence[str], first: int, count: int) -> list[list[Candidate]]:
        self.asked += specs
        return [[(program, -1.0) for program in self.programs[spec][first : first + count]] for spec in specs]


def measured(
    folder: Path, programs: Mapping[str, Sequence[str]], budget: int = 10, name: str = "told", **options: Any
) -> dict[str, Any]:
    """The metrics of a writer on problems whose own program is "yes"."""
    domain, writer = Marked(), Told(programs, name)
    problems = [Problem(spec, "yes") for spec in programs]
    search = Synthesizer(writer, domain, budget, stop_at_first=options.pop("stop_at_first", False))
    return evaluate_writer(writer, domain, problems, search, folder / name, options)
