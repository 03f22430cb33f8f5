"""The shared vocabulary: positions, premises, model inputs, tokenizer."""

import json
import random
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

import common
from common import (
    ByteTokenizer,
    ConfigError,
    DataError,
    Pos,
    Premise,
    fit_state,
    format_augmented_state,
    format_state,
    load_tokenizer,
    split_name,
)

# ---------------------------------------------------------------------------------------- positions


@pytest.mark.parametrize(
    "value", [Pos(3, 4), [3, 4], (3, 4), "Pos(3, 4)", "(3,4)", SimpleNamespace(line_nb=3, column_nb=4)]
)
def test_pos_reads_every_encoding(value):
    assert Pos.of(value) == Pos(3, 4)


def test_pos_orders_by_line_then_column_and_unpacks():
    assert Pos(2, 9) < Pos(10, 1) < Pos(10, 2)
    assert list(Pos(3, 4)) == [3, 4] and str(Pos(3, 4)) == "3:4"


@pytest.mark.parametrize("value", ["3:4", None, [1], [0, 1], [1, -1], [True, 1], [1.5, 1], "Pos(0, 1)", "ab"])
def test_pos_refuses_what_is_no_position(value):
    with pytest.raises(DataError, match="position"):
        Pos.of(value)


# ----------------------------------------------------------------------------------------- premises


def premise(full_name: str, code: str) -> Premise:
    return Premise("A.lean", full_name, Pos(1, 1), Pos(2, 1), code)


@pytest.mark.parametrize(
    ("full_name", "code", "expected"),
    [
        ("Nat.add", "def add : Nat := 1", "def <a>Nat.add</a> : Nat := 1"),
        ("Nat.add", "def Nat.add := 1", "def <a>Nat.add</a> := 1"),
        ("Nat.add", "def _root_.Nat.add := 1", "def <a>Nat.add</a> := 1"),
        ("Nat.add", "theorem add_comm : Natxadd", "theorem add_comm : Natxadd"),
        ("Nat.add", "def Nat.add.aux := Nat.add_comm", "def Nat.add.aux := Nat.add_comm"),
        ("Nat.add'", "def add' := add", "def <a>Nat.add'</a> := add"),
        ("Nat.add", "def add' := 1", "def add' := 1"),
        ("Foo.«term_+(_»", "def «term_+(_» := 1", "def <a>Foo.«term_+(_»</a> := 1"),
        ("a.«b.c»", "lemma «b.c» : x", "lemma <a>a.«b.c»</a> : x"),
        ("f(", "def f( := 1", "def <a>f(</a> := 1"),
        ("ℕ.σ₁", "def σ₁ : ℕ", "def <a>ℕ.σ₁</a> : ℕ"),
        ("Coq.Init.proj1", "Theorem proj1 : A /\\ B -> A.", "Theorem <a>Coq.Init.proj1</a> : A /\\ B -> A."),
        ("Foo.bar", "instance : Baz", "instance : Baz"),
    ],
)
def test_serialize_marks_the_whole_name_only(full_name, code, expected):
    assert premise(full_name, code).serialize() == expected


def test_names_are_found_as_their_pattern_finds_them():
    """In texts of all that matters to the pattern, which says what a whole name is."""
    draw, found = random.Random(0), 0
    words = ["a", "b", "a.a", "_root_.", "_root_.a", ".", "«a»", "«", "»", " ", "\n", "\u00a0", "'", "a'", "é", "a a"]
    for _ in range(3000):
        code = "".join(draw.choices(words, k=draw.randint(0, 9)))
        full_name = "".join(draw.choices([*words[:7], "«a.b»", "«»"], k=draw.randint(1, 4)))
        parts = split_name(full_name)
        expected = code
        for i in range(len(parts)):
            name = r"\.".join(f"(?:«{re.escape(part)}»|{re.escape(part)})" for part in parts[i:])
            pattern = rf"(?<!\S)(?:_root_\.)?{name}(?![\w'!?«»]|\.[\w«])"
            expected, count = re.subn(pattern, lambda _, full=full_name: f"<a>{full}</a>", code)
            if count:
                break
        assert premise(full_name, code).serialize() == expected, (full_name, code)
        found += expected != code
    assert found > 100


