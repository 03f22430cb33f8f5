"""Beam search finds what `transformers.generate` finds: the same sequences, the same scores."""

from functools import partial

import pytest
import torch
from transformers import (
    MT5Config,
    MT5ForConditionalGeneration,
    T5Config,
    T5ForConditionalGeneration,
    UMT5Config,
    UMT5ForConditionalGeneration,
)

from generator.decoding.encoder_decoder import beam_search
from tests.generator.decoding_fakes import VOCABULARY, ragged_batch, randomize
from tests.parity import reference

FAMILIES = {
    "t5": (T5Config, T5ForConditionalGeneration),
    "mt5": (MT5Config, MT5ForConditionalGeneration),
    "umt5": (UMT5Config, UMT5ForConditionalGeneration),
}


def random_model(family="t5", seed=0, eos_bonus=0.0, **overrides):
    """A tiny model whose next token depends clearly on the input, the position and what was written."""
    config_class, model_class = FAMILIES[family]
    sizes = {
        "vocab_size": VOCABULARY,
        "d_model": 32,
        "d_kv": 8,
        "d_ff": 48,
        "num_layers": 3,
        "num_decoder_layers": 2,
        "num_heads": 3,
        "relative_attention_num_buckets": 8,
        "relative_attention_max_distance": 10,
        "feed_forward_proj": "gated-gelu",
        "decoder_start_token_id": 0,
    }
    torch.manual_seed(seed)
    model = model_class(config_class(**sizes | overrides))
    # the logits of a tied T5 are scaled down by sqrt(d_model)
    head_factor = 5.0 if model.config.model_type != "mt5" else 1.0
    return randomize(model, head_factor=head_factor, eos_factor=1.0 + eos_bonus)


assert_parity = partial(reference.assert_parity, beam_search)

GRID = [(1, 1, 9), (4, 4, 12), (5, 2, 16), (12, 7, 1), (6, 6, 30)]


@pytest.mark.parametrize("length_penalty", [0.0, 1.5, -0.7])
@pytest.mark.parametrize(("num_beams", "num_return_sequences", "max_new_tokens"), GRID)
@pytest.mark.parametrize("eos_bonus", [0.0, 1.0])
def test_grid_of_settings(num_beams, num_return_sequences, max_new_tokens, length_penalty, eos_bonus):
    assert_parity(
        random_model(seed=num_beams, eos_bonus=eos_bonus),
        length_penalty,
        num_beams=num_beams,
        num_return_sequences=num_return_sequences,
        max_new_tokens=max_new_tokens,
    )


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("feed_forward_proj", "tie_word_embeddings"), [("relu", True), ("gated-gelu", False), ("gated-silu", True)]
)
def test_family(family, feed_forward_proj, tie_word_embeddings):
    model = random_model(family, seed=3, feed_forward_proj=feed_forward_proj, tie_word_embeddings=tie_word_embeddings)
    assert_parity(model, num_beams=6, num_return_sequences=6, max_new_tokens=10)


def test_one_candidate_of_a_wide_search_for_long_outputs():
    """Where scores can rise, transformers stops by the worst of `num_beams` hypotheses, not of those returned."""
    model = random_model(seed=6, eos_bonus=1.0)
    assert_parity(model, length_penalty=1.5, num_beams=6, num_return_sequences=1, max_new_tokens=16)


def test_untied_head():
    model = random_model(eos_bonus=0.5)
    torch.manual_seed(1)
    model.lm_head.weight = torch.nn.Parameter(torch.randn(24, 32))
    assert_parity(model, num_beams=4, num_return_sequences=4, max_new_tokens=10)


def test_more_beams_than_first_tokens():
    """With 24 tokens only 23 hypotheses are alive after one step; 40 beams fill up later."""
    found, _ = assert_parity(random_model(), num_beams=40, num_return_sequences=40, max_new_tokens=3)
    assert found.log_probs.isfinite().all()
    found, expected = assert_parity(random_model(), num_beams=40, num_return_sequences=40, max_new_tokens=1)
    assert found.log_probs.isfinite().sum(1).tolist() == [24] * 4 == [len(state) for state in expected]
    assert (found.sequences[:, 24:] == 0).all()


def test_several_end_tokens():
    model = random_model()
    model.config.eos_token_id = model.generation_config.eos_token_id = [1, 7]
    batch = ragged_batch(reference.LENGTHS)
    settings = {"num_beams": 4, "num_return_sequences": 4, "max_new_tokens": 10}
    found = beam_search(model, *batch, **settings)
    scores = model.generate(
        input_ids=batch[0],
        attention_mask=batch[1],
        length_penalty=0.0,
        early_stopping=False,
        return_dict_in_generate=True,
        output_scores=True,
        **settings,
    ).sequences_scores
    torch.testing.assert_close(found.log_probs.flatten(), scores, atol=1e-4, rtol=1e-5)
    assert (found.sequences == 7).any()


@pytest.mark.slow
def test_byt5_small_sizes():
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=384, d_model=1472, d_kv=64, d_ff=3584, num_layers=12, num_decoder_layers=4, num_heads=6,
        feed_forward_proj="gated-gelu", tie_word_embeddings=False, decoder_start_token_id=0,
    )  # fmt: skip
    model = T5ForConditionalGeneration(config).eval()
    with torch.no_grad():  # less of the last token and more of what attention brings, or many hypotheses tie
        model.lm_head.weight = torch.nn.Parameter(torch.randn(384, 1472) * 0.05)
        model.shared.weight.mul_(0.05)
        model.decoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight.normal_(std=2.0)
    assert_parity(model, num_beams=8, num_return_sequences=8, max_new_tokens=12)
