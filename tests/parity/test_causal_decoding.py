"""Decoder-only beam search finds what `transformers.generate` finds: the same sequences, the same scores."""

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from generator import causal_decoder
from generator.causal_decoding import beam_search

EOS, VOCABULARY, LENGTHS = 1, 24, (11, 3, 1, 8)
ROTARY = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4}
GROUPED = ROTARY | {"num_key_value_heads": 2}
FAMILIES = {
    "gpt2": {"n_embd": 24, "n_layer": 2, "n_head": 3, "n_positions": 64},
    "gpt_neox": ROTARY,
    "llama": GROUPED,
    "mistral": GROUPED | {"sliding_window": None},
    "qwen2": GROUPED,
    "opt": {"hidden_size": 24, "word_embed_proj_dim": 24, "ffn_dim": 40, "num_hidden_layers": 2}
    | {"num_attention_heads": 3, "max_position_embeddings": 64},
}
WINDOW = 6
SLIDING = {
    "mistral": GROUPED | {"sliding_window": WINDOW},
    "qwen2": GROUPED | {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1},
}


def random_model(family="gpt2", seed=0, eos_bonus=0.0, **overrides):
    """A tiny model whose next token depends clearly on the prompt, the position and what was written."""
    sizes = FAMILIES[family] | {"vocab_size": VOCABULARY, "eos_token_id": EOS, "pad_token_id": 0, "bos_token_id": 2}
    torch.manual_seed(seed)
    attention = overrides.pop("attn_implementation", "sdpa")
    config = CONFIG_MAPPING[family](**sizes | overrides, tie_word_embeddings=False)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.normal_(std=0.35)
        head = model.get_output_embeddings().weight
        head.mul_(1.5)
        head[EOS] *= 1.0 + eos_bonus
    return model


def ragged_batch(seed=0):
    torch.manual_seed(seed)
    attention_mask = (torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS).unsqueeze(1)).long()
    return torch.randint(2, VOCABULARY, attention_mask.shape) * attention_mask, attention_mask


def until_end(tokens):
    """Tokens up to the first EOS."""
    tokens = tokens.tolist()
    return tokens[: tokens.index(EOS) + 1] if EOS in tokens else tokens


def reference(model, batch, length_penalty, **settings):
    """For each prompt the (new tokens, score) pairs of transformers.generate that exist, best first."""
    if settings["num_beams"] > 1:
        settings |= {"length_penalty": length_penalty, "early_stopping": False}
    output = model.generate(
        **left_padded(*batch),
        do_sample=False,
        return_dict_in_generate=True,
        output_scores=True,
        **settings,
    )
    sequences = output.sequences[:, max(LENGTHS) :].unflatten(0, (len(LENGTHS), -1))
    if settings["num_beams"] == 1:  # greedy search has no sequences_scores
        steps = model.compute_transition_scores(output.sequences, output.scores, normalize_logits=True)
        lengths = [len(until_end(row)) for row in sequences[:, 0]]
        scores = torch.stack(
            [row[:n].sum() / n**length_penalty for row, n in zip(steps, lengths, strict=True)]
        ).unsqueeze(1)
    else:
        scores = output.sequences_scores.view(len(LENGTHS), -1)
    return [
        [(until_end(row), float(score)) for row, score in zip(*state, strict=True) if score > -1e8]
        for state in zip(sequences, scores, strict=True)
    ]


def left_padded(input_ids, attention_mask):
    """The prompts as `generate` takes them."""
    rolled = [ids.roll(len(ids) - n) for ids, n in zip(input_ids, attention_mask.sum(1).tolist(), strict=True)]
    return {"input_ids": torch.stack(rolled), "attention_mask": attention_mask.flip(1)}


def assert_parity(model, length_penalty=0.0, **settings):
    """Equal scores rank by rank, and equal sequences but for the order of ties."""
    batch = ragged_batch()
    found = beam_search(model, *batch, length_penalty=length_penalty, **settings)
    expected = reference(model, batch, length_penalty, **settings)
    for sequences, log_probs, candidates in zip(found.sequences, found.log_probs, expected, strict=True):
        mine = []
        for tokens, log_prob in zip(sequences, log_probs, strict=True):
            if log_prob > -torch.inf:
                written = until_end(tokens)
                mine.append((written, float(log_prob) / len(written) ** length_penalty))
        assert [score for _, score in mine] == pytest.approx([s for _, s in candidates], rel=1e-5, abs=1e-4)
        for (written, score), (wanted, _) in zip(mine, candidates, strict=True):
            wanted = wanted[: settings["max_new_tokens"]]
            assert written == wanted or written in [tokens for tokens, s in candidates if abs(s - score) < 1e-4]
    return found


GRID = [(1, 1, 9, 0.0), (4, 4, 12, 1.0), (5, 2, 16, 0.0), (12, 7, 1, 0.0), (6, 6, 20, 1.0)]


@pytest.mark.parametrize("length_penalty", [0.0, 1.5, -0.7])
@pytest.mark.parametrize(("num_beams", "num_return_sequences", "max_new_tokens", "eos_bonus"), GRID)
def test_grid_of_settings(num_beams, num_return_sequences, max_new_tokens, eos_bonus, length_penalty):
    assert_parity(
        random_model(seed=num_beams, eos_bonus=eos_bonus),
        length_penalty,
        num_beams=num_beams,
        num_return_sequences=num_return_sequences,
        max_new_tokens=max_new_tokens,
    )


@pytest.mark.parametrize("attn_implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("family", FAMILIES)
def test_family(family, attn_implementation):
    model = random_model(family, seed=3, attn_implementation=attn_implementation)
    found = assert_parity(model, num_beams=6, num_return_sequences=6, max_new_tokens=10)
    assert (found.log_probs[:, 0] - found.log_probs[:, 1] > 1e-3).any()


@pytest.mark.parametrize("family", SLIDING)
def test_layers_that_see_a_window_only(family, monkeypatch):
    monkeypatch.setattr(causal_decoder, "STEPS_PER_GROWTH", 1)  # nodes are dropped, places have to follow
    model = random_model(family, seed=4, **SLIDING[family])
    found = assert_parity(model, num_beams=5, num_return_sequences=5, max_new_tokens=10)
    everything = random_model(family, seed=4)
    other = beam_search(everything, *ragged_batch(), num_beams=5, num_return_sequences=5, max_new_tokens=10)
    assert not torch.equal(found.log_probs, other.log_probs)


def test_one_candidate_of_a_wide_search_for_long_outputs():
    """Where scores can rise, transformers stops by the worst of `num_beams` hypotheses, not of those returned."""
    model = random_model(seed=6, eos_bonus=1.0)
    assert_parity(model, length_penalty=1.5, num_beams=6, num_return_sequences=1, max_new_tokens=16)


def test_more_beams_than_first_tokens():
    found = assert_parity(random_model(), num_beams=40, num_return_sequences=40, max_new_tokens=3)
    assert found.log_probs.isfinite().all()
