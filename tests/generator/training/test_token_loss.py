"""The loss is transformers' own, no logits are computed for what is not trained, and those of all never at once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from generator.training import token_loss
from generator.training.token_loss import mean_loss
from tests.fakes import EIGHT, TINY, save_pretrained, write_splits
from tests.generator.causal_fakes import GPT2, build, data, first_batch
from tests.generator.families import DECODER_ONLY, ENCODER_DECODER, Family, training_batches

WIDTH: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
GROUPED = WIDTH | {"num_key_value_heads": 2, "head_dim": 8}
HEADS: dict[str, dict[str, Any]] = {
    "tied": GPT2,
    "untied": {"model_type": "llama", **GROUPED, "tie_word_embeddings": False},
    "soft_capped": {"model_type": "gemma2", **GROUPED, "final_logit_softcapping": 0.5, "query_pre_attn_scalar": 8},
    "scaled": {"model_type": "cohere", **WIDTH, "logit_scale": 0.25},
    "divided": {"model_type": "granite", **WIDTH, "logits_scaling": 4.0},
    "with_bias": {"model_type": "phi", **WIDTH},
    "of_a_body_in_parts": {"model_type": "opt", "hidden_size": 32, "word_embed_proj_dim": 32, "ffn_dim": 48}
    | {"num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 256, "dropout": 0.0},
}
FEW = 384 * 8  # logits of eight tokens
Graded = tuple[float, dict[str, Tensor]]


def graded(model: Any, loss: Tensor) -> Graded:
    """A loss and its gradients."""
    model.zero_grad()
    loss.backward()
    return loss.item(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_equal(found: Graded, expected: Graded) -> None:
    assert found[0] == pytest.approx(expected[0], abs=2e-6)
    assert found[1].keys() == expected[1].keys()
    for name, gradient in expected[1].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-4, atol=2e-6, msg=name)


def theirs(model: Any, batch: Any) -> Graded:
    """What transformers computes from the same batch."""
    if isinstance(model, DECODER_ONLY.generator):
        names = {"input_ids": "input_ids", "attention_mask": "attention_mask", "labels": "labels"}
    else:
        names = {"input_ids": "state_ids", "attention_mask": "state_mask", "labels": "tactic_ids"}
    return graded(model, model.generator(**{theirs: batch[ours] for theirs, ours in names.items()}).loss)


@pytest.fixture(params=[2**25, FEW], ids=["at_once", "in_chunks"])
def chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_loss, "MAX_LOGITS", request.param)


@pytest.mark.usefixtures("chunks")
@pytest.mark.parametrize("head", HEADS)
def test_the_loss_of_each_head_is_transformers_own(head: str, eight_path: Any) -> None:
    model, batch = build(HEADS[head]), first_batch(data(eight_path))
    with torch.no_grad():
        for parameter in model.parameters():  # biases that are zero would hide that they are left out
            parameter.add_(0.1 * torch.randn_like(parameter))
    assert_equal(graded(model, model.loss_of(batch)[0]), theirs(model, batch))


@pytest.mark.usefixtures("chunks")
@pytest.mark.parametrize("is_tied", [True, False])
def test_the_loss_of_an_encoder_decoder_is_transformers_own(is_tied: bool, eight_path: Any) -> None:
    model = ENCODER_DECODER.build({**TINY, "tie_word_embeddings": is_tied})
    batch = next(iter(training_batches(ENCODER_DECODER.data(eight_path))))
    assert_equal(graded(model, model.loss_of(batch)[0]), theirs(model, batch))


@pytest.mark.parametrize("options", [{"gradient_checkpointing": True}, {}], ids=["recomputed", "kept"])
def test_chunks_and_the_whole_have_one_gradient(
    family: Family, options: dict[str, Any], eight_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, batch = family.build(**options), next(iter(training_batches(family.data(eight_path))))
    whole = graded(model, model.loss_of(batch)[0])
    monkeypatch.setattr(token_loss, "MAX_LOGITS", FEW)
    assert_equal(graded(model, model.loss_of(batch)[0]), whole)


def test_packed_rows_have_the_loss_of_their_examples(eight_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_loss, "MAX_LOGITS", FEW)
    model = build()
    packed = graded(model, model.loss_of(first_batch(data(eight_path, packing=True)))[0])
    assert_equal(packed, theirs(model, first_batch(data(eight_path))))


def test_adapters_of_the_head_are_trained(eight_path: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("peft")
    saved = save_pretrained(build(HEADS["untied"]), tmp_path / "base")
    lora = {"r": 2, "dropout": 0.0, "target_modules": ["lm_head", "q_proj"]}
    model, batch = build(str(saved), lora=lora), first_batch(data(eight_path))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    monkeypatch.setattr(token_loss, "MAX_LOGITS", FEW)
    found = graded(model, model.loss_of(batch)[0])
    assert any("lm_head.lora_A" in name for name in found[1])
    assert_equal(found, theirs(model, batch))


def test_where_weights_are_sharded_the_whole_network_is_called_once(
    family: Family, eight_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_loss, "MAX_LOGITS", FEW)
    model, batch = family.build(), next(iter(training_batches(family.data(eight_path))))
    expected, calls = theirs(model, batch), list[int]()
    model.generator.register_forward_hook(lambda *_: calls.append(1))
    model.loss_of(batch)
    assert not calls, "weights that are whole may be used part by part"
    monkeypatch.setattr(type(model), "is_sharded", True)
    found = graded(model, model.loss_of(batch)[0])
    assert len(calls) == 1
    assert_equal(found, expected)


class Largest(TorchDispatchMode):
    """Notes the numbers in the largest tensor that is computed."""

    numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        sizes = [found.numel() for found in tree_leaves(made) if isinstance(found, Tensor)]
        self.numel = max(self.numel, *sizes, 0)
        return made


def bytes_kept(loss_of: Any) -> tuple[int, Tensor]:
    """Bytes that are kept for the backward pass, each storage once, and the loss."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss: Tensor = loss_of()
    return sum(kept.values()), loss


