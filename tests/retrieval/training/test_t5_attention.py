"""T5 reads distances off a table: the same logits and gradients as with transformers' bias of every pair."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    BartConfig,
    BartModel,
    MT5Config,
    MT5EncoderModel,
    T5Config,
    T5ForConditionalGeneration,
    UMT5Config,
    UMT5EncoderModel,
)
from transformers import MT5ForConditionalGeneration as MT5

from retrieval.training.architectures import checkpoint_activations
from retrieval.training.block_attention import block_mask
from retrieval.training.t5_attention import has_t5_attention, take_block_masks

SIZES: dict[str, Any] = {
    "vocab_size": 60,
    "d_model": 24,
    "d_kv": 16,
    "d_ff": 32,
    "num_heads": 2,
    "num_layers": 2,
    "num_decoder_layers": 2,
    "dropout_rate": 0.0,
    "relative_attention_max_distance": 30,
    "relative_attention_num_buckets": 8,
    "decoder_start_token_id": 0,
}
KINDS = {"t5": (T5Config, T5ForConditionalGeneration), "mt5": (MT5Config, MT5)}
SOURCES, TARGETS = (70, 5, 140), (9, 20, 3)


def pair(kind: str) -> tuple[Any, Any]:
    """A model as transformers has it, and one of the same weights with block masks."""
    torch.manual_seed(1)
    config, model = KINDS[kind]
    plain = model(config(**SIZES)).double()
    for name, weight in plain.named_parameters():
        if "relative_attention_bias" in name:
            torch.nn.init.normal_(weight)
    ours = copy.deepcopy(plain)
    take_block_masks(ours)
    return plain.train(), ours.train()


def padded_batch() -> tuple[Tensor, Tensor, Tensor]:
    """Sources, their mask and labels of three examples."""
    torch.manual_seed(2)
    ids, labels = torch.randint(3, 60, (3, max(SOURCES))), torch.randint(3, 60, (3, max(TARGETS)))
    mask = torch.arange(max(SOURCES)) < torch.tensor(SOURCES)[:, None]
    is_target = torch.arange(max(TARGETS)) < torch.tensor(TARGETS)[:, None]
    return ids * mask, mask.long(), labels.masked_fill(~is_target, -100)


def behind_one_another(rows: Tensor, lengths: tuple[int, ...]) -> Tensor:
    return torch.cat([row[:n] for row, n in zip(rows, lengths, strict=True)])[None]


def texts(lengths: tuple[int, ...]) -> Tensor:
    return torch.cat([torch.full((n,), i) for i, n in enumerate(lengths, 1)])[None]


def run(model: Any, ids: Tensor, given: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """The logits under block masks."""
    encoded = model.encoder(input_ids=ids, attention_mask=block_mask(source, source))
    logits: Tensor = model(
        encoder_outputs=encoded,
        attention_mask=block_mask(target, source),
        decoder_input_ids=given,
        decoder_attention_mask=block_mask(target, target, causal=True),
        use_cache=False,
    ).logits
    return logits


def compare(plain: Any, ours: Any, expected: Tensor, found: Tensor, labels: Tensor) -> None:
    """Logits of targets, the loss, and the gradient of every weight."""
    is_target = labels != -100
    torch.testing.assert_close(found, expected[is_target])
    for logits in (expected[is_target], found):
        torch.nn.functional.cross_entropy(logits, labels[is_target]).backward()
    theirs = dict(plain.named_parameters())
    assert [name for name, _ in ours.named_parameters()] == list(theirs)
    for name, weight in ours.named_parameters():
        assert weight.grad is not None and weight.grad.abs().sum() > 0, name
        torch.testing.assert_close(weight.grad, theirs[name].grad, msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_padded_rows_have_the_logits_and_gradients_of_the_eager_model(kind: str) -> None:
    plain, ours = pair(kind)
    plain.set_attn_implementation("eager")
    ids, mask, labels = padded_batch()
    given = ours.prepare_decoder_input_ids_from_labels(labels)
    expected = plain(input_ids=ids, attention_mask=mask, labels=labels, use_cache=False).logits
    found = run(ours, ids, given, mask, torch.ones_like(labels))
    compare(plain, ours, expected, found[labels != -100], labels)


@pytest.mark.parametrize("kind", KINDS)
def test_examples_behind_one_another_have_the_logits_and_gradients_of_the_eager_model(kind: str) -> None:
    plain, ours = pair(kind)
    plain.set_attn_implementation("eager")
    ids, mask, labels = padded_batch()
    given = ours.prepare_decoder_input_ids_from_labels(labels)
    expected = plain(input_ids=ids, attention_mask=mask, labels=labels, use_cache=False).logits
    rows = behind_one_another(ids, SOURCES), behind_one_another(given, TARGETS)
    found = run(ours, *rows, texts(SOURCES), texts(TARGETS))
    compare(plain, ours, expected, found[0], labels)


def test_gradients_stay_when_activations_are_computed_again() -> None:
    plain, ours = pair("t5")
    checkpoint_activations(ours)
    ids, _, labels = padded_batch()
    given = ours.prepare_decoder_input_ids_from_labels(labels)
    rows = behind_one_another(ids, SOURCES), behind_one_another(given, TARGETS)
    take_block_masks(plain)
    for model in (plain, ours):
        run(model, *rows, texts(SOURCES), texts(TARGETS)).square().mean().backward()
    for (name, one), other in zip(plain.named_parameters(), ours.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, msg=name)


def test_other_masks_are_taken_as_before_to_the_last_bit() -> None:
    plain, ours = pair("t5")
    ids, mask, labels = padded_batch()
    outputs = [model(input_ids=ids, attention_mask=mask, labels=labels) for model in (plain, ours)]
    assert torch.equal(outputs[0].loss, outputs[1].loss) and torch.equal(outputs[0].logits, outputs[1].logits)
    assert list(plain.state_dict()) == list(ours.state_dict())


def test_compiled_layers_are_one_graph_and_few_for_all_lengths(monkeypatch: pytest.MonkeyPatch) -> None:
    """As torch.compile would trace them for CUDA; what it traces runs here without a kernel."""
    torch._dynamo.reset()
    _, ours = pair("t5")
    graphs: list[Any] = []

    def keep(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph

    encoder = torch.compile(ours.encoder, backend=keep, fullgraph=True)
    for length in (128, 256, 384, 640, 1024):
        tokens = texts((length // 2, length // 2))
        encoder(input_ids=torch.ones_like(tokens), attention_mask=block_mask(tokens, tokens))
    assert len(graphs) <= 2
    torch._dynamo.reset()


def test_only_models_whose_attention_is_all_t5s_read_the_table() -> None:
    sizes = {key: value for key, value in SIZES.items() if key != "decoder_start_token_id"}
    assert has_t5_attention(T5ForConditionalGeneration(T5Config(**SIZES)))
    assert has_t5_attention(MT5EncoderModel(MT5Config(**sizes)))
    assert not has_t5_attention(UMT5EncoderModel(UMT5Config(**sizes)))  # a bias in each layer
    assert not has_t5_attention(T5ForConditionalGeneration(T5Config(**{**SIZES, "d_kv": 8})))
    assert not has_t5_attention(
        BartModel(BartConfig(vocab_size=20, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2))
    )
    assert has_t5_attention(pair("t5")[1])  # whose classes have changed already
