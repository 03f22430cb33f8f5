"""Tokens of prompt and completion: what a model is trained on begins with what it is prompted with."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

from common import ByteTokenizer, ConfigError
from generator.data.completion_encoding import CompletionEncoder, EncodedExample
from generator.prompts.templates import TEMPLATES, PromptTemplate

TEXTS = [
    "rw [Nat.add_comm]\n\nexact h.2\n  simp at h\n[TAC]\n\n[/TAC]\n m n : ℕ\n⊢ n + m = m + n  ",
    "[GOAL]p q : Prop\n\n  ⊢ p ∧ q[PROOFSTEP]constructor exact ⟨h.1, h.2⟩\n\n\n",
    "by \nsimp \nring \n",
]


def gpt2(bos: bool = False, pad: bool = False) -> Any:
    """A byte-level BPE as GPT-2 has, trained on the spot; it joins line breaks and spaces to longer tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|begin|>", "<|pad|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS * 20, trainer)
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing("<|begin|> $A", special_tokens=[("<|begin|>", 1)])
    names = {"pad_token": "<|pad|>"} if pad else {}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>", **names)


def llama() -> Any:
    """A BPE on ▁ with BOS, as Llama 2 has: it puts a space in front of every text."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    bytes_ = [f"<0x{i:02X}>" for i in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=["<unk>", "<s>", "</s>", *bytes_], show_progress=False)
    tokenizer.train_from_iterator([line for text in TEXTS for line in text.split("\n")] * 20, trainer)
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 1)])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


TOKENIZERS: dict[str, Any] = {
    "gpt2": gpt2(),
    "gpt2 with bos and pad": gpt2(bos=True, pad=True),
    "llama": llama(),
    "bytes": ByteTokenizer(),
    "slow": ByT5Tokenizer(),
}
every_tokenizer = pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=list(TOKENIZERS))
every_template = pytest.mark.parametrize("template", TEMPLATES.values(), ids=list(TEMPLATES))


def encode_one(tokenizer: Any, prompt: str, completion: str) -> EncodedExample:
    return CompletionEncoder(tokenizer).encode([prompt], [completion])[0]


texts = st.text(st.sampled_from("rw [Nat.add_comm]\n ⊢∧TC/:h12λ"), min_size=1, max_size=30)


@every_tokenizer
@given(prompt=texts, completion=texts)
def test_training_begins_with_the_prompt_as_inference_has_it(tokenizer: Any, prompt: str, completion: str) -> None:
    encoder = CompletionEncoder(tokenizer)
    ids, num_prompt_tokens = encode_one(tokenizer, prompt, completion)
    assert ids[:num_prompt_tokens] == encoder.prompt_ids([prompt])[0]
    assert len(ids) > num_prompt_tokens and ids[-1] == tokenizer.eos_token_id
    assert tokenizer.eos_token_id not in ids[:-1]
    decoded = tokenizer.decode(ids[num_prompt_tokens:-1])
    # apart, a tokenizer of Llama's kind puts a space in front: white space at the ends is no part of a tactic
    assert decoded.strip() == completion.strip()


@every_tokenizer
@every_template
def test_every_template_gives_back_prompt_and_completion(tokenizer: Any, template: PromptTemplate) -> None:
    prompt, completion = template.format("m n : ℕ\n⊢ m + n = 1", full_name="t"), template.complete("rw [Nat.add_comm]")
    ids, num_prompt_tokens = encode_one(tokenizer, prompt, completion)
    assert tokenizer.decode(ids[num_prompt_tokens:-1]).strip() == completion
    decoded = tokenizer.decode(ids[:num_prompt_tokens])
    assert decoded.removeprefix("<|begin|>").removeprefix("<s>").strip() == prompt.strip()


def test_a_text_that_falls_apart_at_the_boundary_is_tokenised_jointly() -> None:
    tokenizer = TOKENIZERS["gpt2"]
    prompt, completion = "[TAC]\n", "rw [Nat.add_comm]\n[/TAC]"
    ids, num_prompt_tokens = encode_one(tokenizer, prompt, completion)
    assert ids[:-1] == tokenizer(prompt + completion)["input_ids"]
    assert num_prompt_tokens == len(tokenizer(prompt)["input_ids"])


def test_a_token_over_the_boundary_is_taken_apart() -> None:
    tokenizer = TOKENIZERS["gpt2"]
    prompt, completion = "[TAC]\n", "\n  simp"
    joint = tokenizer(prompt + completion)["input_ids"]
    assert any(tokenizer.decode([token]).startswith("\n\n") for token in joint), "the tokenizer joins line breaks"
    ids, num_prompt_tokens = encode_one(tokenizer, prompt, completion)
    assert ids != [*joint, tokenizer.eos_token_id]
    assert ids[:num_prompt_tokens] == tokenizer(prompt)["input_ids"]
    assert ids[num_prompt_tokens:-1] == tokenizer(completion)["input_ids"]


def test_a_prompt_that_reads_otherwise_in_front_of_a_completion_is_taken_apart() -> None:
    """A space and a line break at the end are one token; where a word follows they are two, none over the boundary."""
    tokenizer = TOKENIZERS["gpt2"]
    prompt, completion = "by \n", "simp"
    alone, joint = tokenizer(prompt)["input_ids"], tokenizer(prompt + completion, return_offsets_mapping=True)
    assert joint["input_ids"][: len(alone)] != alone
    assert not any(start < len(prompt) < end for start, end in joint["offset_mapping"])
    ids, num_prompt_tokens = encode_one(tokenizer, prompt, completion)
    assert ids[:num_prompt_tokens] == alone and tokenizer.decode(ids[num_prompt_tokens:-1]) == completion


def test_bos_is_part_of_the_prompt() -> None:
    tokenizer = TOKENIZERS["gpt2 with bos and pad"]
    encoder = CompletionEncoder(tokenizer)
    assert encoder.prompt_ids(["simp"])[0] == tokenizer("simp")["input_ids"]
    assert encoder.prompt_ids(["simp"])[0][0] == 1 and encoder.count("simp") == len(tokenizer("simp")["input_ids"])
    assert encoder.encode(["simp"], [" at h"])[0].input_ids.count(1) == 1


@pytest.mark.parametrize("name", ["bytes", "slow"])
def test_the_eos_that_a_tokenizer_adds_stands_once_and_last(name: str) -> None:
    ids, num_prompt_tokens = encode_one(TOKENIZERS[name], "ab", "c")
    assert (ids, num_prompt_tokens) == ([100, 101, 102, 1], 2)


@pytest.mark.parametrize(("name", "pad_is_eos"), [("gpt2", True), ("gpt2 with bos and pad", False), ("bytes", False)])
def test_padding_without_a_pad_token_is_eos(name: str, pad_is_eos: bool) -> None:
    encoder = CompletionEncoder(TOKENIZERS[name])
    assert (encoder.pad_id == encoder.eos_id) == pad_is_eos


def test_a_tokenizer_without_eos_is_refused() -> None:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, unk_token="a")))
    with pytest.raises(ConfigError, match="no EOS"):
        CompletionEncoder(tokenizer)


def test_a_batch_is_encoded_as_its_examples_are() -> None:
    prompts, completions = ["[TAC]\n", "[TAC]\n", "x"], ["simp", "\n  simp", "y"]
    make: Callable[[int], Any] = lambda i: encode_one(TOKENIZERS["gpt2"], prompts[i], completions[i])  # noqa: E731
    assert CompletionEncoder(TOKENIZERS["gpt2"]).encode(prompts, completions) == [make(i) for i in range(3)]
