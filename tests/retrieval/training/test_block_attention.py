"""Blocks say exactly what a mask of every pair would; what they attend to is what scaled dot products find."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import Tensor
from torch.nn.attention.flex_attention import flex_attention
from torch.nn.functional import scaled_dot_product_attention

from retrieval.training.block_attention import BLOCK, attend, block_mask

FLEX = sys.modules["torch.nn.attention.flex_attention"]


def row(*lengths: int, padding: int = 0) -> list[int]:
    """The texts of a row's tokens."""
    return [n for n, length in enumerate(lengths, 1) for _ in range(length)] + [0] * padding


def texts(*rows: list[int]) -> Tensor:
    return torch.tensor(rows)


CASES = {
    "one text": (texts(row(300)), {}),
    "several texts": (texts(row(5, 128, 40, 300, 1, 38)), {}),
    "padding": (texts(row(100, 30, padding=126), row(256)), {}),
    "texts that end with blocks": (texts(row(128, 256, 128)), {}),
    "nothing but padding in a row": (texts(row(padding=200), row(200)), {}),
    "causal": (texts(row(5, 300, 79), row(200, padding=184)), {"causal": True}),
    "a window": (texts(row(600, 40)), {"causal": True, "window": 130}),
    "a window of one block": (texts(row(512)), {"causal": True, "window": 128}),
    "a window of one token": (texts(row(512)), {"causal": True, "window": 1}),
}


def every_pair(queries: Tensor, keys: Tensor, causal: bool = False, window: int | None = None) -> Tensor:
    """What each query sees, written out, (B, 1, Q, K)."""
    seen = (queries[:, :, None] == keys[:, None]) & (queries[:, :, None] > 0)
    if causal:
        back = torch.arange(queries.shape[1])[:, None] - torch.arange(keys.shape[1])
        seen &= (back >= 0) & (back < (window or 10**9))
    return seen[:, None]


def seen_by_blocks(mask: object, num_queries: int, num_keys: int) -> Tensor:
    """What the kernel computes: all of full blocks, what the mask says of partial ones, nothing of others."""
    numbers = [torch.arange(n).view([-1 if i == d else 1 for i in range(4)]) for d, n in enumerate((2, 1, 1, 1))]
    q, k = torch.arange(num_queries)[:, None], torch.arange(num_keys)
    rows = mask.kv_num_blocks.shape[0]
    seen = torch.zeros(rows, 1, num_queries, num_keys, dtype=torch.bool)
    said = mask.mask_mod(numbers[0][:rows], numbers[1], q[None, None], k[None, None, None])
    for counts, indices, is_full in (
        (mask.kv_num_blocks, mask.kv_indices, False),
        (mask.full_kv_num_blocks, mask.full_kv_indices, True),
    ):
        for b in range(rows):
            for i in range(counts.shape[2]):
                for j in indices[b, 0, i, : counts[b, 0, i]].tolist():
                    block = (b, 0, slice(i * BLOCK, (i + 1) * BLOCK), slice(j * BLOCK, (j + 1) * BLOCK))
                    seen[block] = True if is_full else said[block]
    return seen


@pytest.mark.parametrize("name", CASES)
def test_blocks_cover_what_each_token_sees_and_nothing_else(name: str) -> None:
    tokens, options = CASES[name]
    mask = block_mask(tokens, tokens, **options)
    length = tokens.shape[1]
    assert torch.equal(seen_by_blocks(mask, length, length), every_pair(tokens, tokens, **options))


def test_blocks_join_the_texts_of_two_sides() -> None:
    queries, keys = texts(row(3, 200, 10, padding=43)), texts(row(300, 20, 150, padding=42))
    mask = block_mask(queries, keys)
    assert torch.equal(seen_by_blocks(mask, 256, 512), every_pair(queries, keys))


def test_blocks_between_other_texts_are_skipped() -> None:
    tokens = texts(row(512, 512))
    mask = block_mask(tokens, tokens)
    assert mask.kv_num_blocks.sum() == 0  # no block is looked at token by token
    assert mask.full_kv_num_blocks.tolist() == [[[4] * 8]]


def vectors(heads: int, length: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(2, heads, length, 16, dtype=dtype, requires_grad=True)


@pytest.mark.parametrize("key_heads", [4, 2])
def test_what_is_read_and_its_gradient_are_those_of_scaled_dot_products(key_heads: int) -> None:
    torch.manual_seed(0)
    tokens = texts(row(100, 28, 50), row(150, 28))
    query, key, value = vectors(4, 178), vectors(key_heads, 178), vectors(key_heads, 178)
    mask = block_mask(tokens, tokens, causal=True)
    seen = every_pair(tokens, tokens, causal=True)
    found = attend(query, key, value, mask, scale=0.25)
    expected = scaled_dot_product_attention(query, key, value, attn_mask=seen, scale=0.25, enable_gqa=True)
    torch.testing.assert_close(found, expected)
    ours = torch.autograd.grad(found.square().sum(), (query, key, value))
    theirs = torch.autograd.grad(expected.square().sum(), (query, key, value))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


def test_padding_reads_nothing_and_has_a_gradient() -> None:
    tokens = texts(row(20, padding=30))
    query, key, value = (torch.randn(1, 2, 50, 16, requires_grad=True) for _ in range(3))
    found = attend(query, key, value, block_mask(tokens, tokens))
    assert not found[:, :, 20:].any()
    found.sum().backward()
    assert query.grad is not None and query.grad.isfinite().all() and not query.grad[:, :, 20:].any()


def test_rotated_queries_in_float32_meet_values_of_autocast() -> None:
    tokens = texts(row(30, 10))
    query, key, value = (torch.randn(1, 2, 40, 16) for _ in range(3))
    mask = block_mask(tokens, tokens, causal=True)
    found = attend(query, key, value.bfloat16(), mask)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), attend(query, key, value, mask), rtol=0.1, atol=0.1)


@pytest.mark.filterwarnings("ignore:flex_attention called without")
def test_flex_attention_finds_the_same_and_the_same_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its form for CPUs, which torch lets nobody train with; on CUDA tests/gpu compares the kernel."""
    monkeypatch.setattr(FLEX, "_validate_device", lambda *tensors: None)
    torch.manual_seed(0)
    tokens = texts(row(60, 30, padding=10))
    table = torch.randn(2, 41, dtype=torch.float64, requires_grad=True)
    query, key, value = (torch.randn(1, 2, 100, 16, dtype=torch.float64, requires_grad=True) for _ in range(3))
    mask = block_mask(tokens, tokens)

    def bias(score: Tensor, b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return score + table[h, (k - q).clamp(-20, 20) + 20]

    ours = attend(query, key, value, mask, bias)
    theirs = flex_attention(query, key, value, score_mod=bias, block_mask=mask, scale=1.0)
    torch.testing.assert_close(ours, theirs)
    inputs = (query, key, value, table)
    found, expected = (torch.autograd.grad(result.square().sum(), inputs) for result in (ours, theirs))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
