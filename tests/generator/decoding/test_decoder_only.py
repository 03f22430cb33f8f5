"""Decoder-only decoding: what holds whatever the batch, the mode or the type; sampling; what is refused."""

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    GPT2Config,
    GPT2Model,
    GPTNeoConfig,
    LlamaConfig,
    MambaConfig,
    T5Config,
    T5ForConditionalGeneration,
)

from common import DataError
from generator.decoding import causal_decoder
from generator.decoding.causal_cache import TreeCache, padded, similar_lengths
from generator.decoding.decoder_only import beam_search, sample
from generator.decoding.protocol import NaNLogitsError
from tests.generator.decoding_fakes import (
    BEAMS,
    EOS,
    LENGTHS,
    MARKS,
    SAMPLES,
    assert_close,
    assert_log_probs_of,
    assert_same_alone,
    model_log_prob,
    one_state,
    random_gpt2,
)


@pytest.fixture
def model():
    return random_gpt2()


# what a candidate is


def test_every_end_token_ends(model, batch):
    """A model names its ends in the config, the generation settings, or both."""
    model.generation_config.eos_token_id, model.config.eos_token_id = [5, 20], EOS
    for found in (beam_search(model, *batch, **BEAMS), sample(model, *batch, **SAMPLES)):
        rows = [tokens for state in found.sequences.tolist() for tokens in state]
        ends = [[place for place, token in enumerate(tokens) if token in (EOS, 5, 20)] for tokens in rows]
        assert {tokens[places[0]] for tokens, places in zip(rows, ends, strict=True) if places} == {EOS, 5, 20}
        assert all(len(places) <= 1 for places in ends)


def test_an_empty_prompt_starts_from_bos(model, batch):
    input_ids, attention_mask = batch
    emptied = beam_search(model, input_ids, attention_mask * torch.tensor([[1], [1], [0], [1], [1]]), **BEAMS)
    bos = torch.tensor([[2]])
    assert_same_alone(emptied, beam_search(model, bos, torch.ones_like(bos), **BEAMS), 2)


# what must not matter


def test_side_of_the_padding(model, batch):
    expected = beam_search(model, *batch, **BEAMS)
    input_ids, attention_mask = batch
    rolled = torch.stack([ids.roll(len(ids) - n) for ids, n in zip(input_ids, LENGTHS, strict=True)])
    assert_close(beam_search(model, rolled, attention_mask.flip(1), **BEAMS), expected, tolerance=0)


@pytest.mark.parametrize(("max_tokens", "min_share"), [(1, 0.0), (25, 0.2), (1000, 0.0)])
def test_grouping_of_prompts(model, batch, monkeypatch, max_tokens, min_share):
    expected = beam_search(model, *batch, **BEAMS)
    monkeypatch.setitem(causal_decoder.MAX_READ_TOKENS, "cpu", max_tokens)
    monkeypatch.setitem(causal_decoder.MIN_LENGTH_SHARE, "cpu", min_share)
    assert_close(beam_search(model, *batch, **BEAMS), expected)


def test_groups_hold_similar_lengths():
    assert similar_lengths([3, 10, 9, 4, 10], max_tokens=30, min_share=0.7) == [[1, 4, 2], [3, 0]]
    assert similar_lengths([3, 10, 9], max_tokens=5, min_share=0.0) == [[1], [2], [0]]


def test_training_mode_changes_nothing_and_is_not_changed(model, batch):
    expected = beam_search(model, *batch, **BEAMS)
    model.train()
    model.transformer.h[0].eval()
    assert_close(beam_search(model, *batch, **BEAMS), expected, tolerance=0)
    frozen = set(model.transformer.h[0].modules())
    assert all(module.training == (module not in frozen) for module in model.modules())


def test_bfloat16_weights_and_autocast(model, batch):
    with torch.no_grad():  # soft predictions, which one rounding does not overturn
        model.lm_head.weight.mul_(0.3)
    best = {"num_beams": 4, "num_return_sequences": 1, "max_new_tokens": 3}
    expected = beam_search(model, *batch, **best).log_probs
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = beam_search(model, *batch, **best).log_probs
    half = beam_search(model.bfloat16(), *batch, **best).log_probs
    for found in (mixed, half):
        assert not torch.equal(found, expected)
        torch.testing.assert_close(found, expected, atol=0.1, rtol=0.02)


