"""What is particular to decoding decoder-only models: special tokens of two settings, and a tree of candidates."""

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from generator.decoding import beam_search, causal_decoder, sample
from generator.decoding.causal_cache import padded
from tests.generator.decoding_fakes import (
    BEAMS,
    EOS,
    MARKS,
    SAMPLES,
    assert_close,
    assert_log_probs_of,
    end_with,
    one_state,
    random_gpt2,
)


@pytest.fixture
def model():
    return random_gpt2()


def test_the_ends_of_config_and_generation_settings_count_together(model, batch):
    model.generation_config.eos_token_id, model.config.eos_token_id = [5, 20], EOS
    found = [beam_search(model, *batch, **BEAMS), sample(model, *batch, **SAMPLES, generator=seeded())]
    end_with(model, [EOS, 5, 20])
    expected = [beam_search(model, *batch, **BEAMS), sample(model, *batch, **SAMPLES, generator=seeded())]
    for one, other in zip(found, expected, strict=True):
        assert_close(one, other, tolerance=0)


def seeded():
    return torch.Generator().manual_seed(0)


def test_a_model_can_be_trained_after_decoding(batch):
    """Rotary tables that change with the length are kept by the model from one call to the next."""
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 100.0}
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    sizes["max_position_embeddings"] = 8
    model = AutoModelForCausalLM.from_config(LlamaConfig(**sizes, **MARKS, rope_parameters=rope))
    beam_search(model, *batch, **BEAMS)
    assert not any(buffer.is_inference() for buffer in model.buffers())
    model(input_ids=batch[0], attention_mask=batch[1], labels=batch[0]).loss.backward()


def test_the_shell_of_adapters_is_taken_off(model, batch):
    class Shell(torch.nn.Module):
        active_peft_config = type("Adapter", (), {"is_prompt_learning": False})

        def get_base_model(self):
            return model

    expected = beam_search(model, *batch, **BEAMS)
    assert_close(beam_search(Shell(), *batch, **BEAMS), expected, tolerance=0)
    Shell.active_peft_config.is_prompt_learning = True
    with pytest.raises(TypeError, match="Shell puts learned tokens before the prompt"):
        beam_search(Shell(), *batch, **BEAMS)


def test_prompts_are_padded_with_no_token_that_could_be_taken_for_padding():
    prompts = [torch.tensor(row) for row in ([5, 6, 7], [8], [9, 4])]
    assert padded(prompts).tolist() == [[5, 6, 7], [8, 8, 8], [9, 4, 4]]


# the tree of candidates


@pytest.fixture
def calls(model):
    """Of each call of the model with a cache: the shape of its ids, the cache, and the nodes that this held then."""
    noted = []

    def note(_, args, options):
        if (cache := options.get("past_key_values")) is not None:
            noted.append((tuple(options["input_ids"].shape), cache, cache.num_nodes))

    hook = model.register_forward_pre_hook(note, with_kwargs=True)
    yield noted
    hook.remove()


def test_a_prompt_is_read_and_kept_once(model, batch, calls):
    beam_search(model, *one_state(batch, 0), num_beams=6, num_return_sequences=6, max_new_tokens=3)
    assert [shape for shape, _, _ in calls] == [(1, 11), (1, 6), (1, 6)]
    cache = calls[0][1]
    assert cache.trees[0].held[0].shape == (1, 3, 11 + 6 * 3, 8)


def test_dead_nodes_are_dropped(model, batch, calls, monkeypatch):
    """Beams share most of their past: of 40 steps of 6 beams far fewer than 240 nodes are ever kept."""
    end_with(model, None)
    long = BEAMS | {"max_new_tokens": 40, "length_penalty": 1.0}
    monkeypatch.setattr(causal_decoder, "STEPS_PER_GROWTH", 1000)
    expected = beam_search(model, *batch, **long)
    assert calls[-1][2] == 6 * 39
    calls.clear()
    monkeypatch.setattr(causal_decoder, "STEPS_PER_GROWTH", 2)
    assert_close(beam_search(model, *batch, **long), expected)
    assert max(num_nodes for _, _, num_nodes in calls) < 180
    assert_log_probs_of(model, batch, expected, tolerance=1e-3)


def test_samples_need_no_more_room_than_their_tokens(model, batch, calls, monkeypatch):
    end_with(model, None)
    monkeypatch.setattr(causal_decoder, "STEPS_PER_GROWTH", 2)
    found = sample(model, *batch, num_samples=3, max_new_tokens=30)
    cache = calls[-1][1]
    assert cache.num_nodes <= 3 * 29 and cache.num_nodes <= cache.capacity <= 3 * 30  # equal beginnings share nodes
    assert_log_probs_of(model, batch, found, tolerance=1e-3)
