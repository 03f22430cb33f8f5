"""A decision procedure for intuitionistic propositional logic, and the proofs it finds.

The contraction-free sequent calculus LJT (G4ip) of R. Dyckhoff, "Contraction-free sequent calculi for
intuitionistic logic", Journal of Symbolic Logic 57 (1992): read from the conclusion to the premises, every rule makes
the sequent smaller, so that search ends without loop checks. Here `¬a` is `a → False` and `a ↔ b` is
`(a → b) ∧ (b → a)`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

from generator.environments.propositional.formulas import FALSE, TRUE, And, Atom, Formula, Iff, Implies, Not, Or
from generator.environments.propositional.terms import Anonymous, Apply, Field, Lambda, Name, Term, names_in_order

Antecedent: TypeAlias = frozenset[Formula]


def is_provable(hypotheses: Iterable[Formula], target: Formula) -> bool:
    """Tell whether the target follows from the hypotheses in intuitionistic logic."""
    return _is_provable(frozenset(map(_core, hypotheses)), _core(target))


@lru_cache(maxsize=1 << 16)
def _core(formula: Formula) -> Formula:
    """Write a formula with ∧, ∨, →, True and False only."""
    match formula:
        case Not(body):
            return Implies(_core(body), FALSE)
        case Iff(left, right):
            left, right = _core(left), _core(right)
            return And(Implies(left, right), Implies(right, left))
        case And(left, right) | Or(left, right) | Implies(left, right):
            return type(formula)(_core(left), _core(right))
    return formula


@lru_cache(maxsize=1 << 17)
def _is_provable(antecedent: Antecedent, target: Formula) -> bool:
    if target in antecedent or target == TRUE or FALSE in antecedent:
        return True
    match target:
        case And(left, right):
            return _is_provable(antecedent, left) and _is_provable(antecedent, right)
        case Implies(left, right):
            return _is_provable(antecedent | {left}, right)
    for formula in antecedent:
        premises = _invert(formula, antecedent)
        if premises is not None:
            rest = antecedent - {formula}
            return all(_is_provable(rest.union(premise), target) for premise in premises)
    if isinstance(target, Or) and (_is_provable(antecedent, target.left) or _is_provable(antecedent, target.right)):
        return True
    return any(
        _is_provable(rest | {second}, target) and _is_provable(rest | {first}, condition)
        for condition, first, second, rest in _nested_implications(antecedent)
    )


def _invert(formula: Formula, antecedent: Antecedent) -> list[list[Formula]] | None:
    """Return the formulas that replace one on the left by an invertible rule, a list for each premise of the rule.

    None if no invertible rule applies to it.
    """
    match formula:
        case And(left, right):
            return [[left, right]]
        case Or(left, right):
            return [[left], [right]]
        case Implies(And(first, second), right):
            return [[Implies(first, Implies(second, right))]]
        case Implies(Or(first, second), right):
            return [[Implies(first, right), Implies(second, right)]]
        case Implies(left, right) if left == TRUE or (isinstance(left, Atom) and left in antecedent):
            return [[right]]
        case Implies(left, _) if left == FALSE:
            return [[]]
    return [[]] if formula == TRUE else None


def _nested_implications(antecedent: Antecedent) -> Iterator[tuple[Formula, Formula, Formula, Antecedent]]:
    """Yield, for each (c → d) → b on the left, c → d, d → b, b, and the other formulas on the left."""
    for formula in antecedent:
        match formula:
            case Implies(Implies(_, inner) as condition, right):
                yield condition, Implies(inner, right), right, antecedent - {formula}


@dataclass(frozen=True, slots=True)
class Known:
    """A formula with a term that proves it."""

    formula: Formula
    term: Term


def prove(hypotheses: Sequence[tuple[str, Formula]], target: Formula) -> Term | None:
    """Return a term that proves the target from the named hypotheses; None if there is no proof.

    Binders are named x, x1, x2, ... as far as the hypotheses leave those names free.
    """
    if not is_provable([formula for _, formula in hypotheses], target):
        return None
    known = tuple(Known(_core(formula), Name(name)) for name, formula in hypotheses)
    return _Prover({name for name, _ in hypotheses}).prove(known, _core(target))


class _Prover:
    """Writes the proof of a sequent that is provable; it asks `_is_provable` before it chooses, and never goes back."""

    def __init__(self, taken: set[str]) -> None:
        self._taken = taken
        self._num_names = 0

    def prove(self, known: tuple[Known, ...], target: Formula) -> Term:
        """Return a term that proves the target from what is known."""
        for item in known:
            if item.formula == target:
                return item.term
            if item.formula == FALSE:
                return Apply(Name("False.elim"), (item.term,))
        if target == TRUE:
            return Name("trivial")
        match target:
            case And(left, right):
                return _pair(self.prove(known, left), self.prove(known, right))
            case Implies(left, right):
                name = self._fresh_name()
                return _function(name, self.prove((*known, Known(left, Name(name))), right))
        antecedent = frozenset(item.formula for item in known)
        for index, item in enumerate(known):
            if _invert(item.formula, antecedent) is not None:
                return self._prove_inverted(known[:index] + known[index + 1 :], item, known, target)
        if isinstance(target, Or):
            if _is_provable(antecedent, target.left):
                return Apply(Name("Or.inl"), (self.prove(known, target.left),))
            if _is_provable(antecedent, target.right):
                return Apply(Name("Or.inr"), (self.prove(known, target.right),))
        return self._prove_nested(known, antecedent, target)

    def _prove_inverted(self, rest: tuple[Known, ...], item: Known, known: tuple[Known, ...], target: Formula) -> Term:
        """Apply the invertible rule of one formula; `rest` is all that is known besides it."""
        term = item.term
        match item.formula:
            case And(left, right):
                return self.prove((*rest, Known(left, Field(term, "1")), Known(right, Field(term, "2"))), target)
            case Or(left, right):
                cases = []
                for side in (left, right):
                    name = self._fresh_name()
                    cases.append(_function(name, self.prove((*rest, Known(side, Name(name))), target)))
                return Apply(Name("Or.elim"), (term, *cases))
            case Implies(And(first, second), right):
                names = self._fresh_name(), self._fresh_name()
                curried = Lambda(names, _apply(term, _pair(*map(Name, names))))
                return self.prove((*rest, Known(Implies(first, Implies(second, right)), curried)), target)
            case Implies(Or(first, second), right):
                new = []
                for side, constructor in ((first, "Or.inl"), (second, "Or.inr")):
                    name = self._fresh_name()
                    body = _apply(term, Apply(Name(constructor), (Name(name),)))
                    new.append(Known(Implies(side, right), Lambda((name,), body)))
                return self.prove((*rest, *new), target)
            case Implies(left, right) if left != FALSE:
                argument: Term = Name("trivial")
                if left != TRUE:
                    argument = next(other.term for other in known if other.formula == left)
                return self.prove((*rest, Known(right, _apply(term, argument))), target)
        return self.prove(rest, target)

    def _prove_nested(self, known: tuple[Known, ...], antecedent: Antecedent, target: Formula) -> Term:
        """Use an implication whose left side is an implication, the one rule that is left."""
        for index, item in enumerate(known):
            match item.formula:
                case Implies(Implies(_, inner) as condition, right):
                    first, rest = Implies(inner, right), antecedent - {item.formula}
                    if not (_is_provable(rest | {right}, target) and _is_provable(rest | {first}, condition)):
                        continue
                    others = known[:index] + known[index + 1 :]
                    name = self._fresh_name()
                    weaker = Lambda((name,), _apply(item.term, Lambda(("_",), Name(name))))
                    argument = self.prove((*others, Known(first, weaker)), condition)
                    return self.prove((*others, Known(right, _apply(item.term, argument))), target)
        raise AssertionError("a sequent that is provable has a rule that applies")

    def _fresh_name(self) -> str:
        while True:
            name = f"x{self._num_names or ''}"
            self._num_names += 1
            if name not in self._taken:
                return name


def _function(name: str, body: Term) -> Term:
    """Return `fun name => body`, joined with a `fun` that the body begins with; an unused name is written `_`."""
    if name not in {used.split(".")[0] for used in names_in_order(body)}:
        name = "_"
    if isinstance(body, Lambda):
        return Lambda((name, *body.names), body.body)
    return Lambda((name,), body)


def _pair(left: Term, right: Term) -> Term:
    if isinstance(right, Anonymous):  # ⟨a, ⟨b, c⟩⟩ is ⟨a, b, c⟩
        return Anonymous((left, *right.arguments))
    return Anonymous((left, right))


def _apply(function: Term, argument: Term) -> Term:
    """Apply a function to an argument; `(fun x => body) argument` is computed."""
    match function:
        case Lambda((name, *names), body):
            result = _replace(body, name, argument)
            return Lambda(tuple(names), result) if names else result
        case Apply(head, arguments):
            return Apply(head, (*arguments, argument))
    return Apply(function, (argument,))


def _replace(term: Term, name: str, value: Term) -> Term:
    """Put `value` for a variable; applications of functions and projections of pairs that arise are computed.

    All binders have different names here, so that no variable of `value` is captured.
    """
    match term:
        case Name(found):
            return value if found == name else term
        case Field(subject, field):
            subject = _replace(subject, name, value)
            if isinstance(subject, Anonymous):
                first, *others = subject.arguments
                if field == "1":
                    return first
                return others[0] if len(others) == 1 else Anonymous(tuple(others))
            return Field(subject, field)
        case Apply(function, arguments):
            function = _replace(function, name, value)
            for argument in arguments:
                function = _apply(function, _replace(argument, name, value))
            return function
        case Anonymous(arguments):
            parts = [_replace(argument, name, value) for argument in arguments]
            result = parts[-1]
            for part in reversed(parts[:-1]):
                result = _pair(part, result)
            return result
        case Lambda(names, body):
            return Lambda(names, _replace(body, name, value))
    return term
