"""The five tasks of symbolic mathematics as domains: prim_fwd, prim_bwd, prim_ibp, ode1, ode2.

A specification is the prefix words of a problem, a program those of an answer, as in the published files:
`sub Y' mul x cos x` asks for the integral of x*cos(x), and an equation of x, Y, Y', Y'' for what solves it. Answers
are judged in child processes: sympy runs here on no text of a model but to show one that was judged.
"""

from __future__ import annotations

import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from common import check_positive
from generator.domains.base import Domain, DomainOptions, MakeWriter, MalformedError, Problem, SpecError, Verdict
from generator.domains.symbolic.checker import Finding, Question, Step, take_step
from generator.domains.symbolic.explain import explanation, in_infix, statement
from generator.domains.symbolic.judging import judge_all
from generator.domains.symbolic.notation import answer_of_user, equation_of_user, integrand_of_user
from generator.domains.symbolic.options import DrawingOptions, Task
from generator.domains.symbolic.pool import Pool
from generator.domains.symbolic.published import across, curves, sizes
from generator.domains.symbolic.vocabulary import LEAD, UNKNOWN, num_operators
from generator.domains.symbolic.words import check_words, normal
from generator.domains.symbolic.writers import SYMPY, SympyWriter

_NOT_OF_SPECS = ("f", "g", "h", "derivative")
_MOST_WORKERS = 8
_LENGTHS = (10, 20, 50, 100, 200)  # words of a problem, up to which a group goes
_NUM_REFERENCES = 1_000_000


@dataclass(frozen=True)
class SymbolicOptions(DrawingOptions):
    """How problems are drawn, and answers judged.

    Attributes:
        check_timeout_s: seconds of a process for an answer, after which it is not decided
        check_step_s: seconds for one of the steps that judge an answer, such as a simplification
        num_check_workers: processes that judge; by default one for each core, up to 8
        check_memory_mb: that such a process may take, on Linux; beyond it its answer gets the verdict "error"
        sympy_seconds: that the baseline `sympy`, its integrate or dsolve, has for a problem
    """

    check_timeout_s: float = 10.0
    check_step_s: float = 4.0
    num_check_workers: int | None = None
    check_memory_mb: int = 2048
    sympy_seconds: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(check_timeout_s=self.check_timeout_s, check_step_s=self.check_step_s)
        check_positive(num_check_workers=self.num_check_workers, check_memory_mb=self.check_memory_mb)
        check_positive(sympy_seconds=self.sympy_seconds)

    def of_drawing(self) -> DrawingOptions:
        """Return those that decide what is drawn."""
        return DrawingOptions(**{each.name: getattr(self, each.name) for each in fields(DrawingOptions)})