def test_no_pattern_is_compiled_for_a_name(monkeypatch):
    """Batches of a retriever hold hundreds of premises, each with a name of its own."""
    with monkeypatch.context() as patch:  # no longer than the call: pytest compiles patterns too, for its reports
        patch.setattr(re, "compile", None)
        patch.setattr(re, "sub", None)
        serialized = premise("Foo.bar", "theorem bar : p").serialize()
    assert serialized == "theorem <a>Foo.bar</a> : p"


def test_a_premise_cannot_end_before_it_starts():
    with pytest.raises(DataError, match=r"A\.lean: premise f ends at 1:1, before 2:1"):
        Premise("A.lean", "f", Pos(2, 1), Pos(1, 1), "")


# --------------------------------------------------------------------------------------------- text


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("2 goals\np : Prop\n⊢ p\n\n⊢ q", "p : Prop\n⊢ p\n\n⊢ q"),
        ("1 goal\n⊢ p", "⊢ p"),
        ("p : Prop\n⊢ p", "p : Prop\n⊢ p"),
    ],
)
def test_format_state_strips_the_count_of_goals(state, expected):
    assert format_state(state) == expected


def test_best_premise_stands_nearest_to_the_state():
    premises = [premise("a", "def a := 1"), premise("b", "def b := 2")]
    text = format_augmented_state("⊢ q", premises, 1000)
    assert text == "def <a>b</a> := 2\n\ndef <a>a</a> := 1\n\n⊢ q"


def test_a_premise_that_does_not_fit_is_left_out_whole_and_the_next_is_tried():
    premises = [premise("a", "def a := " + "1" * 100), premise("b", "def b := 2")]
    assert format_augmented_state("⊢ q", premises, 40) == "def <a>b</a> := 2\n\n⊢ q"


def test_room_for_eos_is_left_to_the_byte():
    state, premises = "⊢ q", [premise("b", "def b := 2")]
    whole = format_augmented_state(state, premises, 1000)
    num_bytes = len(whole.encode())
    assert format_augmented_state(state, premises, num_bytes + 1) == whole
    assert format_augmented_state(state, premises, num_bytes) == state


def test_a_long_state_loses_its_oldest_hypotheses_and_keeps_its_goal():
    state = "".join(f"h{i} : p\n" for i in range(1000)) + "⊢ goal"
    text = format_augmented_state(state, [premise("b", "def b := 2")], 100)
    assert state.endswith(text) and len(text.encode()) <= 99 and text.endswith("⊢ goal")


def test_goals_that_wait_go_before_the_first_goals_hypotheses():
    first, second = "h : p\n⊢ q", "k : " + "r" * 50 + "\n⊢ s"
    assert fit_state(f"{first}\n\n{second}", len(f"{first}\n\n{second}".encode()) - 1) == first
    assert fit_state(f"{first}\n\n{second}", 5) == "⊢ q"


@settings(max_examples=200)
@given(st.text(max_size=80), st.integers(2, 60))
def test_inputs_always_fit_and_are_utf8(state, max_len):
    text = format_augmented_state(state, [premise("b", "def b := 2")], max_len)
    assert len(text.encode()) <= max_len - 1


def test_premises_are_dropped_by_the_given_generator_only():
    premises = [premise(str(i), f"def {i} := 1") for i in range(50)]
    texts = {format_augmented_state("⊢ q", premises, 9999, 0.5, random.Random(seed)) for seed in (1, 1, 2)}
    assert len(texts) == 2
    with pytest.raises(ValueError, match="rng"):
        format_augmented_state("⊢ q", premises, 9999, 0.5)


# ---------------------------------------------------------------------------------------- tokenizer

