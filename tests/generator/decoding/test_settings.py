"""What is asked of decoding, and what is refused."""

import pytest

from common import ConfigError
from generator.decoding.settings import Decoding, Sampling


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (Decoding, {"max_new_tokens": 0}, "max_new_tokens is 0"),
        (Decoding, {"num_beams": 0}, "num_beams is 0"),
        (Decoding, {"stop": "[/TAC]"}, "stop is"),
        (Decoding, {"stop": ("",)}, "stop is"),
        (Sampling, {"temperature": 0.0}, "temperature is 0.0"),
        (Sampling, {"temperature": float("nan")}, "temperature is nan"),
        (Sampling, {"top_k": -1}, "top_k is -1"),
        (Sampling, {"top_p": 0.0}, "top_p is 0.0"),
    ],
)
def test_settings_out_of_range_are_refused(kind, options, message):
    with pytest.raises(ConfigError, match=message):
        kind(**options)


def test_a_search_has_as_many_rows_as_beams_and_sampling_as_samples():
    assert Decoding().rows_for(8) == 8
    assert Decoding(num_beams=16).rows_for(8) == 16
    assert Decoding(num_beams=4, sampling=Sampling()).rows_for(8) == 8


def test_fewer_beams_than_candidates_are_refused():
    with pytest.raises(ConfigError, match="num_beams is 4 but 8"):
        Decoding(num_beams=4).rows_for(8)
