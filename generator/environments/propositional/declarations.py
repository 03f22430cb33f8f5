"""Declarations: what a `theorem` says, read from its Lean source."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from common import DataError
from generator.environments.propositional.formulas import Formula, Implies, atoms, parse_formula
from generator.environments.propositional.goals import PROP, Goal, Hypothesis
from generator.environments.propositional.syntax import SyntaxProblem, is_name

FindConstant: TypeAlias = Callable[[str], "Declaration | None"]
"""Finds a declaration that may be used by its full name."""

Position: TypeAlias = tuple[int, int]
"""Line and column, both from 1, the column in characters."""


@dataclass(frozen=True, slots=True)
class PropositionBinder:
    """What binds a variable: `{a : Prop}`, which is implicit, or `(a : Prop)`."""

    name: str
    is_implicit: bool


@dataclass(frozen=True)
class Declaration:
    """A named statement.

    Attributes:
        propositions: the variables it is about, which come first
        hypotheses: the named assumptions `(h : a ∧ b)`
        conclusion: what stands after the colon, arrows included
    """

    full_name: str
    propositions: tuple[PropositionBinder, ...]
    hypotheses: tuple[tuple[str, Formula], ...]
    conclusion: Formula

    @cached_property
    def type(self) -> Formula:
        """The hypotheses and the conclusion as one chain of arrows."""
        result = self.conclusion
        for _, formula in reversed(self.hypotheses):
            result = Implies(formula, result)
        return result

    @cached_property
    def argument_names(self) -> tuple[str, ...]:
        """Names of what the first arrows of `type` assume, in order; the other arrows have no names."""
        return tuple(name for name, _ in self.hypotheses)

    def initial_goal(self) -> Goal:
        """Return the goal in which the proof of the theorem begins."""
        variables = [Hypothesis(binder.name, PROP) for binder in self.propositions]
        assumptions = [Hypothesis(name, formula) for name, formula in self.hypotheses]
        return Goal((*variables, *assumptions), self.conclusion)


def parse_signature(full_name: str, text: str) -> Declaration:
    """Read what follows the name of a theorem, such as `{a b : Prop} (h : a ∧ b) : b ∧ a`.

    Raises:
        SyntaxProblem: if it is outside the fragment, or a name is bound twice or not at all
    """
    propositions: list[PropositionBinder] = []
    hypotheses: list[tuple[str, Formula]] = []
    rest = text.strip()
    while rest[:1] in ("(", "{"):
        end = _closing_bracket(rest)
        is_implicit = rest[0] == "{"
        names, colon, type_text = rest[1:end].partition(":")
        if not colon:
            raise SyntaxProblem(f"'{rest[: end + 1]}' is not a binder")
        if type_text.strip() == PROP:
            if hypotheses:
                raise SyntaxProblem("propositions are bound before hypotheses")
            propositions += [PropositionBinder(name, is_implicit) for name in names.split()]
        elif is_implicit:
            raise SyntaxProblem("only propositions are bound implicitly")
        else:
            formula = parse_formula(type_text)
            hypotheses += [(name, formula) for name in names.split()]
        rest = rest[end + 1 :].lstrip()
    if rest[:1] != ":":
        raise SyntaxProblem(f"expected ':' before '{rest[:20]}'")
    declaration = Declaration(full_name, tuple(propositions), tuple(hypotheses), parse_formula(rest[1:]))
    _check_names(declaration)
    return declaration


def _closing_bracket(text: str) -> int:
    """Return where the bracket closes that the text begins with."""
    depth = 0
    for index, character in enumerate(text):
        depth += (character in "({") - (character in ")}")
        if depth == 0:
            return index
    raise SyntaxProblem(f"'{text[0]}' is not closed")


def _check_names(declaration: Declaration) -> None:
    bound = [binder.name for binder in declaration.propositions]
    names = bound + [name for name, _ in declaration.hypotheses]
    bad = [name for name in names if not is_name(name)]
    if bad:
        raise SyntaxProblem(f"'{bad[0]}' cannot name a variable")
    if len(set(names)) < len(names):
        raise SyntaxProblem("a name is bound twice")
    unbound = set(atoms(declaration.type)) - set(bound)
    if unbound:
        raise SyntaxProblem(f"'{min(unbound)}' is not bound")


@dataclass(frozen=True)
class SourceTheorem:
    """A declaration where it stands in a file.

    Attributes:
        statement: what it says; None for a declaration that states nothing, such as `And` itself
        code: the source from the keyword to `:=`, without the proof
        start, end: of the whole declaration; the end is exclusive
        name_start, name_end: of its name
        proof: source of the proof; "" for a declaration of the prelude, which needs none
    """

    full_name: str
    statement: Declaration | None
    code: str
    start: Position
    end: Position
    name_start: Position
    name_end: Position
    proof: str

    @property
    def tactics(self) -> list[str] | None:
        """The tactics of a `by` proof, one a line; None for a term proof."""
        first, _, rest = self.proof.partition("\n")
        if first.strip() != "by":
            return None
        return [line.strip() for line in rest.splitlines()]


def parse_theorems(source: str, file_name: str) -> Iterator[SourceTheorem]:
    """Yield the theorems of a file, which are separated by blank lines.

    Raises:
        DataError: naming file and line where a theorem is outside the fragment
    """
    lines = source.splitlines()
    line = 0
    while line < len(lines):
        if not lines[line].startswith("theorem "):
            line += 1
            continue
        end = line
        while end + 1 < len(lines) and lines[end + 1].strip():
            end += 1
        try:
            yield _parse_theorem(lines[line : end + 1], line + 1)
        except SyntaxProblem as problem:
            raise DataError(f"{file_name}:{line + 1}: {problem}") from problem
        line = end + 1


def _parse_theorem(lines: list[str], first_line: int) -> SourceTheorem:
    text = "\n".join(lines)
    statement, assign, proof = text.partition(":=")
    if not assign or not proof.strip():
        raise SyntaxProblem("a theorem needs ':=' and a proof")
    keyword, name, *_ = statement.split()
    signature = " ".join(statement[len(keyword) + 1 + len(name) :].split())
    name_column = len(keyword) + 2
    return SourceTheorem(
        full_name=name,
        statement=parse_signature(name, signature),
        code=statement + assign,
        start=(first_line, 1),
        end=(first_line + len(lines) - 1, len(lines[-1]) + 1),
        name_start=(first_line, name_column),
        name_end=(first_line, name_column + len(name)),
        proof=proof.strip(),
    )
