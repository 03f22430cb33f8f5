"""Rules of the strategy that close a goal with one tactic."""

from generator.environments.propositional.formulas import FALSE, TRUE, And, Binary, Iff, Implies, Not, Or
from generator.environments.propositional.intuitionistic import prove
from generator.environments.propositional.sequents import Sequent, applications, short_text


def by_hypothesis(sequent: Sequent) -> str | None:
    """`assumption` where a hypothesis is the target; `trivial` for True."""
    if sequent.target == TRUE:
        return "trivial"
    return "assumption" if sequent.target in sequent.names else None


def by_contradiction(sequent: Sequent) -> str | None:
    """`contradiction` from False, or from a hypothesis and its negation; `exact absurd h h1` for a compound target."""
    if FALSE in sequent.names:
        return "contradiction"
    for name, formula in sequent.hypotheses:
        if isinstance(formula, Not) and (other := sequent.names.get(formula.body)) is not None:
            return f"exact absurd {other} {name}" if isinstance(sequent.target, Binary) else "contradiction"
    return None


def by_part(sequent: Sequent) -> str | None:
    """`exact h.1` of a conjunction, `exact h.mp` of an equivalence."""
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


def by_application(sequent: Sequent) -> str | None:
    """`exact h h1`: a hypothesis applied to one or two others."""
    target = sequent.target
    for name, formula in sequent.hypotheses:
        for function, condition, result in applications(name, formula):
            argument = sequent.names.get(condition)
            if argument is None:
                continue
            if result == target:
                return f"exact {function} {argument}"
            match result:
                case Implies(second, final) if final == target and second in sequent.names:
                    return f"exact {function} {argument} {sequent.names[second]}"
    return None


def by_constructor(sequent: Sequent) -> str | None:
    """`exact ⟨h, h1⟩` or `exact Or.inl h`, from hypotheses that are the parts of the target."""
    names = sequent.names
    match sequent.target:
        case And(left, right) if left in names and right in names:
            return f"exact ⟨{names[left]}, {names[right]}⟩"
        case Or(left, _) if left in names:
            return f"exact Or.inl {names[left]}"
        case Or(_, right) if right in names:
            return f"exact Or.inr {names[right]}"
    return None


def by_lemma(sequent: Sequent) -> str | None:
    """`exact And.symm h`: one lemma applied to hypotheses, see `LemmaIndex.close`."""
    return sequent.lemmas.close(sequent.hypotheses, sequent.target)


def by_term(sequent: Sequent) -> str | None:
    """`exact` with a whole proof, where it is short."""
    term = prove(sequent.hypotheses, sequent.target)
    text = None if term is None else short_text(term)
    return None if text is None else f"exact {text}"
