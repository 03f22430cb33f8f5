"""Text columns: every text comes back by its number, and equal ones are kept once."""

import hashlib
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import DataError
from retrieval.leandojo import text_column
from retrieval.leandojo.text_column import DistinctTexts, TextColumn

any_texts = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=9))


def column(texts: list[str]) -> TextColumn:
    made = TextColumn()
    made.extend([text.encode() for text in texts])
    return made


@given(any_texts, any_texts)
def test_texts_come_back_by_number_whether_added_one_by_one_or_together(first: list[str], second: list[str]) -> None:
    made = column(first)
    for text in second:
        made.append(text.encode())
    made.extend([text.encode() for text in first])
    texts = first + second + first
    assert list(made) == texts and len(made) == len(texts)
    assert made.lengths.tolist() == [len(text.encode()) for text in texts]
    assert made.joined == "".join(texts).encode() and made.bounds[-1] == len(made.joined)
    assert list(pickle.loads(pickle.dumps(made))) == texts


def test_there_is_no_text_behind_the_last() -> None:
    with pytest.raises(IndexError):
        column(["a", "b"])[2]


def test_what_is_hashed_is_all_texts_and_where_each_ends() -> None:
    made = column(["a", "", "⊢"])
    assert hashlib.sha256(made.joined).digest() == hashlib.sha256("a⊢".encode()).digest()
    assert made.bounds.tolist() == [0, 1, 1, 4] and made.bounds.dtype == np.int64


@given(st.lists(st.tuples(st.text("aλ", max_size=9), st.booleans())))
def test_texts_that_are_kept_are_numbered_anew(rows: list[tuple[str, bool]]) -> None:
    made = column([text for text, _ in rows])
    made.keep(np.array([is_kept for _, is_kept in rows], dtype=np.bool_))
    kept = [text for text, is_kept in rows if is_kept]
    assert list(made) == kept and made.joined == "".join(kept).encode()
    made.append(b"more")
    assert list(made) == [*kept, "more"]


@given(st.lists(st.text("abλ", max_size=3)))
def test_equal_texts_are_kept_once_and_in_the_order_they_came(texts: list[str]) -> None:
    collected = DistinctTexts()
    given_out = [collected.add(text) for text in texts]
    interned = [collected.intern(text) for text in texts]
    made, numbers = collected.finish()
    assert list(made) == list(dict.fromkeys(texts))
    assert [made[numbers[number]] for number in given_out] == texts
    assert [made[numbers[number]] for number in interned] == texts


def test_two_texts_of_one_hash_stay_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_column, "hash", len, raising=False)
    collected = DistinctTexts()
    given_out = [collected.add(text) for text in ("ab", "cd", "ab", "ef", "cd", "g")]
    made, numbers = collected.finish()
    assert [made[numbers[number]] for number in given_out] == ["ab", "cd", "ab", "ef", "cd", "g"]


def test_a_text_that_is_not_unicode_is_refused() -> None:
    with pytest.raises(DataError, match="half a surrogate pair; export the file again"):
        DistinctTexts().add("\ud800")
