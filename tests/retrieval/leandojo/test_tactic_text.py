"""Tactics in targets: names as written or in full, and no white space touched that a prover reads."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import ConfigError, DataError, remove_marks
from retrieval.leandojo.tactic_text import TacticText, format_tactic, normalize_tactic


def test_names_are_written_in_full_between_their_marks() -> None:
    assert format_tactic("rw [<a>foo</a>,\n  <a>bar</a>]", ["A.foo", "B.bar"]) == "rw [<a>A.foo</a>,\n  <a>B.bar</a>]"
    assert format_tactic("simp\n  [x]", []) == "simp\n  [x]"
    assert format_tactic(r"exact <a>x</a> \1", [r"A.\g<0>"]) == r"exact <a>A.\g<0></a> \1"


def test_marks_without_names_are_refused() -> None:
    with pytest.raises(DataError, match="marks 1 premises but 2 are listed"):
        format_tactic("exact <a>foo</a>", ["A.foo", "B.bar"])


def test_names_are_written_in_one_of_two_ways() -> None:
    with pytest.raises(ConfigError, match="tactic_names is 'short'; choose one of written, full"):
        TacticText(tactic_names="short")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("tactic", "expected"),
    [
        ("  rw [a,   b]\tat\t h  ", "rw [a, b] at h"),
        ("\n \n  simp\n\n", "simp"),
        ("intro x \t\r\nexact x \n", "intro x\nexact x"),
        ("exact  <a>symm</a>  h ", "exact <a>symm</a> h"),
        ("  intro x  \n  exact x", "  intro x\n  exact x"),  # the first line's column is the block's
        (" \n\r\n", ""),
        ("", ""),
        ("exact\u00a0 h", "exact\u00a0 h"),
        ('use  2, "a  b"   c  ', 'use 2, "a  b"   c'),
        ("exact  «a  b» ", "exact «a  b»"),
        ("simp  -- why  not", "simp -- why  not"),
        ("simp  /- a  b -/  at  h", "simp /- a  b -/  at  h"),
        ("rewrite  H  (* a  b *)  ;  auto", "rewrite H (* a  b *)  ;  auto"),
        ("apply  foo  ‹a  b›  c", "apply foo ‹a  b›  c"),
        ('exact \'"\'  s  "a  b"', 'exact \'"\'  s  "a  b"'),  # a quotation mark that begins no string
    ],
)
def test_what_no_prover_reads_is_left_out(tactic: str, expected: str) -> None:
    assert normalize_tactic(tactic) == expected


@pytest.mark.parametrize(
    "tactic",
    [
        "simp [foo] -- close it\n  exact hp",
        "have h : p := by\n    simp\n    ring",
        "have h : p :=   by simp\n                  ring",  # the second line stands below `simp`
        "calc a = b := h₁\n     _ = c := h₂",
        "·   intro x\n    exact x",
        "{ intro x,\n  simp }",
        'trace "a  b\n  c \n d"',
        "/- a  b\n\n  c \n-/ simp",
        "constructor\n\n· simp",
    ],
)
def test_layout_comments_and_strings_stay(tactic: str) -> None:
    assert normalize_tactic(tactic) == tactic


@given(st.text(alphabet=st.sampled_from(list('ab \t\n\r·«"`-/(*<')), max_size=30))
def test_nothing_but_white_space_changes_and_no_column_of_a_block(tactic: str) -> None:
    found = normalize_tactic(tactic)
    assert "".join(found.split()) == "".join(tactic.split())
    assert normalize_tactic(found) == found
    assert found.count("\n") <= tactic.count("\n") and len(found.splitlines()) <= len(tactic.splitlines())
    if "\n" in found:
        lines = [line.rstrip(" \t\r") for line in tactic.rstrip(" \t\r\n").split("\n")]
        kept = [line.rstrip(" \t\r") for line in found.split("\n")]
        assert lines[len(lines) - len(kept) :] == kept, "no line is moved, none is joined with another"
    assert normalize_tactic(remove_marks(tactic)).split() == remove_marks(found).split()
