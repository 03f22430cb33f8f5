"""What does sharing a prompt among its candidates save? Ours against transformers.generate, which copies it for each.

    python tests/benchmarks/prompt_sharing.py                          # 32 candidates, 1,500 tokens, float32, CPU
    python tests/benchmarks/prompt_sharing.py --prompt_length 300 --steps 8 --rounds 1    # a try of a minute
    python tests/benchmarks/prompt_sharing.py --device cuda --dtype bfloat16 --rounds 10

A Llama architecture of 26 million random weights searches a fixed number of steps, as it has no EOS. Candidates of
both sides are compared before anything is timed. Then the sides take turns. The prefill is the first call of the
model, a step the median interval between the later ones, and peak memory that of a process of its own, above the
loaded model. The limit is the arithmetic of the weights and of attention at the measured rate of a large product;
the prefill cannot be more than as many times faster as there are candidates.
"""

import argparse
import contextlib
import itertools
import json
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import machine
import searches
import torch
from machine import matmul_rate, milliseconds, seconds
from transformers import LlamaConfig, LlamaForCausalLM

from generator.decoding import beam_search

WIDTH, INNER, LAYERS, HEADS, VOCABULARY = 512, 1408, 8, 8, 384
SIDES = ("native", "transformers")


def main() -> None:
    """Compares and times the two sides; prints a Markdown row, then one JSON line."""
    args = parse_arguments()
    torch.set_num_threads(args.threads)
    if args.peak_memory:
        print(peak_memory_mb(args.peak_memory, args))
        return
    model, prompt = random_llama(args), random_prompt(args)
    found, expected = native(model, prompt, args), reference(model, prompt, args)
    searches.check_equal(found, expected, args.prompt_length, args.dtype)
    rate = matmul_rate(args)
    row: dict[str, Any] = {
        "prompt_length": args.prompt_length,
        "candidates": args.candidates,
        "steps": args.steps,
        "floor_s": {
            "prefill": flops(args.prompt_length, args.prompt_length / 2) / rate,
            "step": flops(args.candidates, args.prompt_length + args.steps / 2) / rate,
        },
        **take_turns(model, prompt, args),
    }
    if not args.no_memory:
        row["peak_mb"] = {side: measured_memory_mb(side, args) for side in SIDES}
    report(row, rate, args)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompt_length", type=int, default=1500, help="tokens")
    parser.add_argument("--candidates", type=int, default=32)
    parser.add_argument("--steps", type=int, default=32, help="tokens of a candidate")
    parser.add_argument("--rounds", type=int, default=3)
    machine.add_arguments(parser)
    parser.add_argument("--no-memory", action="store_true", help="leave out peak memory (one process a side)")
    parser.add_argument("--peak-memory", choices=SIDES, help=argparse.SUPPRESS)
    return parser.parse_args()


def random_llama(args: argparse.Namespace) -> Any:
    """A model whose hypotheses differ clearly: attention and the head outweigh what initialization gives them."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=INNER,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        max_position_embeddings=4096,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
    )
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        model.lm_head.weight.normal_(std=0.15)
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.mul_(8.0)
    return model.to(args.device, getattr(torch, args.dtype))


def random_prompt(args: argparse.Namespace) -> torch.Tensor:
    """One prompt, (1, S)."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(1, VOCABULARY, (1, args.prompt_length), generator=generator).to(args.device)


def native(model: Any, prompt: torch.Tensor, args: argparse.Namespace) -> Any:
    """Our beam search."""
    return beam_search(
        model,
        prompt,
        torch.ones_like(prompt),
        num_beams=args.candidates,
        num_return_sequences=args.candidates,
        max_new_tokens=args.steps,
    )


def reference(model: Any, prompt: torch.Tensor, args: argparse.Namespace) -> Any:
    """The same by transformers.generate."""
    return searches.reference(model, (prompt, torch.ones_like(prompt)), args.candidates, args.steps)


RUN: dict[str, Callable[[Any, torch.Tensor, argparse.Namespace], Any]] = {"native": native, "transformers": reference}


