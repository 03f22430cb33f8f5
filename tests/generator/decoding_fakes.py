"""Tiny models that decode, prompts for them, and what their candidates are checked by."""

from contextlib import contextmanager

import pytest
import torch
from transformers import (
    CONFIG_MAPPING,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    GPT2Config,
    T5Config,
    T5ForConditionalGeneration,
)

from common import ByteTokenizer
from generator.decoding import ragged
from generator.engines import Decoding

VOCABULARY, EOS, LENGTHS = 24, 1, (11, 3, 1, 8, 11)
BEAMS = {"num_beams": 6, "num_return_sequences": 4, "max_new_tokens": 14}
SAMPLES = {"num_samples": 7, "max_new_tokens": 12}
SEARCHES = [  # candidates for an input, and how an engine finds them
    (1, Decoding(max_new_tokens=8)),
    (5, Decoding(max_new_tokens=8)),
    (3, Decoding(max_new_tokens=12, num_beams=6)),
    (4, Decoding(max_new_tokens=8, length_penalty=0.7)),
    (400, Decoding(max_new_tokens=1)),
    (30, Decoding(max_new_tokens=2)),
]
MARKS = {"vocab_size": VOCABULARY, "eos_token_id": EOS, "pad_token_id": 0, "bos_token_id": 2}
T5_SIZES = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 3, "num_decoder_layers": 2, "num_heads": 3}
T5_SIZES |= {"relative_attention_num_buckets": 8, "relative_attention_max_distance": 10}
T5_SIZES |= {"feed_forward_proj": "gated-gelu", "decoder_start_token_id": 0, "vocab_size": VOCABULARY}
ROTARY = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4}
GROUPED = ROTARY | {"num_key_value_heads": 2}
ENCODER_DECODERS = {"t5": T5_SIZES, "mt5": T5_SIZES, "umt5": T5_SIZES}
DECODERS = {
    "gpt2": {"n_embd": 24, "n_layer": 2, "n_head": 3, "n_positions": 64},
    "gpt_neox": ROTARY,
    "llama": GROUPED,
    "mistral": GROUPED | {"sliding_window": None},
    "qwen2": GROUPED,
    "opt": {"hidden_size": 24, "word_embed_proj_dim": 24, "ffn_dim": 40, "num_hidden_layers": 2}
    | {"num_attention_heads": 3, "max_position_embeddings": 64},
}


# models


def randomize(model, *, biases=False, head_factor=1.0, eos_factor=1.0):
    """Make the next token depend clearly on what was read, the position, and what was written; return the model.

    Args:
        model: any with a language-modelling head
        biases: draw biases too; they stay as they are otherwise
        head_factor: scales the head, for sharper predictions
        eos_factor: scales EOS's row of the head on top, for more or fewer candidates that end
    """
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            is_norm = "norm" in name or "ln_" in name
            if not is_norm and (biases or parameter.ndim == 2):
                parameter.normal_(std=1.0 if "relative" in name else 0.35)
        head = model.get_output_embeddings().weight
        head.mul_(head_factor)
        head[EOS] *= eos_factor
    return model.eval()


def random_t5(seed=2, **overrides):
    """An encoder-decoder with sharp predictions, of which some hypotheses end early and some never."""
    sizes = {"vocab_size": VOCABULARY, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 3}
    sizes |= {"feed_forward_proj": "gated-gelu", "decoder_start_token_id": 0, "dropout_rate": 0.3}
    torch.manual_seed(seed)
    return randomize(T5ForConditionalGeneration(T5Config(**sizes | overrides)), head_factor=4.0, eos_factor=1.5)


def random_gpt2(seed=2, vocab_size=VOCABULARY, **overrides):
    """The same, decoder-only."""
    sizes = {"n_embd": 24, "n_layer": 2, "n_head": 3, "n_positions": 128}
    torch.manual_seed(seed)
    config = GPT2Config(**sizes | MARKS | {"vocab_size": vocab_size, "tie_word_embeddings": False} | overrides)
    return randomize(AutoModelForCausalLM.from_config(config), head_factor=1.5, eos_factor=1.5)


def random_model(model_type, seed=0, eos_bonus=0.0, **overrides):
    """A tiny model of transformers' `model_type`, one of ENCODER_DECODERS and DECODERS.

    Its next token depends clearly on the input, the position and what was written.
    """
    torch.manual_seed(seed)
    if model_type in ENCODER_DECODERS:
        config = CONFIG_MAPPING[model_type](**ENCODER_DECODERS[model_type] | overrides)
        model = AutoModelForSeq2SeqLM.from_config(config)
        # the logits of a tied T5 are scaled down by sqrt(d_model)
        return randomize(model, head_factor=1.0 if model_type == "mt5" else 5.0, eos_factor=1.0 + eos_bonus)
    attention = overrides.pop("attn_implementation", "sdpa")
    config = CONFIG_MAPPING[model_type](**DECODERS[model_type] | MARKS | overrides, tie_word_embeddings=False)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    return randomize(model, head_factor=1.5, eos_factor=1.0 + eos_bonus)


MODELS = {"encoder-decoder": random_t5, "decoder-only": random_gpt2}


