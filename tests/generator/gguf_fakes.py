"""A tiny .gguf file, written as llama.cpp's converter writes one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tests.generator.causal_fakes import save_bpe

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
SIZES |= {"intermediate_size": 64, "max_position_embeddings": 256}
LAYERS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def tiny_llama(folder: Path) -> tuple[LlamaForCausalLM, Any]:
    """A Llama with a byte-level BPE of 300 tokens, and a rotary base of its own."""
    torch.manual_seed(0)
    rope = {"rope_type": "default", "rope_theta": 5000.0}
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = LlamaConfig(vocab_size=300, rope_parameters=rope, tie_word_embeddings=True, **special, **SIZES)
    config.initializer_range = 0.3
    return LlamaForCausalLM(config).eval(), save_bpe(folder)


def write_gguf(path: Path, kind: str = "F32") -> LlamaForCausalLM:
    """Write a tiny Llama whose matrices are stored as one of gguf's types, and return the model as it was before."""
    model, tokenizer = tiny_llama(path.parent / "bpe")
    config, writer = model.config, gguf.GGUFWriter(str(path), "llama")
    writer.add_name("tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    _add_tokenizer(writer, tokenizer)
    weights = {name: weight.numpy() for name, weight in model.state_dict().items()}
    names = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}
    for i in range(config.num_hidden_layers):
        names |= {f"blk.{i}.{own}.weight": f"model.layers.{i}.{name}.weight" for own, name in LAYERS.items()}
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    for own, name in names.items():
        weight, key = weights[name], own.split(".")[-2]
        weight = _interleaved(weight, heads[key]) if key in heads else weight
        if weight.ndim > 1:
            stored = gguf.GGMLQuantizationType[kind]
            writer.add_tensor(own, gguf.quantize(weight, stored), raw_dtype=stored)
        else:
            writer.add_tensor(own, weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


def write_t5_header(path: Path) -> None:
    """Write what tells that a file is of the T5 family."""
    writer = gguf.GGUFWriter(str(path), "t5")
    writer.add_tensor("token_embd.weight", np.zeros((4, 32), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_tokenizer(writer: gguf.GGUFWriter, tokenizer: Any) -> None:
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda each: each[1])
    described = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([token for token, _ in vocabulary])
    writer.add_token_types([3 if number < 3 else 1 for _, number in vocabulary])  # control, normal
    writer.add_token_merges([" ".join(pair) for pair in described["merges"]])
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)


def _interleaved(weight: np.ndarray, num_heads: int) -> np.ndarray:
    """Rows of queries and keys in the order of llama.cpp's rotation: halves of a head by turns."""
    rows, width = weight.shape
    return np.ascontiguousarray(
        weight.reshape(num_heads, 2, rows // num_heads // 2, width).swapaxes(1, 2).reshape(rows, width)
    )
