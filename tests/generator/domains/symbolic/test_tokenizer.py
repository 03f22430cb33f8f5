"""The words as ids: those of the published files, the same in every program, and nothing is lost in silence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from common import DataError, load_tokenizer
from generator.data.completion_encoding import CompletionEncoder
from generator.domains.symbolic.tokenizer import LAYOUTS, SymbolicTokenizer
from generator.domains.symbolic.vocabulary import SEPARATOR, WORDS
from generator.prompts.templates import get_template
from retrieval.training.checkpoints import absolute

WORD = st.sampled_from([*WORDS, "q", "x<s>y", "INT", "é"])
TEXTS = st.lists(st.lists(WORD, max_size=8).map(" ".join), min_size=1, max_size=4)
EVERY = pytest.mark.parametrize("layout", LAYOUTS)


@pytest.fixture(scope="module", params=LAYOUTS)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """Ours, and what transformers reads of the files that it saves."""
    ours, folder = SymbolicTokenizer(request.param), tmp_path_factory.mktemp("saved")
    ours.save_pretrained(folder)
    return ours, AutoTokenizer.from_pretrained(folder)


@EVERY
def test_a_words_id_is_its_place_in_the_published_vocabulary(layout: str) -> None:
    tokenizer = SymbolicTokenizer(layout)
    assert len(tokenizer) == len(tokenizer.get_vocab()) == 91
    ids = tokenizer(" ".join(WORDS), add_special_tokens=False)["input_ids"]
    assert ids == list(range(91))
    published = {5: "<SPECIAL_5>", 10: "pi", 12: "x", 26: "abs", 71: "INT+", 81: "0", 90: "9"}
    assert {number: WORDS[number] for number in published} == published
    assert tokenizer.decode(ids[3:]) == " ".join(WORDS[3:]), "one space between words"


def test_layouts_differ_in_what_ends_and_pads() -> None:
    for layout, eos, pad in (("symbolic", 1, 2), ("symbolic-lc", 0, 1)):
        tokenizer = load_tokenizer({"tokenizer": layout, "d_model": 8})
        batch = tokenizer(["x", "sin x"], padding="longest", return_tensors="pt")
        assert batch["input_ids"].tolist() == [[12, eos, pad], [WORDS.index("sin"), 12, eos]]
        assert batch["attention_mask"].tolist() == [[1, 1, 0], [1, 1, 1]]
        assert (tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.bos_token_id) == (eos, pad, 0)


@given(texts=TEXTS, options=st.sampled_from([{}, {"padding": "longest", "return_tensors": "pt"}, {"padding": True}]))
def test_the_saved_files_give_the_same_ids_and_texts(both: Any, texts: list[str], options: dict[str, Any]) -> None:
    ours, theirs = both
    for special in (True, False):
        if not special and not any(texts) and "return_tensors" in options:
            continue  # no tokens at all
        found, expected = (t(texts, add_special_tokens=special, **options) for t in both)
        assert {**found, **expected}.keys() >= {"input_ids", "attention_mask"}
        for name in ("input_ids", "attention_mask"):
            assert torch.is_tensor(found[name]) == torch.is_tensor(expected[name])
            assert [list(map(int, row)) for row in found[name]] == [list(map(int, row)) for row in expected[name]]
        for skip in (True, False):
            args = found["input_ids"], skip
            assert ours.batch_decode(*args) == theirs.batch_decode(*args)
    one = ours(texts[0])
    assert dict(one) == {name: list(theirs(texts[0])[name]) for name in ("input_ids", "attention_mask")}


def test_an_unknown_word_is_read_back_as_unknown(both: Any) -> None:
    for tokenizer in both:
        ids = tokenizer("mul foo x")["input_ids"]
        assert ids[1] == WORDS.index("<SPECIAL_9>")
        assert tokenizer.decode(ids, skip_special_tokens=True) == "mul <SPECIAL_9> x"


def test_a_text_over_the_limit_is_refused_and_not_cut() -> None:
    tokenizer, text = SymbolicTokenizer(), "mul x x"
    assert len(tokenizer(text, truncation=True, max_length=4)["input_ids"]) == 4
    with pytest.raises(DataError, match=r"'mul x x' takes 4 tokens, and the limit is 3; raise max_inp_seq_len"):
        tokenizer(["x", text], truncation=True, max_length=3, padding="longest", return_tensors="pt")


def test_a_saved_folder_and_a_checkpoints_name_give_the_tokenizer_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    SymbolicTokenizer("symbolic-lc").save_pretrained(tmp_path / "saved")
    found = load_tokenizer(str(tmp_path / "saved"))
    assert isinstance(found, SymbolicTokenizer) and found.eos_token_id == 0
    monkeypatch.chdir(tmp_path)
    (tmp_path / "symbolic").mkdir()  # not what the name stands for
    name = absolute({"tokenizer": SymbolicTokenizer().name_or_path})
    assert name == {"tokenizer": "symbolic"} and isinstance(load_tokenizer(name), SymbolicTokenizer)


def test_a_prefix_model_reads_problem_separator_answer_and_end() -> None:
    tokenizer, template = load_tokenizer({"tokenizer": "symbolic"}), get_template("symbolic")
    prompt, answer = template.format("sub Y' x"), "mul div INT+ 1 INT+ 2 pow x INT+ 2"
    encoder = CompletionEncoder(tokenizer)
    [encoded] = encoder.encode([prompt], [template.complete(answer)])
    words = tokenizer.convert_ids_to_tokens(encoded.input_ids)
    assert words == ["sub", "Y'", "x", SEPARATOR, *answer.split(), "</s>"] and encoded.num_prompt_tokens == 4
    assert encoder.prompt_ids([prompt]) == [encoded.input_ids[:4]], "inference begins as training does"
    assert template.parse(tokenizer.decode(encoded.input_ids[4:], skip_special_tokens=True)) == answer