def take_turns(model: Any, prompt: torch.Tensor, args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Seconds of the prefill (the best round), of a step (the median) and of a call (the best) for each side."""
    prefills: dict[str, list[float]] = {side: [] for side in SIDES}
    steps: dict[str, list[float]] = {side: [] for side in SIDES}
    calls: dict[str, list[float]] = {side: [] for side in SIDES}
    for _ in range(args.rounds):
        for side in SIDES:
            with watched(model, args.device) as (starts, ends):
                calls[side].append(seconds(RUN[side], model, prompt, args, device=args.device))
            prefills[side].append(ends[0] - starts[0])
            steps[side] += [after - before for before, after in itertools.pairwise(starts[1:])]
    return {
        "prefill_s": {side: min(values) for side, values in prefills.items()},
        "step_s": {side: statistics.median(values) for side, values in steps.items()},
        "call_s": {side: min(values) for side, values in calls.items()},
    }


@contextlib.contextmanager
def watched(model: Any, device: str) -> Iterator[tuple[list[float], list[float]]]:
    """Notes when calls of the model start and when they end."""
    starts: list[float] = []
    ends: list[float] = []

    def note(times: list[float]) -> None:
        machine.wait(device)
        times.append(time.perf_counter())

    hooks = [
        model.register_forward_pre_hook(lambda *_: note(starts)),
        model.register_forward_hook(lambda *_: note(ends)),
    ]
    try:
        yield starts, ends
    finally:
        for hook in hooks:
            hook.remove()


def flops(num_tokens: int, num_keys: float) -> float:
    """Multiplications and additions of a call: weights, and attention over `num_keys` keys on average."""
    weights = LAYERS * (4 * WIDTH * WIDTH + 3 * WIDTH * INNER)
    return 2.0 * num_tokens * (weights + LAYERS * 2 * WIDTH * num_keys)


def measured_memory_mb(side: str, args: argparse.Namespace) -> float:
    """Peak memory of one search, above that of the loaded model, in a process of its own."""
    names = ("prompt_length", "candidates", "steps", "threads", "device", "dtype")
    options = [f"--{name}={getattr(args, name)}" for name in names]
    return float(machine.last_line_of(__file__, "--peak-memory", side, *options))


def peak_memory_mb(side: str, args: argparse.Namespace) -> float:
    """See `measured_memory_mb`."""
    model, prompt = random_llama(args), random_prompt(args)
    run, small = RUN[side], argparse.Namespace(candidates=2, steps=2)
    return machine.peak_mb(lambda: run(model, prompt, args), lambda: run(model, prompt[:, :8], small), args.device)


def report(row: dict[str, Any], rate: float, args: argparse.Namespace) -> None:
    """Prints the table, the circumstances and the JSON line."""
    heads, cells = ["prompt x candidates x steps"], [f"{args.prompt_length} x {args.candidates} x {args.steps}"]
    for what, unit, write in [
        ("prefill", "s", milliseconds),
        ("step", "s", milliseconds),
        ("call", "s", milliseconds),
        ("peak", "mb", lambda value: f"{value:.0f} MB"),
    ]:
        values = row.get(f"{what}_{unit}")
        if values is None:
            continue
        if what in row["floor_s"]:
            heads.append(f"{what}: floor")
            cells.append(write(row["floor_s"][what]))
        heads += [f"{what}: {side}" for side in SIDES] + ["ratio"]
        cells += [write(values[side]) for side in SIDES] + [f"{values['transformers'] / values['native']:.2f}x"]
    print("|", " | ".join(heads), "|")
    print("|---" * len(heads) + "|")
    print("|", " | ".join(cells), "|")
    facts = {
        "dtype": args.dtype,
        "threads": args.threads,
        "matmul_gflops": round(rate / 1e9),
        **machine.facts(args.device),
    }
    print(json.dumps({"benchmark": "prompt_sharing", **row, **facts}))


if __name__ == "__main__":
    main()
