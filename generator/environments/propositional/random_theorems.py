"""Random statements for the built-in dataset, which are provable and not trivial."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from generator.environments.propositional.declarations import Declaration
from generator.environments.propositional.formulas import (
    FALSE,
    TRUE,
    And,
    Atom,
    Binary,
    Formula,
    Iff,
    Implies,
    Not,
    Or,
    atoms,
    hypothesis_name,
    size,
    substitute,
)
from generator.environments.propositional.intuitionistic import is_provable
from generator.environments.propositional.lemma_files import Library
from generator.environments.propositional.lemma_use import CLOSING_LEMMAS

ATOM_NAMES = "pqrstuvw"
"""Names of the propositional variables, given in the order of their first occurrence."""

START_SIZE = 9
"""Size of the largest statements, in atoms, constants and connectives, until few new ones of that size are found."""

_START_ATOMS, _MAX_ATOMS = 3, 5
_LEMMA_SHARE = 0.55  # of the statements grow from a lemma; the rest is random


@dataclass(frozen=True, slots=True)
class Statement:
    """Hypotheses without names, and what is to be proved."""

    hypotheses: tuple[Formula, ...]
    target: Formula

    def canonical(self) -> "Statement":
        """Return the statement with its variables renamed in the order of their first occurrence."""
        names = dict.fromkeys(name for formula in (*self.hypotheses, self.target) for name in atoms(formula))
        renaming: dict[str, Formula] = {name: Atom(new) for name, new in zip(names, ATOM_NAMES, strict=False)}
        return Statement(
            tuple(substitute(formula, renaming) for formula in self.hypotheses),
            substitute(self.target, renaming),
        )

    def key(self) -> Formula:
        """Return a formula that is the same for statements that differ only in names, or in what is a hypothesis."""
        chain = self.canonical().target
        for formula in reversed(self.canonical().hypotheses):
            chain = Implies(formula, chain)
        return chain

    def variables(self) -> list[str]:
        """Return the variables in the order of their first occurrence."""
        return list(dict.fromkeys(n for formula in (*self.hypotheses, self.target) for n in atoms(formula)))

    def size(self) -> int:
        """Return the size of all formulas together."""
        return sum(map(size, self.hypotheses)) + size(self.target)

    def signature(self) -> str:
        """Print the statement as Lean's binders and type, hypotheses named by what they say."""
        variables = self.variables()
        binders = [f"({' '.join(variables)} : Prop)"] if variables else []
        names: list[str] = []
        for formula in self.hypotheses:
            names.append(hypothesis_name(formula, names))
        binders += [f"({name} : {formula})" for name, formula in zip(names, self.hypotheses, strict=True)]
        return f"{' '.join(binders)} : {self.target}".lstrip()


