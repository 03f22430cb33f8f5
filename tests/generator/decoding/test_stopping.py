"""Stop texts: a candidate ends with the token that completes one, however the tokenizer cuts it."""

import pytest
import torch

from common import ByteTokenizer
from generator.decoding.stopping import StopStrings
from tests.generator.decoding_fakes import (
    BEAMS,
    EOS,
    LENGTHS,
    SAMPLES,
    Letters,
    assert_close,
    end_with,
    model_log_prob,
    one_state,
)


def first_stop(tokens, stops):
    """Tokens up to the first with which the text holds a stop text, or EOS."""
    for length in range(1, len(tokens) + 1):
        text = Letters().decode(tokens[:length], skip_special_tokens=False)
        if tokens[length - 1] == EOS or any(stop in text for stop in stops):
            return tokens[:length]
    return tokens


@pytest.mark.parametrize("method", ["beam_search", "sample"])
def test_a_candidate_ends_with_its_first_stop_text(family, batch, method):
    settings = BEAMS | {"num_beams": 12, "num_return_sequences": 12} if method == "beam_search" else SAMPLES
    stops = ["[/", "b]", "cd", " "]
    found = getattr(family, method)(*batch, **settings, stop_sequences=stops, tokenizer=Letters())
    num_stopped = 0
    for state in range(len(LENGTHS)):
        prompt, _ = one_state(batch, state)
        for tokens, log_prob in zip(found.sequences[state].tolist(), found.log_probs[state], strict=True):
            written = first_stop(tokens, stops)
            assert set(tokens[len(written) :]) <= {0}
            assert model_log_prob(family.model, prompt, written) == pytest.approx(float(log_prob), abs=1e-4)
            num_stopped += written[-1] != EOS and len(written) < settings["max_new_tokens"]
    assert num_stopped > 5


def test_a_stop_text_of_one_token_is_an_end_token(family, batch):
    found = family.beam_search(*batch, **BEAMS, stop_sequences=["j"], tokenizer=Letters())
    end_with(family.model, [EOS, 20])
    assert_close(found, family.beam_search(*batch, **BEAMS))


def test_stop_texts_that_end_most_continuations_leave_the_others(family, batch):
    """Ends are looked for among the best continuations only; there must be enough of them."""
    letters = "abcdefgh"
    found = family.beam_search(*batch, **BEAMS, length_penalty=1.5, stop_sequences=[*letters], tokenizer=Letters())
    ids = [token for token, piece in enumerate(Letters.pieces) if set(letters) & set(piece)]
    end_with(family.model, [EOS, *ids])
    assert_close(found, family.beam_search(*batch, **BEAMS, length_penalty=1.5))


class ReplacingBytes(ByteTokenizer):
    """Shows part of a character as U+FFFD, as most byte-level tokenizers do; ByT5's leaves it out."""

    def decode(self, token_ids, skip_special_tokens=False):
        return bytes(token - 3 for token in token_ids).decode(errors="replace")


@pytest.mark.parametrize("tokenizer", [ByteTokenizer(), ReplacingBytes()])
def test_a_stop_text_split_within_a_character_is_found(tokenizer):
    stop = StopStrings(["⊢"], tokenizer)
    ids = tokenizer.encode("p ⊢", add_special_tokens=False)
    is_end = [bool(stop.ends(torch.tensor([[ids[:n]]]), torch.tensor([[True]]))) for n in range(1, len(ids) + 1)]
    assert is_end == [False] * (len(ids) - 1) + [True]
    assert not stop.ends(torch.tensor([[ids]]), torch.tensor([[False]]))


def test_only_rows_that_may_have_stopped_are_decoded():
    class Counting(ByteTokenizer):
        decoded: list[int] = []

        def decode(self, token_ids, skip_special_tokens=False):
            self.decoded.append(len(token_ids))
            return super().decode(token_ids, skip_special_tokens)

    tokenizer = Counting()
    stop = StopStrings(["[/TAC]"], tokenizer)
    texts = ["intro h[/TAC]", "rw foo [/TAC", "exact h.1 xyz"]
    rows = [tokenizer.encode(text, add_special_tokens=False)[:12] for text in texts]
    rows[0] = rows[0][:11] + tokenizer.encode("]", add_special_tokens=False)
    stop.ends(torch.tensor([rows]), torch.ones(1, 3, dtype=torch.bool))
    assert [length for length in tokenizer.decoded if length > 1] == [12]


# what is left of a candidate


def test_a_text_is_cut_behind_the_first_stop_string_and_its_tokens_counted():
    tokenizer = ByteTokenizer()
    ids = tokenizer.encode("simp [h][/TAC] x;y")
    assert StopStrings(["[/TAC]"], tokenizer).cut(ids) == ("simp [h][/TAC]", len("simp [h][/TAC]"))
    assert StopStrings([";", "[/TAC]"], tokenizer).cut(ids) == ("simp [h][/TAC]", len("simp [h][/TAC]"))
    assert StopStrings(["qed"], tokenizer).cut(ids) == ("simp [h][/TAC] x;y", len(ids))
    assert StopStrings([], tokenizer).cut(ids) == ("simp [h][/TAC] x;y", len(ids))


def test_what_a_token_writes_behind_a_stop_string_is_cut_too():
    assert StopStrings(["["], Letters()).cut([2, 3, 7, 2]) == ("ab[", 3)


def test_a_special_token_may_be_a_stop_string():
    tokenizer = ByteTokenizer()
    ids = tokenizer.encode("abc<extra_id_0>def")
    assert StopStrings(["<extra_id_0>"], tokenizer).cut(ids) == ("abc", 4)