class Symbolic(Domain[str, str]):
    """What the tasks share.

    Attributes:
        task: which; the domain has its name
    """

    Options: ClassVar[type[DomainOptions]] = SymbolicOptions
    options: SymbolicOptions
    task: ClassVar[Task]
    is_slow: ClassVar[bool] = True

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.name, cls.published = cls.task, curves(cls.task)
        cls.published_across, cls.published_sizes = across(cls.task), sizes(cls.task)

    def __init__(self, options: Any = None) -> None:
        super().__init__(options)
        self._references: dict[str, str] = {}

    @property
    def is_equation(self) -> bool:
        """Whether problems are differential equations."""
        return self.task in ("ode1", "ode2")

    # ------------------------------------------------------------------------------------------ texts

    def read_spec(self, text: str) -> str:
        """Check the words of a problem, and return them with one space between each.

        Raises:
            SpecError: if they are none
        """
        words = text.split()
        try:
            check_words(words)
        except MalformedError as error:
            raise SpecError(f"the problem {text[:80]!r} cannot be read: {error}; {self._advice()}") from error
        if wrong := next((word for word in words if word in _NOT_OF_SPECS), ""):
            raise SpecError(f"the problem {text[:80]!r} has the word {wrong!r}; {self._advice()}")
        spec = " ".join(words)
        if self.is_equation and not set(words) & set(UNKNOWN[1:]):
            raise SpecError(f"the problem {text[:80]!r} has no derivative, Y' or Y''; {self._advice()}")
        if not self.is_equation and (not spec.startswith(f"{LEAD} ") or set(words[2:]) & set(UNKNOWN)):
            raise SpecError(f"the problem {text[:80]!r} is no integral; {self._advice()}")
        return spec

    def _advice(self) -> str:
        if self.is_equation:
            return "write an equation as prefix words, such as sub Y' Y for y' - y = 0"
        return "write `sub Y'` and the integrand as prefix words, such as sub Y' mul x cos x"

    def write_spec(self, spec: str) -> str:
        """Return the words."""
        return spec

    def read_program(self, text: str) -> str:
        """Check the words of an answer, and return them with one space between each."""
        words = text.split()
        check_words(words)
        return " ".join(words)

    def write_program(self, program: str) -> str:
        """Return the words."""
        return program

    def key(self, spec: str) -> str:
        """Return the words: drawn and published problems are in sympy's own form."""
        return normal(spec)

    def groups(self, spec: str) -> Mapping[str, str]:
        """By the number of operators, `sub Y'` not counted, and of words."""
        words = spec.split()
        operators = num_operators(words) - (not self.is_equation)
        low = 0 if operators == 0 else (operators - 1) // 5 * 5 + 1
        length = next((limit for limit in _LENGTHS if len(words) <= limit), None)
        first = 1 + max((limit for limit in (0, *_LENGTHS) if limit < len(words)), default=0)
        return {
            "operators": "0" if low == 0 else f"{low}-{low + 4}",
            "words": f"{first} or more" if length is None else f"{first}-{length}",
        }

    def spec_of_user(self, text: str) -> str:
        """Return the problem that a user typed, in prefix words, infix or LaTeX."""
        return equation_of_user(text) if self.is_equation else integrand_of_user(text)

    def program_of_user(self, text: str) -> str:
        """Return the answer that a user typed, in prefix words, infix or LaTeX."""
        return answer_of_user(text)

    def for_user(self, program: str) -> str:
        """Return an answer in infix."""
        return in_infix(program)

    def show(self, spec: str, program: str | None = None) -> str:
        """Return a problem in infix and LaTeX; with an answer, that too, and its derivatives put into the problem."""
        lines = statement(self.read_spec(spec))
        if program is None:
            return lines
        return f"{lines}\n\n{explanation(self.read_spec(spec), program, self.options.check_timeout_s)}"

    # --------------------------------------------------------------------------------------- problems

    @cached_property
    def _drawer(self) -> Any:
        from generator.domains.symbolic.drawing import Drawer

        return Drawer(self.task, self.options.of_drawing())

    def draw(self, rng: random.Random) -> tuple[str, str]:
        """Return a problem and an answer, drawn in a child process."""
        problem = self._drawer.draw(rng)
        return problem.spec, problem.program

    def write_splits(self, folder: Path, sizes: Mapping[Any, int], seed: int, num_workers: int) -> dict[str, Any]:
        """See `drawing.write_splits`."""
        from generator.domains.symbolic.drawing import Drawer, write_splits

        return write_splits(Drawer(self.task, self.options.of_drawing(), num_workers), self.key, folder, sizes, seed)

    # --------------------------------------------------------------------------------------- checking

    @cached_property
    def pool(self) -> Pool[tuple[Step, Question], Finding]:
        """The processes that judge; they start with the first answer."""
        return Pool(take_step, self._num_workers, self.options.check_step_s, max_memory_mb=self.options.check_memory_mb)

    @property
    def _num_workers(self) -> int:
        return self.options.num_check_workers or min(_MOST_WORKERS, _num_cores())

    def expect(self, problems: Sequence[Problem]) -> None:
        """Keep answers that hold for problems: what differs from one by nothing, or a constant, holds too."""
        if len(self._references) + len(problems) > _NUM_REFERENCES:
            self._references.clear()
        self._references.update((normal(problem.spec), normal(problem.program)) for problem in problems)

    def check(self, spec: str, program: str) -> Verdict:
        """Judge an answer; see `check_all`."""
        return self.check_all([(spec, program)])[0]

    def check_all(self, pairs: Sequence[tuple[str, str]]) -> list[Verdict]:
        """Judge answers in child processes.

        Where answers to a problem are known (see `expect`), they are compared with it too.

        Raises:
            SpecError: if a problem is broken
        """
        return self._judged(pairs, self._references)

    def gold_verdicts(self, problems: Sequence[Problem]) -> list[Verdict]:
        """Judge each problem's own answer by substitution alone."""
        return self._judged([(problem.spec, problem.program) for problem in problems], {})

    def _judged(self, pairs: Sequence[tuple[str, str]], references: Mapping[str, str]) -> list[Verdict]:
        verdicts: dict[int, Verdict] = {}
        questions: dict[int, Question] = {}
        for number, (spec, program) in enumerate(pairs):
            read = self._spec(spec)
            try:
                questions[number] = Question(
                    read, self.read_program(program), references.get(read, ""), self.is_equation
                )
            except MalformedError as error:
                verdicts[number] = Verdict("malformed", str(error))
        distinct = list(dict.fromkeys(questions.values()))
        options = self.options
        found = judge_all(self.pool, distinct, limit_s=options.check_timeout_s, step_limit_s=options.check_step_s)
        verdict_of = dict(zip(distinct, found, strict=True))
        verdicts |= {number: verdict_of[question] for number, question in questions.items()}
        return [verdicts[number] for number in range(len(pairs))]

    def refutation(self, spec: str, program: str) -> str:
        """Return why an answer does not hold.

        Raises:
            TimeoutError: if it is not decided
            RuntimeError: if the checker fails
        """
        verdict = self.check(spec, program)
        if verdict.kind == "timeout":
            raise TimeoutError(verdict.message)
        if verdict.kind == "error":
            raise RuntimeError(verdict.message)
        return "" if verdict.holds else verdict.message

    def baselines(self) -> Mapping[str, MakeWriter]:
        """Return sympy's own integrate, or dsolve; it learns nothing, and has no chance in it."""
        return {SYMPY: lambda seed, learn: SympyWriter(self.options.sympy_seconds, self._num_workers)}


class PrimFwd(Symbolic):
    """Integrals that sympy finds."""

    task: ClassVar[Task] = "prim_fwd"
    akin: ClassVar[tuple[str, ...]] = ("prim_bwd", "prim_ibp")


class PrimBwd(Symbolic):
    """Integrals of derivatives."""

    task: ClassVar[Task] = "prim_bwd"
    akin: ClassVar[tuple[str, ...]] = ("prim_fwd", "prim_ibp")


class PrimIbp(Symbolic):
    """Integrals by parts."""

    task: ClassVar[Task] = "prim_ibp"
    akin: ClassVar[tuple[str, ...]] = ("prim_fwd", "prim_bwd")


class Ode1(Symbolic):
    """Differential equations of the first order."""

    task: ClassVar[Task] = "ode1"
    akin: ClassVar[tuple[str, ...]] = ("ode2",)


class Ode2(Symbolic):
    """Differential equations of the second order."""

    task: ClassVar[Task] = "ode2"
    akin: ClassVar[tuple[str, ...]] = ("ode1",)


def _num_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
