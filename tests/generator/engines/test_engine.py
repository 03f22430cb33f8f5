"""What engines are given for an input: its token ids, its seed, and its place in a group."""

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from common import ByteTokenizer
from generator.data.completion_encoding import CompletionEncoder
from generator.engines import Decoding, Sampling, engine, make_engine
from generator.engines.engine import encode, input_seed, weights_version
from tests.generator.causal_fakes import save_bpe


def ids_of(*args, **options):
    return [ids.tolist() for ids in encode(*args, **options)]


def test_an_encoder_input_ends_with_eos_even_when_it_is_cut():
    assert ids_of(ByteTokenizer(), ["", "abcdef"], 4, is_decoder_only=False) == [[1], [100, 101, 102, 1]]


def test_a_prompt_goes_on_and_loses_its_beginning_when_it_is_cut():
    found = ids_of(ByteTokenizer(), ["", "abcdef", "ab"], 4, is_decoder_only=True)
    assert found == [[1], [102, 103, 104, 105], [100, 101]]


def test_an_empty_prompt_is_bos_where_there_is_one(tmp_path):
    bpe = save_bpe(tmp_path)
    assert ids_of(bpe, ["", "p"], 9, is_decoder_only=True) == [[bpe.bos_token_id], bpe.encode("p")]


@pytest.mark.parametrize("adds_bos", [False, True])
def test_a_prompt_has_the_ids_that_it_is_trained_with(tmp_path, adds_bos):
    bpe = save_bpe(tmp_path, adds_bos=adds_bos)
    prompts = ["[GOAL]p q : Prop\nh : p ∧ q\n⊢ q ∧ p[PROOFSTEP]", "⊢ p "]
    found = ids_of(bpe, prompts, 999, is_decoder_only=True)
    examples = CompletionEncoder(bpe).encode(prompts, ["exact h"] * len(prompts))
    assert found == [example.input_ids[: example.num_prompt_tokens] for example in examples]
    assert all((ids[0] == bpe.bos_token_id) == adds_bos for ids in found)


def test_a_prompt_needs_no_eos():
    words = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel({"a": 0, "b": 1}, unk_token="a")))
    assert words.eos_token_id is None
    assert ids_of(words, ["b"], 9, is_decoder_only=True) == [[1]]


@pytest.fixture
def batches_read(tiny_gpt2):
    """How many rows of prompts of eight tokens each pass of the model reads."""
    noted = []

    def note(_, args, options):
        num_rows, num_tokens = options["input_ids"].shape
        noted.extend([num_rows] if num_tokens == 8 else [])

    tiny_gpt2.register_forward_pre_hook(note, with_kwargs=True)
    return noted


@pytest.mark.parametrize(("name", "expected"), [("native", [4]), ("transformers", [6, 6])])
def test_an_input_that_is_copied_for_its_beams_counts_as_often(
    name, expected, tiny_gpt2, tokenizer, batches_read, monkeypatch
):
    monkeypatch.setattr(engine, "MAX_TOKENS_PER_CALL", 6 * 8)
    made = make_engine(name, tiny_gpt2, tokenizer, max_inp_seq_len=8)
    made.propose(["12345678"] * 4, 3, Decoding(max_new_tokens=1))
    assert batches_read == expected


@pytest.mark.parametrize(("name", "expected"), [("native", [3]), ("transformers", [1, 1, 1])])
def test_inputs_are_sampled_together_where_each_has_draws_of_its_own(
    name, expected, tiny_gpt2, tokenizer, batches_read
):
    made = make_engine(name, tiny_gpt2, tokenizer, max_inp_seq_len=8)
    made.propose(["12345678"] * 3, 1, Decoding(max_new_tokens=1, sampling=Sampling()))
    assert batches_read == expected


def test_seeds_of_inputs_differ_and_stay():
    assert input_seed(0, "a") == input_seed(0, "a")
    assert len({input_seed(0, "a"), input_seed(1, "a"), input_seed(0, "b")}) == 3
    assert 0 <= input_seed(0, "a") < 2**31


def test_the_version_of_weights_changes_with_every_way_of_changing_them():
    model = torch.nn.Linear(3, 3)
    versions = [weights_version(model)]
    model.load_state_dict({name: value + 1 for name, value in model.state_dict().items()})
    versions.append(weights_version(model))
    model(torch.ones(1, 3)).sum().backward()
    torch.optim.AdamW(model.parameters(), fused=True).step()
    versions.append(weights_version(model))
    with torch.no_grad():
        model.weight[1, 2] += 1.0
    versions.append(weights_version(model))
    assert all(one != other for i, one in enumerate(versions) for other in versions[:i])
    assert weights_version(model) == versions[-1]
