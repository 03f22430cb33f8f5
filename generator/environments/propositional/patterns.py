"""Patterns of `rcases`: names, `⟨a, b⟩` and `a | b`."""

from dataclasses import dataclass
from typing import TypeAlias

from generator.environments.propositional.declarations import FindConstant
from generator.environments.propositional.formulas import And, Formula, Iff, Implies, Or
from generator.environments.propositional.goals import Goal, add_hypotheses, extend_tag
from generator.environments.propositional.syntax import SyntaxProblem, TokenReader
from generator.environments.propositional.unification import ElaborationProblem


@dataclass(frozen=True, slots=True)
class TuplePattern:
    """`⟨parts⟩` with at least two parts; `⟨a, b, c⟩` means `⟨a, ⟨b, c⟩⟩`."""

    parts: tuple["Pattern", ...]


@dataclass(frozen=True, slots=True)
class Alternatives:
    """`a | b`; more than two nest to the right."""

    parts: tuple["Pattern", ...]


Pattern: TypeAlias = str | TuplePattern | Alternatives


def read_pattern(reader: TokenReader) -> Pattern:
    """Read a pattern.

    Raises:
        SyntaxProblem: outside the grammar
    """
    parts = [_read_one(reader)]
    while reader.take("|"):
        parts.append(_read_one(reader))
    return parts[0] if len(parts) == 1 else Alternatives(tuple(parts))


def _read_one(reader: TokenReader) -> Pattern:
    if reader.take("("):
        pattern = read_pattern(reader)
        reader.expect(")")
        return pattern
    if not reader.take("⟨"):
        return reader.read_name()
    parts = [read_pattern(reader)]
    while reader.take(","):
        parts.append(read_pattern(reader))
    reader.expect("⟩")
    if len(parts) < 2:
        raise SyntaxProblem("a pattern ⟨...⟩ has at least two parts here")
    return TuplePattern(tuple(parts))


def split_hypothesis(goal: Goal, formula: Formula, pattern: Pattern, find_constant: FindConstant) -> list[Goal]:
    """Add a hypothesis at the end of the context, taken apart as the pattern says, one goal for each case.

    Raises:
        ElaborationProblem: if the pattern does not fit the formula or a name is taken
    """
    if isinstance(pattern, str):
        return [add_hypotheses(goal, [(pattern, formula)], find_constant)]
    first, rest = pattern.parts[0], _rest(pattern)
    if isinstance(pattern, Alternatives):
        if not isinstance(formula, Or):
            raise ElaborationProblem(f"'{formula}' is not a disjunction")
        return [
            new
            for side, part, constructor in ((formula.left, first, "inl"), (formula.right, rest, "inr"))
            for new in split_hypothesis(_with_tag(goal, constructor), side, part, find_constant)
        ]
    if not isinstance(first, str):  # Lean would add the later parts before those of this one
        raise ElaborationProblem("only the last part of ⟨...⟩ can be a pattern here")
    left, right = _components(formula)
    goal = add_hypotheses(_with_tag(goal, "intro"), [(first, left)], find_constant)
    return split_hypothesis(goal, right, rest, find_constant)


def _rest(pattern: TuplePattern | Alternatives) -> Pattern:
    """Return the pattern without its first part."""
    return pattern.parts[1] if len(pattern.parts) == 2 else type(pattern)(pattern.parts[1:])


def _components(formula: Formula) -> tuple[Formula, Formula]:
    """Return what the two components of `a ∧ b` or `a ↔ b` prove."""
    if isinstance(formula, And):
        return formula.left, formula.right
    if isinstance(formula, Iff):
        return Implies(formula.left, formula.right), Implies(formula.right, formula.left)
    raise ElaborationProblem(f"'{formula}' has no two parts")


def _with_tag(goal: Goal, suffix: str) -> Goal:
    return Goal(goal.hypotheses, goal.target, extend_tag(goal.tag, suffix))
