"""Tactics of the Lean fragment: what they do to the first goal, with Lean 4's case tags.

Refused although Lean accepts it: a name that is taken (Lean shadows), goals with unknowns, `constructor` on `∨`,
nested patterns before the last place of `⟨...⟩`, anything whose outcome depends on more than the rules below.
"""

from collections.abc import Callable
from dataclasses import replace

from generator.environments.propositional.declarations import FindConstant
from generator.environments.propositional.elaboration import Elaborator, Typed
from generator.environments.propositional.formulas import (
    FALSE,
    TRUE,
    And,
    Formula,
    Iff,
    Implies,
    Meta,
    Not,
    Or,
    atoms,
    read_formula,
    unfold_all,
    unfold_not,
)
from generator.environments.propositional.goals import PROP, Goal, Hypothesis, add_hypotheses, extend_tag
from generator.environments.propositional.patterns import read_pattern, split_hypothesis
from generator.environments.propositional.syntax import SyntaxProblem, TokenReader
from generator.environments.propositional.terms import Name, Term, contains_hole, read_term
from generator.environments.propositional.unification import ElaborationProblem

FAILURES = (ElaborationProblem, SyntaxProblem)
"""What `apply_tactic` raises where Lean would report an error."""


def apply_tactic(goal: Goal, tactic: str, find_constant: FindConstant) -> list[Goal]:
    """Return the goals that the tactic leaves of `goal`.

    Raises:
        ElaborationProblem: if the tactic fails
        SyntaxProblem: if it is not in the grammar
    """
    reader = TokenReader(tactic)
    name = reader.next()
    run = _TACTICS.get(name)
    if run is None:
        raise SyntaxProblem(f"unknown tactic '{name}'")
    goals = run(goal, reader, find_constant)
    reader.expect_end()
    return goals


def _intro(goal: Goal, reader: TokenReader, find_constant: FindConstant) -> list[Goal]:
    names = [reader.read_name()]
    while reader.peek():
        names.append(reader.read_name())
    for name in names:
        target = unfold_not(goal.target)
        if not isinstance(target, Implies):
            raise ElaborationProblem(f"there is nothing to introduce in '{target}'")
        goal = add_hypotheses(replace(goal, target=target.right), [(name, target.left)], find_constant)
    return [goal]


def _exact(goal: Goal, reader: TokenReader, find_constant: FindConstant) -> list[Goal]:
    term = read_term(reader)
    if contains_hole(term):
        raise ElaborationProblem("'exact' leaves no goals, so '?_' cannot stand in it")
    return _refine_with(goal, term, find_constant)


def _refine(goal: Goal, reader: TokenReader, find_constant: FindConstant) -> list[Goal]:
    return _refine_with(goal, read_term(reader), find_constant)


def _refine_with(goal: Goal, term: Term, find_constant: FindConstant) -> list[Goal]:
    elaborator = Elaborator(find_constant)
    elaborator.check(term, goal.target, goal)
    elaborator.check_all_found()
    goals = elaborator.goals()
    if len(goals) == 1:
        return [replace(goals[0], tag=goal.tag)]
    return [replace(new, tag=extend_tag(goal.tag, f"refine_{i}")) for i, new in enumerate(goals, start=1)]


def _apply(goal: Goal, reader: TokenReader, find_constant: FindConstant) -> list[Goal]:
    term = read_term(reader)
    if contains_hole(term):
        raise ElaborationProblem("use 'refine' for '?_'")
    elaborator = Elaborator(find_constant)
    constant = find_constant(term.name) if isinstance(term, Name) and goal.find(term.name) is None else None
    if constant is None:
        return _apply_typed(goal, elaborator.infer(term, goal), elaborator)
    # A lemma alone is applied as it stands: the propositions it is about count as new goals in the case tags.
    typed, num_propositions = elaborator.open_declaration(constant), len(constant.propositions)
    return _apply_typed(goal, typed, elaborator, num_propositions)


def _apply_typed(goal: Goal, typed: Typed, elaborator: Elaborator, num_propositions: int = 0) -> list[Goal]:
    """Unify the conclusion with the target after as few arguments as possible (Lean.MVarId.apply)."""
    num_arguments, conclusion = _count_arguments(elaborator, typed.type)
    first = num_arguments
    if not isinstance(conclusion, Meta):
        first = max(0, num_arguments - _count_arguments(elaborator, goal.target)[0])
    for count in range(first, num_arguments + 1):
        before = elaborator.snapshot()
        domains, result = _take_arguments(elaborator, typed.type, count)
        if elaborator.unify(result, goal.target):
            elaborator.check_all_found()
            targets = [elaborator.ground(domain) for domain in domains]
            return _tagged(goal, targets, typed.binder_names, num_propositions)
        elaborator.restore(before)
    raise ElaborationProblem(f"could not unify '{elaborator.resolve(conclusion)}' with '{goal.target}'")


def _tagged(goal: Goal, targets: list[Formula], binder_names: tuple[str, ...], num_propositions: int) -> list[Goal]:
    """Return a goal for each target, with the case tags that Lean gives them.

    Args:
        goal: what they replace
        targets: of the new goals, which are arguments of what is applied
        binder_names: names of these arguments
        num_propositions: propositions that it takes too; a single argument without any gets no tag of its own
    """
    if num_propositions + len(targets) == 1:
        return [replace(goal, target=target) for target in targets]
    names = (*binder_names, *("a" for _ in targets))  # `p → q` is `(a : p) → q`
    return [
        replace(goal, target=target, tag=extend_tag(goal.tag, name))
        for target, name in zip(targets, names, strict=False)
    ]


