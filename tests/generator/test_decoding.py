"""Decoding on the live model: what holds whatever the batch, the mode or the type; sampling; what is refused."""

import pickle

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, T5Config, T5EncoderModel, T5ForConditionalGeneration

from common import ConfigError, DataError, NextstepError
from generator import t5_cache, t5_encoder
from generator.decoder import NaNLogitsError
from generator.decoding import beam_search, sample
from generator.sampling import MAX_WRITING_SHARE, SamplingSettings, filtered, pick
from generator.t5_decoder import T5Decoder

VOCABULARY, EOS, LENGTHS = 24, 1, (11, 3, 1, 8, 11)
BEAMS = {"num_beams": 6, "num_return_sequences": 4, "max_new_tokens": 14}


@pytest.fixture
def model():
    return random_model()


def random_model(seed=2, **overrides):
    """A tiny model with sharp predictions, of which some hypotheses end early and some never."""
    sizes = {"vocab_size": VOCABULARY, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 3}
    config = T5Config(
        **sizes | {"feed_forward_proj": "gated-gelu", "decoder_start_token_id": 0, "dropout_rate": 0.3} | overrides
    )
    torch.manual_seed(seed)
    model = T5ForConditionalGeneration(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "layer_norm" not in name:
                parameter.normal_(std=1.0 if "relative" in name else 0.35)
        model.lm_head.weight.mul_(4.0)
        model.lm_head.weight[EOS] *= 1.5
    return model


@pytest.fixture
def batch():
    torch.manual_seed(0)
    attention_mask = (torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS).unsqueeze(1)).long()
    return torch.randint(2, VOCABULARY, attention_mask.shape) * attention_mask, attention_mask


def one_state(batch, state):
    input_ids, attention_mask = batch
    length = int(attention_mask[state].sum())
    return input_ids[state : state + 1, :length], attention_mask[state : state + 1, :length]


def model_log_prob(model, state_ids, tokens):
    """The sum of log-probabilities of the tokens up to EOS, by one forward pass of the model."""
    tokens = tokens[: tokens.index(EOS) + 1] if EOS in tokens else tokens
    decoder_input_ids = torch.tensor([[0, *tokens[:-1]]])
    with torch.no_grad():
        log_probs = model(input_ids=state_ids, decoder_input_ids=decoder_input_ids).logits[0].log_softmax(-1)
    return float(log_probs.gather(1, torch.tensor(tokens).unsqueeze(1)).sum())


def assert_close(found, expected, tolerance=1e-4):
    assert torch.equal(found.sequences, expected.sequences)
    torch.testing.assert_close(found.log_probs, expected.log_probs, atol=tolerance, rtol=1e-5)


# what a candidate is


@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
def test_log_probs_are_plain_sums_of_the_model(model, batch, length_penalty):
    found = beam_search(model, *batch, **BEAMS, length_penalty=length_penalty)
    for state in range(len(LENGTHS)):
        state_ids, _ = one_state(batch, state)
        for tokens, log_prob in zip(found.sequences[state].tolist(), found.log_probs[state], strict=True):
            assert model_log_prob(model, state_ids, tokens) == pytest.approx(float(log_prob), abs=1e-4)


def test_padding_follows_the_end(model, batch):
    found = beam_search(model, *batch, **BEAMS)
    ended = [tokens for state in found.sequences.tolist() for tokens in state if EOS in tokens]
    assert len(ended) > 4
    assert all(set(tokens[tokens.index(EOS) + 1 :]) <= {model.config.pad_token_id} for tokens in ended)
    assert (found.log_probs.diff(dim=1) <= 0).all()


def test_a_hypothesis_without_end_counts_at_the_limit(model, batch):
    model.config.eos_token_id = None
    found = beam_search(model, *batch, **BEAMS | {"max_new_tokens": 3})
    assert found.sequences.shape == (5, 4, 3) and found.log_probs.isfinite().all()


def test_few_tokens_give_few_candidates(model, batch):
    found = beam_search(model, *batch, num_beams=10_000, num_return_sequences=30, max_new_tokens=1)
    assert found.log_probs.isfinite().sum(1).tolist() == [VOCABULARY] * 5
    assert sorted(found.sequences[0, :VOCABULARY, 0].tolist()) == list(range(VOCABULARY))
    assert (found.sequences[:, VOCABULARY:] == 0).all()


def test_results_are_ordinary_tensors(model, batch):
    for found in (beam_search(model, *batch, **BEAMS), sample(model, *batch, num_samples=2, max_new_tokens=3)):
        assert not found.sequences.is_inference() and not found.log_probs.is_inference()
        assert found.sequences.dtype == torch.int64 and found.log_probs.dtype == torch.float32


# what must not matter


def test_a_state_finds_the_same_alone(model, batch):
    together = beam_search(model, *batch, **BEAMS)
    for state in range(len(LENGTHS)):
        alone = beam_search(model, *one_state(batch, state), **BEAMS)
        length = alone.sequences.shape[-1]
        assert torch.equal(alone.sequences[0], together.sequences[state, :, :length])
        torch.testing.assert_close(alone.log_probs[0], together.log_probs[state], atol=1e-4, rtol=1e-5)


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


def test_deterministic(model, batch):
    assert_close(beam_search(model, *batch, **BEAMS), beam_search(model, *batch, **BEAMS), tolerance=0)


