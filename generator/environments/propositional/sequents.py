"""A goal as the rules of the strategy see it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from generator.environments.propositional.formulas import Formula, Iff, Implies, hypothesis_name
from generator.environments.propositional.goals import Goal
from generator.environments.propositional.intuitionistic import is_provable
from generator.environments.propositional.lemma_use import LemmaIndex
from generator.environments.propositional.terms import Term, print_term

MAX_TERM_LENGTH = 24
"""Length of the longest proof term that a rule writes out, in characters; other rules prove the rest."""


@dataclass(frozen=True)
class Sequent:
    """The first goal as the rules see it: its hypotheses without the propositional variables."""

    hypotheses: tuple[tuple[str, Formula], ...]
    target: Formula
    lemmas: LemmaIndex

    @classmethod
    def of(cls, goal: Goal, lemmas: LemmaIndex) -> "Sequent":
        """Read a goal."""
        pairs = tuple((h.name, h.type) for h in goal.hypotheses if not isinstance(h.type, str))
        return cls(pairs, goal.target, lemmas)

    @cached_property
    def names(self) -> dict[Formula, str]:
        """The oldest hypothesis of each formula."""
        return {formula: name for name, formula in reversed(self.hypotheses)}

    def proves(self, *targets: Formula) -> bool:
        """Tell whether the hypotheses prove every one of `targets`."""
        return all(is_provable(self.names, target) for target in targets)

    def fresh(self, *formulas: Formula, without: str = "") -> list[str]:
        """Return free names for new hypotheses, after what they say; `without` names one that is about to go."""
        taken = {name for name, _ in self.hypotheses if name != without}
        names: list[str] = []
        for formula in formulas:
            names.append(hypothesis_name(formula, taken))
            taken.add(names[-1])
        return names


Rule: TypeAlias = Callable[[Sequent], str | None]
"""Returns the text of a tactic, or None where the rule does not apply."""


def applications(name: str, formula: Formula) -> Iterator[tuple[str, Formula, Formula]]:
    """Yield each way to use a hypothesis as a function: its text, what it takes, what it gives."""
    match formula:
        case Implies(left, right):
            yield name, left, right
        case Iff(left, right):
            yield f"{name}.mp", left, right
            yield f"{name}.mpr", right, left


def short_text(term: Term) -> str | None:
    """Return the text of a proof term; None where it is too long to write out."""
    text = print_term(term)
    return text if len(text) <= MAX_TERM_LENGTH else None
