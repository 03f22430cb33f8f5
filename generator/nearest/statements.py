"""What a lemma or a hypothesis says, as far as its text tells: what it binds, and its conclusion.

Shape legend: T tokens.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

from generator.nearest.features import looks_local

Tokens = tuple[str, ...]

OPEN, CLOSE = frozenset("([{"), frozenset(")]}")

_EQUIVALENCES = ("<->", "↔")
_TOKEN = re.compile(r"[^\W\d][\w']*(?:\.[^\W\d][\w']*)*|\d+|[()\[\]{}]|[^\w\s()\[\]{}]+")
_SCOPE = re.compile(r"%\w+")
_COMMENT = re.compile(r"\(\*.*?\*\)|/-.*?-/", re.DOTALL)
_DECLARES = frozenset(
    ("Lemma", "Theorem", "Corollary", "Fact", "Remark", "Proposition", "Property", "Example", "Definition", "Let")
    + ("Axiom", "Parameter", "Hypothesis", "Variable", "Conjecture", "Instance", "Program", "Local", "Global")
    + ("theorem", "lemma", "def", "axiom", "instance", "protected", "private", "noncomputable", "abbrev", "nonrec")
)
_LONGEST = 2000  # tokens of a statement that are read
_ARROWS = frozenset(("->", "→"))
_FOR_ALL = frozenset(("forall", "∀"))
_BINDS = _FOR_ALL | {"exists", "∃", "fun", "λ"}
# what a statement is by the symbol that stands outside of all parentheses, the weakest first
_KINDS = {
    "implication": _ARROWS,
    "equivalence": frozenset(_EQUIVALENCES),
    "disjunction": frozenset(("\\/", "∨")),
    "conjunction": frozenset(("/\\", "∧")),
    "equation": frozenset(("=",)),
    "equality": frozenset(("==", "===", "≡", "≈")),
    "order": frozenset(("<", "<=", "≤", ">", ">=", "≥")),
}
_BEGINS = dict.fromkeys(_FOR_ALL, "universal") | {"exists": "existential", "∃": "existential", "False": "absurdity"}
_BEGINS |= {"~": "negation", "¬": "negation"}
KINDS = (*_KINDS, *dict.fromkeys(_BEGINS.values()), "other")
_ALL_SYMBOLS = frozenset().union(*_KINDS.values())
_RELATIONS = (*_EQUIVALENCES, "=", "==", "<=>", "===", "~", "=~=", "[=]", "≡", "≈", "=?")  # what may be rewritten with


@dataclass(frozen=True)
class Statement:
    """What a lemma or a hypothesis says.

    Attributes:
        bound: names that stand for anything
        conclusion: what stands behind the last arrow, (T,)
    """

    bound: frozenset[str]
    conclusion: Tokens

    @cached_property
    def sides(self) -> tuple[Tokens, Tokens] | None:
        """Left and right of the relation that the conclusion is; None if it is none."""
        for relation in _RELATIONS:
            for place in _outside(self.conclusion, {relation}):
                if 0 < place < len(self.conclusion) - 1:
                    return self.conclusion[:place], self.conclusion[place + 1 :]
        return None

    @property
    def is_equivalence(self) -> bool:
        """Whether either side may be applied."""
        return self.sides is not None and kind_of(self.conclusion) == "equivalence"

    def constants_of(self, part: Tokens) -> Tokens:
        """Return the names, numbers and symbols of a part of the conclusion that are not bound."""
        return tuple(token for token in part if token not in self.bound and token not in OPEN and token not in CLOSE)


def tokens(text: str) -> Tokens:
    """Return names with their modules, numbers, parentheses and symbols of a text; names of scopes are left out.

    >>> tokens("(x + Nat.succ 0)%nat")
    ('(', 'x', '+', 'Nat.succ', '0', ')')
    """
    return tuple(_TOKEN.findall(_SCOPE.sub("", text)))


@lru_cache(maxsize=50_000)
def stated(code: str) -> Statement | None:
    """Read the code of a premise; None if it is no declaration with a type.

    What looks like the name of a variable is taken for bound, since sections bind names elsewhere.

    >>> stated("Lemma add_comm (n m : nat) : n + m = m + n.").conclusion
    ('n', '+', 'm', '=', 'm', '+', 'n')
    """
    found, at = tokens(_COMMENT.sub(" ", code)), 0
    while at < len(found) and found[at] in ("#", "@"):  # attributes
        at = found.index("]", at) + 1 if "]" in found[at:] else len(found)
    first = at
    while at < len(found) and found[at] in _DECLARES:
        at += 1
    colon = next(iter(_outside(found[at:], {":"})), None)
    if at == first or colon is None:
        return None
    binders, said = found[at + 1 : at + colon], found[at + colon + 1 :]
    said = said[: next(iter(_outside(said, {":="})), len(said))]
    if said[-1:] == (".",):
        said = said[:-1]
    return read(said, frozenset((*_bound(binders), *filter(looks_local, said))))


@lru_cache(maxsize=50_000)
def stated_type(text: str) -> Statement:
    """Read the type of a hypothesis."""
    return read(tokens(text), frozenset())


def read(said: Tokens, bound: frozenset[str] = frozenset()) -> Statement:
    """Read the first tokens of a statement that binds these names around it."""
    said = said[:_LONGEST]
    while True:
        if front := _in_front(said):
            bound |= front.names
            said = front.rest
        elif said[:1] == ("(",) and _is_enclosed(said):
            said = said[1:-1]
        else:
            return Statement(bound, said)


def kind_of(said: Tokens) -> str:
    """Return which of `KINDS` a statement is.

    >>> kind_of(tokens("x = y ∨ x < y")), kind_of(tokens("forall x, x = x")), kind_of(tokens("Even n"))
    ('disjunction', 'universal', 'other')
    """
    if said[:1] and said[0] in _BEGINS:
        return _BEGINS[said[0]]
    outside = {said[place] for place in _outside(said, _ALL_SYMBOLS)}
    return next((kind for kind, symbols in _KINDS.items() if symbols & outside), "other")


def number_bound(said: Tokens) -> int:
    """Return how many names and premises stand in front of a statement's conclusion.

    >>> number_bound(tokens("forall x y, x = y -> y = x"))
    3
    """
    number, said = 0, said[:_LONGEST]
    while front := _in_front(said):
        number, said = number + front.number, front.rest
    return number


class _Front(NamedTuple):
    """What a statement begins with: the names that it binds, how many things these or a premise are, and the rest."""

    names: frozenset[str]
    number: int
    rest: Tokens


def _in_front(said: Tokens) -> _Front | None:
    """The binders or the premise in front of the rest; None where the conclusion begins."""
    if said[:1] and said[0] in _FOR_ALL and (comma := next(iter(_outside(said, {","})), None)):
        names = [*_bound(said[1:comma])]
        return _Front(frozenset(names), len(names), said[comma + 1 :])
    if arrow := next(iter(_outside(said, _ARROWS)), None):
        return _Front(frozenset(), 1, said[arrow + 1 :])
    return None


def _outside(found: Sequence[str], wanted: Collection[str]) -> Iterator[int]:
    """Places of tokens outside of parentheses, and in front of what is bound further in."""
    depth = 0
    for place, token in enumerate(found):
        depth += (token in OPEN) - (token in CLOSE)
        if depth == 0:
            if token in wanted:
                yield place
            if token in _BINDS and (place or token not in _FOR_ALL):
                return


def _is_enclosed(said: Tokens) -> bool:
    """Whether the first parenthesis is closed by the last one."""
    depth = 0
    for place, token in enumerate(said):
        depth += (token in OPEN) - (token in CLOSE)
        if depth == 0:
            return place == len(said) - 1
    return False


def _bound(binders: Sequence[str]) -> Iterator[str]:
    """The names that binders bind, without their types."""
    in_type = [False]
    for token in binders:
        if token in OPEN:
            in_type.append(in_type[-1])
        elif token in CLOSE and len(in_type) > 1:
            in_type.pop()
        elif token == ":":
            in_type[-1] = True
        elif not in_type[-1] and (token[0].isalpha() or token[0] == "_"):
            yield token
