"""The native engine: candidates of the live model, per input, in order."""

import copy

import pytest
import torch
from transformers import BartConfig, BartForConditionalGeneration, T5Config, T5EncoderModel

from common import ConfigError
from generator.decoding import beam_search
from generator.engines import Decoding, Sampling, make_engine
from tests.generator.decoding_fakes import assert_same_candidates


def native(model, tokenizer, **options):
    return make_engine("native", model, tokenizer, **{"max_inp_seq_len": 128, **options})


def test_candidates_are_those_of_beam_search_with_marks_and_duplicates(tiny_t5, tokenizer):
    batch = tokenizer(["⊢ True"], return_tensors="pt")
    found = beam_search(
        tiny_t5, batch["input_ids"], batch["attention_mask"], num_beams=6, num_return_sequences=4, max_new_tokens=9
    )
    (candidates,) = native(tiny_t5, tokenizer).propose(["⊢ True"], 4, Decoding(num_beams=6, max_new_tokens=9))
    assert [p for _, p in candidates] == found.log_probs[0].tolist()
    assert [t for t, _ in candidates] == tokenizer.batch_decode(found.sequences[0], skip_special_tokens=True)
    assert len({t for t, _ in candidates}) < 4, "bytes that are no UTF-8 are left out, so texts repeat"


def test_a_mixed_batch_is_answered_in_order_as_one_at_a_time(model, tokenizer, states):
    engine, decoding = native(model, tokenizer), Decoding(max_new_tokens=8)
    together = engine.propose(states, 3, decoding)
    assert_same_candidates(together, [engine.propose([state], 3, decoding)[0] for state in states])
    assert all(len(candidates) == 3 for candidates in together)
    assert all([p for _, p in c] == sorted((p for _, p in c), reverse=True) for c in together)
    assert engine.propose([], 3, decoding) == []


def test_samples_follow_from_seed_and_text_alone_and_come_best_first(model, tokenizer, states):
    engine = native(model, tokenizer)
    decoding = Decoding(max_new_tokens=8, sampling=Sampling(temperature=1.5, top_p=0.9, seed=3))
    together = engine.propose(states, 4, decoding)
    assert_same_candidates(together, [engine.propose([state], 4, decoding)[0] for state in states])
    assert all([p for _, p in c] == sorted((p for _, p in c), reverse=True) for c in together)
    assert together[1] == together[4], "the same state"
    other = engine.propose(states, 4, Decoding(8, sampling=Sampling(temperature=1.5, top_p=0.9, seed=4)))
    assert other != together


def test_the_text_enters_the_seed(model, tokenizer):
    uniform = copy.deepcopy(model)  # says the same of every input
    for parameter in uniform.parameters():
        torch.nn.init.zeros_(parameter)
    decoding = Decoding(max_new_tokens=8, sampling=Sampling(seed=3))
    first, second, again = native(uniform, tokenizer).propose(["p", "q", "p"], 4, decoding)
    assert first != second and first == again


def test_sampling_leaves_the_global_random_state_alone(model, tokenizer):
    before = torch.get_rng_state()
    native(model, tokenizer).propose(["p"], 2, Decoding(max_new_tokens=4, sampling=Sampling()))
    assert torch.equal(before, torch.get_rng_state())


def test_the_live_weights_answer_and_dropout_is_off(tiny_t5, tokenizer):
    engine, decoding = native(tiny_t5.train(), tokenizer), Decoding(max_new_tokens=6)
    first = engine.propose(["p"], 3, decoding)
    assert engine.propose(["p"], 3, decoding) == first and tiny_t5.training
    with torch.no_grad():
        tiny_t5.lm_head.weight[10] += 3.0
    assert engine.propose(["p"], 3, decoding) != first


def test_an_overlong_input_is_cut(tiny_t5, tokenizer):
    engine, decoding = native(tiny_t5, tokenizer, max_inp_seq_len=8), Decoding(max_new_tokens=6)
    assert_same_candidates(engine.propose(["abcdefghijkl"], 2, decoding), engine.propose(["abcdefg"], 2, decoding))


def test_more_beams_than_sequences_give_as_many_as_exist(model, tokenizer):
    (candidates,) = native(model, tokenizer).propose(["⊢ p"], 1000, Decoding(max_new_tokens=1))
    assert len(candidates) == 384
    assert sum(torch.tensor([p for _, p in candidates]).exp()) == pytest.approx(1.0, abs=1e-3)


def test_a_stop_string_ends_a_candidate(tiny_gpt2, tokenizer):
    engine, decoding = native(tiny_gpt2, tokenizer), Decoding(num_beams=3, max_new_tokens=12)
    whole = engine.propose(["⊢ p"], 3, decoding)[0][0][0]
    stop = whole[1]
    cut = engine.propose(["⊢ p"], 3, Decoding(num_beams=3, max_new_tokens=12, stop=(stop,)))[0]
    assert all(stop not in text[:-1] for text, _ in cut)
    assert whole[: whole.index(stop) + 1] in [text for text, _ in cut]


def test_nan_logits_name_the_state(model, tokenizer):
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    with torch.no_grad():
        model.get_input_embeddings().weight[ord("Z") + 3] = float("nan")
    engine = native(model, tokenizer)
    assert engine.propose(["⊢ p"], 2, Decoding(max_new_tokens=2))
    with pytest.raises(FloatingPointError, match="input 'ZZ2': logits are NaN at step 1"):
        engine.propose(["⊢1", "⊢2", "ZZ2", "⊢4"], 2, Decoding(max_new_tokens=2))


def test_what_cannot_be_asked_is_refused(tiny_t5, tokenizer):
    engine = native(tiny_t5, tokenizer)
    for number in (0, -1):
        with pytest.raises(ConfigError, match=f"num_candidates is {number}"):
            engine.propose(["p"], number, Decoding())
    with pytest.raises(ConfigError, match="num_beams is 2 but 3"):
        engine.propose(["p"], 3, Decoding(num_beams=2))
    with pytest.raises(ConfigError, match="stop is for decoder-only"):
        engine.propose(["p"], 3, Decoding(stop=(";",)))


def test_models_of_other_kinds_are_sent_to_the_transformers_engine(tokenizer):
    sizes = {"vocab_size": 384, "d_model": 16, "encoder_layers": 1, "decoder_layers": 1}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    bart = BartForConditionalGeneration(BartConfig(**sizes, **heads))
    encoder = T5EncoderModel(T5Config(vocab_size=384, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2))
    for model in (bart, encoder):
        with pytest.raises(ConfigError, match="engine 'native' cannot decode.*'transformers'"):
            native(model, tokenizer)
