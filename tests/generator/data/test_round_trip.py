"""Text that a tokenizer cannot write is counted when data is read, with an example; mostly such text is an error."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from transformers import T5Tokenizer

from common import ByteTokenizer, ConfigError
from generator.data import tokenized_steps
from generator.data.dataset import GeneratorDataset
from generator.data.instruct_dataset import InstructDataset
from generator.data.prompted_steps import TracedSteps
from generator.prompts.templates import get_template
from retrieval.leandojo.traces import TracedTactics
from retrieval.training import kept_tokens
from retrieval.training.round_trip import RoundTrip, check_sample
from tests.fakes import theorem
from tests.generator.data.test_completion_encoding import gpt2
from tests.loopback import left

PLAIN = [(f"h : p ∧ q ⊢ p{'q' * i}", f"exact h{'p' * i}") for i in range(8)]


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A tokenizer as T5's: SentencePiece without byte fallback, which never saw a line break, ⟨ or {."""
    folder = tmp_path_factory.mktemp("t5")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([text for step in PLAIN for text in step] * 10),
        model_prefix=str(folder / "spiece"),
        vocab_size=60,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    return T5Tokenizer.from_pretrained(folder, extra_ids=0)


def encoder_decoder(path: Path, tokenizer: Any) -> Any:
    limits = {"max_inp_seq_len": 200, "max_oup_seq_len": 60, "is_train": True}
    return GeneratorDataset(path, tokenizer=tokenizer, progress=False, **limits)  # type: ignore[arg-type]


def decoder_only(path: Path, tokenizer: Any) -> Any:
    steps = TracedSteps(TracedTactics.load(path, progress=False), get_template("bfs-prover"))
    limits = {"max_seq_len": 200, "max_completion_len": 60, "is_train": True}
    return InstructDataset(steps, tokenizer=tokenizer, progress=False, **limits)  # type: ignore[arg-type]


Make = Callable[[Path, Any], Any]
both_families = pytest.mark.parametrize("make", [encoder_decoder, decoder_only])


def write(folder: Path, steps: list[tuple[str, str]]) -> Path:
    path = folder / "train.json"
    path.write_text(json.dumps([theorem(i, [step]) for i, step in enumerate(steps)]), encoding="utf-8")
    return path


@both_families
def test_text_that_comes_back_is_not_mentioned(make: Make, t5: Any, tmp_path: Path) -> None:
    path = write(tmp_path, PLAIN) if make is encoder_decoder else write(tmp_path, [("h", t) for _, t in PLAIN])
    if make is decoder_only:  # it has no token for the colons of the template either
        t5.add_tokens([":::"])
    assert "read back" not in make(path, t5).summary()
    lean = [("p : Prop\n⊢ {x} ⟨p⟩", "exact ⟨h⟩\n  simp  {x}"), ("⊢ <pad>", "simp [<a>]")] * 8
    for tokenizer in (gpt2(), ByteTokenizer()):
        assert "read back" not in make(write(tmp_path, lean), tokenizer).summary()


@both_families
def test_what_does_not_come_back_is_counted_with_an_example(make: Make, t5: Any, tmp_path: Path) -> None:
    t5.add_tokens([":::"])
    lost = [("h : p\n⊢ p", "exact h"), ("⊢ p", "exact ⟨h⟩"), ("⊢ p", "exact h\n  exact h")]
    summary = make(write(tmp_path, [*PLAIN, *lost]), t5).summary()
    states = "states" if make is encoder_decoder else "prompts"
    back = "exact h" if make is encoder_decoder else "exact <unk>h<unk>"
    assert f"2 of 11 tactics are other texts when their tokens are read back ('exact ⟨h⟩' becomes '{back}')" in summary
    assert f"1 of 11 {states} are other texts when their tokens are read back ('h : p\\n⊢ p" in summary


@both_families
@pytest.mark.parametrize("lost", ["states", "tactics"])
def test_more_than_half_is_an_error_that_says_what_to_do(make: Make, t5: Any, tmp_path: Path, lost: str) -> None:
    t5.add_tokens([":::"])
    changed = [(f"{s}\n{s}", t) if lost == "states" else (s, f"exact {{{t}}}") for s, t in PLAIN]
    message = r"train\.json: 8 of 12 .* becomes .*: the tokenizer of model_name .* does not fit .* google/byt5-small"
    with pytest.raises(ConfigError, match=message):
        make(write(tmp_path, [*changed, *PLAIN[:4]]), t5)
    assert "8 of 16" in make(write(tmp_path, [*changed, *PLAIN]), t5).summary(), "half is not more than half"


def test_white_space_at_the_ends_matters_where_a_candidate_is_judged() -> None:
    trip = RoundTrip("tactics")
    trip.add(["a ", "b", "c"], ["a", "b", "c "])
    assert trip.num_changed == 2 and trip.note().startswith("2 of 3 tactics are")
    other = RoundTrip("states")
    other.add(["a ", "b\n"], ["a", "b"], ends_matter=False)
    assert other.num_changed == 0 and other.note() == ""
    trip.check("here", None)  # of a few texts more than half may be chance


def test_an_example_is_cut_to_the_place_that_differs() -> None:
    trip = RoundTrip("states")
    trip.add(["x" * 500 + "⟨" + "y" * 500], ["x" * 500 + "y" * 500])
    assert trip.first == ["x" * 30 + "⟨" + "y" * 29, "x" * 30 + "y" * 30]


def test_of_many_texts_a_sample_is_read_back(t5: Any) -> None:
    texts = ["exact h"] * 900 + ["exact\nh"] * 100
    found = check_sample(t5, len(texts), texts.__getitem__, "premises", "corpus.jsonl", size=100)
    assert found.startswith("10 of 100 sampled premises are other texts")
    assert check_sample(ByteTokenizer(), 10**9, texts.__getitem__, "premises", "corpus.jsonl") == ""
    with pytest.raises(ConfigError, match=r"corpus\.jsonl: 100 of 100 premises .*byt5-small"):
        check_sample(t5, 100, lambda i: texts[900 + i], "premises", "corpus.jsonl")


@both_families
def test_the_second_run_says_the_same_and_tokenises_nothing(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, t5: Any
) -> None:
    monkeypatch.setattr(kept_tokens, "MIN_BYTES", 0)
    t5.add_tokens([":::"])
    long = [("⊢ " + "p " * 120, "exact h"), ("⊢ p", "exact " + "p " * 70), ("⊢ p", "exact ⟨h⟩")]
    path = write(tmp_path, [*PLAIN, *long, ("no goals", "exact h")])
    first = make(path, t5)

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("it is tokenised again")

    monkeypatch.setattr(tokenized_steps, "_Tokenizing", refuse)
    monkeypatch.setattr("generator.data.token_counts._count", refuse)
    second = make(path, t5)
    assert second.summary() == first.summary() and "read back" in first.summary()
    assert second.source_lengths.tolist() == first.source_lengths.tolist()
    assert [second[i] for i in range(len(second))] == [first[i] for i in range(len(first))]
    assert left(tmp_path) == [".tokens", "train.json"]
    path.write_text(path.read_text(encoding="utf-8").replace("exact hp", "exact hq"), encoding="utf-8")
    with pytest.raises(AssertionError, match="tokenised again"):
        make(path, t5)
