"""Closing a goal with one lemma of the library: `exact And.symm h`, `exact and_or_left.mp h`, `exact mt h`."""

from collections.abc import Sequence
from dataclasses import dataclass

from generator.environments.propositional.declarations import Declaration
from generator.environments.propositional.elaboration import Elaborator
from generator.environments.propositional.formulas import Formula, Iff, Implies, Meta, unfold_not
from generator.environments.propositional.lemma_files import Library
from generator.environments.propositional.unification import has_meta

# The lemmas that close goals, in the order in which they are tried. Of several names for one statement only one is
# here, and theorems are made more often from the first ones: a small model has to learn each lemma from few uses.
CLOSING_LEMMAS = """
And.symm Or.symm mt Iff.symm and_comm or_comm not_not_intro Or.resolve_left Or.resolve_right Iff.trans
and_assoc or_assoc not_or Or.imp_left Or.imp_right And.imp_left And.imp_right and_or_left not_and or_imp
and_imp Or.imp And.imp not_not_not imp_not_comm or_and_left or_and_right and_or_right not_or_intro imp_and
iff_comm Iff.rfl and_congr or_congr not_congr imp.swap and_self_iff or_self_iff Or.rotate And.rotate
not_of_not_imp imp_not_self and_not_self iff_def and_left_comm or_left_comm not_imp_of_and_not
and_congr_left' and_congr_right' or_congr_left or_congr_right imp_congr_left imp_congr_right
and_iff_left_of_imp and_iff_right_of_imp or_iff_left_of_imp or_iff_right_of_imp
iff_of_true iff_of_false iff_true_intro iff_false_intro Or.neg_resolve_left not_not_of_not_imp
""".split()


@dataclass(frozen=True, slots=True)
class _Use:
    """One way to use a lemma: `text` applied to `num_arguments` hypotheses."""

    text: str
    declaration: Declaration
    direction: str  # "", "mp" or "mpr"
    num_arguments: int


class LemmaIndex:
    """The closing lemmas of a library, by the connective of what they prove.

    Args:
        library: has every lemma of `CLOSING_LEMMAS`
    """

    def __init__(self, library: Library) -> None:
        """List every use of every lemma."""
        self._uses: dict[type[Formula], list[_Use]] = {}
        for name in CLOSING_LEMMAS:
            place = library.find(name)
            assert place is not None and place[1].statement is not None, name
            self._add(place[1].statement)

    def _add(self, declaration: Declaration) -> None:
        name = declaration.full_name
        result, count = declaration.type, 0
        while True:
            self._add_use(result, _Use(name, declaration, "", count))
            if not isinstance(result := unfold_not(result), Implies):
                break
            result, count = result.right, count + 1
        if isinstance(result, Iff):
            self._add_use(result.right, _Use(f"{name}.mp", declaration, "mp", count + 1))
            self._add_use(result.left, _Use(f"{name}.mpr", declaration, "mpr", count + 1))

    def _add_use(self, result: Formula, use: _Use) -> None:
        if use.direction and use.num_arguments > 1:
            return  # `(lemma h).mp h1` is long, and a small model would seldom see it
        self._uses.setdefault(type(result), []).append(use)

    def close(self, hypotheses: Sequence[tuple[str, Formula]], target: Formula) -> str | None:
        """Return `exact ...` with the first lemma that proves the target from hypotheses alone."""
        for use in self._uses.get(type(target), ()):
            arguments = _arguments(use, hypotheses, target)
            if arguments is not None:
                return " ".join(["exact", use.text, *arguments])
        return None


def _arguments(use: _Use, hypotheses: Sequence[tuple[str, Formula]], target: Formula) -> list[str] | None:
    """Return the hypotheses that a lemma is applied to so that it proves the target, or None."""
    elaborator = Elaborator(lambda name: None)
    result = elaborator.open_declaration(use.declaration).type
    domains = []
    if use.direction:
        assert isinstance(result, Iff)
        left, right = result.left, result.right
        result = Implies(left, right) if use.direction == "mp" else Implies(right, left)
    for _ in range(use.num_arguments):
        result = unfold_not(result)
        assert isinstance(result, Implies)
        domains.append(result.left)
        result = result.right
    if not elaborator.unify(result, target):
        return None
    return _find_arguments(elaborator, domains, hypotheses)


def _find_arguments(
    elaborator: Elaborator, domains: Sequence[Formula], hypotheses: Sequence[tuple[str, Formula]]
) -> list[str] | None:
    """Return a hypothesis for each domain, whose unknowns they settle from left to right, or None."""
    if not domains:
        return []
    domain = elaborator.resolve(domains[0])
    if isinstance(domain, Meta):
        return None  # any hypothesis would do
    if not has_meta(domain):
        name = next((name for name, formula in hypotheses if formula == domain), None)
        rest = None if name is None else _find_arguments(elaborator, domains[1:], hypotheses)
        return None if name is None or rest is None else [name, *rest]
    for name, formula in hypotheses:
        before = elaborator.snapshot()
        if elaborator.unify(domain, formula):
            rest = _find_arguments(elaborator, domains[1:], hypotheses)
            if rest is not None:
                return [name, *rest]
        elaborator.restore(before)
    return None
