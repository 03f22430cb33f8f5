"""Beam search finds what `transformers.generate` finds: the same sequences, the same scores."""

import pytest
import torch
from transformers import T5Config, T5ForConditionalGeneration

from generator.decoding import beam_search, causal_decoder
from tests.generator.decoding_fakes import DECODERS, ENCODER_DECODERS, GROUPED, end_with, ragged_batch, random_model
from tests.parity.reference import LENGTHS, assert_parity, reference

both_families = pytest.mark.parametrize("model_type", ["t5", "gpt2"])

GRID = [(1, 1, 9), (4, 4, 12), (5, 2, 16), (12, 7, 1), (6, 6, 30)]


@both_families
@pytest.mark.parametrize("length_penalty", [0.0, 1.5, -0.7])
@pytest.mark.parametrize(("num_beams", "num_return_sequences", "max_new_tokens"), GRID)
@pytest.mark.parametrize("eos_bonus", [0.0, 1.0])
def test_grid_of_settings(model_type, num_beams, num_return_sequences, max_new_tokens, length_penalty, eos_bonus):
    assert_parity(
        random_model(model_type, seed=num_beams, eos_bonus=eos_bonus),
        length_penalty,
        num_beams=num_beams,
        num_return_sequences=num_return_sequences,
        max_new_tokens=max_new_tokens,
    )


@pytest.mark.parametrize("model_type", ENCODER_DECODERS)
@pytest.mark.parametrize(
    ("feed_forward_proj", "tie_word_embeddings"), [("relu", True), ("gated-gelu", False), ("gated-silu", True)]
)
def test_encoder_decoders(model_type, feed_forward_proj, tie_word_embeddings):
    options = {"feed_forward_proj": feed_forward_proj, "tie_word_embeddings": tie_word_embeddings}
    assert_parity(random_model(model_type, seed=3, **options), num_beams=6, num_return_sequences=6, max_new_tokens=10)


@pytest.mark.parametrize("attn_implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("model_type", DECODERS)
def test_decoder_only_models(model_type, attn_implementation):
    model = random_model(model_type, seed=3, attn_implementation=attn_implementation)
    found, _ = assert_parity(model, num_beams=6, num_return_sequences=6, max_new_tokens=10)
    assert (found.log_probs[:, 0] - found.log_probs[:, 1] > 1e-3).any()


WINDOW = 6
SLIDING = {
    "mistral": GROUPED | {"sliding_window": WINDOW},
    "qwen2": GROUPED | {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1},
}


@pytest.mark.parametrize("model_type", SLIDING)
def test_layers_that_see_a_window_only(model_type, monkeypatch):
    monkeypatch.setattr(causal_decoder, "STEPS_PER_GROWTH", 1)  # nodes are dropped, places have to follow
    settings = {"num_beams": 5, "num_return_sequences": 5, "max_new_tokens": 10}
    found, _ = assert_parity(random_model(model_type, seed=4, **SLIDING[model_type]), **settings)
    everything = beam_search(random_model(model_type, seed=4), *ragged_batch(LENGTHS), **settings)
    assert not torch.equal(found.log_probs, everything.log_probs)


@both_families
def test_one_candidate_of_a_wide_search_for_long_outputs(model_type):
    """Where scores can rise, transformers stops by the worst of `num_beams` hypotheses, not of those returned."""
    model = random_model(model_type, seed=6, eos_bonus=1.0)
    assert_parity(model, length_penalty=1.5, num_beams=6, num_return_sequences=1, max_new_tokens=16)


@both_families
def test_more_beams_than_first_tokens(model_type):
    """With 24 tokens only 23 hypotheses are alive after one step; 40 beams fill up later."""
    model = random_model(model_type)
    found, _ = assert_parity(model, num_beams=40, num_return_sequences=40, max_new_tokens=3)
    assert found.log_probs.isfinite().all()
    found, expected = assert_parity(model, num_beams=40, num_return_sequences=40, max_new_tokens=1)
    assert found.log_probs.isfinite().sum(1).tolist() == [24] * 4 == [len(state) for state in expected]
    assert (found.sequences[:, 24:] == 0).all()


@pytest.mark.parametrize(("model_type", "end"), [("t5", 7), ("gpt2", 14)])
def test_several_end_tokens(model_type, end):
    model = random_model(model_type)
    end_with(model, [1, end])
    settings = {"num_beams": 4, "num_return_sequences": 4, "max_new_tokens": 10}
    found = beam_search(model, *ragged_batch(LENGTHS), **settings)
    expected = reference(model, ragged_batch(LENGTHS), 0.0, **settings)
    scores = torch.tensor([[score for _, score in state] for state in expected])
    torch.testing.assert_close(found.log_probs, scores, atol=1e-4, rtol=1e-5)
    assert (found.sequences == end).any()


def test_untied_head():
    model = random_model("t5", eos_bonus=0.5)
    torch.manual_seed(1)
    model.lm_head.weight = torch.nn.Parameter(torch.randn(24, 32))
    assert_parity(model, num_beams=4, num_return_sequences=4, max_new_tokens=10)


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