def test_a_model_can_be_trained_after_decoding(batch):
    """Rotary tables that change with the length are kept by the model from one call to the next."""
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 100.0}
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    sizes["max_position_embeddings"] = 8
    model = AutoModelForCausalLM.from_config(LlamaConfig(**sizes, **MARKS, rope_parameters=rope))
    beam_search(model, *batch, **BEAMS)
    assert not any(buffer.is_inference() for buffer in model.buffers())
    model(input_ids=batch[0], attention_mask=batch[1], labels=batch[0]).loss.backward()


def test_shells_of_compile_and_adapters_are_taken_off(model, batch):
    class Shell(torch.nn.Module):
        active_peft_config = type("Adapter", (), {"is_prompt_learning": False})

        def get_base_model(self):
            return model

    expected = beam_search(model, *batch, **BEAMS)
    assert_close(beam_search(Shell(), *batch, **BEAMS), expected, tolerance=0)
    Shell.active_peft_config.is_prompt_learning = True
    with pytest.raises(TypeError, match="Shell puts learned tokens before the prompt"):
        beam_search(Shell(), *batch, **BEAMS)


# the tree of candidates


@pytest.fixture
def caches(monkeypatch):
    """The caches that were made, with the shapes that each forward pass left."""
    made = []
    init, write = TreeCache.__init__, TreeCache.write
    monkeypatch.setattr(TreeCache, "__init__", lambda self, *args: (made.append(self), init(self, *args))[1])
    monkeypatch.setattr(
        TreeCache,
        "write",
        lambda self, new: (write(self, new), self.__dict__.setdefault("log", []).append(self.length))[0],
    )
    return made


