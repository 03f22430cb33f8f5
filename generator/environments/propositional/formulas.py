"""Propositional formulas, read and printed with Lean 4's own precedences.

`¬` is a prefix of precedence max whose operand is read at 40, `∧` is infixr 35, `∨` infixr 30, `→` infixr 25
and `↔` infix 20 (it does not associate): Init/Prelude.lean and Init/Core.lean of Lean 4.
"""

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

from generator.environments.propositional.syntax import SyntaxProblem, TokenReader, is_name

_NEGATED_PRECEDENCE = 40  # of the operand of ¬


@dataclass(frozen=True, slots=True)
class Formula:
    """A proposition. Immutable and hashable; `str` prints it as Lean does."""

    def __str__(self) -> str:
        return _print(self)


@dataclass(frozen=True, slots=True)
class Atom(Formula):
    """A propositional variable."""

    name: str


@dataclass(frozen=True, slots=True)
class Meta(Formula):
    """A proposition that elaboration has yet to find. Never part of a state."""

    number: int


@dataclass(frozen=True, slots=True)
class Truth(Formula):
    """`True`."""


@dataclass(frozen=True, slots=True)
class Falsity(Formula):
    """`False`."""


@dataclass(frozen=True, slots=True)
class Not(Formula):
    """`¬body`, which Lean defines as `body → False`."""

    body: Formula


@dataclass(frozen=True, slots=True)
class Binary(Formula):
    """A formula with an infix connective."""

    left: Formula
    right: Formula

    symbol: ClassVar[str]
    precedence: ClassVar[int]
    is_right_associative: ClassVar[bool] = True

    def __hash__(self) -> int:
        """Hash the connective too, so that `p ∧ q` and `p ∨ q` do not collide."""
        return hash((self.symbol, self.left, self.right))


class And(Binary):
    """`left ∧ right`."""

    __slots__ = ()
    symbol = "∧"
    precedence = 35


class Or(Binary):
    """`left ∨ right`."""

    __slots__ = ()
    symbol = "∨"
    precedence = 30


class Implies(Binary):
    """`left → right`."""

    __slots__ = ()
    symbol = "→"
    precedence = 25


class Iff(Binary):
    """`left ↔ right`."""

    __slots__ = ()
    symbol = "↔"
    precedence = 20
    is_right_associative = False


_CONNECTIVES: dict[str, type[Binary]] = {kind.symbol: kind for kind in (And, Or, Implies, Iff)}

TRUE = Truth()
FALSE = Falsity()


def parse_formula(text: str) -> Formula:
    """Read a whole formula.

    >>> print(parse_formula("(p ∧ q) → (¬(p))"))
    p ∧ q → ¬p

    Raises:
        SyntaxProblem: if Lean's parser would refuse it, or a name is no plain identifier
    """
    reader = TokenReader(text)
    formula = read_formula(reader)
    reader.expect_end()
    return formula


def read_formula(reader: TokenReader, min_precedence: int = 0) -> Formula:
    """Read the longest formula of at least `min_precedence` (precedence climbing)."""
    left = _read_operand(reader)
    while (kind := _CONNECTIVES.get(reader.peek())) is not None and kind.precedence >= min_precedence:
        reader.next()
        right = read_formula(reader, kind.precedence + (0 if kind.is_right_associative else 1))
        left = kind(left, right)
        if not kind.is_right_associative and reader.peek() == kind.symbol:
            raise SyntaxProblem(f"'{kind.symbol}' does not associate: write parentheses")
    return left


def _read_operand(reader: TokenReader) -> Formula:
    token = reader.next()
    if token == "¬":
        return Not(read_formula(reader, _NEGATED_PRECEDENCE))
    if token == "(":
        formula = read_formula(reader)
        reader.expect(")")
        return formula
    if token == "True":
        return TRUE
    if token == "False":
        return FALSE
    if is_name(token):
        return Atom(token)
    raise SyntaxProblem(f"expected a proposition, found '{token}'")


@lru_cache(maxsize=1 << 16)
def _print(formula: Formula) -> str:
    return _print_at(formula, 0)


def _print_at(formula: Formula, min_precedence: int) -> str:
    if isinstance(formula, Binary):
        left = _print_at(formula.left, formula.precedence + 1)
        right = _print_at(formula.right, formula.precedence + (0 if formula.is_right_associative else 1))
        text = f"{left} {formula.symbol} {right}"
        return f"({text})" if formula.precedence < min_precedence else text
    if isinstance(formula, Not):
        return "¬" + _print_at(formula.body, _NEGATED_PRECEDENCE)
    if isinstance(formula, Atom):
        return formula.name
    if isinstance(formula, Meta):
        return f"?{formula.number}"
    return "True" if isinstance(formula, Truth) else "False"


def unfold_not(formula: Formula) -> Formula:
    """Return `body → False` for `¬body`, anything else unchanged: what Lean's `whnf` does to a proposition."""
    return Implies(formula.body, FALSE) if isinstance(formula, Not) else formula


@lru_cache(maxsize=1 << 16)
def unfold_all(formula: Formula) -> Formula:
    """Return `formula` with every `¬a` replaced by `a → False`, which are equal by definition."""
    if isinstance(formula, Not):
        return Implies(unfold_all(formula.body), FALSE)
    if isinstance(formula, Binary):
        return type(formula)(unfold_all(formula.left), unfold_all(formula.right))
    return formula


def substitute(formula: Formula, values: Mapping[str, Formula]) -> Formula:
    """Replace atoms by name, all at once; atoms without a value stay."""
    if isinstance(formula, Atom):
        return values.get(formula.name, formula)
    if isinstance(formula, Binary):
        return type(formula)(substitute(formula.left, values), substitute(formula.right, values))
    if isinstance(formula, Not):
        return Not(substitute(formula.body, values))
    return formula


def atoms(formula: Formula) -> Iterator[str]:
    """Yield the names of the atoms from left to right, repetitions included."""
    if isinstance(formula, Atom):
        yield formula.name
    elif isinstance(formula, Binary):
        yield from atoms(formula.left)
        yield from atoms(formula.right)
    elif isinstance(formula, Not):
        yield from atoms(formula.body)


def size(formula: Formula) -> int:
    """Return the number of atoms, constants and connectives."""
    if isinstance(formula, Binary):
        return 1 + size(formula.left) + size(formula.right)
    return 1 + size(formula.body) if isinstance(formula, Not) else 1


def hypothesis_name(formula: Formula, taken: Container[str]) -> str:
    """Return a free name for a hypothesis after what it says: hp for p, hnp for ¬p, hpq for p → q or p ∧ q.

    It has the variables as they come, four at most; a second hypothesis of the same name gets a number.
    """
    name = "h" + ("n" if isinstance(formula, Not) else "") + "".join(atoms(formula))[:4]
    number, free = 1, name
    while free in taken:
        number, free = number + 1, f"{name}{number + 1}"
    return free
