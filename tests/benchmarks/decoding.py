"""How fast is a step of beam search? Ours against transformers.generate, and CTranslate2 where it is installed.

    python tests/benchmarks/decoding.py                         # every case, float32, on the CPU
    python tests/benchmarks/decoding.py --cases 512x32 --rounds 5 --device cuda --dtype bfloat16

A model of ByT5-small's sizes with random weights searches a fixed number of steps, because EOS is made
unlikely. Candidates of ours and of transformers are compared before anything is timed. Then the sides take
turns. The time of a step is the median interval between calls of the decoder, which other load on the machine
disturbs least; CTranslate2, which cannot be watched, gets its best long search less its best one-step search, by
the steps between. The limit is the decoder's arithmetic at the measured rate of a large product.
"""

import argparse
import contextlib
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import machine
import torch
from machine import matmul_rate, milliseconds, seconds
from searches import check_equal, reference
from transformers import T5Config, T5ForConditionalGeneration

from common import ByteTokenizer
from generator.decoding import beam_search
from generator.decoding.t5_decoder import T5Decoder
from generator.engines.ctranslate2 import convert, vocabulary

Side = Callable[[int], Any]

# name -> (bytes of each state, beams)
CASES: dict[str, tuple[list[int], int]] = {
    "2300x64": ([2300], 64),
    "512x32": ([512], 32),
    "512x8": ([512], 8),
    "ragged8x16": ([900, 700, 512, 400, 300, 200, 150, 64], 16),
}
VOCABULARY, EOS = 384, 1


def main() -> None:
    """Runs the chosen cases and prints Markdown rows, then one JSON line."""
    args = parse_arguments()
    if args.peak_memory:
        side, case = args.peak_memory
        print(peak_memory_mb(side, case, args))
        return
    torch.set_num_threads(args.threads)
    model = random_byt5_small().to(args.device, getattr(torch, args.dtype))
    if args.profile:
        print_profile(model, args)
        return
    rate = matmul_rate(args)
    translators = ct2_translators(model, args) if "ct2" in args.sides else {}
    rows = [run_case(case, model, rate, translators, args) for case in args.cases]
    report(rows, rate, args)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--sides", nargs="+", choices=["transformers", "ct2"], default=["transformers", "ct2"])
    parser.add_argument("--steps", type=int, default=32, help="tokens of a long search")
    parser.add_argument("--rounds", type=int, default=5)
    machine.add_arguments(parser)
    parser.add_argument("--no-memory", action="store_true", help="leave out peak memory (one process a side)")
    parser.add_argument("--profile", action="store_true", help="only say what share of a step are products of matrices")
    parser.add_argument("--peak-memory", nargs=2, metavar=("SIDE", "CASE"), help=argparse.SUPPRESS)
    return parser.parse_args()


def random_byt5_small() -> T5ForConditionalGeneration:
    """ByT5-small's sizes. Attention outweighs the last token, or hypotheses differ in order only and tie."""
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=VOCABULARY,
        d_model=1472,
        d_kv=64,
        d_ff=3584,
        num_layers=12,
        num_decoder_layers=4,
        num_heads=6,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        decoder_start_token_id=0,
    )
    model = T5ForConditionalGeneration(config).eval()
    with torch.no_grad():
        model.lm_head.weight = torch.nn.Parameter(torch.randn(VOCABULARY, 1472) * 0.05)
        model.shared.weight.mul_(0.05)
        model.decoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight.normal_(std=2.0)
        make_end_unlikely(model)
    return model


def print_profile(model: T5ForConditionalGeneration, args: argparse.Namespace) -> None:
    """Print the share of a native step that compiling could not make faster: products of matrices, and attention."""
    for case in args.cases:
        lengths, num_beams = CASES[case]
        batch = ragged_batch(lengths, args.device)
        native(model, batch, num_beams, 2)
        spent: list[dict[str, float]] = []
        for steps in (1, 17):  # the difference leaves out the encoder
            with torch.profiler.profile() as profiler:
                native(model, batch, num_beams, steps)
            spent.append({event.key: event.self_cpu_time_total for event in profiler.key_averages()})
        step = {key: value - spent[0].get(key, 0.0) for key, value in spent[1].items()}
        products = sum(value for key, value in step.items() if "mm" in key or "attention" in key)
        print(f"{case}: {products / sum(step.values()):.1%} of a step are products of matrices and attention")


