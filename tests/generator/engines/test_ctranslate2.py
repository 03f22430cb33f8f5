"""The engine "ctranslate2" against the native one; needs the extra."""

import copy
import gc
from functools import partial
from pathlib import Path

import pytest
import torch
from transformers import MT5Config, MT5ForConditionalGeneration, UMT5Config, UMT5ForConditionalGeneration

from common import ByteTokenizer, ConfigError, DataError
from generator.architectures.encoder_decoder import build_seq2seq
from generator.engines import Decoding, Sampling, ctranslate2, make_engine
from tests.fakes import TINY
from tests.generator.decoding_fakes import SEARCHES, IdTokenizer, assert_same_candidates, randomize

pytest.importorskip("ctranslate2")

from generator.engines.ctranslate2 import CTranslate2Engine, convert, vocabulary

assert_same = partial(assert_same_candidates, tolerance=5e-3)  # its activations are approximations


def engines(model, tokenizer, **options):
    native = make_engine("native", model, tokenizer, max_inp_seq_len=128)
    return native, make_engine("ctranslate2", model, tokenizer, max_inp_seq_len=128, **options)


@pytest.mark.parametrize(("num_candidates", "decoding"), SEARCHES)
def test_float32_finds_the_candidates_of_the_native_engine(tiny_t5, tokenizer, states, num_candidates, decoding):
    native, ours = engines(tiny_t5, tokenizer)
    assert_same(ours.propose(states, num_candidates, decoding), native.propose(states, num_candidates, decoding))


def test_the_search_goes_on_while_better_candidates_may_come(tiny_t5, tokenizer, states):
    """CTranslate2 alone would stop at the first 16 that are finished, and miss two."""
    with torch.no_grad():
        tiny_t5.lm_head.weight[1] *= 3.0
    native, ours = engines(tiny_t5, tokenizer)
    decoding = Decoding(max_new_tokens=16)
    assert_same(ours.propose(states, 16, decoding), native.propose(states, 16, decoding))


@pytest.mark.parametrize(
    ("config_class", "model_class", "overrides"),
    [
        (MT5Config, MT5ForConditionalGeneration, {}),
        (UMT5Config, UMT5ForConditionalGeneration, {"tie_word_embeddings": True}),
        (None, None, {"feed_forward_proj": "relu", "scale_decoder_outputs": True}),
        (None, None, {"untied": True}),
    ],
)
def test_every_family_is_converted(request, states, tokenizer, config_class, model_class, overrides):
    torch.manual_seed(1)
    if config_class is None:
        model = build_seq2seq({**TINY, **{k: v for k, v in overrides.items() if k != "untied"}})
        if "untied" in overrides:
            model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight))
    else:
        model = model_class(config_class(**{**TINY, "vocab_size": 384, "decoder_start_token_id": 0, **overrides}))
    native, ours = engines(randomize(model), tokenizer)
    decoding = Decoding(max_new_tokens=6)
    assert_same(ours.propose(states, 3, decoding), native.propose(states, 3, decoding))


def test_int8_leaves_the_model_as_it_was_and_answers_roughly_alike(tiny_t5, tokenizer, states):
    before = copy.deepcopy(tiny_t5.state_dict())
    native, ours = engines(tiny_t5, tokenizer, compute_type="int8")
    found = ours.propose(states, 1, Decoding(max_new_tokens=4))
    assert all(torch.equal(value, before[name]) for name, value in tiny_t5.state_dict().items())
    assert tiny_t5.config.tie_word_embeddings == build_seq2seq(TINY).config.tie_word_embeddings
    expected = native.propose(states, 1, Decoding(max_new_tokens=4))
    ours_best, native_best = ([c[0][1] for c in candidates] for candidates in (found, expected))
    assert ours_best == pytest.approx(native_best, abs=4.0), "weights of random signs round badly"
    assert ours_best != pytest.approx(native_best, abs=0.01), "rounded indeed"


@pytest.fixture
def folders(monkeypatch):
    """The folders of the models that were converted."""
    made = []

    def noted(model, tokenizer, folder, *args):
        made.append(folder)
        convert(model, tokenizer, folder, *args)

    monkeypatch.setattr(ctranslate2, "convert", noted)
    return made


def test_a_change_of_the_weights_is_noticed(tiny_t5, tokenizer, states, folders):
    native, ours = engines(tiny_t5, tokenizer)
    decoding = Decoding(max_new_tokens=6)
    ours.propose(states, 2, decoding)
    ours.propose(states, 2, decoding)
    assert len(folders) == 1, "converted once"
    tiny_t5(input_ids=torch.tensor([[5, 1]]), labels=torch.tensor([[7, 1]])).loss.backward()
    torch.optim.AdamW(tiny_t5.parameters(), lr=0.1, fused=True).step()
    assert_same(ours.propose(states, 2, decoding), native.propose(states, 2, decoding))
    assert not ours.is_live


