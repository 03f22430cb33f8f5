"""What `transformers.generate` finds, and whether a search found the same."""

import pytest
import torch

from generator.decoding import beam_search
from tests.generator.decoding_fakes import EOS, ragged_batch

LENGTHS = (11, 3, 1, 8)


def until_end(tokens):
    """Tokens up to the first EOS."""
    tokens = tokens.tolist()
    return tokens[: tokens.index(EOS) + 1] if EOS in tokens else tokens


def left_padded(input_ids, attention_mask):
    """Prompts as `generate` takes them for decoder-only models."""
    rolled = [ids.roll(len(ids) - n) for ids, n in zip(input_ids, attention_mask.sum(1).tolist(), strict=True)]
    return torch.stack(rolled), attention_mask.flip(1)


def reference(model, batch, length_penalty, **settings):
    """For each input the (new tokens, score) pairs of `generate` that exist, best first."""
    is_encoder_decoder = model.config.is_encoder_decoder
    input_ids, attention_mask = batch if is_encoder_decoder else left_padded(*batch)
    if settings["num_beams"] > 1:
        settings |= {"length_penalty": length_penalty, "early_stopping": False}
    output = model.generate(
        input_ids=input_ids,
        attention_mask=attention_mask,
        do_sample=False,
        return_dict_in_generate=True,
        output_scores=True,
        **settings,
    )
    num_given = 1 if is_encoder_decoder else input_ids.shape[1]
    sequences = output.sequences[:, num_given:].unflatten(0, (len(input_ids), -1))
    if settings["num_beams"] == 1:  # greedy search has no sequences_scores
        steps = model.compute_transition_scores(output.sequences, output.scores, normalize_logits=True)
        lengths = [len(until_end(row)) for row in sequences[:, 0]]
        scores = torch.stack(
            [row[:n].sum() / n**length_penalty for row, n in zip(steps, lengths, strict=True)]
        ).unsqueeze(1)
    else:
        scores = output.sequences_scores.view(len(input_ids), -1)
    return [
        [(until_end(row), float(score)) for row, score in zip(*state, strict=True) if score > -1e8]
        for state in zip(sequences, scores, strict=True)
    ]


def assert_parity(model, length_penalty=0.0, **settings):
    """Equal scores rank by rank, and equal sequences but for the order of ties; returns both sides' candidates."""
    batch = ragged_batch(LENGTHS)
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
            tied = [tokens for tokens, other in candidates if abs(other - score) < 1e-4]
            assert written == wanted[: settings["max_new_tokens"]] or written in tied
    return found, expected
