"""Decoding on the live model, of both families: what a candidate is, what must not matter, and what is refused."""

import copy
import pickle

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BartConfig,
    BartForConditionalGeneration,
    BloomConfig,
    GPT2Config,
    GPT2Model,
    GPTNeoConfig,
    MambaConfig,
    T5Config,
    T5EncoderModel,
)

from common import ConfigError, DataError, NextstepError
from generator.decoding import Decoding, Sampling, decode
from generator.decoding.grouping import LIMITS, GroupLimits
from generator.decoding.protocol import NaNLogitsError
from generator.decoding.ragged import check_model
from tests.generator.decoding_fakes import (
    BEAMS,
    EOS,
    LENGTHS,
    MARKS,
    SAMPLES,
    VOCABULARY,
    assert_close,
    assert_log_probs_of,
    assert_same_alone,
    end_with,
    make_reading_nan,
    model_log_prob,
    one_state,
    random_gpt2,
    random_t5,
    states_of,
    watched_steps,
)

# what a candidate is


@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
def test_log_probs_are_plain_sums_of_the_model(family, batch, length_penalty):
    found = family.beam_search(*batch, **BEAMS, length_penalty=length_penalty)
    assert_log_probs_of(family.model, batch, found)


def test_padding_follows_the_end(family, batch):
    found = family.beam_search(*batch, **BEAMS)
    ended = [tokens for state in found.sequences.tolist() for tokens in state if EOS in tokens]
    assert len(ended) > 4 and family.model.config.pad_token_id == 0
    assert all(set(tokens[tokens.index(EOS) + 1 :]) <= {0} for tokens in ended)
    assert (found.log_probs.diff(dim=1) <= 0).all()


def test_every_end_token_ends(family, batch):
    end_with(family.model, [EOS, 5, 20])
    for found in (family.beam_search(*batch, **BEAMS), family.sample(*batch, **SAMPLES)):
        rows = [tokens for state in found.sequences.tolist() for tokens in state]
        ends = [[place for place, token in enumerate(tokens) if token in (EOS, 5, 20)] for tokens in rows]
        assert {tokens[places[0]] for tokens, places in zip(rows, ends, strict=True) if places} == {EOS, 5, 20}
        assert all(len(places) <= 1 for places in ends)


def test_a_hypothesis_without_end_counts_at_the_limit(family, batch):
    end_with(family.model, None)
    found = family.beam_search(*batch, **BEAMS | {"max_new_tokens": 3})
    assert found.sequences.shape == (5, 4, 3) and found.log_probs.isfinite().all()


def test_few_tokens_give_few_candidates(family, batch):
    found = family.beam_search(*batch, num_beams=10_000, num_return_sequences=30, max_new_tokens=1)
    assert found.log_probs.isfinite().sum(1).tolist() == [VOCABULARY] * 5
    assert sorted(found.sequences[0, :VOCABULARY, 0].tolist()) == list(range(VOCABULARY))
    assert (found.sequences[:, VOCABULARY:] == 0).all()


def test_results_are_ordinary_tensors(family, batch):
    for found in (family.beam_search(*batch, **BEAMS), family.sample(*batch, num_samples=2, max_new_tokens=3)):
        assert not found.sequences.is_inference() and not found.log_probs.is_inference()
        assert not found.log_probs.requires_grad
        assert found.sequences.dtype == torch.int64 and found.log_probs.dtype == torch.float32


def test_as_many_beams_as_candidates_unless_said_otherwise(family, batch):
    states = states_of(batch)
    expected = decode(family.model, states, 4, Decoding(max_new_tokens=9, num_beams=4))
    assert_close(decode(family.model, states, 4, Decoding(max_new_tokens=9)), expected, tolerance=0)
    with pytest.raises(ConfigError, match="num_beams is 3 but 4 candidates"):
        decode(family.model, states, 4, Decoding(num_beams=3))


# what must not matter


def test_a_state_finds_the_same_alone(family, batch):
    together = family.beam_search(*batch, **BEAMS)
    for state in range(len(LENGTHS)):
        assert_same_alone(together, family.beam_search(*one_state(batch, state), **BEAMS), state)


def test_deterministic(family, batch):
    assert_close(family.beam_search(*batch, **BEAMS), family.beam_search(*batch, **BEAMS), tolerance=0)


@pytest.mark.parametrize("limits", [GroupLimits(0.0, 1, 1), GroupLimits(0.3, 25, 12), GroupLimits(1.0, 1000, 100)])
def test_grouping_of_states(family, batch, monkeypatch, limits):
    expected = family.beam_search(*batch, **BEAMS)
    monkeypatch.setitem(LIMITS, "cpu", limits)
    assert_close(family.beam_search(*batch, **BEAMS), expected)


def test_training_mode_changes_nothing_and_is_not_changed(family, batch):
    expected = family.beam_search(*batch, **BEAMS)
    family.model.train()
    family.block.eval()
    assert_close(family.beam_search(*batch, **BEAMS), expected, tolerance=0)
    frozen = set(family.block.modules())
    assert all(module.training == (module not in frozen) for module in family.model.modules())


def test_weights_are_live(family, batch):
    before = family.beam_search(*batch, **BEAMS)
    with torch.no_grad():
        for parameter in family.block.parameters():
            parameter.neg_()
    assert not torch.equal(before.log_probs, family.beam_search(*batch, **BEAMS).log_probs)


