"""The engine "transformers" against the native one, and against the model's own probabilities."""

import pytest
import torch
from transformers import BartConfig, BartForConditionalGeneration, RwkvConfig, RwkvForCausalLM, T5Config, T5EncoderModel

from common import ConfigError
from generator.engines import Decoding, Sampling, make_engine
from generator.engines.huggingface import pad
from tests.generator.decoding_fakes import SEARCHES, IdTokenizer, assert_same_candidates, model_log_prob


def engine_of(name, model, tokenizer):
    return make_engine(name, model, tokenizer, max_inp_seq_len=128)


@pytest.mark.parametrize(("num_candidates", "decoding"), SEARCHES)
def test_beam_search_answers_as_the_native_engine_does(model, tokenizer, states, num_candidates, decoding):
    native, ours = engine_of("native", model, tokenizer), engine_of("transformers", model, tokenizer)
    assert_same_candidates(
        ours.propose(states, num_candidates, decoding), native.propose(states, num_candidates, decoding)
    )


def test_stop_strings_end_candidates_as_in_the_native_engine(tiny_gpt2, tokenizer, states):
    tiny_gpt2.config.pad_token_id = tiny_gpt2.generation_config.pad_token_id = 1  # as in GPT-2: EOS pads
    native, ours = (engine_of(name, tiny_gpt2, tokenizer) for name in ("native", "transformers"))
    whole = native.propose(states, 4, Decoding(max_new_tokens=10))
    stop = tuple({candidates[0][0][1] for candidates in whole})
    decoding = Decoding(max_new_tokens=10, stop=stop)
    found = native.propose(states, 4, decoding)
    assert_same_candidates(ours.propose(states, 4, decoding), found)
    assert found != whole


def test_an_encoder_decoder_stops_too(tiny_t5, tokenizer):
    engine = engine_of("transformers", tiny_t5, tokenizer)
    whole = engine.propose(["⊢ True"], 3, Decoding(max_new_tokens=10))[0]
    stop = whole[0][0][0]
    cut = engine.propose(["⊢ True"], 3, Decoding(max_new_tokens=10, stop=(stop,)))[0]
    assert all(stop not in text[:-1] for text, _ in cut) and any(text.endswith(stop) for text, _ in cut)


@pytest.mark.parametrize("name", ["native", "transformers"])
def test_samples_have_the_models_own_log_probabilities(name, model):
    """Not those after temperature and filters."""
    tokenizer = IdTokenizer()
    prompt = tokenizer(["⊢ p"], return_tensors="pt")["input_ids"]
    prompt = prompt if model.config.is_encoder_decoder else prompt[:, :-1]
    decoding = Decoding(max_new_tokens=4, sampling=Sampling(temperature=0.6, top_k=40, top_p=0.95, seed=1))
    (candidates,) = engine_of(name, model, tokenizer).propose(["⊢ p"], 12, decoding)
    assert len(candidates) == 12
    for text, log_prob in candidates:
        ids = [int(number) for number in text.split()]
        assert log_prob == pytest.approx(model_log_prob(model, prompt, ids), abs=1e-3)


def test_candidates_end_with_the_tokens_of_either_settings_as_in_the_native_engine(tiny_gpt2, tokenizer, states):
    whole = engine_of("native", tiny_gpt2, tokenizer).propose(states, 4, Decoding(max_new_tokens=10))
    byte = tokenizer.encode(whole[0][0][0])[0]
    tiny_gpt2.config.eos_token_id, tiny_gpt2.generation_config.eos_token_id = byte, [1]
    native, ours = (
        engine_of(name, tiny_gpt2, tokenizer).propose(states, 4, Decoding(max_new_tokens=10))
        for name in ("native", "transformers")
    )
    assert_same_candidates(ours, native)
    assert native != whole


def test_samples_follow_from_seed_and_text_alone(model, tokenizer, states):
    engine = engine_of("transformers", model, tokenizer)
    decoding = Decoding(max_new_tokens=5, sampling=Sampling(seed=3))
    before = torch.get_rng_state()
    together = engine.propose(states, 4, decoding)
    assert torch.equal(before, torch.get_rng_state())
    assert_same_candidates(together, [engine.propose([state], 4, decoding)[0] for state in states])
    assert all([p for _, p in c] == sorted((p for _, p in c), reverse=True) for c in together)
    assert engine.propose(states, 4, Decoding(max_new_tokens=5, sampling=Sampling(seed=4))) != together


def test_the_models_own_generation_settings_change_nothing_and_stay(model, tokenizer, states):
    engine, decoding = engine_of("transformers", model, tokenizer), Decoding(max_new_tokens=6)
    expected = engine.propose(states, 3, decoding)
    own = model.generation_config
    own.repetition_penalty, own.suppress_tokens, own.no_repeat_ngram_size = 5.0, [40, 41], 1
    model.train()
    assert engine.propose(states, 3, decoding) == expected
    assert model.generation_config is own and model.training and all(m.training for m in model.modules())


def test_any_encoder_decoder_is_decoded(tokenizer, states):
    torch.manual_seed(0)
    bart = BartForConditionalGeneration(
        BartConfig(
            vocab_size=384, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
            decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, max_position_embeddings=128,
            pad_token_id=0, bos_token_id=2, eos_token_id=1, decoder_start_token_id=1, forced_eos_token_id=None,
        )
    )  # fmt: skip
    found = engine_of("transformers", bart, tokenizer).propose(states, 3, Decoding(max_new_tokens=4))
    assert [len(candidates) for candidates in found] == [3] * 5
    assert all(-30 < p < 0 for candidates in found for _, p in candidates)


def test_what_cannot_be_asked_is_refused(tiny_t5, tokenizer):
    with pytest.raises(ConfigError, match="num_candidates is 0"):
        engine_of("transformers", tiny_t5, tokenizer).propose(["p"], 0, Decoding())
    encoder = T5EncoderModel(T5Config(vocab_size=384, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2))
    with pytest.raises(ConfigError, match="no language-modelling head"):
        engine_of("transformers", encoder, tokenizer)


def test_a_model_whose_beams_cannot_be_told_apart_is_sampled_from(tokenizer):
    torch.manual_seed(0)
    sizes = {"vocab_size": 384, "hidden_size": 32, "num_hidden_layers": 2, "attention_hidden_size": 32}
    engine = engine_of("transformers", RwkvForCausalLM(RwkvConfig(**sizes, eos_token_id=1)), tokenizer)
    with pytest.raises(ConfigError, match=r"RwkvForCausalLM cannot use beam search.*take samples as candidates"):
        engine.propose(["⊢ p"], 2, Decoding(max_new_tokens=4))
    assert engine.propose(["⊢ p"], 2, Decoding(max_new_tokens=4, sampling=Sampling()))[0]


def test_padding_stands_on_the_side_that_is_asked_for():
    rows = [torch.tensor([5, 6]), torch.tensor([7])]
    ids, mask = pad(rows, 0, "left")
    assert ids.tolist() == [[5, 6], [0, 7]] and mask.tolist() == [[1, 1], [0, 1]]
    ids, mask = pad(rows, 9)
    assert ids.tolist() == [[5, 6], [7, 9]] and mask.tolist() == [[1, 1], [1, 0]]
