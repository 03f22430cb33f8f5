"""Proofs come into a file in such a way that what stands behind them still holds."""

from pathlib import Path

from generator.environments.base import Statement
from generator.environments.coq.assumptions import beyond, read_assumptions
from generator.environments.coq.sources import Source
from generator.environments.coq.writing import file_of_statements, file_with_proofs


def spliced(text: str, *names: str) -> str:
    source = Source(Path("a.v"), text, ())
    return file_with_proofs(source, {text.index(f"Lemma {name}"): [f"( {name}_new )."] for name in names})


def test_a_proof_outside_of_sections_takes_the_place_of_the_files_own() -> None:
    text = "Lemma a : T. Proof. old. Qed.\nLemma b : T.\n  old. Qed.\n(* end *)\n"
    new = "Proof.\n  ( {} ).\nQed."
    assert spliced(text, "a", "b") == (
        f"Lemma a : T.\n{new.format('a_new')}\nLemma b : T.\n{new.format('b_new')}\n(* end *)\n"
    )


def test_a_hole_is_filled() -> None:
    assert spliced("Section S. Lemma a : T. Admitted. End S.", "a") == (
        "Section S. Lemma a : T.\nProof.\n  ( a_new ).\nQed. End S."
    )


def test_in_a_section_and_for_a_transparent_proof_the_files_own_stays_behind_it() -> None:
    checked = "\nProof.\n  ( a_new ).\n  Succeed Qed.\nRestart."
    assert spliced("Section S. Lemma a : T. Proof. old. Qed. End S.", "a") == (
        f"Section S. Lemma a : T.{checked} Proof. old. Qed. End S."
    )
    assert spliced("Lemma a : T. Proof. old. Defined.", "a") == f"Lemma a : T.{checked} Proof. old. Defined."
    assert spliced("Section S. Lemma a : T. Proof old. End S.", "a") == (
        f"Section S. Lemma a : T.{checked} exact ( old). Qed. End S."
    )
    assert spliced("Lemma a : T. Proof old. End.", "a") == "Lemma a : T.\nProof.\n  ( a_new ).\nQed. End."


def test_what_says_how_a_proof_is_read_stays_before_it() -> None:
    assert spliced("Lemma a : T. Proof using x. old. Qed.", "a") == "Lemma a : T. Proof using x.\n  ( a_new ).\nQed."


def test_free_statements_share_a_header_and_have_names_of_their_own() -> None:
    one, two = Statement("True", "Require Import Lia."), Statement("1 = 1", "Require Import Lia.")
    assert file_of_statements([(one, ["( a )."]), (two, ["( b )."])]) == (
        "Require Import Lia.\n\n"
        "Lemma searched_statement : ( True ).\nProof.\n  ( a ).\nQed.\n\n"
        "Lemma searched_statement_2 : ( 1 = 1 ).\nProof.\n  ( b ).\nQed.\n"
    )
    other = Statement("2 = 2", name="b")
    text = file_of_statements([(one, ["( a )."]), (other, ["( c )."])])
    assert "Module Header1.\n\nRequire Import Lia." in text and "End Header1." in text
    assert "Module Header2.\n\nLemma b : ( 2 = 2 )." in text


LISTED = """Section Variables:
h
: A
Axioms:
classic : forall P : Prop, P \\/ ~ P
bi_induction
  : forall A : t -> Prop,
    A 0
Lib.trusted is assumed to be guarded.
"""


def test_assumptions_are_read_from_what_coq_prints() -> None:
    found = read_assumptions(LISTED)
    assert [(each.name, each.in_section) for each in found] == [
        ("h", True),
        ("classic", False),
        ("bi_induction", False),
        ("Lib.trusted", False),
    ]
    assert read_assumptions("Closed under the global context\n") == []
    assert read_assumptions("Fetching opaque proofs from disk for Coq.A\nClosed under the global context") == []


def test_axioms_beyond_those_allowed() -> None:
    found = read_assumptions(LISTED)
    assert [each.name for each in beyond(found, ())] == ["classic", "bi_induction", "Lib.trusted"]
    assert [each.name for each in beyond(found, {"Coq.Logic.Classical_Prop.classic", "trusted"})] == ["bi_induction"]
    assert beyond(found, {each.line for each in found}) == []
    assert [each.name for each in beyond(read_assumptions("Axioms:\nnotclassic : A"), {"classic"})] == ["notclassic"]
