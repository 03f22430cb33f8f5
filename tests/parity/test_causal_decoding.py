"""Decoder-only beam search finds what `transformers.generate` finds: the same sequences, the same scores."""

from functools import partial

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from generator.decoding import causal_decoder
from generator.decoding.decoder_only import beam_search
from tests.generator.decoding_fakes import MARKS, ragged_batch, randomize
from tests.parity import reference

ROTARY = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4}
GROUPED = ROTARY | {"num_key_value_heads": 2}
FAMILIES = {
    "gpt2": {"n_embd": 24, "n_layer": 2, "n_head": 3, "n_positions": 64},
    "gpt_neox": ROTARY,
    "llama": GROUPED,
    "mistral": GROUPED | {"sliding_window": None},
    "qwen2": GROUPED,
    "opt": {"hidden_size": 24, "word_embed_proj_dim": 24, "ffn_dim": 40, "num_hidden_layers": 2}
    | {"num_attention_heads": 3, "max_position_embeddings": 64},
}
WINDOW = 6
SLIDING = {
    "mistral": GROUPED | {"sliding_window": WINDOW},
    "qwen2": GROUPED | {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1},
}


def random_model(family="gpt2", seed=0, eos_bonus=0.0, **overrides):
    """A tiny model whose next token depends clearly on the prompt, the position and what was written."""
    torch.manual_seed(seed)
    attention = overrides.pop("attn_implementation", "sdpa")
    config = CONFIG_MAPPING[family](**FAMILIES[family] | MARKS | overrides, tie_word_embeddings=False)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    return randomize(model, head_factor=1.5, eos_factor=1.0 + eos_bonus)


assert_parity = partial(reference.assert_parity, beam_search)

GRID = [(1, 1, 9, 0.0), (4, 4, 12, 1.0), (5, 2, 16, 0.0), (12, 7, 1, 0.0), (6, 6, 20, 1.0)]


@pytest.mark.parametrize("length_penalty", [0.0, 1.5, -0.7])
@pytest.mark.parametrize(("num_beams", "num_return_sequences", "max_new_tokens", "eos_bonus"), GRID)
def test_grid_of_settings(num_beams, num_return_sequences, max_new_tokens, eos_bonus, length_penalty):
    assert_parity(
        random_model(seed=num_beams, eos_bonus=eos_bonus),
        length_penalty,
        num_beams=num_beams,
        num_return_sequences=num_return_sequences,
        max_new_tokens=max_new_tokens,
    )


@pytest.mark.parametrize("attn_implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("family", FAMILIES)
def test_family(family, attn_implementation):
    model = random_model(family, seed=3, attn_implementation=attn_implementation)
    found, _ = assert_parity(model, num_beams=6, num_return_sequences=6, max_new_tokens=10)
    assert (found.log_probs[:, 0] - found.log_probs[:, 1] > 1e-3).any()


@pytest.mark.parametrize("family", SLIDING)
def test_layers_that_see_a_window_only(family, monkeypatch):
    monkeypatch.setattr(causal_decoder, "STEPS_PER_GROWTH", 1)  # nodes are dropped, places have to follow
    model = random_model(family, seed=4, **SLIDING[family])
    found, _ = assert_parity(model, num_beams=5, num_return_sequences=5, max_new_tokens=10)
    everything = random_model(family, seed=4)
    other = beam_search(
        everything, *ragged_batch(reference.LENGTHS), num_beams=5, num_return_sequences=5, max_new_tokens=10
    )
    assert not torch.equal(found.log_probs, other.log_probs)


def test_one_candidate_of_a_wide_search_for_long_outputs():
    """Where scores can rise, transformers stops by the worst of `num_beams` hypotheses, not of those returned."""
    model = random_model(seed=6, eos_bonus=1.0)
    assert_parity(model, length_penalty=1.5, num_beams=6, num_return_sequences=1, max_new_tokens=16)


def test_more_beams_than_first_tokens():
    found, _ = assert_parity(random_model(), num_beams=40, num_return_sequences=40, max_new_tokens=3)
    assert found.log_probs.isfinite().all()
