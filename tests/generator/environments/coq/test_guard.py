"""Whatever is not one tactic is refused before Coq sees it; whatever is, goes through."""

import pytest

from generator.environments.coq.guard import RefusedError, guarded, guarded_statement
from generator.environments.coq.sentences import split_sentences
from tests.generator.environments.coq import hostile


@pytest.mark.parametrize("tactic", hostile.REFUSED, ids=range(len(hostile.REFUSED)))
def test_hostile_texts_are_refused(tactic: str) -> None:
    with pytest.raises(RefusedError):
        guarded(tactic)


@pytest.mark.parametrize(
    ("tactic", "sentence"),
    [
        ("auto", "( auto )."),
        (" auto. ", "( auto )."),
        ("auto...", "( auto )..."),
        ("rewrite x.1", "( rewrite x.1 )."),
        ("all: auto.", "all: ( auto )."),
        ("!: auto", "!: ( auto )."),
        ("1-2, 4: auto", "1-2, 4: ( auto )."),
        ("2:auto", "2: ( auto )."),
        ("[goal]: auto", "[goal]: ( auto )."),
        ("exact: foo", "( exact: foo )."),
        ("[> auto | idtac ]", "( [> auto | idtac ] )."),
        ('idtac "Abort. (*"', '( idtac "Abort. (*" ).'),
        ("(* why *) auto", "( (* why *) auto )."),
        ("*)", "( *) )."),  # no comment was open: a syntax error of Coq
        ("Z.order", "( Z.order )."),
        ("Esimpl; auto", "( Esimpl; auto )."),
        ("apply admit_lemma", "( apply admit_lemma )."),
        ("apply H.admit", "( apply H.admit )."),
        ('idtac "admit"', '( idtac "admit" ).'),
        ("pose (φ := Set)", "( pose (φ := Set) )."),
        ("change (Check = x)", "( change (Check = x) )."),
    ],
    ids=range(21),
)
def test_tactics_become_one_sentence(tactic: str, sentence: str) -> None:
    assert guarded(tactic) == sentence
    if sentence.endswith(")."):
        assert [each.text for each in split_sentences(sentence)] == [sentence]


@pytest.mark.parametrize(
    ("statement", "written"),
    [
        ("forall n, n = n", ": ( forall n, n = n )"),
        ("forall n : nat, n = n.", ": ( forall n : nat, n = n )"),
        (": True", ": True"),
        ("(n : nat) : n = n", "(n : nat) : n = n"),
        ("{A} `{B : C} x [y] : P", "{A} `{B : C} x [y] : P"),
        ("x y : x = y", "x y : x = y"),
        ("(A) -> forall x : nat, B", ": ( (A) -> forall x : nat, B )"),
        ("(a : nat) = b", ": ( (a : nat) = b )"),
        ("exists x : nat, x = x", ": ( exists x : nat, x = x )"),
        ("True", ": ( True )"),
    ],
)
def test_statements_with_and_without_their_colon(statement: str, written: str) -> None:
    assert guarded_statement(statement) == written


@pytest.mark.parametrize(
    "statement", ["", " . ", "True. Axiom x : False", "True). Abort. (", "True (*", '"', "True\x00"]
)
def test_statements_that_are_more_than_that_are_refused(statement: str) -> None:
    with pytest.raises(RefusedError):
        guarded_statement(statement)
