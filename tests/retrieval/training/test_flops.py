"""FLOPs of training by formula, against a counter that watches every matrix product."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    AutoModelForCausalLM,
    BambaConfig,
    BartConfig,
    GPT2Config,
    LlamaConfig,
    Mamba2Config,
    MambaConfig,
    PreTrainedConfig,
    RwkvConfig,
    T5Config,
)
from transformers import BartForConditionalGeneration as Bart
from transformers import GPT2LMHeadModel as GPT2
from transformers import LlamaForCausalLM as Llama
from transformers import T5EncoderModel as T5Encoder
from transformers import T5ForConditionalGeneration as T5

from retrieval.training.flops import count_tokens, peak_of_name, token_masks, trained_tokens, training_flops

B, S, T = 3, 40, 24
T5_SIZES: dict[str, Any] = {
    "vocab_size": 100,
    "d_model": 32,
    "d_kv": 6,
    "d_ff": 48,
    "num_heads": 4,
    "num_layers": 3,
    "num_decoder_layers": 2,
    "decoder_start_token_id": 0,
}


def counted(model: nn.Module, **inputs: Any) -> int:
    """FLOPs of every matrix product of a forward and a backward pass."""

    def loss() -> torch.Tensor:
        output = model(**inputs)
        return output.loss if "labels" in inputs else output.last_hidden_state.sum()

    return counted_of(model, loss)


def counted_of(model: nn.Module, loss: Callable[[], torch.Tensor]) -> int:
    model.set_attn_implementation("eager")  # the counter does not know the CPU's fused attention
    with FlopCounterMode(display=False) as counter:
        loss().backward()
    return int(counter.get_total_flops())


def ones(*shape: int) -> torch.Tensor:
    return torch.ones(shape, dtype=torch.int64)


def by_formula(model: nn.Module, **masks: torch.Tensor) -> int:
    flops = training_flops(model)
    assert flops is not None
    return flops.total(count_tokens(masks, "tactic_mask").tolist())


@pytest.mark.parametrize("options", [{}, {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}])
def test_an_encoder_decoder_costs_what_the_counter_counts(options: dict[str, Any]) -> None:
    model = T5(T5Config(**T5_SIZES, **options))
    expected = counted(model, input_ids=ones(B, S), labels=ones(B, T))
    assert by_formula(model, state_mask=ones(B, S), tactic_mask=ones(B, T)) == expected


def test_other_encoder_decoders_are_counted_too() -> None:
    sizes = {"d_model": 32, "encoder_ffn_dim": 48, "decoder_ffn_dim": 40, "vocab_size": 100}
    heads = {"encoder_attention_heads": 4, "decoder_attention_heads": 4}
    model = Bart(BartConfig(encoder_layers=1, decoder_layers=3, **sizes, **heads))
    expected = counted(model, input_ids=ones(B, S), labels=ones(B, T))
    assert by_formula(model, state_mask=ones(B, S), tactic_mask=ones(B, T)) == expected


def test_an_encoder_costs_what_the_counter_counts_over_two_passes() -> None:
    model = T5Encoder(T5Config(**T5_SIZES))
    expected = sum(counted(model, input_ids=ones(*shape)) for shape in ((B, S), (7, T)))
    assert by_formula(model, state_mask=ones(B, S), premise_mask=ones(7, T)) == expected


def gpt2(**options: Any) -> GPT2:
    return GPT2(GPT2Config(n_embd=32, n_layer=3, n_head=4, vocab_size=100, **options))


def llama() -> Llama:
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "vocab_size": 100}
    return Llama(LlamaConfig(num_attention_heads=4, num_key_value_heads=2, head_dim=12, **sizes))


@pytest.mark.parametrize("build", [gpt2, llama])
def test_a_decoder_only_model_costs_what_the_counter_counts(build: Callable[[], nn.Module]) -> None:
    model = build()
    expected = counted(model, input_ids=ones(B, S), labels=ones(B, S))
    # some releases of transformers multiply small matrices for the rotary angles
    assert by_formula(model, attention_mask=ones(B, S)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("build", [gpt2, llama])
def test_logits_cost_for_trained_tokens_alone(build: Callable[[], nn.Module]) -> None:
    model, labels = build(), torch.full((B, S), -100)
    labels[:, -5:] = 1
    is_read = torch.zeros(B, S, dtype=torch.bool)
    is_read[:, -6:-1] = True
    expected = counted_of(model, lambda: model(input_ids=ones(B, S), logits_to_keep=is_read).logits.sum())
    flops, batch = training_flops(model), {"attention_mask": ones(B, S), "labels": labels}
    assert flops is not None
    found = flops.total(count_tokens(token_masks(batch), None, trained_tokens(batch)).tolist())
    assert found == pytest.approx(expected, rel=1e-4)
    assert found < 0.95 * by_formula(model, attention_mask=ones(B, S))


def test_a_frozen_body_saves_the_gradients_of_its_weights() -> None:
    model = gpt2(tie_word_embeddings=False)
    model.transformer.h.requires_grad_(False)
    expected = counted(model, input_ids=ones(B, S), labels=ones(B, S))
    assert by_formula(model, attention_mask=ones(B, S)) == expected


def test_layers_around_the_model_count() -> None:
    body = gpt2()
    around = nn.ModuleDict({"body": body, "out": nn.Linear(32, 10)})
    more = by_formula(around, attention_mask=ones(B, S)) - by_formula(body, attention_mask=ones(B, S))
    assert more == 6 * 320 * B * S


def test_padding_costs_nothing_and_attention_stays_within_a_row() -> None:
    model = T5(T5Config(**T5_SIZES))
    lengths = [(5, 3), (40, 1), (17, 24)]
    state_mask, tactic_mask = (
        (torch.arange(width) < torch.tensor([[pair[which]] for pair in lengths])).long()
        for which, width in ((0, S), (1, T))
    )
    alone = [by_formula(model, state_mask=ones(1, s), tactic_mask=ones(1, t)) for s, t in lengths]
    assert by_formula(model, state_mask=state_mask, tactic_mask=tactic_mask) == sum(alone)


def test_palms_formula_is_the_case_of_a_decoder_with_equal_sizes() -> None:
    layers, heads, width = 3, 4, 32
    num_weights = layers * 12 * width**2 + 100 * width  # without biases, norms and position embeddings
    per_token = 6 * num_weights + 12 * layers * heads * (width // heads) * S
    assert by_formula(gpt2(), attention_mask=ones(B, S)) == B * S * per_token


def test_an_attention_mask_covers_the_whole_batch() -> None:
    both = {"attention_mask": ones(B, S), "tactic_mask": ones(B, S), "state": ["a"]}
    assert list(token_masks(both)) == ["attention_mask"]
    assert list(token_masks({"state_mask": ones(B, S), "premise_mask": ones(B, T), "index": [1]})) == [
        "state_mask",
        "premise_mask",
    ]
    assert token_masks((ones(B, S),)) == {} and token_masks({"x": ones(B, S)}) == {}


def test_attention_stays_within_an_example_of_a_packed_row() -> None:
    segment_ids = torch.tensor([[1, 1, 1, 2, 2, 0, 0], [1, 2, 3, 3, 3, 3, 3]])
    assert count_tokens({"segment_ids": segment_ids}).tolist() == [12, 9 + 4 + 1 + 1 + 25, 0, 0, 0, 12]
    assert list(token_masks({"attention_mask": ones(2, 1, 7, 7), "segment_ids": segment_ids})) == ["segment_ids"]


def test_a_module_without_a_transformer_has_no_figure() -> None:
    assert training_flops(nn.Linear(3, 3)) is None


@pytest.mark.parametrize(
    "config",
    [
        MambaConfig(hidden_size=16, num_hidden_layers=1, vocab_size=20),
        Mamba2Config(hidden_size=16, num_hidden_layers=1, vocab_size=20, num_heads=2, head_dim=16),
        RwkvConfig(hidden_size=16, num_hidden_layers=2, vocab_size=20),
        BambaConfig(
            hidden_size=16, intermediate_size=16, num_hidden_layers=2, attn_layer_indices=[1], num_attention_heads=2,
            num_key_value_heads=1, mamba_n_heads=2, mamba_d_head=16, vocab_size=20,
        ),
    ],
    ids=lambda config: config.model_type,
)  # fmt: skip
def test_a_model_that_cannot_be_counted_has_no_figure(config: PreTrainedConfig) -> None:
    assert training_flops(AutoModelForCausalLM.from_config(config)) is None


def test_sizes_that_cannot_be_read_are_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    model = gpt2()
    for error in (RuntimeError("differs from layer to layer"), ValueError("several text models")):

        def refuse(*_: Any, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(type(model.config), "get_text_config", refuse)
        assert training_flops(model) is None


@pytest.mark.parametrize(
    ("name", "teraflops"),
    [
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA A10", 125),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H200", 989),
        ("NVIDIA GH200 480GB", 989),
        ("NVIDIA L4", 121),
        ("NVIDIA L40S", 362),
        ("NVIDIA GeForce RTX 4090", 165.2),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA GeForce RTX 4090 D", None),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", None),
        ("NVIDIA A10G", None),
        ("Tesla T4", None),
    ],
)
def test_peaks_are_found_by_the_whole_name_of_a_device(name: str, teraflops: float | None) -> None:
    assert peak_of_name(name) == (None if teraflops is None else teraflops * 1e12)
