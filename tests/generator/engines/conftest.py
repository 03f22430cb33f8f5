"""Tiny models over bytes whose next token depends clearly on what was read and written."""

from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from common import ByteTokenizer
from generator.architecture import build_seq2seq
from tests.fakes import TINY

STATES = ["p q : Prop\nh : p ∧ q\n⊢ q ∧ p", "⊢ True", "", "p : Prop\n" * 9 + "⊢ p → p", "⊢ True"]


def randomized(model: Any, eos_factor: float = 1.0) -> Any:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name and "ln_" not in name:
                parameter.normal_(std=1.0 if "relative" in name else 0.35)
        model.lm_head.weight[1] *= eos_factor
    return model.eval()


@pytest.fixture
def states() -> list[str]:
    return STATES


@pytest.fixture
def tokenizer() -> ByteTokenizer:
    return ByteTokenizer()


@pytest.fixture
def tiny_t5() -> Any:
    torch.manual_seed(0)
    return randomized(build_seq2seq({**TINY, "dropout_rate": 0.3, "tie_word_embeddings": False}), eos_factor=1.5)


@pytest.fixture
def tiny_gpt2() -> Any:
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=384,
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=160,
        bos_token_id=1,
        eos_token_id=1,
        pad_token_id=0,
        resid_pdrop=0.3,
        embd_pdrop=0.3,
        attn_pdrop=0.3,
    )
    return randomized(GPT2LMHeadModel(config), eos_factor=1.2)
