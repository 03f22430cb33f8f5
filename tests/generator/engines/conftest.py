"""Tiny models over bytes whose next token depends clearly on what was read and written."""

from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from common import ByteTokenizer
from generator.architectures.encoder_decoder import build_seq2seq
from tests.fakes import TINY
from tests.generator.decoding_fakes import randomize

STATES = ["p q : Prop\nh : p ∧ q\n⊢ q ∧ p", "⊢ True", "", "p : Prop\n" * 9 + "⊢ p → p", "⊢ True"]


@pytest.fixture
def states() -> list[str]:
    return STATES


@pytest.fixture
def tokenizer() -> ByteTokenizer:
    return ByteTokenizer()


@pytest.fixture
def tiny_t5() -> Any:
    torch.manual_seed(0)
    model = build_seq2seq({**TINY, "dropout_rate": 0.3, "tie_word_embeddings": False})
    return randomize(model, eos_factor=1.5)


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
    return randomize(GPT2LMHeadModel(config), biases=True, eos_factor=1.2)


@pytest.fixture(params=["tiny_t5", "tiny_gpt2"])
def model(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)