def test_weights_are_live(model, batch):
    before = beam_search(model, *batch, **BEAMS)
    with torch.no_grad():
        model.decoder.block[1].layer[0].SelfAttention.v.weight.neg_()
    assert not torch.equal(before.log_probs, beam_search(model, *batch, **BEAMS).log_probs)


def test_long_outputs_outgrow_the_first_buffer(model, batch):
    model.config.eos_token_id = None
    long = t5_cache.POSITIONS_PER_GROWTH + 9
    found = beam_search(model, *batch, num_beams=3, num_return_sequences=3, max_new_tokens=long)
    tokens, log_prob = found.sequences[0, 1].tolist(), float(found.log_probs[0, 1])
    decoder_input_ids = torch.tensor([[0, *tokens[:-1]]])
    with torch.no_grad():
        log_probs = model(input_ids=batch[0][:1], decoder_input_ids=decoder_input_ids).logits[0].log_softmax(-1)
    assert log_prob == pytest.approx(float(log_probs.gather(1, torch.tensor(tokens).unsqueeze(1)).sum()), abs=1e-3)


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

    doubled = random_model()
    with torch.no_grad():
        for part in (model, doubled):
            attention = part.decoder.block[0].layer[0].SelfAttention
            if part is doubled:
                attention.v.weight.mul_(2)
            else:
                attention.v = Adapter(attention.v)
    assert_close(beam_search(model, *batch, **BEAMS), beam_search(doubled, *batch, **BEAMS))


def test_states_and_rows_leave_when_they_cannot_enter_the_result(model, batch, monkeypatch):
    fed = []
    step = T5Decoder.step
    monkeypatch.setattr(T5Decoder, "step", lambda self, tokens: (fed.append(tokens.shape), step(self, tokens))[1])
    beam_search(model, *batch, num_beams=8, num_return_sequences=2, max_new_tokens=60)
    assert fed[0] == (5, 1) and max(rows for _, rows in fed) == 8
    assert len(fed) < 60 and fed[-1][0] < 5 and fed[-1][1] < 8


# sampling


SAMPLES = {"num_samples": 7, "max_new_tokens": 12}


def test_a_batch_samples_what_its_states_would_alone(model, batch):
    together = sample(model, *batch, **SAMPLES, generator=torch.Generator().manual_seed(5))
    generator = torch.Generator().manual_seed(5)
    for state in range(len(LENGTHS)):
        alone = sample(model, *one_state(batch, state), **SAMPLES, generator=generator)
        length = alone.sequences.shape[-1]
        assert torch.equal(alone.sequences[0], together.sequences[state, :, :length])
        torch.testing.assert_close(alone.log_probs[0], together.log_probs[state], atol=1e-4, rtol=1e-5)
    other = sample(model, *batch, **SAMPLES, generator=torch.Generator().manual_seed(6))
    assert not torch.equal(other.log_probs, together.log_probs)


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
    model.eval()
    for state in range(len(LENGTHS)):
        state_ids, _ = one_state(batch, state)
        for tokens, log_prob in zip(found.sequences[state].tolist(), found.log_probs[state], strict=True):
            assert model_log_prob(model, state_ids, tokens) == pytest.approx(float(log_prob), abs=1e-4)


def test_samples_follow_the_distribution(model, batch):
    state = one_state(batch, 0)
    found = sample(model, *state, num_samples=4000, max_new_tokens=1, generator=torch.Generator().manual_seed(0))
    frequency = found.sequences[0, :, 0].bincount(minlength=VOCABULARY) / 4000
    with torch.no_grad():
        logits = model(input_ids=state[0], decoder_input_ids=torch.zeros(1, 1, dtype=torch.long)).logits[0, 0]
    torch.testing.assert_close(frequency, logits.softmax(-1), atol=0.03, rtol=0)


def test_the_likeliest_only(model, batch):
    greedy = beam_search(model, *batch, num_beams=1, num_return_sequences=1, max_new_tokens=12)
    for options in ({"top_k": 1}, {"top_p": 1e-6}, {"temperature": 1e-4}):
        found = sample(model, *batch, num_samples=2, max_new_tokens=12, **options)
        assert_close(found, type(found)(greedy.sequences.expand(-1, 2, -1), greedy.log_probs.expand(-1, 2)))


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


@pytest.mark.parametrize("option", ["num_beams", "num_return_sequences", "max_new_tokens"])
def test_beam_options_start_at_one(model, batch, option):
    with pytest.raises(ConfigError, match=f"{option} is 0"):
        beam_search(model, *batch, **BEAMS | {option: 0})


@pytest.mark.parametrize(
    "options", [{"num_samples": 0}, {"temperature": 0.0}, {"top_k": -1}, {"top_p": 0.0}, {"top_p": 1.5}]
)
def test_sampling_options_out_of_range(model, batch, options):
    (name, value), *_ = options.items()
    with pytest.raises(ConfigError, match=f"{name} is {value}"):
        sample(model, *batch, **SAMPLES | options)


def test_more_candidates_than_beams(model, batch):
    with pytest.raises(ConfigError, match="num_return_sequences is 7 but num_beams is 6"):
        beam_search(model, *batch, **BEAMS | {"num_return_sequences": 7})


def test_models_of_other_kinds(batch):
    causal = GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, n_embd=8, n_layer=1, n_head=1))
    with pytest.raises(TypeError, match="GPT2LMHeadModel is not an encoder-decoder.*causal_decoding"):
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
