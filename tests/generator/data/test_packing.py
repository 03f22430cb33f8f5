"""Packed rows: full, the same on every rank, and to the loss as if each example had a row of its own."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    RwkvConfig,
    RwkvForCausalLM,
)

from common import ByteTokenizer, ConfigError
from generator.data.instruct_dataset import InstructDataset
from generator.data.packing import PackedDataset, pack
from generator.training.packed_attention import block_diagonal_mask, check_packing, packed_masks
from tests.generator.data.test_instruct_dataset import Steps


@given(lengths=st.lists(st.integers(1, 50), max_size=60), max_len=st.integers(50, 120), seed=st.integers(0, 5))
def test_every_example_is_in_one_row_that_is_not_too_long(lengths: list[int], max_len: int, seed: int) -> None:
    array = np.array(lengths, dtype=np.int64)
    rows = pack(array, max_len, seed)
    assert sorted(sum(rows, [])) == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in row) <= max_len for row in rows)
    assert rows == pack(array, max_len, seed)
    # longest first, no two rows of one pool could be one
    sums = sorted(sum(lengths[i] for i in row) for row in rows)
    assert len(sums) < 2 or sums[0] + sums[1] > max_len


def test_rows_are_almost_full_and_differ_with_the_seed() -> None:
    lengths = np.random.default_rng(0).integers(10, 400, 2000)
    rows = pack(lengths, 512, seed=0)
    assert lengths.sum() / (512 * len(rows)) > 0.95
    assert rows != pack(lengths, 512, seed=1)


def test_examples_of_all_lengths_meet_across_pools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("generator.data.packing._POOL", 7)
    rows = pack(np.full(30, 10), 20, seed=0)
    assert sorted(sum(rows, [])) == list(range(30)) and max(map(len, rows)) == 2
    assert any(abs(row[0] - row[-1]) > 7 for row in rows)


def test_the_mask_lets_each_token_see_its_own_example_up_to_itself() -> None:
    segments = torch.tensor([[1, 1, 2, 2, 0], [1, 1, 1, 1, 1]])
    mask = block_diagonal_mask(segments, torch.float64)
    assert mask.shape == (2, 1, 5, 5) and mask.dtype == torch.float64
    allowed = mask[0, 0] == 0
    expected = [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 0, 1]]
    assert allowed.int().tolist() == expected
    assert torch.equal(mask[1, 0] == 0, torch.ones(5, 5).tril().bool())
    assert mask[0, 0, 0, 1] == torch.finfo(torch.float64).min


def tiny(kind: str, attention: str) -> Any:
    torch.manual_seed(0)
    if kind == "gpt2":
        config: Any = GPT2Config(
            vocab_size=384, n_embd=32, n_layer=2, n_head=4, n_positions=128, attn_implementation=attention
        )
        return GPT2LMHeadModel(config).eval()
    sizes = {
        "vocab_size": 384, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 64, "max_position_embeddings": 128, "attn_implementation": attention,
    }  # fmt: skip
    if kind == "mistral":
        return MistralForCausalLM(MistralConfig(**sizes, sliding_window=8)).eval()
    if kind == "gemma3":
        types = ["sliding_attention", "full_attention"]
        return Gemma3ForCausalLM(Gemma3TextConfig(**sizes, head_dim=8, sliding_window=8, layer_types=types)).eval()
    return LlamaForCausalLM(LlamaConfig(**sizes)).eval()


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", ["gpt2", "llama", "mistral", "gemma3"])
def test_the_loss_of_packed_rows_is_that_of_a_row_for_each_example(kind: str, attention: str) -> None:
    tactics = ["simp", "exact h", "rw [foo]", "x", "constructor"]
    steps = Steps([("⊢ " + "p" * i, tactic) for i, tactic in enumerate(tactics)])
    examples = InstructDataset(
        steps, tokenizer=ByteTokenizer(), max_seq_len=100, max_completion_len=30, is_train=True, progress=False
    )
    packed = PackedDataset(examples, seed=0)
    assert len(packed) < len(examples)
    model = tiny(kind, attention)

    def loss_and_gradient(**inputs: Any) -> tuple[torch.Tensor, torch.Tensor]:
        model.zero_grad()
        loss = model(**inputs).loss
        loss.backward()
        return loss.detach(), torch.cat([p.grad.flatten() for p in model.parameters()])

    single = examples.collate([examples[i] for i in range(len(examples))])
    batch = packed.collate([packed[i] for i in range(len(packed))])
    assert (batch["labels"] != -100).sum() == (single["labels"] != -100).sum()
    one, one_gradient = loss_and_gradient(**{k: single[k] for k in ("input_ids", "attention_mask", "labels")})  # type: ignore[literal-required]
    inputs = {k: batch[k] for k in ("input_ids", "position_ids", "labels")}  # type: ignore[literal-required]
    mask = packed_masks(model, batch["segment_ids"])
    assert isinstance(mask, dict) == (kind == "gemma3"), "windows for some layers"
    both, both_gradient = loss_and_gradient(**inputs, attention_mask=mask)
    torch.testing.assert_close(both, one, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(both_gradient, one_gradient, rtol=1e-4, atol=1e-5)
    seen, _ = loss_and_gradient(**inputs, attention_mask=batch["attention_mask"])
    if kind != "mistral":  # whose windows end within the prompts
        assert abs(seen - one) > 1e-4, "without the mask examples see each other"


def test_models_whose_examples_no_mask_keeps_apart_are_refused() -> None:
    check_packing(tiny("gemma3", "sdpa"))
    rwkv = RwkvForCausalLM(RwkvConfig(vocab_size=384, hidden_size=32, num_hidden_layers=2, attention_hidden_size=32))
    with pytest.raises(ConfigError, match="packing: RwkvForCausalLM has no argument .*; leave out packing"):
        check_packing(rwkv)
    flash = tiny("llama", "sdpa")
    flash.config._attn_implementation = "flash_attention_2"
    with pytest.raises(ConfigError, match="takes no mask for each query"):
        check_packing(flash)


def test_a_packed_batch_keeps_its_examples_apart() -> None:
    steps = Steps([("⊢ p", "simp"), ("⊢ q", "ring"), ("⊢ " + "r" * 30, "exact h")])
    examples = InstructDataset(
        steps, tokenizer=ByteTokenizer(), max_seq_len=80, max_completion_len=15, is_train=True, progress=False
    )
    packed = PackedDataset(examples, seed=3)
    assert sorted(len(row) for row in packed) == [1, 2] and packed.source_lengths.max() <= 80  # type: ignore[attr-defined]
    batch = packed.collate([packed[0], packed[1]])
    for row in range(2):
        segments, positions = batch["segment_ids"][row], batch["position_ids"][row]
        assert ((segments == 0) == (batch["attention_mask"][row] == 0)).all()
        for number in segments[segments > 0].unique().tolist():
            place = segments == number
            assert positions[place].tolist() == list(range(int(place.sum())))
            assert batch["labels"][row][place][0] == -100, "nothing is predicted from the example before"
    texts = [
        ByteTokenizer().decode(batch["labels"][row][(batch["segment_ids"][row] == n) & (batch["labels"][row] > 1)])
        for row in range(2)
        for n in (1, 2)
        if (batch["segment_ids"][row] == n).any()
    ]
    assert texts == batch["tactic"] and sorted(batch["index"]) == [0, 1, 2]
    assert "packed into 2 rows of at most 80 tokens" in packed.summary()
