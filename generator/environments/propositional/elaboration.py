"""Type checking of proof terms: which proposition a term proves.

The rules are those of Lean 4's elaborator in the cases where it has no choice. Implicit propositions are found by
first-order unification; `¬p` and `p → False` are the same where no unknown is involved; arguments whose type has to be
known are elaborated after those from which it follows. Everything else is refused, even where Lean would find a way.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from generator.environments.propositional.declarations import Declaration, FindConstant
from generator.environments.propositional.formulas import (
    TRUE,
    And,
    Falsity,
    Formula,
    Iff,
    Implies,
    Meta,
    Not,
    Or,
    Truth,
    substitute,
    unfold_not,
)
from generator.environments.propositional.goals import Goal, Hypothesis, add_hypotheses
from generator.environments.propositional.terms import (
    Anonymous,
    Apply,
    Field,
    Hole,
    Lambda,
    Name,
    Term,
    Underscore,
    contains_hole,
)
from generator.environments.propositional.unification import ElaborationProblem, Unknowns, has_meta

_PROJECTIONS: dict[type[Formula], dict[str, str]] = {
    And: {"1": "And.left", "2": "And.right"},
    Iff: {"1": "Iff.mp", "2": "Iff.mpr"},
}
_HEADS: dict[type[Formula], str] = {
    And: "And", Or: "Or", Iff: "Iff", Not: "Not", Truth: "True", Falsity: "False"
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Typed:
    """The proposition that a term proves, and the names of what its first arrows assume."""

    type: Formula
    binder_names: tuple[str, ...] = ()


class Elaborator(Unknowns):
    """One elaboration: its unknowns, and the goals that each `?_` leaves.

    Args:
        find_constant: returns an accessible declaration by its full name, or None
    """

    def __init__(self, find_constant: FindConstant) -> None:
        """Start without unknowns."""
        super().__init__()
        self._find_constant = find_constant
        self._holes: list[Goal] = []

    def goals(self) -> list[Goal]:
        """Return the goals of the `?_`, in the order of the text."""
        return [
            Goal(
                tuple(
                    Hypothesis(h.name, h.type if isinstance(h.type, str) else self.ground(h.type))
                    for h in goal.hypotheses
                ),
                self.ground(goal.target),
            )
            for goal in self._holes
        ]

    # Terms

    def check(self, term: Term, expected: Formula, goal: Goal) -> None:
        """Check that the term proves `expected` in the context of `goal`.

        Raises:
            ElaborationProblem: if it does not, or if that is beyond the fragment
        """
        match term:
            case Hole():
                self._holes.append(Goal(goal.hypotheses, expected))
            case Underscore():
                raise ElaborationProblem("don't know how to synthesize placeholder")
            case Lambda(names, body):
                self._check_lambda(names, body, expected, goal)
            case Anonymous(arguments):
                self._check_anonymous(arguments, expected, goal)
            case _:
                found = self.infer(term, goal, expected)
                if not self.unify(found.type, expected):
                    raise ElaborationProblem(
                        f"type mismatch: the term has type '{self.resolve(found.type)}' "
                        f"but is expected to have type '{self.resolve(expected)}'"
                    )

    def _check_lambda(self, names: Sequence[str], body: Term, expected: Formula, goal: Goal) -> None:
        for name in names:
            expected = unfold_not(self.resolve(expected))
            if not isinstance(expected, Implies):
                raise ElaborationProblem(f"a function cannot prove '{expected}'")
            if has_meta(expected.left):
                raise ElaborationProblem(f"the type of '{name}' is not known")
            if name != "_":
                goal = add_hypotheses(goal, [(name, expected.left)], self._find_constant)
            elif contains_hole(body):
                raise ElaborationProblem("a goal under 'fun _' would hold a hypothesis without a name")
            expected = expected.right
        self.check(body, expected, goal)

    def _check_anonymous(self, arguments: Sequence[Term], expected: Formula, goal: Goal) -> None:
        expected = self.resolve(expected)
        if expected == TRUE and not arguments:
            return
        if len(arguments) < 2:
            raise ElaborationProblem(f"invalid constructor ⟨...⟩ with {len(arguments)} arguments")
        if isinstance(expected, And):
            left, right = expected.left, expected.right
        elif isinstance(expected, Iff):
            left, right = Implies(expected.left, expected.right), Implies(expected.right, expected.left)
        else:
            raise ElaborationProblem(f"invalid constructor ⟨...⟩, '{expected}' is not a structure")
        self.check(arguments[0], left, goal)
        if len(arguments) == 2:
            self.check(arguments[1], right, goal)
        else:  # ⟨a, b, c⟩ is ⟨a, ⟨b, c⟩⟩
            self._check_anonymous(arguments[1:], right, goal)

    def infer(self, term: Term, goal: Goal, expected: Formula | None = None) -> Typed:
        """Return what the term proves; `expected` only helps to find unknowns.

        Raises:
            ElaborationProblem: if the term does not check, or its type has to be given
        """
        match term:
            case Apply(Name() | Field() as function, arguments):
                return self._infer_head(function, arguments, goal, expected)
            case Name() | Field():
                return self._infer_head(term, (), goal, expected)
            case _:
                raise ElaborationProblem("the type of the term is not known here")

    def _infer_head(self, head: Name | Field, arguments: Sequence[Term], goal: Goal, expected: Formula | None) -> Typed:
        if isinstance(head, Field):
            return self._infer_fields(self.infer(head.subject, goal), [head.field], arguments, goal, expected)
        local, *fields = head.name.split(".")
        proposition = goal.find(local)
        if proposition is not None:
            if isinstance(proposition, str):
                raise ElaborationProblem(f"'{local}' is a proposition, not a proof")
            return self._infer_fields(Typed(proposition), fields, arguments, goal, expected)
        declaration, fields = self._resolve_constant(head.name)
        if fields:
            return self._infer_fields(self._instantiate(declaration, [])[0], fields, arguments, goal, expected)
        typed, rest = self._instantiate(declaration, arguments)
        return self._apply(typed, rest, goal, expected)

    def _resolve_constant(self, name: str) -> tuple[Declaration, list[str]]:
        """Split `name` into the longest constant and the fields after it."""
        parts = name.split(".")
        for length in range(len(parts), 0, -1):
            declaration = self._find_constant(".".join(parts[:length]))
            if declaration is not None:
                return declaration, parts[length:]
        raise ElaborationProblem(f"unknown identifier '{name}'")

    def open_declaration(self, declaration: Declaration) -> Typed:
        """Return what a declaration proves, with a new unknown for each of its propositions."""
        values: dict[str, Formula] = {binder.name: self.new_meta() for binder in declaration.propositions}
        return Typed(substitute(declaration.type, values), declaration.argument_names)

    def _instantiate(self, declaration: Declaration, arguments: Sequence[Term]) -> tuple[Typed, Sequence[Term]]:
        """Put unknowns for the propositions of a declaration; explicit ones take an argument, which must be `_`."""
        values: dict[str, Formula] = {}
        for binder in declaration.propositions:
            if binder.is_implicit:
                values[binder.name] = self.new_meta()
                continue
            match arguments:
                case [Underscore(), *_]:
                    values[binder.name] = self.new_meta()
                case _:
                    raise ElaborationProblem(
                        f"'{declaration.full_name}' takes the proposition '{binder.name}' explicitly: write _"
                    )
            arguments = arguments[1:]
        return Typed(substitute(declaration.type, values), declaration.argument_names), arguments

    def _infer_fields(
        self,
        subject: Typed,
        fields: Sequence[str],
        arguments: Sequence[Term],
        goal: Goal,
        expected: Formula | None,
    ) -> Typed:
        """Elaborate `subject.field1.field2 arguments`."""
        for index, field in enumerate(fields):
            is_last = index == len(fields) - 1
            rest, hint = (arguments, expected) if is_last else ((), None)
            subject = self._infer_field(subject, field, rest, goal, hint)
        return subject if fields else self._apply(subject, arguments, goal, expected)

    def _infer_field(
        self, subject: Typed, field: str, arguments: Sequence[Term], goal: Goal, expected: Formula | None
    ) -> Typed:
        subject_type = self.resolve(subject.type)
        head = _HEADS.get(type(subject_type))
        if head is None:
            raise ElaborationProblem(f"invalid field '{field}' of '{subject_type}'")
        name = _PROJECTIONS.get(type(subject_type), {}).get(field, f"{head}.{field}")
        declaration = self._find_constant(name)
        if declaration is None or any(not binder.is_implicit for binder in declaration.propositions):
            raise ElaborationProblem(f"invalid field '{field}', there is no '{name}' for it")
        function, _ = self._instantiate(declaration, [])
        position = _position_of_head(self.resolve(function.type), type(subject_type))
        if position is None or position > len(arguments):
            raise ElaborationProblem(f"'{name}' cannot take its subject here")
        return self._apply(function, arguments, goal, expected, subject=(position, subject_type))

    def _apply(
        self,
        function: Typed,
        arguments: Sequence[Term],
        goal: Goal,
        expected: Formula | None,
        subject: tuple[int, Formula] | None = None,
    ) -> Typed:
        """Apply a function to arguments; `subject` is the position and the type of one that is elaborated already."""
        slots: list[Term | Formula] = list(arguments)
        if subject is not None:
            slots.insert(*subject)
        result, domains = function.type, []
        for slot in slots:
            result = unfold_not(self.resolve(result))
            if not isinstance(result, Implies):
                raise ElaborationProblem(f"function expected, but the term has type '{result}'")
            domains.append(result.left)
            if isinstance(slot, Formula) and not self.unify(result.left, slot):
                raise ElaborationProblem(f"the subject has type '{slot}'")
            result = result.right
        typed = Typed(result, function.binder_names[len(slots) :])
        if expected is not None:
            before = self.snapshot()
            if not self.unify(result, expected):
                self.restore(before)
        waiting = []
        for slot, domain in zip(slots, domains, strict=True):
            if isinstance(slot, Formula):
                continue
            if self._must_wait(slot, domain):
                waiting.append((slot, domain))
            else:
                self.check(slot, domain, goal)
        if waiting and any(map(contains_hole, arguments)):
            raise ElaborationProblem("the order of the new goals is not clear")
        for slot, domain in waiting:
            self.check(slot, domain, goal)
        return typed

    def _must_wait(self, term: Term, expected: Formula) -> bool:
        """Tell whether the term can only be elaborated once more of its type is known."""
        expected = unfold_not(self.resolve(expected))
        match term:
            case Lambda():
                return not isinstance(expected, Implies) or has_meta(expected.left)
            case Anonymous():
                return isinstance(expected, Meta)
            case _:
                return False


def _position_of_head(function_type: Formula, head: type[Formula]) -> int | None:
    """Return the number of the first argument whose type is built by `head`."""
    position = 0
    while isinstance(function_type, Implies):
        if isinstance(function_type.left, head):
            return position
        function_type, position = function_type.right, position + 1
    return None
