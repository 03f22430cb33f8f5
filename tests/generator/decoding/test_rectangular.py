"""Padded batches: they find what their states find without padding; and options out of range are named."""

import pytest
import torch

from common import ConfigError, DataError
from generator.decoding import Decoding, Sampling, beam_search, decode, sample
from tests.generator.decoding_fakes import (
    BEAMS,
    LENGTHS,
    SAMPLES,
    Letters,
    assert_close,
    assert_same_alone,
    random_gpt2,
    random_t5,
    states_of,
)


@pytest.mark.parametrize("length_penalty", [0.0, 0.7])
def test_a_padded_batch_is_searched_as_its_states_are(family, batch, length_penalty):
    found = family.beam_search(*batch, **BEAMS, length_penalty=length_penalty)
    decoding = Decoding(BEAMS["max_new_tokens"], BEAMS["num_beams"], length_penalty)
    assert_close(decode(family.model, states_of(batch), BEAMS["num_return_sequences"], decoding), found, tolerance=0)


def test_a_padded_batch_is_sampled_as_its_states_are(family, batch):
    options = {"temperature": 0.8, "top_k": 9, "top_p": 0.9}
    found = family.sample(*batch, **SAMPLES, **options, generator=torch.Generator().manual_seed(5))
    decoding = Decoding(SAMPLES["max_new_tokens"], sampling=Sampling(**options))
    seeded = torch.Generator().manual_seed(5)
    expected = decode(family.model, states_of(batch), SAMPLES["num_samples"], decoding, generator=seeded)
    assert_close(found, expected, tolerance=0)


def left_padded(input_ids, attention_mask):
    rolled = [ids.roll(len(ids) - n) for ids, n in zip(input_ids, LENGTHS, strict=True)]
    return torch.stack(rolled), attention_mask.flip(1)


def test_a_prompt_may_be_padded_on_either_side(batch):
    model = random_gpt2()
    expected = beam_search(model, *batch, **BEAMS)
    assert_close(beam_search(model, *left_padded(*batch), **BEAMS), expected, tolerance=0)


def test_an_empty_prompt_starts_from_bos(batch):
    model, (input_ids, attention_mask) = random_gpt2(), batch
    emptied = beam_search(model, input_ids, attention_mask * torch.tensor([[1], [1], [0], [1], [1]]), **BEAMS)
    bos = torch.tensor([[2]])
    assert_same_alone(emptied, beam_search(model, bos, torch.ones_like(bos), **BEAMS), 2)


# refusals


def test_an_encoders_input_is_padded_on_the_right(batch):
    with pytest.raises(DataError, match="state 1 of the batch has padding before a token: pad on the right"):
        sample(random_t5(), *left_padded(*batch), **SAMPLES)


def test_ids_and_mask_of_other_shapes(family, batch):
    input_ids, attention_mask = batch
    for ids, mask in [(input_ids, attention_mask[:, :-1]), (input_ids[0], attention_mask[0])]:
        with pytest.raises(DataError, match="input_ids has shape .* attention_mask"):
            family.beam_search(ids, mask, **BEAMS)
    with pytest.raises(DataError, match="at least one state"):
        family.beam_search(input_ids[:0], attention_mask[:0], **BEAMS)


@pytest.mark.parametrize("option", ["num_beams", "num_return_sequences", "max_new_tokens"])
def test_beam_options_start_at_one(family, batch, option):
    with pytest.raises(ConfigError, match=f"{option} is 0"):
        family.beam_search(*batch, **BEAMS | {option: 0})


@pytest.mark.parametrize(
    "options",
    [
        {"num_samples": 0},
        {"max_new_tokens": 0},
        {"temperature": 0.0},
        {"top_k": -1},
        {"top_p": 0.0},
        {"top_p": 1.5},
    ],
)
def test_sampling_options_out_of_range(family, batch, options):
    (name, value), *_ = options.items()
    with pytest.raises(ConfigError, match=f"{name} is {value}"):
        family.sample(*batch, **SAMPLES | options)


def test_more_candidates_than_beams(family, batch):
    with pytest.raises(ConfigError, match="num_return_sequences is 7 but num_beams is 6"):
        family.beam_search(*batch, **BEAMS | {"num_return_sequences": 7})


@pytest.mark.parametrize("stop_sequences", ["[/TAC]", [""], [3]])
def test_stop_texts_that_are_no_list_of_texts(family, batch, stop_sequences):
    with pytest.raises(ConfigError, match="stop_sequences is"):
        family.beam_search(*batch, **BEAMS, stop_sequences=stop_sequences, tokenizer=Letters())


def test_stop_texts_without_a_tokenizer(family, batch):
    with pytest.raises(ConfigError, match="no tokenizer"):
        family.sample(*batch, **SAMPLES, stop_sequences=["]"])