REFERENCE = transformers.ByT5Tokenizer()
SPECIAL = st.sampled_from(
    ["</s>", "<pad>", "<unk>", "<extra_id_0>", "<extra_id_124>", "<extra_id_125>", " ", "\n", "<"]
)
TEXT = st.lists(st.one_of(SPECIAL, st.text(max_size=8)), max_size=8).map("".join)


@pytest.mark.filterwarnings("ignore:This sequence already has")
@settings(max_examples=300, deadline=None)
@given(st.lists(TEXT, min_size=1, max_size=4), st.one_of(st.none(), st.integers(1, 12)))
def test_byte_tokenizer_equals_transformers(texts, max_length):
    options = {"padding": True, "return_tensors": "pt"}
    if max_length:
        options |= {"truncation": True, "max_length": max_length}
    ours, theirs = ByteTokenizer()(texts, **options), REFERENCE(texts, **options)
    if max_length is None:
        assert torch.equal(ours["input_ids"], theirs["input_ids"])
        assert torch.equal(ours["attention_mask"], theirs["attention_mask"])
    for skip in (True, False):
        decoded = ByteTokenizer().batch_decode(theirs["input_ids"], skip_special_tokens=skip)
        assert decoded == REFERENCE.batch_decode(theirs["input_ids"], skip_special_tokens=skip)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=30), st.integers(1, 20), st.booleans())
def test_truncation_keeps_eos_as_transformers_does(text, max_length, pad_to_max):
    options = {"truncation": True, "max_length": max_length, "padding": "max_length" if pad_to_max else False}
    assert ByteTokenizer()(text, **options)["input_ids"] == REFERENCE(text, **options)["input_ids"]


def test_tokenizer_output_forms():
    tokenizer = ByteTokenizer()
    assert tokenizer("ab")["input_ids"] == [100, 101, 1]
    assert tokenizer(["ab", ""])["input_ids"] == [[100, 101, 1], [1]]
    assert tokenizer(["ab", ""], padding=True)["attention_mask"] == [[1, 1, 1], [1, 0, 0]]
    assert isinstance(tokenizer(["ab"], return_tensors="np")["input_ids"], np.ndarray)
    assert tokenizer.encode("ab", add_special_tokens=False) == [100, 101]
    assert len(tokenizer) == 384 and tokenizer.decode([100, 101, 1, 0], skip_special_tokens=True) == "ab"
    with pytest.raises(ValueError, match="padding=True"):
        tokenizer(["ab", ""], return_tensors="pt")


def test_saved_tokenizer_loads_with_autotokenizer_and_with_us(tmp_path):
    ByteTokenizer().save_pretrained(tmp_path)
    auto = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert auto("⊢ p <extra_id_3>")["input_ids"] == ByteTokenizer()("⊢ p <extra_id_3>")["input_ids"]
    ours = load_tokenizer(str(tmp_path))
    assert isinstance(ours, ByteTokenizer) and len(ours) == 384


def test_load_tokenizer_knows_byt5_without_a_network_and_scratch_architectures(tmp_path):
    assert isinstance(load_tokenizer("google/byt5-small"), ByteTokenizer)
    assert isinstance(load_tokenizer({"d_model": 8}), ByteTokenizer)
    assert isinstance(load_tokenizer({"d_model": 8, "tokenizer": None}), ByteTokenizer)  # as null in a YAML overlay
    (tmp_path / "tiny.yaml").write_text("d_model: 8\n")
    assert isinstance(load_tokenizer(tmp_path / "tiny.yaml"), ByteTokenizer)


def with_tokens(tokens):
    tokenizer = transformers.ByT5Tokenizer()
    tokenizer.add_tokens(tokens)
    return tokenizer


def with_other_ids():
    """A ByT5 whose 127 sentinels are others than ours, though there are as many tokens as 127 sentinels make."""
    tokenizer = transformers.ByT5Tokenizer(extra_ids=125)
    tokenizer.add_tokens(["<extra_id_200>", "<extra_id_300>"])
    return tokenizer


