"""Unknown propositions and first-order unification."""

from generator.environments.propositional.formulas import Binary, Formula, Meta, Not, unfold_all


class ElaborationProblem(Exception):
    """The term does not check. Inside the environment it becomes a `TacticError`."""


class Unknowns:
    """The unknowns of one elaboration and the values found for them."""

    def __init__(self) -> None:
        """Start without unknowns."""
        self._values: list[Formula | None] = []  # by number of the unknown

    def new_meta(self) -> Meta:
        """Return a fresh unknown proposition."""
        self._values.append(None)
        return Meta(len(self._values) - 1)

    def resolve(self, formula: Formula) -> Formula:
        """Replace the unknowns that have a value."""
        if isinstance(formula, Meta):
            value = self._values[formula.number]
            return formula if value is None else self.resolve(value)
        if isinstance(formula, Binary):
            left, right = self.resolve(formula.left), self.resolve(formula.right)
            return formula if left is formula.left and right is formula.right else type(formula)(left, right)
        if isinstance(formula, Not):
            body = self.resolve(formula.body)
            return formula if body is formula.body else Not(body)
        return formula

    def snapshot(self) -> list[Formula | None]:
        """Return what `restore` needs to undo later assignments."""
        return list(self._values)

    def restore(self, snapshot: list[Formula | None]) -> None:
        """Undo every assignment, and remove every unknown, since the snapshot."""
        self._values = snapshot

    def ground(self, formula: Formula) -> Formula:
        """Return the formula without unknowns.

        Raises:
            ElaborationProblem: if one has no value
        """
        formula = self.resolve(formula)
        if has_meta(formula):
            raise ElaborationProblem(f"don't know how to synthesize implicit argument in '{formula}'")
        return formula

    def check_all_found(self) -> None:
        """Check that every unknown has a value.

        Raises:
            ElaborationProblem: if one has none
        """
        for number in range(len(self._values)):
            self.ground(Meta(number))

    def unify(self, left: Formula, right: Formula) -> bool:
        """Make two propositions equal; on failure some unknowns may have been assigned."""
        left, right = self.resolve(left), self.resolve(right)
        if left == right:
            return True
        if isinstance(left, Meta) or isinstance(right, Meta):
            meta, other = (left, right) if isinstance(left, Meta) else (right, left)
            assert isinstance(meta, Meta)
            if _occurs(meta, other):
                return False
            self._values[meta.number] = other
            return True
        if isinstance(left, Binary) and type(left) is type(right):
            assert isinstance(right, Binary)
            return self.unify(left.left, right.left) and self.unify(left.right, right.right)
        if isinstance(left, Not) and isinstance(right, Not):
            return self.unify(left.body, right.body)
        return not has_meta(left) and not has_meta(right) and unfold_all(left) == unfold_all(right)


def has_meta(formula: Formula) -> bool:
    """Tell whether an unknown occurs in the formula as it stands."""
    if isinstance(formula, Binary):
        return has_meta(formula.left) or has_meta(formula.right)
    return has_meta(formula.body) if isinstance(formula, Not) else isinstance(formula, Meta)


def _occurs(meta: Meta, formula: Formula) -> bool:
    if isinstance(formula, Binary):
        return _occurs(meta, formula.left) or _occurs(meta, formula.right)
    return _occurs(meta, formula.body) if isinstance(formula, Not) else formula == meta