def test_bfloat16_weights_and_autocast(family, batch):
    with torch.no_grad():  # soft predictions, which one rounding does not overturn
        for parameter in family.model.parameters() if family.is_encoder_decoder else [family.model.lm_head.weight]:
            parameter.mul_(0.6 if family.is_encoder_decoder else 0.3)
    best = {"num_beams": 4, "num_return_sequences": 1, "max_new_tokens": 3}
    expected = family.beam_search(*batch, **best).log_probs
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = family.beam_search(*batch, **best).log_probs
    assert next(family.model.parameters()).dtype == torch.float32
    family.model.bfloat16()
    half = family.beam_search(*batch, **best).log_probs
    for found in (mixed, half):
        assert not torch.equal(found, expected)
        torch.testing.assert_close(found, expected, atol=0.1, rtol=0.02)


def test_the_shell_of_compile_is_taken_off(family, batch):
    expected = family.beam_search(*batch, **BEAMS)
    compiled = torch.compile(copy.deepcopy(family.model))
    decoding = Decoding(BEAMS["max_new_tokens"], BEAMS["num_beams"])
    found = decode(compiled, states_of(batch), BEAMS["num_return_sequences"], decoding)
    assert_close(found, expected, tolerance=0)


@pytest.mark.parametrize("sampling", [None, Sampling()])
def test_long_outputs_outgrow_the_first_buffer(family, batch, sampling):
    end_with(family.model, None)
    found = decode(family.model, states_of(batch), 3, Decoding(41, sampling=sampling))
    for sequences, log_probs, state in zip(found.sequences, found.log_probs, range(len(LENGTHS)), strict=True):
        prompt, _ = one_state(batch, state)
        expected = model_log_prob(family.model, prompt, sequences[1].tolist())
        assert float(log_probs[1]) == pytest.approx(expected, abs=1e-3)


def test_states_and_rows_leave_when_they_cannot_enter_the_result(family, batch):
    with watched_steps(family.decoder_class) as fed:
        family.beam_search(*batch, num_beams=8, num_return_sequences=2, max_new_tokens=60)
    assert fed[0] == (5, 1) and max(rows for _, rows in fed) == 8
    assert len(fed) < 60 and fed[-1][0] < 5 and fed[-1][1] < 8


# refusals


@pytest.mark.parametrize("sampling", [None, Sampling()])
def test_nan_logits_name_the_state(family, batch, sampling):
    states = [state.where(state != 5, 6) for state in states_of(batch)]
    states[3][2] = 5
    make_reading_nan(family.model, 5)
    with pytest.raises(NaNLogitsError, match="NaN at step 1 for state 3 of the batch: check the weights"):
        decode(family.model, states, 3, Decoding(9, sampling=sampling))


def test_nan_logits_are_a_users_error_and_a_floating_point_error():
    error = pickle.loads(pickle.dumps(NaNLogitsError(3, 1, "⊢ p")))  # as from another process
    assert isinstance(error, NextstepError) and isinstance(error, FloatingPointError)
    assert str(error).startswith("input '⊢ p': logits are NaN at step 1: check the weights") and error.state == 3


def test_a_state_without_tokens(batch):
    states = states_of(batch)
    states[2] = states[2][:0]
    with pytest.raises(DataError, match="state 2 of the batch has no token: even an empty state is encoded as EOS"):
        decode(random_t5(), states, 1, Decoding(2))
    model = random_gpt2()
    model.config.bos_token_id = model.generation_config.bos_token_id = None
    with pytest.raises(DataError, match="state 2 of the batch has no token and the model no BOS"):
        decode(model, states, 1, Decoding(2))


def test_a_prompt_beyond_the_context(batch):
    states = states_of(batch)
    decode(random_gpt2(n_positions=24), states, 1, Decoding(14))
    with pytest.raises(DataError, match="state 0 of the batch has 11 tokens and max_new_tokens is 14.*context is 23"):
        decode(random_gpt2(n_positions=23), states, 1, Decoding(14))


SIZES = {"vocab_size": VOCABULARY, "d_model": 8}
BART = {"encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 1, "decoder_attention_heads": 1}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: torch.nn.Linear(2, 2), "Linear has no language-modelling head"),
        (lambda: GPT2Model(GPT2Config(**MARKS, n_embd=8, n_layer=1, n_head=1)), "GPT2Model has no language-modelling"),
        (
            lambda: T5EncoderModel(T5Config(**SIZES, d_kv=4, d_ff=8, num_layers=1, num_heads=2)),
            "T5EncoderModel has no language-modelling head: load it with AutoModelForSeq2SeqLM",
        ),
        (
            lambda: BartForConditionalGeneration(BartConfig(**SIZES, **BART)),
            "BartForConditionalGeneration is not a T5-family encoder-decoder.*use its own generate",
        ),
    ],
)
def test_models_of_other_kinds(batch, make, message):
    model = make()
    with pytest.raises(TypeError, match=message):
        check_model(model)
    with pytest.raises(TypeError, match=message):
        decode(model, states_of(batch), 1, Decoding(2))


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (BloomConfig(hidden_size=8, n_layer=1, n_head=1, **MARKS), "has no argument position_ids"),
        (MambaConfig(hidden_size=8, num_hidden_layers=1, **MARKS), "has no argument"),
        (
            GPTNeoConfig(hidden_size=8, num_layers=2, num_heads=1, attention_types=[[["global", "local"], 1]], **MARKS),
            "reads distances off the order of its keys",
        ),
    ],
)
def test_models_whose_candidates_cannot_share_a_prompt(config, reason):
    with pytest.raises(TypeError, match=f"{reason}.*use the transformers engine"):
        check_model(AutoModelForCausalLM.from_config(config))


def test_attention_without_masks():
    model = random_gpt2()
    model.config._attn_implementation = "flash_attention_2"
    with pytest.raises(TypeError, match="'flash_attention_2', which takes no mask for each query.*'sdpa'"):
        check_model(model)