OWN = {
    "added tokens": (lambda: with_tokens(["<a>", "</a>"]), 386),
    "one added token": (lambda: with_tokens(["⊢"]), 385),
    "additional special tokens": (
        lambda: transformers.ByT5Tokenizer(extra_ids=0, additional_special_tokens=["<s1>", "<s2>"]),
        261,
    ),
    "a token for the beginning": (lambda: transformers.ByT5Tokenizer(bos_token="<s>"), 385),
    "another end": (lambda: transformers.ByT5Tokenizer(eos_token="<end>"), 384),
    "sentinels of other numbers": (with_other_ids, 386),
}


@pytest.mark.parametrize("name", OWN)
def test_a_byt5_with_tokens_of_its_own_stays_itself(name, tmp_path):
    make, size = OWN[name]
    tokenizer = make()
    tokenizer.save_pretrained(tmp_path)
    found = load_tokenizer(tmp_path)
    assert len(found) == len(tokenizer) == size and not isinstance(found, ByteTokenizer)
    texts = ["exact <a>f</a> x", "⊢ p", "<s1> a <s2>", "<s>", "<end>", "x</s>", "<extra_id_200> <extra_id_126>"]
    ids = tokenizer(texts)["input_ids"]
    assert found(texts)["input_ids"] == ids
    assert found.batch_decode(ids, True) == tokenizer.batch_decode(ids, True)


@pytest.mark.parametrize("extra_ids", [0, 1, 100, 125])
def test_a_byt5_with_any_number_of_sentinels_is_read_fast(extra_ids, tmp_path):
    transformers.ByT5Tokenizer(extra_ids=extra_ids).save_pretrained(tmp_path)
    found = load_tokenizer(tmp_path)
    assert isinstance(found, ByteTokenizer) and found.extra_ids == extra_ids
    assert load_tokenizer({"d_model": 8, "tokenizer": f"bytes+{extra_ids}"}).extra_ids == extra_ids


def test_text_is_decoded_as_it_is_and_a_folder_that_says_otherwise_is_named(tmp_path):
    for name, tokenizer in {
        "bytes": transformers.ByT5Tokenizer(),
        "own": with_tokens(["<a>"]),
        "words": transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizers_word_level(), eos_token="</s>"),
    }.items():
        tokenizer.save_pretrained(tmp_path / name)
        config = tmp_path / name / "tokenizer_config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | {"clean_up_tokenization_spaces": True}))
        with pytest.warns(UserWarning, match=rf"of .*{name} says clean_up_tokenization_spaces: true, .*as they"):
            found = load_tokenizer(tmp_path / name)
        if name != "words":
            assert found.decode(found("exact mpr ?_ , x .").input_ids, True) == "exact mpr ?_ , x ."
        else:
            assert found.clean_up_tokenization_spaces is False


def test_load_tokenizer_takes_other_tokenizers_from_folders(tmp_path):
    backend = tokenizers_word_level()
    transformers.PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", pad_token="<pad>").save_pretrained(
        tmp_path
    )
    tokenizer = load_tokenizer(tmp_path)
    assert not isinstance(tokenizer, ByteTokenizer) and tokenizer("a b")["input_ids"] == [2, 3]


def tokenizers_word_level():
    from tokenizers import Tokenizer, models, pre_tokenizers

    backend = Tokenizer(models.WordLevel({"<pad>": 0, "</s>": 1, "a": 2, "b": 3}, unk_token="<pad>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return backend


@pytest.mark.parametrize("name", ["./missing-folder", "no/such/model/anywhere"])
def test_an_unknown_tokenizer_is_named_with_what_is_accepted(name):
    with pytest.raises(ConfigError, match=r"model_name '.*google/byt5-small"):
        load_tokenizer(name)


def test_a_missing_architecture_file_is_named():
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        load_tokenizer("nowhere.yaml")


def test_importing_common_touches_no_global_state():
    source = Path(common.__file__).read_text(encoding="utf-8")
    assert "set_float32_matmul_precision" not in source and "manual_seed" not in source
