"""Rules of the strategy that leave smaller goals, first those that lose nothing, then those that choose."""

from generator.environments.propositional.formulas import FALSE, And, Binary, Formula, Iff, Implies, Not, Or
from generator.environments.propositional.intuitionistic import prove
from generator.environments.propositional.sequents import Sequent, applications, short_text
from generator.environments.propositional.terms import Apply, Name


def simplify_target(sequent: Sequent) -> str | None:
    """Push a negation inwards, or take apart what an implication assumes, by a lemma."""
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


def introduce(sequent: Sequent) -> str | None:
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


def split_conjunction(sequent: Sequent) -> str | None:
    """`rcases h with ⟨h1, h2⟩`, all parts of a nested conjunction at once."""
    for name, formula in sequent.hypotheses:
        if isinstance(formula, And):
            return f"rcases {name} with ⟨{', '.join(sequent.fresh(*_operands(formula), without=name))}⟩"
    return None


def simplify_hypothesis(sequent: Sequent) -> str | None:
    """Take a hypothesis apart by a lemma, unless all that would be new is known."""
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
    """Name what a term proves."""
    return f"have {sequent.fresh(formula)[0]} := {term}"


def forward(sequent: Sequent) -> str | None:
    """`have h2 := h h1`: what a hypothesis says of another one, if it is new; modus tollens where nothing else is."""
    names = sequent.names
    for name, formula in sequent.hypotheses:
        for function, condition, result in applications(name, formula):
            if condition in names and result not in names:
                return _have(sequent, result, f"{function} {names[condition]}")
    for name, formula in sequent.hypotheses:
        match formula:
            case Implies(left, right) if Not(right) in names and Not(left) not in names:
                return _have(sequent, Not(left), f"mt {name} {names[Not(right)]}")
    return None


def split_target(sequent: Sequent) -> str | None:
    """`constructor` for a conjunction or an equivalence."""
    match sequent.target:
        case And() | Iff():
            return "constructor"
    return None


def split_disjunction(sequent: Sequent) -> str | None:
    """`rcases h with h1 | h2`, all cases of a nested disjunction at once."""
    for name, formula in sequent.hypotheses:
        if isinstance(formula, Or):
            # each case has a context of its own
            names = [sequent.fresh(operand, without=name)[0] for operand in _operands(formula)]
            return f"rcases {name} with {' | '.join(names)}"
    return None


def _operands(formula: Binary) -> list[Formula]:
    """Return a, b, c of `a ∧ b ∧ c`, which is `a ∧ (b ∧ c)`; likewise of other connectives."""
    operands, last = [formula.left], formula.right
    while isinstance(last, Binary) and type(last) is type(formula):
        operands, last = [*operands, last.left], last.right
    return [*operands, last]


# ------------------------------------------------------------------------------------------------
# Rules that choose: the decision procedure says which choice leads on


def choose_side(sequent: Sequent) -> str | None:
    """`left` or `right`, whichever can be proved."""
    match sequent.target:
        case Or(left, right):
            if sequent.proves(left):
                return "left"
            if sequent.proves(right):
                return "right"
    return None


def apply_hypothesis(sequent: Sequent) -> str | None:
    """`apply h`, if what it asks for can be proved."""
    target = sequent.target
    for name, formula in sequent.hypotheses:
        if target == FALSE and isinstance(formula, Not) and sequent.proves(formula.body):
            return f"apply {name}"
        for function, condition, result in applications(name, formula):
            if result == target and sequent.proves(condition):
                return f"apply {function}"
            match result:
                case Implies(second, final) if final == target and sequent.proves(condition, second):
                    return f"apply {function}"
    return None


def leave_target(sequent: Sequent) -> str | None:
    """`exfalso`, if the hypotheses contradict each other."""
    return "exfalso" if sequent.target != FALSE and sequent.proves(FALSE) else None


def use_implication(sequent: Sequent) -> str | None:
    """State what a hypothesis gives once its condition, which no hypothesis says, is proved."""
    for name, formula in sequent.hypotheses:
        for function, condition, result in applications(name, formula):
            if result in sequent.names or not sequent.proves(condition):
                continue
            argument = prove(sequent.hypotheses, condition)
            assert argument is not None, "the hypotheses prove the condition"
            text = short_text(Apply(Name(function), (argument,)))
            if text is not None:
                return f"have {sequent.fresh(result)[0]} : {result} := {text}"
    return None
