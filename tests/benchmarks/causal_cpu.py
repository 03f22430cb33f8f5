"""What do plain attention and compiled layers save of a training step of a decoder-only model on a CPU?

OMP_NUM_THREADS=1 python tests/benchmarks/causal_cpu.py [compile]

Layers as SmolLM2-135M has them, without embeddings, 32 texts of 112 tokens, bf16 autocast, weights in float32. The
limit is the products of matrices, 30 us a token and layer at 700 GFLOP/s. All have the same gradient to the rounding of
bf16; rounds are interleaved.
"""

import copy
import json
import sys
import time

import torch
from transformers import LlamaConfig, LlamaModel

from retrieval.training.acceleration import Acceleration, compile_layers

NUM_LAYERS, NUM_TEXTS, LENGTH, NUM_ROUNDS = 2, 32, 112, 4
SIZES = {"hidden_size": 576, "intermediate_size": 1536, "num_attention_heads": 9, "num_key_value_heads": 3}
SDPA, EAGER, COMPILED = "attention sdpa", "attention eager", "attention eager, layers compiled"


def bodies() -> dict[str, LlamaModel]:
    """Equal layers, each kind run in another way."""
    torch.manual_seed(0)
    config = LlamaConfig(**SIZES, num_hidden_layers=NUM_LAYERS, vocab_size=8)
    found = {SDPA: LlamaModel(config).train()}
    for name in (EAGER, COMPILED) if "compile" in sys.argv[1:] else (EAGER,):
        found[name] = copy.deepcopy(found[SDPA])
        Acceleration(attention="eager").choose_attention(found[name])
    if COMPILED in found:
        compile_layers(found[COMPILED], dynamic=True)
    return found


def step(
    body: LlamaModel, inputs: torch.Tensor, mask: torch.Tensor, direction: torch.Tensor
) -> tuple[float, torch.Tensor]:
    """A step forward and backward; returns processor seconds and the gradient of one matrix."""
    body.zero_grad()
    start = time.process_time()
    with torch.autocast("cpu", torch.bfloat16):
        states = body(inputs_embeds=inputs, attention_mask=mask, use_cache=False).last_hidden_state
    (states.float() * direction).mean().backward()
    return time.process_time() - start, body.layers[0].mlp.up_proj.weight.grad.clone()


def main() -> None:
    """Measure, check, print a Markdown table and a JSON line."""
    torch.set_num_threads(1)
    made = bodies()
    mask = torch.ones(NUM_TEXTS, LENGTH, dtype=torch.long)
    mask[0, -3:] = 0
    inputs = torch.randn(NUM_TEXTS, LENGTH, SIZES["hidden_size"])
    direction = torch.randn(NUM_TEXTS, LENGTH, SIZES["hidden_size"])
    seconds = {name: float("inf") for name in made}
    first = {name: step(body, inputs, mask, direction) for name, body in made.items()}  # the compiled one is compiled
    for name, (_, gradient) in first.items():
        difference = (gradient - first[SDPA][1]).norm() / first[SDPA][1].norm()
        assert difference < 0.1, f"{name}: the gradient differs by {difference:.3f}"
    for _ in range(NUM_ROUNDS):
        for name, body in made.items():
            seconds[name] = min(seconds[name], step(body, inputs, mask, direction)[0])
    num_tokens = NUM_TEXTS * LENGTH
    print("| | processor us a token and layer | |\n|---|--:|--:|")
    for name, value in seconds.items():
        print(f"| {name} | {1e6 * value / num_tokens / NUM_LAYERS:.0f} | {seconds[SDPA] / value:.2f}x |")
    if COMPILED in made:
        print(f"\ncompiling: {first[COMPILED][0] - seconds[COMPILED]:.0f} processor seconds")
    print(json.dumps({"num_layers": NUM_LAYERS, "num_tokens": num_tokens, **seconds}))


if __name__ == "__main__":
    main()
