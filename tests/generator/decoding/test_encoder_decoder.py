"""Decoding on the live model: what holds whatever the batch, the mode or the type; sampling; what is refused."""

import pickle

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, T5Config, T5EncoderModel

from common import ConfigError, DataError, NextstepError
from generator.decoding import t5_cache, t5_encoder
from generator.decoding.encoder_decoder import beam_search, sample
from generator.decoding.protocol import NaNLogitsError
from generator.decoding.sampling import MAX_WRITING_SHARE, SamplingSettings, filtered, pick
from generator.decoding.t5_decoder import T5Decoder
from tests.generator.decoding_fakes import (
    BEAMS,
    EOS,
    SAMPLES,
    VOCABULARY,
    assert_close,
    assert_log_probs_of,
    model_log_prob,
    one_state,
    random_t5,
)


@pytest.fixture
def model():
    return random_t5()


# what a candidate is


def test_a_hypothesis_without_end_counts_at_the_limit(model, batch):
    model.config.eos_token_id = None
    found = beam_search(model, *batch, **BEAMS | {"max_new_tokens": 3})
    assert found.sequences.shape == (5, 4, 3) and found.log_probs.isfinite().all()


def test_few_tokens_give_few_candidates(model, batch):
    found = beam_search(model, *batch, num_beams=10_000, num_return_sequences=30, max_new_tokens=1)
    assert found.log_probs.isfinite().sum(1).tolist() == [VOCABULARY] * 5
    assert sorted(found.sequences[0, :VOCABULARY, 0].tolist()) == list(range(VOCABULARY))
    assert (found.sequences[:, VOCABULARY:] == 0).all()


# what must not matter


@pytest.mark.parametrize(("max_packed_tokens", "min_length_share"), [(1, 0.0), (12, 0.5), (100, 1.0)])
def test_grouping_of_states(model, batch, monkeypatch, max_packed_tokens, min_length_share):
    expected = beam_search(model, *batch, **BEAMS)
    monkeypatch.setitem(t5_encoder.MAX_PACKED_TOKENS, "cpu", max_packed_tokens)
    monkeypatch.setitem(t5_cache.MIN_LENGTH_SHARE, "cpu", min_length_share)
    assert_close(beam_search(model, *batch, **BEAMS), expected)


def test_training_mode_changes_nothing_and_is_not_changed(model, batch):
    expected = beam_search(model, *batch, **BEAMS)
    model.train()
    assert_close(beam_search(model, *batch, **BEAMS), expected, tolerance=0)
    assert all(module.training for module in model.modules())


def test_long_outputs_outgrow_the_first_buffer(model, batch):
    model.config.eos_token_id = None
    long = t5_cache.POSITIONS_PER_GROWTH + 9
    found = beam_search(model, *batch, num_beams=3, num_return_sequences=3, max_new_tokens=long)
    expected = model_log_prob(model, batch[0][:1], found.sequences[0, 1].tolist())
    assert float(found.log_probs[0, 1]) == pytest.approx(expected, abs=1e-3)


def test_bfloat16_weights_and_autocast(model, batch):
    with torch.no_grad():  # soft predictions, which one rounding does not overturn
        for parameter in model.parameters():
            parameter.mul_(0.6)
    best = {"num_beams": 4, "num_return_sequences": 1, "max_new_tokens": 3}
    expected = beam_search(model, *batch, **best).log_probs
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = beam_search(model, *batch, **best).log_probs
    assert next(model.parameters()).dtype == torch.float32
    half = beam_search(model.bfloat16(), *batch, **best).log_probs
    for found in (mixed, half):
        assert not torch.equal(found, expected)
        torch.testing.assert_close(found, expected, atol=0.1, rtol=0.02)


def test_layers_that_are_not_plain_are_called(model, batch):
    """An adapter wraps a layer; reading its weight would silently leave the adapter out."""

    class Adapter(torch.nn.Module):
        def __init__(self, layer):
            super().__init__()
            self.layer = layer

        def forward(self, hidden):
            return 2 * self.layer(hidden)

    doubled = random_t5()
    with torch.no_grad():
        for part in (model, doubled):
            attention = part.decoder.block[0].layer[0].SelfAttention
            if part is doubled:
                attention.v.weight.mul_(2)
            else:
                attention.v = Adapter(attention.v)
    assert_close(beam_search(model, *batch, **BEAMS), beam_search(doubled, *batch, **BEAMS))


# sampling


def test_samples_that_have_ended_are_not_fed_again(model, batch, monkeypatch):
    fed = []
    step = T5Decoder.step
    monkeypatch.setattr(T5Decoder, "step", lambda self, tokens: (fed.append(tokens.shape[1]), step(self, tokens))[1])
    found = sample(
        model, *one_state(batch, 0), num_samples=20, max_new_tokens=40, generator=torch.Generator().manual_seed(0)
    )
    has_ended = (found.sequences[0] == EOS).long().cumsum(1) > 0
    num_writing = (~has_ended).sum(0).tolist()[:-1]
    assert len(set(num_writing)) > 2 and num_writing[-1] < 5
    for rows, writing in zip(fed[1:], num_writing, strict=True):
        assert MAX_WRITING_SHARE * rows < writing <= rows


