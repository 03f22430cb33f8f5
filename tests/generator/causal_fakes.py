"""A tiny decoder-only model, prompts for it, and what its candidates are checked by."""

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config

VOCABULARY, EOS, LENGTHS = 24, 1, (11, 3, 1, 8, 11)
BEAMS = {"num_beams": 6, "num_return_sequences": 4, "max_new_tokens": 14}
SAMPLES = {"num_samples": 7, "max_new_tokens": 12}
MARKS = {"vocab_size": VOCABULARY, "eos_token_id": EOS, "pad_token_id": 0, "bos_token_id": 2}


def random_model(seed=2, vocab_size=VOCABULARY, **overrides):
    """A tiny model with sharp predictions, of which some hypotheses end early and some never."""
    sizes = {"n_embd": 24, "n_layer": 2, "n_head": 3, "n_positions": 128}
    torch.manual_seed(seed)
    config = GPT2Config(**sizes | MARKS | {"vocab_size": vocab_size, "tie_word_embeddings": False} | overrides)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.normal_(std=0.35)
        model.lm_head.weight.mul_(1.5)
        model.lm_head.weight[EOS] *= 1.5
    return model


def ragged_batch():
    """Random prompts, padded on the right: token ids and mask."""
    torch.manual_seed(0)
    attention_mask = (torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS).unsqueeze(1)).long()
    return torch.randint(2, VOCABULARY, attention_mask.shape) * attention_mask, attention_mask


def one_state(batch, state):
    input_ids, attention_mask = batch
    length = int(attention_mask[state].sum())
    return input_ids[state : state + 1, :length], attention_mask[state : state + 1, :length]


def model_log_prob(model, prompt, tokens):
    """The sum of log-probabilities of the tokens up to the model's EOS, by one forward pass of the model."""
    end = model.config.eos_token_id
    tokens = tokens[: tokens.index(end) + 1] if end in tokens else tokens
    text = torch.cat([prompt, torch.tensor([tokens])], 1)
    with torch.no_grad():
        logits = model(text, attention_mask=torch.ones_like(text)).logits[0]
    log_probs = logits[prompt.shape[1] - 1 : -1].log_softmax(-1)
    return float(log_probs.gather(1, torch.tensor(tokens).unsqueeze(1)).sum())


def assert_log_probs_of(model, batch, found, tolerance=1e-4):
    for state in range(len(found.sequences)):
        prompt, _ = one_state(batch, state)
        for tokens, log_prob in zip(found.sequences[state].tolist(), found.log_probs[state], strict=True):
            assert model_log_prob(model, prompt, tokens) == pytest.approx(float(log_prob), abs=tolerance)


def assert_close(found, expected, tolerance=1e-4):
    assert torch.equal(found.sequences, expected.sequences)
    torch.testing.assert_close(found.log_probs, expected.log_probs, atol=tolerance, rtol=1e-5)


def assert_same_alone(together, alone, state):
    length = alone.sequences.shape[-1]
    assert torch.equal(alone.sequences[0], together.sequences[state, :, :length])
    torch.testing.assert_close(alone.log_probs[0], together.log_probs[state], atol=1e-4, rtol=1e-5)