def end_with(model, ends):
    """Let candidates end with these tokens, or with none, whichever of its settings a model is asked by."""
    model.config.eos_token_id = model.generation_config.eos_token_id = ends


def make_reading_nan(model, token):
    """Let the logits of a state that holds a token be NaN, and of no other."""
    with torch.no_grad():
        if model.config.is_encoder_decoder:  # what is written has embeddings of its own
            model.decoder.embed_tokens = torch.nn.Embedding(*model.shared.weight.shape)
        head = model.get_output_embeddings()
        head.weight = torch.nn.Parameter(torch.randn_like(head.weight))
        model.get_input_embeddings().weight[token] = torch.nan


class IdTokenizer(ByteTokenizer):
    """Writes ids as numbers, special ones too, so that a candidate's text says which tokens it is made of."""

    def decode(self, token_ids, skip_special_tokens=False):
        return " ".join(map(str, token_ids))

    def batch_decode(self, sequences, skip_special_tokens=False):
        return [self.decode(row) for row in sequences]


class Letters:
    """A tokenizer whose tokens are pieces of several letters, so that a stop text is written in many ways."""

    pieces = ["<pad>", "</s>", "a", "b", "[", "/", "]", "[/", "/]", "b]", "[/]", " ", "", *"cdefghijklm"]

    def decode(self, token_ids, skip_special_tokens):
        text = "".join(self.pieces[token] for token in token_ids)
        return text.replace("</s>", "").replace("<pad>", "") if skip_special_tokens else text


# prompts


def ragged_batch(lengths=LENGTHS):
    """Random prompts of the given numbers of tokens, padded on the right: token ids and mask."""
    torch.manual_seed(0)
    attention_mask = (torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)).long()
    return torch.randint(2, VOCABULARY, attention_mask.shape) * attention_mask, attention_mask


def one_state(batch, state):
    """A prompt of a batch, without padding: token ids and mask."""
    input_ids, attention_mask = batch
    length = int(attention_mask[state].sum())
    return input_ids[state : state + 1, :length], attention_mask[state : state + 1, :length]


def states_of(batch):
    """The token ids of each prompt of a batch, without padding."""
    input_ids, attention_mask = batch
    return [ids[mask.bool()] for ids, mask in zip(input_ids, attention_mask, strict=True)]


# checks


@contextmanager
def watched_steps(decoder_class):
    """Notes the shape, (states, rows), of what each step of a decoder is fed."""
    shapes, step = [], decoder_class.step

    def noted(decoder, tokens):
        shapes.append(tuple(tokens.shape))
        return step(decoder, tokens)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoder_class, "step", noted)
        yield shapes


def model_log_prob(model, prompt, tokens):
    """The sum of log-probabilities of the tokens up to the model's EOS, by one forward pass of the model."""
    end = model.config.eos_token_id
    tokens = tokens[: tokens.index(end) + 1] if end in tokens else tokens
    with torch.no_grad():
        if model.config.is_encoder_decoder:
            logits = model(input_ids=prompt, decoder_input_ids=torch.tensor([[0, *tokens[:-1]]])).logits[0]
        else:
            text = torch.cat([prompt, torch.tensor([tokens])], 1)
            logits = model(text, attention_mask=torch.ones_like(text)).logits[0, prompt.shape[1] - 1 : -1]
    return float(logits.log_softmax(-1).gather(1, torch.tensor(tokens).unsqueeze(1)).sum())


def assert_log_probs_of(model, batch, found, tolerance=1e-4):
    """Every candidate of a batch has the log-probability of one forward pass."""
    for state in range(len(batch[0])):
        prompt, _ = one_state(batch, state)
        for tokens, log_prob in zip(found.sequences[state].tolist(), found.log_probs[state], strict=True):
            assert model_log_prob(model, prompt, tokens) == pytest.approx(float(log_prob), abs=tolerance)


def assert_close(found, expected, tolerance=1e-4):
    """Two searches of a batch found the same sequences."""
    assert torch.equal(found.sequences, expected.sequences)
    torch.testing.assert_close(found.log_probs, expected.log_probs, atol=tolerance, rtol=1e-5)


def assert_same_alone(together, alone, state):
    """What a state found alone is what it found in a batch."""
    length = alone.sequences.shape[-1]
    assert torch.equal(alone.sequences[0], together.sequences[state, :, :length])
    torch.testing.assert_close(alone.log_probs[0], together.log_probs[state], atol=1e-4, rtol=1e-5)


def assert_same_candidates(found, expected, tolerance=1e-3):
    """Lists of (text, log-probability), one for each input, have the same texts in the same order."""
    assert [[text for text, _ in one] for one in found] == [[text for text, _ in one] for one in expected]
    for one, other in zip(found, expected, strict=True):
        assert [p for _, p in one] == pytest.approx([p for _, p in other], abs=tolerance)


def noted_sizes(monkeypatch):
    """How many states each call decodes at once, from now on."""
    sizes, find = [], ragged._find

    def noted(model, some, *rest):
        sizes.append(len(some))
        return find(model, some, *rest)

    monkeypatch.setattr(ragged, "_find", noted)
    return sizes