class StatementSampler:
    """Draws provable statements in canonical form.

    Args:
        library: whose lemmas some statements grow from
        rng: the only source of randomness
    """

    def __init__(self, library: Library, rng: random.Random) -> None:
        """Collect the lemmas."""
        self._rng = rng
        self._max_size, self._max_atoms = START_SIZE, _START_ATOMS
        places = [library.find(name) for name in CLOSING_LEMMAS]
        self._lemmas = [place[1].statement for place in places if place is not None and place[1].statement]
        self._lemma_weights = [1 / (rank + 4) for rank in range(len(self._lemmas))]

    def grow(self) -> None:
        """Allow larger statements from now on."""
        self._max_size += 1
        self._max_atoms = min(self._max_atoms + 1, _MAX_ATOMS)

    def sample(self) -> Statement:
        """Return the next statement."""
        while True:
            if self._rng.random() < _LEMMA_SHARE:
                statement = self._vary(self._from_lemma())
            else:
                statement = self._random_statement()
            statement = self._drop_unused(statement)
            if self._is_interesting(statement):
                return self._maybe_revert(statement).canonical()

    def _is_interesting(self, statement: Statement) -> bool:
        num_variables = len(statement.variables())
        if statement.size() > self._max_size or not 1 <= num_variables <= self._max_atoms:
            return False
        if num_variables == 1 and self._rng.random() > 0.1:
            return False
        if statement.target in statement.hypotheses:
            return False
        if not is_provable(statement.hypotheses, statement.target):
            return False
        return self._rng.random() < 0.15 or not is_provable(statement.hypotheses, FALSE)

    def _from_lemma(self) -> Statement:
        """Return an instance of a lemma: its hypotheses as hypotheses, one direction of an equivalence."""
        rng = self._rng
        declaration: Declaration = rng.choices(self._lemmas, self._lemma_weights)[0]
        values = self._instance(declaration)
        hypotheses = [substitute(formula, values) for _, formula in declaration.hypotheses]
        target = substitute(declaration.conclusion, values)
        if isinstance(target, Iff) and rng.random() < 0.75:
            left, right = (target.left, target.right) if rng.random() < 0.5 else (target.right, target.left)
            hypotheses.append(left)
            target = right
        while isinstance(target, Implies) and rng.random() < 0.7:
            hypotheses.append(target.left)
            target = target.right
        return Statement(tuple(hypotheses), target)

    def _instance(self, declaration: Declaration) -> dict[str, Formula]:
        names = [binder.name for binder in declaration.propositions]
        values: dict[str, Formula] = {name: Atom(atom) for name, atom in zip(names, ATOM_NAMES, strict=False)}
        if names and self._rng.random() < 0.45:
            values[self._rng.choice(names)] = self._formula(1, len(names) + 1)
        return values

    def _vary(self, statement: Statement) -> Statement:
        """Change an instance of a lemma a little, most of the time, so that the lemma alone is not the proof."""
        rng = self._rng
        new = Atom(ATOM_NAMES[min(len(statement.variables()), self._max_atoms - 1)])
        kind = rng.random()
        if kind < 0.35:
            return statement
        if kind < 0.45:
            return replace(
                statement,
                target=Or(statement.target, new) if rng.random() < 0.5 else Or(new, statement.target),
            )
        if kind < 0.6:
            pair = And(statement.target, new) if rng.random() < 0.5 else And(new, statement.target)
            return Statement((*statement.hypotheses, new), pair)
        if kind < 0.75:
            return Statement((*statement.hypotheses, Implies(statement.target, new)), new)
        if kind < 0.82:
            return Statement((*statement.hypotheses, Not(statement.target)), new if rng.random() < 0.5 else FALSE)
        if kind < 0.9 and statement.hypotheses:
            first, *others = statement.hypotheses
            return Statement((*others, And(first, new)), statement.target)
        if statement.hypotheses:
            first, *others = statement.hypotheses
            return Statement((Implies(new, first), new, *others), statement.target)
        return statement

    def _random_statement(self) -> Statement:
        rng = self._rng
        num_atoms = rng.choice([2, 3, 3, 4])
        for _ in range(200):
            hypotheses = tuple(
                self._formula(rng.choice([1, 1, 1, 2]), num_atoms) for _ in range(rng.choice([1, 1, 2, 2, 3]))
            )
            target = self._formula(rng.choice([0, 1, 1, 1, 2]), num_atoms)
            if target not in hypotheses and is_provable(hypotheses, target):
                return Statement(hypotheses, target)
        return Statement((Atom("p"),), And(Atom("p"), TRUE))

    def _formula(self, depth: int, num_atoms: int) -> Formula:
        rng = self._rng
        if depth == 0 or rng.random() < 0.1:
            if rng.random() < 0.02:
                return rng.choice([TRUE, FALSE])
            return Atom(ATOM_NAMES[rng.randrange(num_atoms)])
        kind: type[Formula] = rng.choices([And, Or, Implies, Iff, Not], [5, 5, 5, 1, 3])[0]
        if kind is Not:
            return Not(self._formula(depth - 1, num_atoms))
        assert issubclass(kind, Binary)
        left, right = self._formula(depth - 1, num_atoms), self._formula(depth - 1, num_atoms)
        return kind(left, right)

    def _drop_unused(self, statement: Statement) -> Statement:
        """Drop hypotheses that the proof can do without, most of the time."""
        kept: Sequence[Formula] = tuple(dict.fromkeys(statement.hypotheses))
        is_thorough = self._rng.random() < 0.8
        for formula in tuple(kept) if is_thorough else ():
            rest = tuple(other for other in kept if other != formula)
            if is_provable(rest, statement.target):
                kept = rest
        return Statement(tuple(kept), statement.target)

    def _maybe_revert(self, statement: Statement) -> Statement:
        """Move the last hypotheses into the target, now and then: from `h : p` and `q` to `p → q`."""
        hypotheses, target = list(statement.hypotheses), statement.target
        while hypotheses and self._rng.random() < 0.3:
            target = Implies(hypotheses.pop(), target)
        return Statement(tuple(hypotheses), target)