def test_the_conversion_is_deleted_with_the_engine(tiny_t5, tokenizer, folders):
    _, ours = engines(tiny_t5, tokenizer)
    ours.propose(["p"], 1, Decoding(max_new_tokens=2))
    (folder,) = folders
    assert folder.is_dir()
    del ours
    gc.collect()
    assert not folder.exists()


def test_the_same_call_samples_the_same_with_the_models_own_log_probabilities(tiny_t5, states):
    tokenizer = IdTokenizer()
    _, ours = engines(tiny_t5, tokenizer)
    decoding = Decoding(max_new_tokens=5, sampling=Sampling(temperature=1.5, top_k=30, seed=2))
    together = ours.propose(states, 4, decoding)
    assert together == ours.propose(states, 4, decoding)
    assert ours.propose(states, 4, Decoding(max_new_tokens=5, sampling=Sampling(seed=3))) != together
    for state, candidates in zip(states, together, strict=True):
        assert [p for _, p in candidates] == sorted((p for _, p in candidates), reverse=True)
        for text, log_prob in candidates:
            written = torch.tensor([[int(number) for number in text.split()]])
            with torch.no_grad():
                logits = tiny_t5(**tokenizer([state], return_tensors="pt"), labels=written).logits
            expected = logits.log_softmax(-1).gather(-1, written.unsqueeze(-1)).sum()
            assert log_prob == pytest.approx(float(expected), abs=5e-3)


def test_a_converted_folder_answers_without_the_model(tiny_t5, tokenizer, states, tmp_path):
    convert(tiny_t5, tokenizer, tmp_path / "converted")
    native = make_engine("native", tiny_t5, tokenizer, max_inp_seq_len=128)
    ours = CTranslate2Engine.from_folder(tmp_path / "converted", tokenizer, 128, device="cpu")
    decoding = Decoding(max_new_tokens=6)
    assert_same(ours.propose(states, 3, decoding), native.propose(states, 3, decoding))


def test_the_vocabulary_has_the_strings_of_transformers_tokenizer(tmp_path):
    from transformers import ByT5Tokenizer

    expected = ByT5Tokenizer().convert_ids_to_tokens(list(range(384)))
    assert vocabulary(ByteTokenizer(), 384) == vocabulary(ByT5Tokenizer(), 384) == expected
    assert vocabulary(ByteTokenizer(), 386)[384:] == ["<unused_384>", "<unused_385>"]
    assert len(vocabulary(ByteTokenizer(), 200)) == 200


def test_what_cannot_be_converted_is_refused(tiny_t5, tiny_gpt2, tokenizer, tmp_path):
    with pytest.raises(ConfigError, match="CTranslate2 cannot run this model here: GPT2LMHeadModel is not"):
        make_engine("ctranslate2", tiny_gpt2, tokenizer, max_inp_seq_len=64)
    with pytest.raises(ConfigError, match="compute_type is 'int4'; choose one of float32"):
        engines(tiny_t5, tokenizer, compute_type="int4")
    with pytest.raises(DataError, match="has no model.bin"):
        CTranslate2Engine.from_folder(tmp_path, tokenizer, 64)
    _, ours = engines(tiny_t5, tokenizer, compute_type="float16", device="cpu")
    with pytest.raises(ConfigError, match="compute_type 'float16' cannot be used on cpu.*int8"):
        ours.propose(["p"], 1, Decoding(max_new_tokens=2))
    _, ours = engines(tiny_t5, tokenizer)
    with pytest.raises(ConfigError, match="stop is for decoder-only"):
        ours.propose(["p"], 1, Decoding(stop=(";",)))
    tiny_t5.config.eos_token_id = [1, 5]
    with pytest.raises(ConfigError, match=r"eos_token_id is \[1, 5\]"):
        ours.propose(["p"], 1, Decoding(max_new_tokens=2))
    assert not list(Path(tmp_path).iterdir())


@pytest.mark.parametrize(
    "content", ["{", "[1]", '{"a": "b"}', "[" * 100_000], ids=["cut", "numbers", "object", "nested"]
)
def test_a_broken_vocabulary_is_named(tmp_path, tokenizer, content):
    (tmp_path / "model.bin").touch()
    (tmp_path / "shared_vocabulary.json").write_text(content)
    with pytest.raises(DataError, match="shared_vocabulary.json: is broken"):
        CTranslate2Engine.from_folder(tmp_path, tokenizer, 64)