def _count_arguments(elaborator: Elaborator, formula: Formula) -> tuple[int, Formula]:
    """Return how many arrows a formula has in a row, and what stands behind the last one."""
    count = 0
    while isinstance(formula := unfold_not(elaborator.resolve(formula)), Implies):
        count, formula = count + 1, formula.right
    return count, formula


def _take_arguments(elaborator: Elaborator, formula: Formula, count: int) -> tuple[list[Formula], Formula]:
    """Return what the first arrows of a formula assume, and the rest of the formula."""
    domains = []
    for _ in range(count):
        formula = unfold_not(elaborator.resolve(formula))
        assert isinstance(formula, Implies)
        domains.append(formula.left)
        formula = formula.right
    return domains, formula


def _constructor(goal: Goal, reader: TokenReader, find_constant: FindConstant) -> list[Goal]:
    match goal.target:
        case And(left, right):
            return _tagged(goal, [left, right], ("left", "right"), 2)
        case Iff(left, right):
            return _tagged(goal, [Implies(left, right), Implies(right, left)], ("mp", "mpr"), 2)
        case target if target == TRUE:
            return []
    raise ElaborationProblem(f"'{goal.target}' is not built by a single constructor")


def _side(is_left: bool) -> Callable[[Goal, TokenReader, FindConstant], list[Goal]]:
    """Return the tactic `left` or `right`."""

    def run(goal: Goal, reader: TokenReader, find_constant: FindConstant) -> list[Goal]:
        if not isinstance(goal.target, Or):
            raise ElaborationProblem(f"'{goal.target}' is not a disjunction")
        return _tagged(goal, [goal.target.left if is_left else goal.target.right], ("h",), 2)

    return run


def _rcases(goal: Goal, reader: TokenReader, find_constant: FindConstant) -> list[Goal]:
    term = read_term(reader)
    reader.expect("with")
    pattern = read_pattern(reader)
    elaborator = Elaborator(find_constant)
    if contains_hole(term):
        raise ElaborationProblem("'?_' cannot be taken apart")
    found = elaborator.infer(term, goal)
    elaborator.check_all_found()
    if isinstance(term, Name) and goal.find(term.name) is not None:
        goal = replace(goal, hypotheses=goal.without(term.name))
    return split_hypothesis(goal, elaborator.ground(found.type), pattern, find_constant)


def _exfalso(goal: Goal, reader: TokenReader, find_constant: FindConstant) -> list[Goal]:
    return [replace(goal, target=FALSE)]


def _contradiction(goal: Goal, reader: TokenReader, find_constant: FindConstant) -> list[Goal]:
    if not _is_contradictory(goal):
        raise ElaborationProblem("the hypotheses do not contradict each other")
    return []


def _is_contradictory(goal: Goal) -> bool:
    types = {hypothesis.type for hypothesis in goal.hypotheses}
    return FALSE in types or any(isinstance(formula, Not) and formula.body in types for formula in types)


def _assumption(goal: Goal, reader: TokenReader, find_constant: FindConstant) -> list[Goal]:
    if not _is_assumed(goal):
        raise ElaborationProblem(f"no hypothesis says '{goal.target}'")
    return []


def _is_assumed(goal: Goal) -> bool:
    target = unfold_all(goal.target)
    return any(h.type != PROP and unfold_all(_formula(h)) == target for h in goal.hypotheses)


def _formula(hypothesis: Hypothesis) -> Formula:
    assert not isinstance(hypothesis.type, str)
    return hypothesis.type


def _trivial(goal: Goal, reader: TokenReader, find_constant: FindConstant) -> list[Goal]:
    if not _is_trivial(goal):
        raise ElaborationProblem(f"'{goal.target}' is not trivial here")
    return []


def _is_trivial(goal: Goal) -> bool:
    if goal.target == TRUE or _is_assumed(goal) or _is_contradictory(goal):
        return True
    match goal.target:
        case And(left, right):
            return _is_trivial(replace(goal, target=left)) and _is_trivial(replace(goal, target=right))
    return False


def _have(goal: Goal, reader: TokenReader, find_constant: FindConstant) -> list[Goal]:
    name = reader.read_name()
    stated: Formula | None = None
    if reader.take(":"):
        stated = read_formula(reader)
        _check_atoms(goal, stated)
    reader.expect(":=")
    term = read_term(reader)
    if contains_hole(term):
        raise ElaborationProblem("'?_' in 'have' is beyond this environment")
    elaborator = Elaborator(find_constant)
    if stated is None:
        found = elaborator.infer(term, goal)
        elaborator.check_all_found()
        stated = elaborator.ground(found.type)
    else:
        elaborator.check(term, stated, goal)
        elaborator.check_all_found()
    return [add_hypotheses(goal, [(name, stated)], find_constant)]


def _check_atoms(goal: Goal, formula: Formula) -> None:
    for name in atoms(formula):
        if goal.find(name) != PROP:
            raise ElaborationProblem(f"unknown proposition '{name}'")


_TACTICS: dict[str, Callable[[Goal, TokenReader, FindConstant], list[Goal]]] = {
    "intro": _intro,
    "exact": _exact,
    "refine": _refine,
    "apply": _apply,
    "constructor": _constructor,
    "left": _side(is_left=True),
    "right": _side(is_left=False),
    "rcases": _rcases,
    "exfalso": _exfalso,
    "contradiction": _contradiction,
    "assumption": _assumption,
    "trivial": _trivial,
    "have": _have,
}
