"""States are decoded so many at a time as memory holds."""

import logging
import math

import pytest
import torch
from transformers import T5Config, T5ForConditionalGeneration

from generator.decoding import Decoding, Sampling, decode, memory, ragged
from generator.decoding.memory import bytes_of_state, chunks, in_chunks
from generator.decoding.protocol import NaNLogitsError
from tests.generator.decoding_fakes import MODELS, assert_close, make_reading_nan, noted_sizes, ragged_batch, states_of


@pytest.fixture(params=list(MODELS))
def model(request):
    return MODELS[request.param]()


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch):
    monkeypatch.setattr(memory, "_said", set())


def test_a_group_keeps_its_budget_counted_as_its_largest():
    assert chunks([4, 4, 3, 1, 1], 8) == [[0, 1], [2, 3], [4]]
    assert chunks([1, 1, 4], 4) == [[0, 1], [2]]
    assert chunks([9, 1], 4) == [[0], [1]], "one that is too large alone is tried"
    assert chunks([5, 5, 5], math.inf) == [[0, 1, 2]]


def test_all_fit_where_memory_has_no_known_limit():
    assert memory.free_bytes(torch.device("cpu")) == math.inf


def test_a_state_counts_what_grows_with_it(model):
    base = bytes_of_state(model, 100, 8, 32)
    assert bytes_of_state(model, 200, 8, 32) > base
    assert bytes_of_state(model, 100, 16, 32) > base
    assert bytes_of_state(model, 100, 8, 64) > base


def test_the_keys_and_values_of_byt5_small_are_counted():
    config = {"d_model": 1472, "d_kv": 64, "d_ff": 3584, "num_layers": 1, "num_decoder_layers": 4, "num_heads": 6}
    with torch.device("meta"):
        model = T5ForConditionalGeneration(T5Config(**config, vocab_size=384))
    per_position = 2 * 4 * 384 * 4
    gap = bytes_of_state(model, 1000, 64, 33) - bytes_of_state(model, 1000, 64, 32)
    assert gap == 64 * 2 * per_position


@pytest.mark.parametrize("sampling", [None, Sampling()], ids=["beams", "samples"])
def test_what_is_found_in_chunks_is_what_is_found_at_once(model, monkeypatch, sampling):
    states, decoding = states_of(ragged_batch()), Decoding(12, sampling=sampling)
    calls = noted_sizes(monkeypatch)
    expected = decode(model, states, 4, decoding, generator=torch.Generator().manual_seed(1))
    largest = max(bytes_of_state(model, len(ids), 4, 12) for ids in states)
    monkeypatch.setattr(ragged, "free_bytes", lambda device: 2 * largest / ragged.SHARE)
    found = decode(model, states, 4, decoding, generator=torch.Generator().manual_seed(1))
    assert calls[0] == 5 and max(calls[1:]) < 5 and sum(calls[1:]) == 5
    assert_close(found, expected)


def test_where_memory_runs_out_half_as_many_are_tried_and_it_is_said_once(model, monkeypatch, caplog):
    states, sizes, find = states_of(ragged_batch()), [], ragged._find
    expected = decode(model, states, 4, Decoding(12))

    def cramped(model, some, *rest):
        sizes.append(len(some))
        if len(some) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return find(model, some, *rest)

    monkeypatch.setattr(ragged, "_find", cramped)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert_close(decode(model, states, 4, Decoding(12)), expected)
    assert sizes == [5, 2, 2, 1] * 2
    assert [record.getMessage() for record in caplog.records] == [
        "memory ran out with 5 states at once: 2 are decoded at a time instead"
    ]


def test_one_state_that_is_too_large_is_an_error():
    def answer(group):
        raise torch.OutOfMemoryError("CUDA out of memory")

    given_back = []
    with pytest.raises(torch.OutOfMemoryError):
        in_chunks([1, 1], math.inf, answer, lambda: given_back.append(1))
    assert given_back == [1]


def test_nan_names_the_state_of_the_whole_batch(model, monkeypatch):
    make_reading_nan(model, 7)
    states = [ids.where(ids != 7, 8) for ids in states_of(ragged_batch())]
    states[4] = states[4].clone()
    states[4][0] = 7
    monkeypatch.setattr(ragged, "free_bytes", lambda device: 0)
    with pytest.raises(NaNLogitsError) as raised:
        decode(model, states, 3, Decoding(4))
    assert raised.value.state == 4
