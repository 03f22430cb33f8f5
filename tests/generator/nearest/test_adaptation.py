"""Names of hypotheses are exchanged for those of the same type, and nothing else is."""

import pytest

from generator.nearest.adaptation import adapt, hypotheses

THEIRS = "A : Type\nx y : A\nl : list A\nH0 : In x l\n⊢ In x (y :: l)"


def test_hypotheses_are_read_with_values_continued_lines_and_several_names():
    goal = "p' q : Prop\nH : p' ->\n    q\nz := 3 : nat\nnot a name! : x\n⊢ q : Prop\nw : no\n⊢ p"
    assert hypotheses(goal) == (("p'", "Prop"), ("q", "Prop"), ("H", "p' -> q"), ("z", "3 : nat"))
    assert hypotheses("⊢ forall n : nat, n = n") == ()
    assert hypotheses("") == ()


@pytest.mark.parametrize(
    ("tactic", "ours", "expected"),
    [
        # types are compared with the names that are exchanged already
        ("apply H0", "B : Type\na b : B\nm : list B\nHin : In a m\n⊢ In b m", "apply H0"),  # a is no second x of A
        ("apply H0", "A : Type\nu v : A\nl : list A\nHin : In v l\n⊢ In v l", "apply Hin"),
        # what is there by name and type stays, though another would do
        ("apply H0", "A : Type\nx y : A\nl : list A\nH0 : In x l\nH1 : In x l\n⊢ p", "apply H0"),
        # of several that fit, the last
        ("apply H0", "A : Type\nx y : A\nl : list A\nH1 : In x l\nH2 : In x l\n⊢ p", "apply H2"),
        # parts of longer names, qualified names and fields are not names of hypotheses
        ("apply H0x, Nat.H0, H0.x, H0'", "A : Type\nx y : A\nl : list A\nHin : In x l\n⊢ p", None),
        ("rewrite foo; auto with H", "A : Type\nx y : A\nl : list A\nHin : In x l\n⊢ p", None),
        # nothing fits
        ("apply H0", "⊢ p", None),
    ],
)
def test_a_name_becomes_that_of_the_hypothesis_of_the_same_type(tactic, ours, expected):
    assert adapt(tactic, THEIRS, ours) == (tactic if expected is None else expected)


def test_two_names_never_become_one():
    assert adapt("rewrite H1, H2", "H1 H2 : p\n⊢ q", "H3 : p\n⊢ q") == "rewrite H3, H2"
    assert adapt("rewrite H1, H2", "H1 H2 : p\n⊢ q", "a b : p\n⊢ q") == "rewrite b, a"


def test_names_are_exchanged_at_once_and_not_one_after_the_other():
    assert adapt("f a b", "a : p\nb : q\n⊢ r", "b : p\na : q\n⊢ r") == "f b a"
