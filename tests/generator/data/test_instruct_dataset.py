"""Examples for a decoder-only model: loss on completions, prompts that fit, and nothing cut in silence."""

from typing import Any

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from common import ByteTokenizer, ConfigError, Pos
from generator.data.instruct_dataset import InstructDataset
from generator.data.prompted_steps import PromptedStep, UnusableStep
from generator.prompts.fields import PromptFields
from generator.prompts.templates import PromptTemplate, get_template
from retrieval.leandojo.provenance import Provenance
from tests.generator.data.test_completion_encoding import gpt2

LLMSTEP = get_template("llmstep")
NUM_TEMPLATE_BYTES = len("[GOAL][PROOFSTEP]")


class Steps:
    """Steps from (state, tactic) pairs; without a template they are plain prompts and completions."""

    background = source = None

    def __init__(self, pairs: list[tuple[str, str]], template: PromptTemplate | None = LLMSTEP) -> None:
        self.pairs, self.template = pairs, template

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> PromptedStep:
        state, tactic = self.pairs[index]
        origin = Provenance("u", "c", "A.lean", f"t{index}", Pos(index + 1, 1), 0)
        if self.template is None:
            return PromptedStep(state, tactic, tactic, None, None, origin)
        prompt, completion = self.template.format(state), self.template.complete(tactic)
        return PromptedStep(prompt, completion, tactic, PromptFields(state), self.template, origin)

    def summary(self) -> str:
        return f"{len(self)} steps"


def make(pairs: list[tuple[str, str]], template: PromptTemplate | None = LLMSTEP, **options: Any) -> InstructDataset:
    defaults = {"tokenizer": ByteTokenizer(), "max_seq_len": 100, "max_completion_len": 20, "is_train": True}
    return InstructDataset(Steps(pairs, template), **(defaults | {"progress": False} | options))


def test_an_example_has_prompt_tactic_tokens_and_where_it_comes_from() -> None:
    example = make([("⊢ p", "simp")])[0]
    assert example == {
        "state": "[GOAL]⊢ p[PROOFSTEP]",
        "tactic": "simp",
        "proof_state": "⊢ p",
        "input_ids": ByteTokenizer().encode("[GOAL]⊢ p[PROOFSTEP]simp"),
        "num_prompt_tokens": NUM_TEMPLATE_BYTES + 5,
        "url": "u",
        "commit": "c",
        "file_path": "A.lean",
        "full_name": "t0",
        "start": Pos(1, 1),
        "tactic_idx": 0,
        "index": 0,
    }


def test_loss_falls_on_completions_and_their_eos_alone() -> None:
    dataset = make([("⊢ p", "simp"), ("h : p\n⊢ p", "exact h")])
    batch = dataset.collate([dataset[1], dataset[0]])
    assert batch["input_ids"].shape == batch["attention_mask"].shape == batch["labels"].shape
    for row, tactic in enumerate(["exact h", "simp"]):
        labels, ids, mask = (batch[name][row] for name in ("labels", "input_ids", "attention_mask"))  # type: ignore[literal-required]
        assert labels[labels != -100].tolist() == ByteTokenizer().encode(tactic)
        assert (ids[labels != -100] == labels[labels != -100]).all()
        length = int(mask.sum())
        assert mask[:length].all() and ids[:length].tolist() == dataset[1 - row]["input_ids"]
        assert (ids[length:] == 0).all() and (labels[length:] == -100).all()
    assert batch["tactic"] == ["exact h", "simp"] and batch["index"] == [1, 0] and batch["start"] == [(2, 1), (1, 1)]
    assert "segment_ids" not in batch


def test_a_row_begins_with_the_prompt_as_inference_has_it() -> None:
    dataset = make([("⊢ p", "simp"), ("h : p\n⊢ p", "exact h")], is_train=False)
    batch = dataset.collate(dataset[[0, 1]])
    for row, prompt in enumerate(batch["state"]):
        ids = dataset.encoder.prompt_ids([prompt])[0]
        assert batch["input_ids"][row][: len(ids)].tolist() == ids
        assert (batch["labels"][row][: len(ids)] == -100).all() and batch["labels"][row][len(ids)] != -100


@pytest.mark.parametrize("pad", [True, False])
def test_a_tokenizer_without_pad_token_never_trains_padding(pad: bool) -> None:
    tokenizer: PreTrainedTokenizerFast = gpt2(pad=pad)
    dataset = make([("⊢ p", "simp"), ("⊢ " + "p ∧ " * 9, "exact h")], tokenizer=tokenizer, max_seq_len=200)
    batch = dataset.collate(dataset[[0, 1]])
    assert (batch["attention_mask"][0] == 0).any()
    assert (batch["labels"][batch["attention_mask"] == 0] == -100).all()
    assert (batch["labels"] == tokenizer.eos_token_id).sum(dim=1).tolist() == [1, 1]


# ------------------------------------------------------------------------------------------------
# Limits