@pytest.mark.parametrize("temperature", [1.0, 1.5])
def test_samples_carry_the_log_prob_of_the_model(model, batch, temperature):
    found = sample(model.train(), *batch, **SAMPLES, temperature=temperature)
    assert_log_probs_of(model.eval(), batch, found)


def test_samples_follow_the_distribution(model, batch):
    state = one_state(batch, 0)
    found = sample(model, *state, num_samples=4000, max_new_tokens=1, generator=torch.Generator().manual_seed(0))
    frequency = found.sequences[0, :, 0].bincount(minlength=VOCABULARY) / 4000
    with torch.no_grad():
        logits = model(input_ids=state[0], decoder_input_ids=torch.zeros(1, 1, dtype=torch.long)).logits[0, 0]
    torch.testing.assert_close(frequency, logits.softmax(-1), atol=0.03, rtol=0)


def test_filters_apply_in_order():
    logits = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()

    def kept(temperature=1.0, top_k=0, top_p=1.0):
        probabilities = filtered(logits, SamplingSettings(1, 1, temperature, top_k, top_p))
        return (probabilities / probabilities.sum()).tolist()

    assert kept() == pytest.approx([0.4, 0.3, 0.2, 0.1])
    assert kept(top_k=2) == pytest.approx([4 / 7, 3 / 7, 0, 0])
    assert kept(top_k=9) == pytest.approx([0.4, 0.3, 0.2, 0.1])
    assert kept(top_p=0.6) == pytest.approx([4 / 7, 3 / 7, 0, 0])
    assert kept(top_k=2, top_p=0.5) == pytest.approx([1, 0, 0, 0])  # of the two left, the first reaches it
    assert kept(temperature=0.5) == pytest.approx([16 / 30, 9 / 30, 4 / 30, 1 / 30])


def test_pick_inverts_the_cumulative_distribution():
    probabilities = torch.tensor([[[0.0, 0.5, 0.0, 0.25, 0.0]]], dtype=torch.float64).expand(1, 4, 5)
    noise = torch.tensor([[0.0, 0.66, 0.67, 1 - 2**-53]], dtype=torch.float64)
    assert pick(probabilities, noise).tolist() == [[1, 1, 3, 3]]


# refusals


def test_models_of_other_kinds(batch):
    causal = GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, n_embd=8, n_layer=1, n_head=1))
    with pytest.raises(TypeError, match="GPT2LMHeadModel is not an encoder-decoder.*decoder_only"):
        beam_search(causal, *batch, **BEAMS)
    encoder = T5EncoderModel(T5Config(vocab_size=VOCABULARY, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2))
    with pytest.raises(TypeError, match="T5EncoderModel"):
        sample(encoder, *batch, **SAMPLES)


def test_no_start_token(model, batch):
    model.config.decoder_start_token_id = model.generation_config.decoder_start_token_id = None
    with pytest.raises(ConfigError, match="decoder_start_token_id is not set"):
        beam_search(model, *batch, **BEAMS)


@pytest.mark.parametrize("decode", [beam_search, sample])
def test_nan_logits_name_the_state(model, batch, decode):
    settings = BEAMS if decode is beam_search else SAMPLES
    input_ids = batch[0].clone()
    input_ids[input_ids == 5] = 6
    input_ids[3, 2] = 5
    with torch.no_grad():
        model.shared.weight[5] = torch.nan
        model.decoder.embed_tokens = torch.nn.Embedding(VOCABULARY, 32)
        model.lm_head.weight = torch.nn.Parameter(torch.randn(VOCABULARY, 32))
    with pytest.raises(NaNLogitsError, match="NaN at step 1 for state 3 of the batch: check the weights"):
        decode(model, input_ids, batch[1], **settings)


def test_nan_logits_are_a_users_error_and_a_floating_point_error():
    error = pickle.loads(pickle.dumps(NaNLogitsError(3, 1, "⊢ p")))  # as from another process
    assert isinstance(error, NextstepError) and isinstance(error, FloatingPointError)
    assert str(error).startswith("input '⊢ p': logits are NaN at step 1: check the weights") and error.state == 3


def test_bad_masks(model, batch):
    input_ids, attention_mask = batch
    with pytest.raises(DataError, match="state 2 of the batch has no token"):
        beam_search(model, input_ids, attention_mask * torch.tensor([1, 1, 0, 1, 1]).unsqueeze(1), **BEAMS)
    with pytest.raises(DataError, match="state 1 of the batch has padding before a token"):
        beam_search(model, input_ids, attention_mask.flip(1), **BEAMS)
    with pytest.raises(DataError, match="attention_mask"):
        beam_search(model, input_ids, attention_mask[:, :-1], **BEAMS)
