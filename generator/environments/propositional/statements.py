"""Statements that a user types: with binders as Lean has them, or a formula alone."""

from __future__ import annotations

from generator.environments.propositional.declarations import (
    Declaration,
    FindConstant,
    PropositionBinder,
    parse_signature,
)
from generator.environments.propositional.formulas import atoms, parse_formula
from generator.environments.propositional.lemma_files import Library, imported_files
from generator.environments.propositional.syntax import SyntaxProblem

_PLAIN_SIGNS = {"<->": "↔", "->": "→", "/\\": "∧", "\\/": "∨", "~": "¬"}  # as a keyboard has them; the longest first


def read_statement(text: str) -> Declaration:
    """Read `(p q : Prop) (h : p ∧ q) : q ∧ p`, or `p ∧ q → q ∧ p`, whose propositions are bound as they come.

    Signs may be written `->`, `<->`, `/\\`, `\\/` and `~`.

    Raises:
        SyntaxProblem: if it is outside the fragment
    """
    for plain, sign in _PLAIN_SIGNS.items():
        text = text.replace(plain, sign)
    if ":" in text:
        return parse_signature("", text)
    formula = parse_formula(text)
    binders = tuple(PropositionBinder(name, is_implicit=False) for name in dict.fromkeys(atoms(formula)))
    return Declaration("", binders, (), formula)


def write_signature(declaration: Declaration) -> str:
    """Write what stands behind the name of a theorem."""
    names = " ".join(binder.name for binder in declaration.propositions)
    binders = [f"({names} : Prop)"] if names else []
    binders += [f"({name} : {formula})" for name, formula in declaration.hypotheses]
    return " ".join([*binders, f": {declaration.conclusion}"])


def read_header(header: str, library: Library) -> FindConstant:
    """Return what finds the declarations that may be used behind a header of imports; "" imports everything.

    Raises:
        SyntaxProblem: if it imports what the library has not, or holds anything else
    """
    paths = imported_files(header)
    num_lines = sum(bool(line.strip()) for line in header.splitlines())
    if num_lines != len(paths):
        raise SyntaxProblem("the header of a statement holds lines such as 'import Logic.Or', and nothing else")
    known = {file.path for file in library.files}
    unknown = [path for path in paths if path not in known]
    if unknown:
        raise SyntaxProblem(f"the header imports {unknown[0]}, which is not in the library")
    return library.constants_of(paths or sorted(known))
