"""The decision procedure agrees with Kripke models, and its proofs check."""

import random
from itertools import product

import pytest

from generator.environments import ProofFinished, PropositionalEnvironment
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
    parse_formula,
)
from generator.environments.propositional.intuitionistic import is_provable, prove
from generator.environments.propositional.terms import print_term


@pytest.mark.parametrize(
    "text", ["p ∨ ¬p", "((p → q) → p) → p", "¬¬p → p", "¬(p ∧ q) → ¬p ∨ ¬q", "(p → q) ∨ (q → p)", "¬p ∨ ¬¬p", "p → q"]
)
def test_what_needs_excluded_middle_has_no_proof(text: str) -> None:
    assert not is_provable([], parse_formula(text))
    assert prove([], parse_formula(text)) is None


@pytest.mark.parametrize(
    "text",
    [
        "¬¬(p ∨ ¬p)",
        "¬¬(((p → q) → p) → p)",
        "¬¬¬p ↔ ¬p",
        "((p ∨ (p → q)) → q) → q",
        "¬(p ∨ q) ↔ ¬p ∧ ¬q",
        "((p → q) → r) → (p → r) → (q → r)",
        "(p ∨ q) ∧ r ↔ p ∧ r ∨ q ∧ r",
        "False → p",
        "((p ↔ q) ↔ p) → ¬¬q",
    ],
)
def test_proofs_check_in_the_environment(text: str) -> None:
    term = prove([], parse_formula(text))
    assert term is not None
    environment = PropositionalEnvironment()
    state = environment.start_statement(f"(p q r : Prop) : {text}")
    assert environment.run_tactic(state, f"exact {print_term(term)}") == ProofFinished()


def test_hypotheses_are_used_by_name() -> None:
    term = prove([("left", parse_formula("p ∧ q")), ("f", parse_formula("q → r"))], Atom("r"))
    assert term is not None and print_term(term) == "f left.2"


def random_formula(rng: random.Random, depth: int) -> Formula:
    """Return a formula over p and q."""
    if depth == 0 or rng.random() < 0.2:
        return rng.choice([Atom("p"), Atom("q"), Atom("p"), Atom("q"), TRUE, FALSE])
    kinds: list[type[Binary] | None] = [And, Or, Implies, Implies, Iff, None]
    kind = rng.choice(kinds)
    if kind is None:
        return Not(random_formula(rng, depth - 1))
    return kind(random_formula(rng, depth - 1), random_formula(rng, depth - 1))


# Finite models: worlds and which worlds are at least as late as each, itself included.
FRAMES = [
    {0: [0]},
    {0: [0, 1], 1: [1]},
    {0: [0, 1, 2], 1: [1], 2: [2]},
    {0: [0, 1, 2], 1: [1, 2], 2: [2]},
    {0: [0, 1, 2, 3], 1: [1, 3], 2: [2], 3: [3]},
]


def forces(formula: Formula, world: int, later: dict[int, list[int]], true_at: dict[str, set[int]]) -> bool:
    """Tell whether a world of a Kripke model forces a formula."""
    if isinstance(formula, Atom):
        return world in true_at[formula.name]
    if isinstance(formula, Not):
        return not any(forces(formula.body, w, later, true_at) for w in later[world])
    if isinstance(formula, Iff):
        both = And(Implies(formula.left, formula.right), Implies(formula.right, formula.left))
        return forces(both, world, later, true_at)
    if not isinstance(formula, Binary):
        return formula == TRUE
    if isinstance(formula, Implies):
        return all(
            forces(formula.right, w, later, true_at) for w in later[world] if forces(formula.left, w, later, true_at)
        )
    sides = (forces(side, world, later, true_at) for side in (formula.left, formula.right))
    return all(sides) if isinstance(formula, And) else any(sides)


def is_forced_everywhere(formula: Formula) -> bool:
    """Tell whether the first world of every small model forces the formula."""
    for later in FRAMES:
        worlds = list(later)
        upsets = [
            {w for w, chosen in zip(worlds, choice, strict=True) if chosen}
            for choice in product([False, True], repeat=len(worlds))
        ]
        upsets = [upset for upset in upsets if all(set(later[w]) <= upset for w in upset)]
        if not all(forces(formula, 0, later, {"p": a, "q": b}) for a in upsets for b in upsets):
            return False
    return True


def test_agrees_with_small_kripke_models() -> None:
    rng = random.Random(0)
    verdicts = []
    for _ in range(400):
        formula = random_formula(rng, 3)
        if len(str(formula)) > 30:
            continue
        verdict = is_provable([], formula)
        assert verdict == is_forced_everywhere(formula), str(formula)
        verdicts.append(verdict)
    assert 40 < sum(verdicts) < len(verdicts) - 40


def test_every_proof_term_of_random_sequents_checks() -> None:
    rng = random.Random(1)
    environment, num_proved = PropositionalEnvironment(), 0
    while num_proved < 150:
        hypotheses = [(f"h{i}", random_formula(rng, 2)) for i in range(rng.randrange(3))]
        target = random_formula(rng, 2)
        term = prove(hypotheses, target)
        if term is None:
            continue
        num_proved += 1
        binders = " ".join(f"({name} : {formula})" for name, formula in hypotheses)
        state = environment.start_statement(f"(p q : Prop) {binders} : {target}")
        assert environment.run_tactic(state, f"exact {print_term(term)}") == ProofFinished(), (binders, target)
