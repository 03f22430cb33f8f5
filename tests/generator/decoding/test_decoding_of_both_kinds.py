"""Decoding, of encoder-decoders and of decoder-only models: what holds for both in the same way."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch

from common import ConfigError
from generator.decoding import decoder_only as causal_decoding
from generator.decoding import encoder_decoder as decoding
from generator.decoding.causal_decoder import CausalDecoder
from generator.decoding.t5_decoder import T5Decoder
from tests.generator.decoding_fakes import (
    BEAMS,
    EOS,
    LENGTHS,
    SAMPLES,
    assert_close,
    assert_log_probs_of,
    assert_same_alone,
    one_state,
    random_gpt2,
    random_t5,
)


def kind_of(module, decoder_class, model, weight):
    """A model and what decodes it; `weight` is one of a layer that the search reads."""
    return SimpleNamespace(
        model=model,
        beam_search=partial(module.beam_search, model),
        sample=partial(module.sample, model),
        decoder_class=decoder_class,
        weight=weight,
    )


@pytest.fixture(params=["encoder-decoder", "decoder-only"])
def kind(request):
    if request.param == "decoder-only":
        model = random_gpt2()
        return kind_of(causal_decoding, CausalDecoder, model, model.transformer.h[1].attn.c_proj.weight)
    model = random_t5()
    return kind_of(decoding, T5Decoder, model, model.decoder.block[1].layer[0].SelfAttention.v.weight)


# what a candidate is


@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
def test_log_probs_are_plain_sums_of_the_model(kind, batch, length_penalty):
    assert_log_probs_of(kind.model, batch, kind.beam_search(*batch, **BEAMS, length_penalty=length_penalty))


def test_padding_follows_the_end(kind, batch):
    found = kind.beam_search(*batch, **BEAMS)
    ended = [tokens for state in found.sequences.tolist() for tokens in state if EOS in tokens]
    assert len(ended) > 4
    assert all(set(tokens[tokens.index(EOS) + 1 :]) <= {0} for tokens in ended) and kind.model.config.pad_token_id == 0
    assert (found.log_probs.diff(dim=1) <= 0).all()


def test_results_are_ordinary_tensors(kind, batch):
    for found in (kind.beam_search(*batch, **BEAMS), kind.sample(*batch, num_samples=2, max_new_tokens=3)):
        assert not found.sequences.is_inference() and not found.log_probs.is_inference()
        assert not found.log_probs.requires_grad
        assert found.sequences.dtype == torch.int64 and found.log_probs.dtype == torch.float32


# what must not matter


def test_a_state_finds_the_same_alone(kind, batch):
    together = kind.beam_search(*batch, **BEAMS)
    for state in range(len(LENGTHS)):
        assert_same_alone(together, kind.beam_search(*one_state(batch, state), **BEAMS), state)


def test_deterministic(kind, batch):
    assert_close(kind.beam_search(*batch, **BEAMS), kind.beam_search(*batch, **BEAMS), tolerance=0)


def test_weights_are_live(kind, batch):
    before = kind.beam_search(*batch, **BEAMS)
    with torch.no_grad():
        kind.weight.neg_()
    assert not torch.equal(before.log_probs, kind.beam_search(*batch, **BEAMS).log_probs)


def test_states_and_rows_leave_when_they_cannot_enter_the_result(kind, batch, monkeypatch):
    fed = []
    step = kind.decoder_class.step
    monkeypatch.setattr(
        kind.decoder_class, "step", lambda self, tokens: (fed.append(tokens.shape), step(self, tokens))[1]
    )
    kind.beam_search(*batch, num_beams=8, num_return_sequences=2, max_new_tokens=60)
    assert fed[0] == (5, 1) and max(rows for _, rows in fed) == 8
    assert len(fed) < 60 and fed[-1][0] < 5 and fed[-1][1] < 8


# sampling


def test_a_batch_samples_what_its_states_would_alone(kind, batch):
    together = kind.sample(*batch, **SAMPLES, generator=torch.Generator().manual_seed(5))
    generator = torch.Generator().manual_seed(5)
    for state in range(len(LENGTHS)):
        alone = kind.sample(*one_state(batch, state), **SAMPLES, generator=generator)
        assert_same_alone(together, alone, state)
    other = kind.sample(*batch, **SAMPLES, generator=torch.Generator().manual_seed(6))
    assert not torch.equal(other.log_probs, together.log_probs)


def test_the_likeliest_only(kind, batch):
    greedy = kind.beam_search(*batch, num_beams=1, num_return_sequences=1, max_new_tokens=12)
    for options in ({"top_k": 1}, {"top_p": 1e-6}, {"temperature": 1e-4}):
        found = kind.sample(*batch, num_samples=2, max_new_tokens=12, **options)
        assert_close(found, type(found)(greedy.sequences.expand(-1, 2, -1), greedy.log_probs.expand(-1, 2)))


# refusals


@pytest.mark.parametrize("option", ["num_beams", "num_return_sequences", "max_new_tokens"])
def test_beam_options_start_at_one(kind, batch, option):
    with pytest.raises(ConfigError, match=f"{option} is 0"):
        kind.beam_search(*batch, **BEAMS | {option: 0})


@pytest.mark.parametrize(
    "options", [{"num_samples": 0}, {"temperature": 0.0}, {"top_k": -1}, {"top_p": 0.0}, {"top_p": 1.5}]
)
def test_sampling_options_out_of_range(kind, batch, options):
    (name, value), *_ = options.items()
    with pytest.raises(ConfigError, match=f"{name} is {value}"):
        kind.sample(*batch, **SAMPLES | options)


def test_more_candidates_than_beams(kind, batch):
    with pytest.raises(ConfigError, match="num_return_sequences is 7 but num_beams is 6"):
        kind.beam_search(*batch, **BEAMS | {"num_return_sequences": 7})