def make_end_unlikely(model: T5ForConditionalGeneration) -> None:
    """Keeps one feature of the decoder constant, and lets the head take EOS's logit from it alone."""
    model.shared.weight[:, 0] = 0.3
    for block in model.decoder.block:
        attention, cross, feed_forward = block.layer
        for layer in (attention.SelfAttention.o, cross.EncDecAttention.o, feed_forward.DenseReluDense.wo):
            layer.weight[0] = 0.0
    model.lm_head.weight[EOS] = 0.0
    model.lm_head.weight[EOS, 0] = -1000.0


def ragged_batch(lengths: list[int], device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Random states of the given numbers of tokens, padded on the right."""
    generator = torch.Generator().manual_seed(1)
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)).long()
    ids = torch.randint(3, VOCABULARY, mask.shape, generator=generator) * mask
    return ids.to(device), mask.to(device)


def native(model: Any, batch: tuple[torch.Tensor, torch.Tensor], num_beams: int, steps: int) -> Any:
    """Our beam search."""
    return beam_search(model, *batch, num_beams=num_beams, num_return_sequences=num_beams, max_new_tokens=steps)


def run_case(
    case: str, model: Any, rate: float, translators: dict[str, Any], args: argparse.Namespace
) -> dict[str, Any]:
    """Checks and times the sides of a case."""
    lengths, num_beams = CASES[case]
    batch = ragged_batch(lengths, args.device)
    watched: dict[str, Side] = {"native": lambda steps: native(model, batch, num_beams, steps)}
    found = watched["native"](args.steps)
    if "transformers" in args.sides:
        watched["transformers"] = lambda steps: reference(model, batch, num_beams, steps)
        check_equal(found, watched["transformers"](args.steps), 1, args.dtype)
    closed: dict[str, Side] = {}
    for name, translator in translators.items():
        closed[name] = lambda steps, run=translator: run(lengths, batch[0], num_beams, steps)
        if name == "ct2 float32" and args.dtype == "float32":
            check_best_scores(found, closed[name](args.steps))
    step_s, call_s = take_turns(watched, closed, model, args)
    row: dict[str, Any] = {
        "case": case,
        "floor_s": decoder_flops(lengths, num_beams, args.steps) / rate,
        "step_s": step_s,
        "call_s": call_s,
    }
    if not args.no_memory:
        row["peak_mb"] = {side: measured_memory_mb(side, case, args) for side in watched}
    print(json.dumps(row), file=sys.stderr, flush=True)  # a long run that is cut short keeps what it has
    return row


def take_turns(
    watched: dict[str, Side], closed: dict[str, Side], model: Any, args: argparse.Namespace
) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds of a step and of a whole call (the best round) for each side, the sides taking turns."""
    intervals: dict[str, list[float]] = {side: [] for side in watched}
    calls: dict[str, list[float]] = {side: [] for side in [*watched, *closed]}
    short: dict[str, list[float]] = {side: [] for side in closed}
    for _ in range(args.rounds):
        for side, run in watched.items():
            with step_starts(model) as starts:
                calls[side].append(seconds(run, args.steps, device=args.device))
            intervals[side] += [after - before for before, after in itertools.pairwise(starts)]
        for side, run in closed.items():
            short[side].append(seconds(run, 1, device=args.device))
            calls[side].append(seconds(run, args.steps, device=args.device))
    step_s = {side: statistics.median(values) for side, values in intervals.items()}
    step_s |= {side: (min(calls[side]) - min(short[side])) / (args.steps - 1) for side in closed}
    return step_s, {side: min(values) for side, values in calls.items()}


@contextlib.contextmanager
def step_starts(model: Any) -> Iterator[list[float]]:
    """Notes when the decoder is called, ours or the model's own."""
    starts: list[float] = []
    step = T5Decoder.step

    def watched_step(self: T5Decoder, tokens: torch.Tensor) -> torch.Tensor:
        starts.append(time.perf_counter())
        return step(self, tokens)

    hook = model.decoder.register_forward_pre_hook(lambda *_: starts.append(time.perf_counter()))
    T5Decoder.step = watched_step  # type: ignore[method-assign]
    try:
        yield starts
    finally:
        T5Decoder.step = step  # type: ignore[method-assign]
        hook.remove()


def check_best_scores(found: Any, expected: Any) -> None:
    """CTranslate2's best candidate of each state scores the same."""
    best = torch.tensor([result.scores[0] for result in expected])
    gap = float((found.log_probs[:, 0].cpu() - best).abs().max())
    assert gap < 1e-2, f"the best scores of CTranslate2 differ by {gap}"


def decoder_flops(lengths: list[int], num_beams: int, steps: int) -> float:
    """Multiplications and additions of a step: weights, and attention at the mean output length."""
    width, inner, hidden, layers = 1472, 384, 3584, 4
    weights = layers * (6 * width * inner + 3 * width * hidden) + width * VOCABULARY
    attention = layers * 2 * inner * (sum(lengths) / len(lengths) + steps / 2)
    return 2.0 * len(lengths) * num_beams * (weights + attention)


def measured_memory_mb(side: str, case: str, args: argparse.Namespace) -> float:
    """Peak memory of one search, above that of the loaded model, in a process of its own."""
    options = [f"--{name}={getattr(args, name)}" for name in ("steps", "threads", "device", "dtype")]
    return float(machine.last_line_of(__file__, "--peak-memory", side, case, *options))


def peak_memory_mb(side: str, case: str, args: argparse.Namespace) -> float:
    """See `measured_memory_mb`."""
    torch.set_num_threads(args.threads)
    model = random_byt5_small().to(args.device, getattr(torch, args.dtype))
    lengths, num_beams = CASES[case]
    batch = ragged_batch(lengths, args.device)
    run = native if side == "native" else reference
    short = batch[0][:, :8], batch[1][:, :8]
    return machine.peak_mb(
        lambda: run(model, batch, num_beams, args.steps), lambda: run(model, short, 2, 2), args.device
    )


def ct2_translators(model: Any, args: argparse.Namespace) -> dict[str, Any]:
    """CTranslate2 in float32 and int8, or nothing where it is not installed."""
    try:
        import ctranslate2
    except ImportError:
        print("ctranslate2 is not installed: left out", file=sys.stderr)
        return {}
    tokens = vocabulary(ByteTokenizer(), VOCABULARY)

    def translator(compute_type: str) -> Callable[..., Any]:
        with tempfile.TemporaryDirectory() as folder:
            convert(model, ByteTokenizer(), Path(folder) / compute_type, compute_type)
            engine = ctranslate2.Translator(
                f"{folder}/{compute_type}", device=args.device, compute_type=compute_type, intra_threads=args.threads
            )

        def run(lengths: list[int], ids: torch.Tensor, num_beams: int, steps: int) -> Any:
            source = [[tokens[i] for i in row[:n]] for row, n in zip(ids.tolist(), lengths, strict=True)]
            options = {"beam_size": num_beams, "num_hypotheses": num_beams, "length_penalty": 0}
            options |= {"max_decoding_length": steps, "min_decoding_length": steps, "max_input_length": 0}
            return engine.translate_batch(source, return_scores=True, **options)

        return run

    return {f"ct2 {compute_type}": translator(compute_type) for compute_type in ("float32", "int8")}


def report(rows: list[dict[str, Any]], rate: float, args: argparse.Namespace) -> None:
    """Prints the table, the circumstances and the JSON line."""
    others = [side for side in rows[0]["step_s"] if side != "native"]
    print(
        "| bytes x beams | floor | native |",
        *(f"{side} | ratio |" for side in others),
        "call: native |",
        *others[:1],
        "| peak MB |",
    )
    print("|---" * (5 + 2 * len(others) + 1) + "|")
    for row in rows:
        step, call = row["step_s"], row["call_s"]
        cells = [row["case"], milliseconds(row["floor_s"]), milliseconds(step["native"])]
        for side in others:
            cells += [milliseconds(step[side]), f"{step[side] / step['native']:.2f}x"]
        cells += [f"{call['native']:.2f} s", *(f"{call[side]:.2f} s" for side in others[:1])]
        cells += [" / ".join(f"{side} {size:.0f}" for side, size in row.get("peak_mb", {}).items())]
        print("|", " | ".join(cells), "|")
    facts = {"threads": args.threads, "matmul_gflops": round(rate / 1e9), **machine.facts(args.device)}
    print(json.dumps({"benchmark": "decoding", "rows": rows, **facts}))


if __name__ == "__main__":
    main()
