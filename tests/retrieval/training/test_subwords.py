"""A tokenizer made from texts: any text is written, and names have one form wherever they stand."""

from pathlib import Path

import pytest

from common import ConfigError, load_tokenizer
from retrieval.training.subwords import MIN_VOCAB_SIZE, train_tokenizer

TEXTS = ["H0 : n + 0 = n\n⊢ n + 0 = n", "rewrite (H0 n); apply H0", "now rewrite H0 in *"] * 4


def test_any_text_is_written_and_ends_with_eos() -> None:
    made = train_tokenizer(TEXTS, 300)
    strange = ["", "  two  blanks\n", "∀ 𝔸 é\t\x00", "never seen [x;y] := 42", "<a>H0</a>"]
    ids = made(strange)["input_ids"]
    assert made.batch_decode(ids, skip_special_tokens=True) == strange
    assert all(row[-1] == made.eos_token_id for row in ids)
    assert (made.pad_token_id, made.eos_token_id, made.bos_token_id) == (0, 1, None)


def test_a_name_is_the_same_pieces_wherever_it_stands() -> None:
    made = train_tokenizer(TEXTS, 300)
    name = made("rewrite", add_special_tokens=False)["input_ids"]
    assert len(name) == 1
    for text in ("rewrite", " rewrite", "(rewrite;", "\nrewrite H0"):
        assert name[0] in made(text)["input_ids"]


def test_frequent_names_become_one_piece_within_the_size() -> None:
    small, large = train_tokenizer(TEXTS, MIN_VOCAB_SIZE), train_tokenizer(TEXTS, 300)
    assert len(small) == MIN_VOCAB_SIZE and len(large) <= 300
    assert len(large("now rewrite H0")["input_ids"]) < len(small("now rewrite H0")["input_ids"]) == 15


def test_the_same_texts_give_the_same_tokenizer() -> None:
    assert train_tokenizer(TEXTS, 300).get_vocab() == train_tokenizer(TEXTS[::-1], 300).get_vocab()


def test_its_folder_is_a_tokenizer_like_any_other(tmp_path: Path) -> None:
    made = train_tokenizer(TEXTS, 300)
    made.save_pretrained(tmp_path / "tokenizer")
    loaded = load_tokenizer({"tokenizer": str(tmp_path / "tokenizer"), "d_model": 8})
    assert loaded(TEXTS)["input_ids"] == made(TEXTS)["input_ids"]


def test_too_few_pieces_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"vocab_size is 100; .* at least 259"):
        train_tokenizer(TEXTS, 100)