def test_a_long_prompt_is_shortened_by_its_template_as_inference_shortens_it() -> None:
    state = "".join(f"h{i} : p\n" for i in range(20)) + "⊢ q"
    dataset = make([(state, "simp"), ("⊢ p", "simp")])
    example = dataset[0]
    assert example["state"] == LLMSTEP.format(state, max_tokens=80) and example["state"].endswith("⊢ q[PROOFSTEP]")
    assert example["num_prompt_tokens"] <= 80 and example["proof_state"] == state
    assert example["input_ids"] == ByteTokenizer().encode(example["state"] + "simp")
    assert dataset.num_shortened == 1 and "1 prompts shortened to 80 tokens" in dataset.summary()
    lengths = [len(example["input_ids"]) for example in dataset]
    assert f"{np.mean(lengths):,.0f} tokens an example on average" in dataset.summary()


def test_the_length_of_a_completion_changes_no_prompt() -> None:
    state = "".join(f"h{i} : p\n" for i in range(20)) + "⊢ q"
    short, long = make([(state, "x"), (state, "x" * 19)])[[0, 1]]
    assert short["state"] == long["state"] and len(long["input_ids"]) <= 100


def test_a_prompt_that_cannot_be_shortened_is_left_out_and_counted() -> None:
    dataset = make([("⊢ " + "p" * 90, "simp"), ("⊢ p", "simp")])
    assert len(dataset) == 1 and dataset[0]["proof_state"] == "⊢ p"
    assert (
        "left out: 1 prompts that are too long even with nothing but the goal (first template llmstep"
        in dataset.summary()
    )
    plain = make([("x" * 81, "simp"), ("x" * 80, "simp")], None)
    assert [example["state"] for example in plain] == ["x" * 80]  # type: ignore[attr-defined]
    assert "1 prompts that are too long and of no template" in plain.summary()


def test_a_completion_that_does_not_fit_is_never_cut() -> None:
    pairs = [("⊢ p", "x" * 19), ("⊢ p", "x" * 20)]
    train = make(pairs)
    assert [example["tactic"] for example in train] == ["x" * 19]  # type: ignore[attr-defined]
    assert train[0]["input_ids"][-1] == 1 and len(train[0]["input_ids"]) == train[0]["num_prompt_tokens"] + 20
    assert "left out: 1 completions longer than max_completion_len (first 'xxx" in train.summary()


def test_in_evaluation_a_completion_that_does_not_fit_counts_as_one_the_model_cannot_write() -> None:
    dataset = make([("⊢ p", "x" * 20), ("⊢ p", "simp")], is_train=False)
    batch = dataset.collate(dataset[[0, 1]])
    assert batch["tactic"] == ["x" * 20, "simp"] and "kept without labels: 1 completions" in dataset.summary()
    assert (batch["labels"][0] == -100).all() and (batch["labels"][1] != -100).sum() == 5
    assert batch["state"][0] == batch["state"][1]


def test_in_evaluation_a_goal_that_fits_no_prompt_counts_as_one_the_model_cannot_answer() -> None:
    pairs = [("⊢ " + "p" * 100, "simp"), ("⊢ p", "simp")]
    assert len(make(pairs)) == 1, "training leaves it out"
    dataset = make(pairs, is_train=False)
    batch = dataset.collate(dataset[[0, 1]])
    assert batch["state"] == ["", "[GOAL]⊢ p[PROOFSTEP]"] and batch["tactic"] == ["simp", "simp"]
    assert (batch["labels"][0] == -100).all() and (batch["labels"][1] != -100).sum() == 5
    assert "kept as misses: 1 prompts that are too long even" in dataset.summary() and dataset.num_shortened == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_seq_len": 0}, "max_seq_len is 0"),
        ({"max_completion_len": -1}, "max_completion_len is -1"),
        ({"max_completion_len": 100}, "leaves no room for a prompt in max_seq_len 100"),
    ],
)
def test_limits_without_room_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make([("⊢ p", "simp")], **options)


def test_nothing_usable_is_an_empty_dataset() -> None:
    class Unusable(Steps):
        def __getitem__(self, index: int) -> PromptedStep:
            raise UnusableStep("steps of another kind", f"step {index}")

    options = {"max_seq_len": 100, "max_completion_len": 20, "is_train": True, "progress": False}
    dataset = InstructDataset(Unusable([("", "")] * 3), tokenizer=gpt2(), **options)  # type: ignore[arg-type]
    assert len(dataset) == 0 and "left out: 3 steps of another kind (first step 0)" in dataset.summary()


def test_many_examples_are_the_same_as_each_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [(f"h{i} : {'p ' * (i % 11)}\n⊢ q{i}", f"exact h{i}") for i in range(23)]
    whole = make(pairs)
    monkeypatch.setattr("generator.data.tokenized_steps._ENCODED_AT_ONCE", 5)
    parts = make(pairs)
    assert [e["input_ids"] for e in whole] == [e["input_ids"] for e in parts]  # type: ignore[attr-defined]
    assert whole.source_lengths.tolist() == [len(e["input_ids"]) for e in whole]  # type: ignore[attr-defined]
