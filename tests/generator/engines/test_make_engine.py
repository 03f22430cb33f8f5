"""Engines by name."""

import sys

import pytest

from common import ConfigError
from generator.engines import ENGINES, make_engine


def test_engines_have_the_names_they_are_made_by(tiny_t5, tokenizer):
    for name in ("native", "transformers"):
        engine = make_engine(name, tiny_t5, tokenizer, max_inp_seq_len=64)
        assert engine.name == name and engine.is_live
    assert set(ENGINES) == {"native", "transformers", "ctranslate2", "vllm"}


def test_an_unknown_engine_is_refused_with_the_known_ones(tiny_t5, tokenizer):
    with pytest.raises(ConfigError, match="engine is 'ct2'; choose one of native, transformers, ctranslate2, vllm"):
        make_engine("ct2", tiny_t5, tokenizer, max_inp_seq_len=64)


@pytest.mark.parametrize("name", ["ctranslate2", "vllm"])
def test_an_engine_that_is_not_installed_names_the_extra(name, tiny_t5, tokenizer, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=rf"pip install -e '\.\[{name}\]'"):
        make_engine(name, tiny_t5, tokenizer, max_inp_seq_len=64)


@pytest.mark.parametrize("share", [0, -0.1, 1.5, float("nan"), True, "half", None])
def test_a_share_of_memory_that_is_none_is_refused(share, tiny_t5, tokenizer):
    with pytest.raises(ConfigError, match="max_graph_share is .*; it must be a number above 0 and at most 1, 0.15"):
        make_engine("native", tiny_t5, tokenizer, max_inp_seq_len=64, max_graph_share=share)
    assert make_engine("native", tiny_t5, tokenizer, max_inp_seq_len=64, max_graph_share=1).max_graph_share == 1


def test_an_unknown_option_is_refused(tiny_t5, tokenizer):
    with pytest.raises(ConfigError, match="engine 'native' has no option 'compute_type'; it takes cuda_graphs"):
        make_engine("native", tiny_t5, tokenizer, max_inp_seq_len=64, compute_type="int8")
    with pytest.raises(ConfigError, match="no option 'dtype'; it takes compute_type, device"):
        make_engine("ctranslate2", tiny_t5, tokenizer, max_inp_seq_len=64, dtype="int8")
