"""What engines are asked, and how inputs become batches."""

import pytest
import torch

from common import ByteTokenizer, ConfigError
from generator.engines.engine import (
    Decoding,
    cut_at_stop,
    encode,
    input_seed,
    pad,
    similar_lengths,
    weights_version,
)


def test_groups_hold_every_input_once_and_waste_little():
    lengths = [5, 2300, 2000, 7, 6, 900, 1, 2300]
    groups = similar_lengths(lengths, max_tokens=4600)
    assert sorted(i for group in groups for i in group) == list(range(8))
    assert groups[0] == [1, 7]
    for group in groups:
        widest = max(lengths[i] for i in group)
        assert len(group) * widest <= 4600
        assert min(lengths[i] for i in group) >= 0.7 * widest
    assert similar_lengths([]) == []


def test_an_input_longer_than_a_whole_call_stands_alone():
    assert similar_lengths([50, 50, 8], max_tokens=10) == [[0], [1], [2]]


def test_an_encoder_input_ends_with_eos_even_when_it_is_cut():
    tokenizer = ByteTokenizer()
    assert encode(tokenizer, ["", "abcdef"], 4, is_decoder_only=False) == [[1], [100, 101, 102, 1]]


def test_a_prompt_goes_on_and_loses_its_beginning_when_it_is_cut():
    tokenizer = ByteTokenizer()
    assert encode(tokenizer, ["", "abcdef", "ab"], 4, is_decoder_only=True) == [[1], [102, 103, 104, 105], [100, 101]]


def test_padding_stands_on_the_side_that_is_asked_for():
    ids, mask = pad([[5, 6], [7]], 0, "left")
    assert ids.tolist() == [[5, 6], [0, 7]] and mask.tolist() == [[1, 1], [0, 1]]
    ids, mask = pad([[5, 6], [7]], 9)
    assert ids.tolist() == [[5, 6], [7, 9]] and mask.tolist() == [[1, 1], [1, 0]]


def test_a_candidate_ends_with_the_first_stop_string_and_counts_its_tokens():
    tokenizer = ByteTokenizer()
    ids = tokenizer.encode("simp [h][/TAC] x;y")
    assert cut_at_stop(tokenizer, ids, ["[/TAC]"]) == ("simp [h][/TAC]", len("simp [h][/TAC]"))
    assert cut_at_stop(tokenizer, ids, [";", "[/TAC]"]) == ("simp [h][/TAC]", len("simp [h][/TAC]"))
    assert cut_at_stop(tokenizer, ids, ["qed"]) == ("simp [h][/TAC] x;y", len(ids))
    assert cut_at_stop(tokenizer, ids, []) == ("simp [h][/TAC] x;y", len(ids))


def test_a_special_token_may_be_a_stop_string():
    tokenizer = ByteTokenizer()
    ids = tokenizer.encode("abc<extra_id_0>def")
    assert cut_at_stop(tokenizer, ids, ["<extra_id_0>"]) == ("abc", 4)


def test_seeds_of_inputs_differ_and_stay():
    assert input_seed(0, "a") == input_seed(0, "a")
    assert len({input_seed(0, "a"), input_seed(1, "a"), input_seed(0, "b")}) == 3
    assert 0 <= input_seed(0, "a") < 2**31


def test_the_version_of_weights_changes_with_every_way_of_changing_them():
    model = torch.nn.Linear(3, 3)
    versions = [weights_version(model)]
    model.load_state_dict({name: value + 1 for name, value in model.state_dict().items()})
    versions.append(weights_version(model))
    model(torch.ones(1, 3)).sum().backward()
    torch.optim.AdamW(model.parameters(), fused=True).step()
    versions.append(weights_version(model))
    with torch.no_grad():
        model.weight[1, 2] += 1.0
    versions.append(weights_version(model))
    assert all(one != other for i, one in enumerate(versions) for other in versions[:i])
    assert weights_version(model) == versions[-1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "greedy"}, "method is 'greedy'.*beam_search, sample"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0"),
        ({"num_beams": 0}, "num_beams is 0"),
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"top_k": -1}, "top_k is -1"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"stop": "[/TAC]"}, "stop is"),
        ({"stop": ("",)}, "stop is"),
    ],
)
def test_settings_out_of_range_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        Decoding(**options)


def test_fewer_beams_than_candidates_are_refused():
    assert Decoding().beams_for(8) == 8
    assert Decoding(num_beams=16).beams_for(8) == 16
    with pytest.raises(ConfigError, match="num_beams is 4 but 8"):
        Decoding(num_beams=4).beams_for(8)