VOCABULARY = 20_000  # so many that logits outweigh all else
WIDE = {
    "decoder_only": {**GPT2, "vocab_size": VOCABULARY},
    "encoder_decoder": {**TINY, "vocab_size": VOCABULARY, "tie_word_embeddings": False},
}


def test_memory_is_that_of_one_chunk_forward_and_backward(
    family: Family, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = family.build(WIDE[family.name])
    batch = next(iter(training_batches(family.data(write_splits(tmp_path / "data", EIGHT)))))
    num_trained = model.loss_of(batch)[1]
    num_weights = max(p.numel() for p in model.parameters())
    all_kept, loss = bytes_kept(lambda: model.loss_of(batch)[0])
    assert all_kept > 4 * num_trained * VOCABULARY, "float32 logits of all trained tokens are kept at once"
    chunk = 16 * VOCABULARY
    monkeypatch.setattr(token_loss, "MAX_LOGITS", chunk)
    with Largest() as largest:
        kept, loss = bytes_kept(lambda: model.loss_of(batch)[0])
        loss.backward()
    assert kept < all_kept - 4 * num_trained * VOCABULARY
    assert largest.numel <= max(chunk, num_weights) < num_trained * VOCABULARY
    with Largest() as largest, torch.no_grad():
        assert model.eval().loss_of(batch)[0].item() == pytest.approx(loss.item(), abs=1e-5)
    assert largest.numel <= max(chunk, num_weights), "in evaluation too"


def test_prompts_get_no_logits(eight_path: Any) -> None:
    model, batch = build(WIDE["decoder_only"]), first_batch(data(eight_path))
    with Largest() as largest:
        _, num_trained = model.loss_of(batch)
    assert largest.numel == num_trained * VOCABULARY < batch["labels"].numel() * VOCABULARY / 3


def test_where_nothing_is_trained_the_loss_is_zero_and_goes_backward(eight_path: Any) -> None:
    model, batch = build(), first_batch(data(eight_path))
    batch["labels"] = torch.full_like(batch["labels"], -100)
    loss, num_tokens = model.loss_of(batch)
    loss.backward()
    assert loss.item() == num_tokens == 0


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float32])
def test_the_loss_is_computed_in_float32(precision: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    states, targets = torch.randn(50, 384).to(precision), torch.randint(0, 384, (50,))
    monkeypatch.setattr(token_loss, "MAX_LOGITS", FEW)
    found = mean_loss(lambda some: some, states, targets, 384)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(cross_entropy(states.float(), targets).item(), abs=1e-5)
