"""The lemma library: every proof checks, files are in import order, what is below is out of reach."""

from pathlib import Path

import pytest

from common import DataError
from generator.environments import (
    ProofFinished,
    ProofState,
    PropositionalEnvironment,
    TacticError,
    TacticResult,
    Theorem,
)
from generator.environments.propositional.declarations import SourceTheorem, parse_signature, parse_theorems
from generator.environments.propositional.intuitionistic import is_provable
from generator.environments.propositional.lemma_files import Library, SourceFile, lemma_library
from generator.environments.propositional.syntax import SyntaxProblem

LEMMAS = [(file.path, theorem) for file in lemma_library().files for theorem in file.theorems if theorem.proof]


@pytest.mark.parametrize(("path", "theorem"), LEMMAS, ids=[theorem.full_name for _, theorem in LEMMAS])
def test_every_lemma_is_proved_from_what_stands_before_it(path: str, theorem: SourceTheorem) -> None:
    environment = PropositionalEnvironment()
    state: TacticResult = environment.start(Theorem(path, theorem.full_name))
    for tactic in theorem.tactics or [f"exact {' '.join(theorem.proof.split())}"]:
        assert isinstance(state, ProofState)
        state = environment.run_tactic(state, tactic)
        assert not isinstance(state, TacticError), (tactic, state)
    assert state == ProofFinished()


def test_there_are_enough_lemmas_and_all_hold() -> None:
    assert len(LEMMAS) >= 140 and len(lemma_library().files) >= 12
    for file in lemma_library().files:
        for theorem in file.theorems:
            # absurd and its like are rules: they hold for every conclusion
            assert theorem.statement is None or is_provable([], theorem.statement.type), theorem.full_name


def test_files_come_after_their_imports() -> None:
    seen: set[str] = set()
    for file in lemma_library().files:
        assert set(file.imports) <= seen
        seen.add(file.path)


def test_positions_point_into_the_source() -> None:
    for file in lemma_library().files:
        lines = file.source.splitlines()
        for theorem in file.theorems:
            (line, start), (end_line, end) = theorem.name_start, theorem.name_end
            assert line == end_line
            name = lines[line - 1][start - 1 : end - 1]
            assert name == theorem.full_name or theorem.full_name.endswith(f".{name}"), theorem
            assert theorem.start <= theorem.name_start <= theorem.name_end <= theorem.end
            if theorem.proof:
                assert lines[theorem.start[0] - 1][theorem.start[1] - 1 :].startswith(f"theorem {theorem.full_name} ")
                assert theorem.end == (theorem.end[0], len(lines[theorem.end[0] - 1]) + 1)
                assert file.source.find(theorem.code) >= 0 and theorem.code.endswith(":=")
    code = {theorem.full_name: theorem.code for file in lemma_library().files for theorem in file.theorems}
    assert (
        code["And.intro"]
        == code["And"]
        == ("structure And (a b : Prop) : Prop where\n  intro ::\n  left : a\n  right : b")
    )


def test_only_what_is_imported_or_above_is_accessible() -> None:
    library = lemma_library()
    find = library.accessible_constants("Logic/And.lean", (5, 1))
    assert find("And.intro") is not None
    assert find("And.symm") is None  # itself
    assert find("mt") is None  # Logic/Not.lean is not imported there
    below = library.accessible_constants("Logic/And.lean", (7, 1))
    assert below("And.symm") is not None and below("And.imp") is None
    assert library.accessible_constants("Logic/Distrib.lean", (1, 1))("mt") is not None  # through Logic/Or.lean


def test_a_theorem_cannot_use_itself() -> None:
    environment = PropositionalEnvironment()
    state = environment.start(Theorem("Logic/Not.lean", "mt"))
    assert isinstance(environment.run_tactic(state, "exact mt h₁ h₂"), TacticError)
    assert isinstance(environment.run_tactic(state, "exact Not.imp h₂ h₁"), TacticError)


def test_binders_of_every_style_are_read() -> None:
    declaration = parse_signature("x", "{a b : Prop} (c : Prop) (h h' : a ∧ (b → c)) : a")
    assert [(b.name, b.is_implicit) for b in declaration.propositions] == [("a", True), ("b", True), ("c", False)]
    assert declaration.argument_names == ("h", "h'")
    assert str(declaration.type) == "a ∧ (b → c) → a ∧ (b → c) → a"


@pytest.mark.parametrize(
    "signature", ["(p : Prop)", "(p : Prop) : q", "(p p : Prop) : p", "(p) : p", "(p : Prop : p", "{h : True} : True",
                  "(h : True) (p : Prop) : p", "(fun : Prop) : True", ": True :"],
)  # fmt: skip
def test_a_bad_signature_is_refused(signature: str) -> None:
    with pytest.raises(SyntaxProblem):
        parse_signature("x", signature)


def test_a_bad_theorem_is_named_with_its_line() -> None:
    with pytest.raises(DataError, match=r"My\.lean:3: 'q' is not bound"):
        list(parse_theorems("-- a comment\n\ntheorem foo (p : Prop) : q := by\n  trivial\n", "My.lean"))
    with pytest.raises(DataError, match=r"My\.lean:1: a theorem needs ':='"):
        list(parse_theorems("theorem foo (p : Prop) : p\n", "My.lean"))


def test_a_library_needs_its_imports_in_a_straight_order(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"A\.lean: imports B\.lean, which is not in the library"):
        Library([SourceFile.parse("A.lean", "import B\n")])
    with pytest.raises(DataError, match="circular imports"):
        Library([SourceFile.parse("A.lean", "import B\n"), SourceFile.parse("B.lean", "import A\n")])
    source = "theorem foo : True := trivial\n"
    with pytest.raises(DataError, match=r"foo is declared in A\.lean too"):
        Library([SourceFile.parse("A.lean", source), SourceFile.parse("B.lean", source)])
    with pytest.raises(DataError, match="no Lean files here"):
        Library.load(tmp_path)