def test_a_prompt_is_read_and_kept_once(model, batch, caches):
    state = one_state(batch, 0)
    shapes = []
    hook = model.register_forward_pre_hook(
        lambda _, args, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    beam_search(model, *state, num_beams=6, num_return_sequences=6, max_new_tokens=3)
    hook.remove()
    assert shapes == [(1, 11), (1, 6), (1, 6)]
    assert caches[0].trees[0].held[0].shape == (1, 3, 11 + 6 * 3, 8)


def test_dead_nodes_are_dropped(model, batch, caches, monkeypatch):
    """Beams share most of their past: of 40 steps of 6 beams far fewer than 240 nodes are ever kept."""
    model.generation_config.eos_token_id = model.config.eos_token_id = None
    long = BEAMS | {"max_new_tokens": 40, "length_penalty": 1.0}
    monkeypatch.setattr(causal_decoder, "STEPS_PER_GROWTH", 1000)
    expected = beam_search(model, *batch, **long)
    assert caches[0].num_nodes == 6 * 39
    monkeypatch.setattr(causal_decoder, "STEPS_PER_GROWTH", 2)
    assert_close(beam_search(model, *batch, **long), expected)
    assert max(caches[1].log) < 11 + 180
    assert_log_probs_of(model, batch, expected, tolerance=1e-3)


def test_samples_outgrow_the_first_buffer(model, batch, caches, monkeypatch):
    model.generation_config.eos_token_id = model.config.eos_token_id = None
    monkeypatch.setattr(causal_decoder, "STEPS_PER_GROWTH", 2)
    found = sample(model, *batch, num_samples=3, max_new_tokens=30)
    assert caches[0].num_nodes == 3 * 29 <= caches[0].capacity <= 3 * 30
    assert_log_probs_of(model, batch, found, tolerance=1e-3)


# sampling


@pytest.mark.parametrize("temperature", [1.0, 1.5])
def test_samples_carry_the_log_prob_of_the_model(model, batch, temperature):
    found = sample(model, *batch, **SAMPLES, temperature=temperature, generator=torch.Generator().manual_seed(0))
    assert_log_probs_of(model, batch, found)


def test_samples_follow_the_distribution():
    """Two tokens of a five-token vocabulary against the exact probability of each of their pairs."""
    model = random_gpt2(vocab_size=5)
    model.generation_config.eos_token_id = model.config.eos_token_id = None
    with torch.no_grad():
        model.lm_head.weight.mul_(0.5)
    prompt = torch.tensor([[3, 4, 2]])
    found = sample(
        model,
        prompt,
        torch.ones_like(prompt),
        num_samples=4000,
        max_new_tokens=2,
        generator=torch.Generator().manual_seed(0),
    )
    pairs = found.sequences[0, :, 0] * 5 + found.sequences[0, :, 1]
    exact = torch.tensor([model_log_prob(model, prompt, [i, j]) for i in range(5) for j in range(5)]).exp()
    assert exact.sum() == pytest.approx(1.0, abs=1e-4) and (exact > 0.02).sum() > 5
    torch.testing.assert_close(pairs.bincount(minlength=25) / 4000, exact, atol=0.03, rtol=0)


# refusals


def test_models_of_other_kinds(batch):
    t5 = T5ForConditionalGeneration(T5Config(vocab_size=8, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2))
    with pytest.raises(TypeError, match="T5ForConditionalGeneration is an encoder-decoder.*generator.decoding"):
        beam_search(t5, *batch, **BEAMS)
    with pytest.raises(TypeError, match="GPT2Model has no language-modelling head"):
        beam_search(GPT2Model(GPT2Config(**MARKS, n_embd=8, n_layer=1, n_head=1)), *batch, **BEAMS)
    with pytest.raises(TypeError, match="Linear has no language-modelling head"):
        sample(torch.nn.Linear(1, 1), *batch, **SAMPLES)


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
def test_models_whose_candidates_cannot_share_a_prompt(batch, config, reason):
    with pytest.raises(TypeError, match=f"{reason}.*use the transformers engine"):
        beam_search(AutoModelForCausalLM.from_config(config), *batch, **BEAMS)


def test_attention_without_masks(model, batch):
    model.config._attn_implementation = "flash_attention_2"
    with pytest.raises(TypeError, match="'flash_attention_2', which takes no mask for each query.*'sdpa'"):
        beam_search(model, *batch, **BEAMS)


@pytest.mark.parametrize("decode", [beam_search, sample])
def test_nan_logits_name_the_state(model, batch, decode):
    settings = BEAMS if decode is beam_search else SAMPLES
    input_ids = batch[0].clone()
    input_ids[input_ids == 5] = 6
    input_ids[3, 2] = 5
    with torch.no_grad():
        model.transformer.wte.weight[5] = torch.nan
    with pytest.raises(NaNLogitsError, match="NaN at step 1 for state 3 of the batch: check the weights"):
        decode(model, input_ids, batch[1], **settings)


def test_a_prompt_without_tokens(model, batch):
    model.config.bos_token_id = model.generation_config.bos_token_id = None
    input_ids, attention_mask = batch
    with pytest.raises(DataError, match="state 2 of the batch has no token and the model no BOS"):
        beam_search(model, input_ids, attention_mask * torch.tensor([[1], [1], [0], [1], [1]]), **BEAMS)
    with pytest.raises(DataError, match="attention_mask"):
        beam_search(model, input_ids, attention_mask[:, :-1], **BEAMS)


def test_a_prompt_beyond_the_context(model, batch):
    beam_search(random_gpt2(n_positions=24), *batch, **BEAMS)
    with pytest.raises(DataError, match="state 0 of the batch has 11 tokens and max_new_tokens is 14.*context is 23"):
        beam_search(random_gpt2(n_positions=23), *batch, **BEAMS)


def test_prompts_are_padded_with_no_token_that_could_be_taken_for_padding():
    prompts = [torch.tensor(row) for row in ([5, 6, 7], [8], [9, 4])]
    assert padded(prompts).tolist() == [[5, 6, 7], [8, 8, 8], [9, 4, 4]]
