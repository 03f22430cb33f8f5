"""The strategy that proves the theorems of the built-in dataset.

One fixed list of rules with fixed priorities and canonical names, so that the next tactic is a function of the
first goal. First come the ways to close a goal, then the rules that lose nothing, then those that choose, where
the decision procedure says what leads on. The text of a tactic is all that a rule returns; the environment runs it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from generator.environments.propositional.formulas import (
    FALSE,
    TRUE,
    And,
    Binary,
    Formula,
    Iff,
    Implies,
    Not,
    Or,
    hypothesis_name,
)
from generator.environments.propositional.goals import Goal
from generator.environments.propositional.intuitionistic import is_provable, prove
from generator.environments.propositional.lemma_use import LemmaIndex
from generator.environments.propositional.terms import Apply, Name, print_term

MAX_TERM_LENGTH = 24
"""Longest proof term that the strategy writes out, in characters; longer proofs go another way."""


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
        """Return free names for new hypotheses, which tell what they say; `without` is about to go."""
        taken = {name for name, _ in self.hypotheses if name != without}
        names: list[str] = []
        for formula in formulas:
            names.append(hypothesis_name(formula, taken))
            taken.add(names[-1])
        return names


Rule: TypeAlias = Callable[[Sequent], str | None]


def next_tactic(goal: Goal, lemmas: LemmaIndex) -> str | None:
    """Return the tactic for a provable goal; None where the strategy has no short one."""
    sequent = Sequent.of(goal, lemmas)
    for rule in _RULES:
        tactic = rule(sequent)
        if tactic is not None:
            return tactic
    return None


# Closing the goal


def _close_by_hypothesis(sequent: Sequent) -> str | None:
    if sequent.target == TRUE:
        return "trivial"
    return "assumption" if sequent.target in sequent.names else None


def _close_by_contradiction(sequent: Sequent) -> str | None:
    if FALSE in sequent.names:
        return "contradiction"
    for name, formula in sequent.hypotheses:
        if isinstance(formula, Not) and (other := sequent.names.get(formula.body)) is not None:
            return f"exact absurd {other} {name}" if isinstance(sequent.target, Binary) else "contradiction"
    return None


def _close_by_part(sequent: Sequent) -> str | None:
    target = sequent.target
    for name, formula in sequent.hypotheses:
        match formula:
            case And(left, right):
                if target in (left, right):
                    return f"exact {name}.{1 if target == left else 2}"
            case Iff(left, right):
                if target in (Implies(left, right), Implies(right, left)):
                    return f"exact {name}.{'mp' if target == Implies(left, right) else 'mpr'}"
    return None


def _close_by_application(sequent: Sequent) -> str | None:
    target = sequent.target
    for name, formula in sequent.hypotheses:
        for function, condition, result in _applications(name, formula):
            argument = sequent.names.get(condition)
            if argument is None:
                continue
            if result == target:
                return f"exact {function} {argument}"
            match result:
                case Implies(second, final) if final == target and second in sequent.names:
                    return f"exact {function} {argument} {sequent.names[second]}"
    return None


def _applications(name: str, formula: Formula) -> Iterator[tuple[str, Formula, Formula]]:
    """Yield each way to use a hypothesis as a function: its text, what it takes, what it gives."""
    match formula:
        case Implies(left, right):
            yield name, left, right
        case Iff(left, right):
            yield f"{name}.mp", left, right
            yield f"{name}.mpr", right, left


def _close_by_constructor(sequent: Sequent) -> str | None:
    names = sequent.names
    match sequent.target:
        case And(left, right) if left in names and right in names:
            return f"exact ⟨{names[left]}, {names[right]}⟩"
        case Or(left, _) if left in names:
            return f"exact Or.inl {names[left]}"
        case Or(_, right) if right in names:
            return f"exact Or.inr {names[right]}"
    return None


def _close_by_lemma(sequent: Sequent) -> str | None:
    return sequent.lemmas.close(sequent.hypotheses, sequent.target)


# Rules that lose nothing


def _simplify_target(sequent: Sequent) -> str | None:
    match sequent.target:
        case Not(Or()):
            return "refine not_or.mpr ⟨?_, ?_⟩"
        case Not(And()):
            return "apply not_and.mpr"
        case Not(Not(Not())):
            return "apply not_not_not.mpr"
        case Not(Not(body)) if sequent.proves(body):
            return "apply not_not_intro"
        case Not(body):
            for name, formula in sequent.hypotheses:
                match formula:
                    case Implies(left, right) if left == body and sequent.proves(Not(right)):
                        return f"apply mt {name}"
        case Implies(Or(), _):
            return "refine or_imp.mpr ⟨?_, ?_⟩"
        case Implies(And(), _):
            return "refine and_imp.mpr ?_"
    return None


def _introduce(sequent: Sequent) -> str | None:
    """Introduce one hypothesis, or all at once where there are none yet."""
    target = sequent.target
    if isinstance(target, Not):
        return f"intro {sequent.fresh(target.body)[0]}"
    formulas: list[Formula] = []
    while isinstance(target, Implies) and not isinstance(target.left, And | Or):
        formulas.append(target.left)
        target = target.right
    if sequent.hypotheses:
        formulas = formulas[:1]
    return f"intro {' '.join(sequent.fresh(*formulas))}" if formulas else None


def _split_conjunction(sequent: Sequent) -> str | None:
    for name, formula in sequent.hypotheses:
        if isinstance(formula, And):
            parts, last = [formula.left], formula.right
            while isinstance(last, And):
                parts, last = [*parts, last.left], last.right
            return f"rcases {name} with ⟨{', '.join(sequent.fresh(*parts, last, without=name))}⟩"
    return None


def _simplify_hypothesis(sequent: Sequent) -> str | None:
    for name, formula in sequent.hypotheses:
        tactic = _simplified(sequent, name, formula)
        if tactic is not None:
            return tactic
    return None


def _simplified(sequent: Sequent, name: str, formula: Formula) -> str | None:
    names = sequent.names
    match formula:
        case Not(Or(left, right)) if Not(left) not in names or Not(right) not in names:
            first, second = sequent.fresh(Not(left), Not(right))
            return f"rcases not_or.mp {name} with ⟨{first}, {second}⟩"
        case Not(And(left, right)):
            if left in names and Not(right) not in names:
                return _have(sequent, Not(right), f"not_and.mp {name} {names[left]}")
            if right in names and Not(left) not in names:
                return _have(sequent, Not(left), f"not_and'.mp {name} {names[right]}")
        case Not(Not(Not(body))) if Not(body) not in names:
            return _have(sequent, Not(body), f"not_not_not.mp {name}")
        case Not(Implies(_, right)) if Not(right) not in names:
            return _have(sequent, Not(right), f"not_of_not_imp {name}")
        case Implies(Or(left, right), end) if Implies(left, end) not in names or Implies(right, end) not in names:
            first, second = sequent.fresh(Implies(left, end), Implies(right, end))
            return f"rcases or_imp.mp {name} with ⟨{first}, {second}⟩"
        case Implies(And(left, right), end) if Implies(left, Implies(right, end)) not in names:
            return _have(sequent, Implies(left, Implies(right, end)), f"and_imp.mp {name}")
        case Or(left, right):
            if Not(left) in names and right not in names:
                return _have(sequent, right, f"Or.resolve_left {name} {names[Not(left)]}")
            if Not(right) in names and left not in names:
                return _have(sequent, left, f"Or.resolve_right {name} {names[Not(right)]}")
    return None


def _have(sequent: Sequent, formula: Formula, term: str) -> str:
    return f"have {sequent.fresh(formula)[0]} := {term}"


def _forward(sequent: Sequent) -> str | None:
    names = sequent.names
    for name, formula in sequent.hypotheses:
        for function, condition, result in _applications(name, formula):
            if condition in names and result not in names:
                return _have(sequent, result, f"{function} {names[condition]}")
    for name, formula in sequent.hypotheses:
        match formula:
            case Implies(left, right) if Not(right) in names and Not(left) not in names:
                return _have(sequent, Not(left), f"mt {name} {names[Not(right)]}")
    return None


def _split_target(sequent: Sequent) -> str | None:
    match sequent.target:
        case And() | Iff():
            return "constructor"
    return None


def _split_disjunction(sequent: Sequent) -> str | None:
    for name, formula in sequent.hypotheses:
        if isinstance(formula, Or):
            parts, last = [formula.left], formula.right
            while isinstance(last, Or):
                parts, last = [*parts, last.left], last.right
            # each case has a context of its own
            names = [sequent.fresh(part, without=name)[0] for part in (*parts, last)]
            return f"rcases {name} with {' | '.join(names)}"
    return None


# Rules that choose


def _choose_side(sequent: Sequent) -> str | None:
    match sequent.target:
        case Or(left, right):
            if sequent.proves(left):
                return "left"
            if sequent.proves(right):
                return "right"
    return None


def _apply_hypothesis(sequent: Sequent) -> str | None:
    target = sequent.target
    for name, formula in sequent.hypotheses:
        if target == FALSE and isinstance(formula, Not) and sequent.proves(formula.body):
            return f"apply {name}"
        for function, condition, result in _applications(name, formula):
            if result == target and sequent.proves(condition):
                return f"apply {function}"
            match result:
                case Implies(second, final) if final == target and sequent.proves(condition, second):
                    return f"apply {function}"
    return None


def _leave_target(sequent: Sequent) -> str | None:
    return "exfalso" if sequent.target != FALSE and sequent.proves(FALSE) else None


def _use_implication(sequent: Sequent) -> str | None:
    """State what a hypothesis gives once its condition, which no hypothesis says, is proved."""
    for name, formula in sequent.hypotheses:
        for function, condition, result in _applications(name, formula):
            if result in sequent.names or not sequent.proves(condition):
                continue
            argument = prove(sequent.hypotheses, condition)
            assert argument is not None
            text = print_term(Apply(Name(function), (argument,)))
            if len(text) <= MAX_TERM_LENGTH:
                return f"have {sequent.fresh(result)[0]} : {result} := {text}"
    return None


def _write_term(sequent: Sequent) -> str | None:
    term = prove(sequent.hypotheses, sequent.target)
    text = "" if term is None else print_term(term)
    return f"exact {text}" if 0 < len(text) <= MAX_TERM_LENGTH else None


_RULES: list[Rule] = [
    _close_by_hypothesis,
    _close_by_contradiction,
    _close_by_lemma,
    _simplify_target,
    _introduce,
    _close_by_part,
    _close_by_application,
    _split_conjunction,
    _close_by_constructor,
    _simplify_hypothesis,
    _forward,
    _split_target,
    _split_disjunction,
    _choose_side,
    _apply_hypothesis,
    _leave_target,
    _use_implication,
    _write_term,
]
