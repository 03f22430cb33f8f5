"""Goals: what they hold, how hypotheses join them, and how Lean prints them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final, Literal, TypeAlias

from generator.environments.propositional.formulas import Formula
from generator.environments.propositional.syntax import is_name
from generator.environments.propositional.unification import ElaborationProblem

PROP: Final = "Prop"
"""The type of a propositional variable in a context."""

HypothesisType: TypeAlias = Formula | Literal["Prop"]

MAX_LINE_WIDTH = 100
"""Lean breaks lines at 120 columns; states with lines near that are outside this environment."""


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """`name : type`."""

    name: str
    type: HypothesisType


@dataclass(frozen=True, slots=True)
class Goal:
    """What is to be shown, from which hypotheses (oldest first); `tag` is the name after `case`, or empty."""

    hypotheses: tuple[Hypothesis, ...]
    target: Formula
    tag: str = ""

    def find(self, name: str) -> HypothesisType | None:
        """Return the type of the hypothesis of that name."""
        for hypothesis in self.hypotheses:
            if hypothesis.name == name:
                return hypothesis.type
        return None

    def without(self, name: str) -> tuple[Hypothesis, ...]:
        """Return the hypotheses but the one of that name."""
        return tuple(hypothesis for hypothesis in self.hypotheses if hypothesis.name != name)


def add_hypotheses(goal: Goal, new: Sequence[tuple[str, Formula]], find_constant: Callable[[str], object]) -> Goal:
    """Add hypotheses at the end of the context.

    A name that is taken is refused: Lean would shadow the older hypothesis and print it with a dagger.

    Args:
        goal: what they are added to
        new: their names and what they say
        find_constant: returns the declaration of a name, or None

    Raises:
        ElaborationProblem: if a name is taken by a hypothesis or a lemma, or is not a plain identifier
    """
    taken = {hypothesis.name for hypothesis in goal.hypotheses}
    for name, _ in new:
        if not is_name(name):
            raise ElaborationProblem(f"'{name}' cannot name a hypothesis")
        if name in taken or find_constant(name) is not None:
            raise ElaborationProblem(f"the name '{name}' is taken")
        taken.add(name)
    added = tuple(Hypothesis(name, formula) for name, formula in new)
    return Goal(goal.hypotheses + added, goal.target, goal.tag)


def extend_tag(tag: str, suffix: str) -> str:
    """Append a component to a case tag."""
    return f"{tag}.{suffix}" if tag else suffix


def print_goal(goal: Goal) -> str:
    """Print one goal; consecutive hypotheses of the same type share a line."""
    lines = [f"case {goal.tag}"] if goal.tag else []
    for type_, group in groupby(goal.hypotheses, key=lambda hypothesis: hypothesis.type):
        lines.append(f"{' '.join(hypothesis.name for hypothesis in group)} : {type_}")
    lines.append(f"⊢ {goal.target}")
    return "\n".join(lines)


def print_goals(goals: Iterable[Goal]) -> str:
    """Print goals, separated by blank lines."""
    return "\n\n".join(map(print_goal, goals))
