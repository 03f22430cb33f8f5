"""How fast and in how much memory does training go on a GPU? Ours as it is and as it was, and the plain recipe.

    python tests/benchmarks/gpu_training.py --output training.md
    python tests/benchmarks/gpu_training.py --device cpu --tiny

Sides: "before" attends with sdpa over padded batches, nothing compiled; "now" as `attention: auto` and `compile` do on
CUDA: one row without padding, blocks, compiled layers; "plain" is a model of transformers with its own loss, torch's
AdamW, and batches padded to the longest (of random examples, where lengths differ). All in bf16-mixed (float32 on a
CPU), gradients clipped. Models have random weights, data are random bytes; nothing is downloaded.

Each row is a process of its own with a time limit. The losses of a batch are compared before anything is timed. A step
is everything from a padded batch on the CPU to new weights. MFU counts what the model needs for tokens that are no
padding (retrieval/training/flops.py) against the peak of the data sheet. The limit is MFU 100%.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import machine
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from generator.causal import CausalGenerator
from generator.model import RetrievalAugmentedGenerator
from retrieval.encoder import encode_tokens
from retrieval.model import PremiseRetriever
from retrieval.training.acceleration import compile_layers
from retrieval.training.batches import LengthGroupedBatchSampler
from retrieval.training.flat_rows import FlatRow
from retrieval.training.flops import count_tokens, peak_flops_per_s, token_masks, trained_tokens, training_flops
from retrieval.training.optimizers import adamw_with_warmup

SIDES = ("before", "now", "plain")
LIMIT_S = 110.0  # of a row; two minutes of compiling would be a fault
TOTAL_S = 295.0
ROWS = {
    "byt5-small": "byt5-small, 8 x 2,300 bytes",
    "scratch": "scratch generator of 43 M, 65,536 tokens of up to 1,024",
    "retriever": "retriever of 15 M, 128 contexts and 512 premises",
    "decoder-only": "decoder-only 135 M (Llama, 49,152 tokens), packed at 2,048, 65,536 tokens",
}
BYT5_SMALL = {"d_model": 1472, "d_kv": 64, "d_ff": 3584, "num_heads": 6, "num_layers": 12, "num_decoder_layers": 4}
BYT5_SMALL |= {"tie_word_embeddings": False}
SCRATCH = {"d_model": 512, "d_kv": 64, "d_ff": 1024, "num_heads": 8, "num_layers": 11, "num_decoder_layers": 4}
ENCODER = {"d_model": 384, "d_kv": 64, "d_ff": 1024, "num_heads": 6, "num_layers": 8}
LLAMA = {"model_type": "llama", "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30}
LLAMA |= {"num_attention_heads": 9, "num_key_value_heads": 3, "head_dim": 64, "vocab_size": 49_152}
LLAMA |= {"tie_word_embeddings": True, "max_position_embeddings": 4096}
TINY_T5 = {"d_model": 32, "d_kv": 16, "d_ff": 32, "num_heads": 2, "num_layers": 2, "num_decoder_layers": 1}
TINY_LLAMA = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
TINY_LLAMA |= {"num_key_value_heads": 1, "head_dim": 16, "vocab_size": 500}


@dataclass
class Row:
    """A model, batches of each side, and what the plain recipe makes of a batch.

    Attributes:
        build: a model of ours with an attention
        batches: padded, on the CPU, by side; of one side all alike in useful tokens
        plain_loss: of the model that ours holds, and a batch on the device
        network: of transformers, in a model of ours
    """

    build: Callable[[str], Any]
    batches: dict[str, list[dict[str, Any]]]
    plain_loss: Callable[[Any, dict[str, Any]], Tensor]
    network: Callable[[Any], Any]


def main() -> None:
    """Run every row in a process of its own, or one row in this."""
    args = parse_arguments()
    if args.row:
        run_row(args)
        return
    start, found = time.perf_counter(), dict[str, dict[str, Any]]()
    for row in args.rows:
        left = args.total_s - (time.perf_counter() - start)
        found[row] = in_own_process(row, args, min(args.row_s, left))
        # said after each row: whoever ends this for its time keeps those that are measured
        if args.output:
            args.output.write_text(table(found) + "\n", encoding="utf-8")
        said = json.dumps({**machine.facts(args.device), "rows": found})
        print(said, flush=True)
    print(table(found))
    print(said)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--tiny", action="store_true", help="tiny models and batches, to try the script on a CPU")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--steps", type=int, default=6, help="timed, after as many that are not")
    parser.add_argument("--row-s", type=float, default=LIMIT_S, help="seconds that a row may take")
    parser.add_argument("--total-s", type=float, default=TOTAL_S, help="seconds that all rows may take")
    parser.add_argument("--output", type=Path, help="file for the table, in Markdown")
    parser.add_argument("--row", choices=ROWS, help=argparse.SUPPRESS)
    return parser.parse_args()


def in_own_process(row: str, args: argparse.Namespace, limit_s: float) -> dict[str, Any]:
    """What each side of a row measured, or why it did not."""
    command = [sys.executable, __file__, "--row", row, "--device", args.device, "--steps", str(args.steps)]
    command += ["--sides", *args.sides, *(["--tiny"] if args.tiny else [])]
    reason = f"over its time limit of {limit_s:.0f} s"
    try:
        run = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=max(1.0, limit_s))
        output, reason = run.stdout, f"ended with status {run.returncode}"
    except subprocess.TimeoutExpired as error:
        output = (error.stdout or b"").decode() if isinstance(error.stdout, bytes) else error.stdout or ""
    said = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    measured = {line.pop("side"): line for line in said}
    return {side: measured.get(side, {"error": reason}) for side in args.sides}


# ------------------------------------------------------------------------------------------------ one row


def run_row(args: argparse.Namespace) -> None:
    """Compare the sides' losses, time each, and print a JSON line for each as soon as it is known."""
    torch.set_float32_matmul_precision("high")
    row = MAKERS[args.row](args.tiny)
    check_losses(row, args)
    for side in args.sides:
        try:
            print(json.dumps({"side": side, **measured(row, side, args)}), flush=True)
        except torch.OutOfMemoryError:
            print(json.dumps({"side": side, "error": "out of memory"}), flush=True)
        if args.device == "cuda":
            torch.cuda.empty_cache()


def loss_of(row: Row, side: str, model: Any, batch: dict[str, Any], args: argparse.Namespace) -> Tensor:
    """The loss of a padded batch on the CPU."""
    if side != "plain":
        batch = model.prepare_batch(batch)
    moved = {name: to_device(value, args.device) for name, value in batch.items()}
    with torch.autocast("cuda", torch.bfloat16, enabled=args.device == "cuda"):
        if side == "plain":
            return row.plain_loss(model, moved)
        if isinstance(model, PremiseRetriever):
            contexts, premises = model._encoded(moved)
            return mse_loss(contexts @ premises.T, moved["labels"].float())
        return model.loss_of(moved)[0]


def to_device(value: Any, device: str) -> Any:
    """A batch's entry as a trainer moves it."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, FlatRow):
        return FlatRow(*(to_device(part, device) for part in value))
    return [to_device(part, device) for part in value] if isinstance(value, list) else value


def made(row: Row, side: str, args: argparse.Namespace) -> Any:
    """A model of a side; all have the same weights."""
    torch.manual_seed(0)
    return row.build("flex" if side == "now" else "sdpa").to(args.device)


def check_losses(row: Row, args: argparse.Namespace) -> None:
    """Assert that all sides find the same loss of a batch."""
    batch = row.batches["before"][0]
    small = {name: value[:2] for name, value in batch.items() if name not in ("premise_ids", "premise_mask", "labels")}
    if "premise_ids" in batch:
        small |= {"premise_ids": batch["premise_ids"][:4], "premise_mask": batch["premise_mask"][:4]}
        small |= {"labels": batch["labels"][:2, :4]}
    elif "labels" in batch:
        small["labels"] = batch["labels"][:2]
    losses = []
    with torch.no_grad():
        for side in args.sides:
            losses.append(float(loss_of(row, side, made(row, side, args).eval(), small, args)))
    assert max(losses) - min(losses) <= 0.02 * abs(losses[0]), f"losses differ: {losses}"


def measured(row: Row, side: str, args: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds of a step, MFU, memory at the peak, and seconds of compiling."""
    model = made(row, side, args).train()
    if side == "now" and args.device == "cuda":
        compile_layers(row.network(model))
    optimizer = (
        torch.optim.AdamW(model.parameters(), lr=1e-4)
        if side == "plain"
        else adamw_with_warmup(model.parameters(), 1e-4, 1)["optimizer"]
    )
    batches = row.batches[side]

    def step(batch: dict[str, Any]) -> float:
        start = time.perf_counter()
        optimizer.zero_grad()
        loss_of(row, side, model, batch, args).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        machine.wait(args.device)
        return time.perf_counter() - start

    warm = sum(step(batches[i % len(batches)]) for i in range(args.steps))
    if args.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds = [step(batches[i % len(batches)]) for i in range(args.steps)]
    flops = [flops_of(model, batches[i % len(batches)]) for i in range(args.steps)]
    peak = peak_flops_per_s(torch.device(args.device))
    return {
        "ms": 1e3 * statistics.mean(seconds),
        "tflops_per_s": sum(flops) / sum(seconds) / 1e12,
        "mfu": None if peak is None else sum(flops) / sum(seconds) / peak,
        "tokens_per_s": sum(tokens_of(batches[i % len(batches)]) for i in range(args.steps)) / sum(seconds),
        "peak_gb": torch.cuda.max_memory_allocated() / 1e9 if args.device == "cuda" else None,
        "first_steps_s": warm,
    }


def flops_of(model: Any, batch: dict[str, Any]) -> int:
    """Model FLOPs of a padded batch; for packed rows, of their examples."""
    costs = training_flops(model)
    assert costs is not None
    counts = count_tokens(token_masks(batch), getattr(model, "target_mask", None), trained_tokens(batch))
    return costs.total(counts.tolist())


def tokens_of(batch: dict[str, Any]) -> int:
    """Tokens that are no padding."""
    return sum(int((mask > 0).sum()) for mask in token_masks(batch).values())


# ---------------------------------------------------------------------------------------------- the models


def padded(lengths: list[int], generator: torch.Generator, most: int) -> tuple[Tensor, Tensor]:
    """Random tokens and their mask."""
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    return torch.randint(3, most, mask.shape, generator=generator) * mask, mask


def steps_of(sources: list[int], targets: list[int], seed: int) -> dict[str, Any]:
    """A batch of states and tactics of these lengths."""
    generator = torch.Generator().manual_seed(seed)
    (source, source_mask), (target, target_mask) = (padded(n, generator, 259) for n in (sources, targets))
    ids = {"state_ids": source, "state_mask": source_mask, "tactic_mask": target_mask}
    return {**ids, "tactic_ids": target.masked_fill(target_mask == 0, -100)}


def encoder_decoder(architecture: dict[str, Any], max_length: int, batches: dict[str, Any]) -> Row:
    """A row of an encoder-decoder."""

    def build(attention: str) -> Any:
        limits = {"max_inp_seq_len": max_length, "max_oup_seq_len": 512}
        return RetrievalAugmentedGenerator({**architecture, "dropout_rate": 0.1}, attention=attention, **limits)

    def plain_loss(model: Any, batch: dict[str, Any]) -> Tensor:
        inputs = {"input_ids": batch["state_ids"], "attention_mask": batch["state_mask"]}
        loss: Tensor = model.generator(**inputs, labels=batch["tactic_ids"]).loss
        return loss

    return Row(build, batches, plain_loss, lambda model: model.generator)


def byt5_small(tiny: bool) -> Row:
    """Eight inputs of full length."""
    batch = steps_of([300] * 2, [20] * 2, 0) if tiny else steps_of([2300] * 8, [64] * 8, 0)
    return encoder_decoder(TINY_T5 if tiny else BYT5_SMALL, 2300, {side: [batch] for side in SIDES})


def scratch(tiny: bool) -> Row:
    """Batches of a budget of tokens, of inputs of all lengths."""
    rng = np.random.default_rng(0)
    count, budget, most = (200, 2048, 200) if tiny else (20_000, 65_536, 1024)
    sources = np.minimum(rng.lognormal(5.5, 0.9, count), most).astype(int) + 1
    targets = np.minimum(rng.lognormal(3.2, 0.7, count), most // 4).astype(int) + 1

    def some(padded: bool) -> list[dict[str, Any]]:
        sampler = LengthGroupedBatchSampler(sources, targets, max_tokens=budget, padded=padded)
        chosen = sampler.batches(0)[:4]
        return [steps_of(sources[rows].tolist(), targets[rows].tolist(), i) for i, rows in enumerate(chosen)]

    rows_at_once = max(2, budget // (most + most // 4))
    plain = [rng.integers(0, count, rows_at_once) for _ in range(4)]
    batches = {"before": some(True), "now": some(False)}
    batches["plain"] = [steps_of(sources[rows].tolist(), targets[rows].tolist(), 9) for rows in plain]
    return encoder_decoder(TINY_T5 if tiny else SCRATCH, 1025, batches)


def retriever(tiny: bool) -> Row:
    """Contexts with four premises each."""
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    count, most = (4, 100) if tiny else (128, 1023)
    contexts = (np.minimum(rng.lognormal(5.5, 0.9, count), most).astype(int) + 1).tolist()
    premises = (np.minimum(rng.lognormal(4.8, 0.7, 4 * count), most).astype(int) + 1).tolist()
    batch: dict[str, Any] = {"state": ["x"] * count, "labels": torch.eye(count).repeat_interleave(4, 1)}
    for name, lengths in (("state", contexts), ("premise", premises)):
        batch[f"{name}_ids"], batch[f"{name}_mask"] = padded(lengths, generator, 259)
    architecture = {key: value for key, value in TINY_T5.items() if key != "num_decoder_layers"} if tiny else ENCODER

    def plain_loss(model: Any, batch: dict[str, Any]) -> Tensor:
        vectors = [encode_tokens(model.encoder, batch[f"{name}_ids"], batch[f"{name}_mask"]) for name in NAMES]
        return mse_loss(vectors[0] @ vectors[1].T, batch["labels"].float())

    def build(attention: str) -> Any:
        return PremiseRetriever({**architecture, "dropout_rate": 0.1}, attention=attention)

    return Row(build, {side: [batch] for side in SIDES}, plain_loss, lambda model: model.encoder)


NAMES = ("state", "premise")


def decoder_only(tiny: bool) -> Row:
    """Packed rows, of which a third of each example is trained; the plain recipe has causal rows instead."""
    rows, width, example = (2, 256, 64) if tiny else (32, 2048, 256)
    architecture = {**LLAMA, **(TINY_LLAMA if tiny else {})}
    generator = torch.Generator().manual_seed(0)
    ids, mask = padded([width] * rows, generator, int(architecture["vocab_size"]))
    places = torch.arange(width).expand(rows, width)
    labels = ids.masked_fill(places % example < example * 2 // 3, -100)
    batch = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    packed = {**batch, "position_ids": places % example, "segment_ids": places // example + 1}

    def plain_loss(model: Any, batch: dict[str, Any]) -> Tensor:
        chosen = {name: batch[name] for name in ("input_ids", "labels")}
        if "segment_ids" in batch:  # the loss is compared over examples apart, as they are in packed rows
            chosen = {name: value.reshape(-1, example) for name, value in chosen.items()}
        loss: Tensor = model.generator(**chosen, use_cache=False).loss
        return loss

    def build(attention: str) -> Any:
        limits = {"max_seq_len": width, "max_completion_len": width // 2}
        return CausalGenerator(dict(architecture), attention=attention, template="llmstep", **limits)

    return Row(
        build, {"before": [packed], "now": [packed], "plain": [packed]}, plain_loss, lambda model: model.generator
    )


MAKERS: dict[str, Callable[[bool], Row]] = {
    "byt5-small": byt5_small,
    "scratch": scratch,
    "retriever": retriever,
    "decoder-only": decoder_only,
}


# ------------------------------------------------------------------------------------------------ the table


def table(found: dict[str, dict[str, Any]]) -> str:
    """The rows in Markdown."""
    lines = ["| training | side | ms a step | useful tokens/s | MFU | peak GB | first steps, compiling included |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for row, sides in found.items():
        for side, value in sides.items():
            lines.append(f"| {ROWS[row]} | {side} | {cells(value)} |")
    return "\n".join(lines)


def cells(value: dict[str, Any]) -> str:
    """What was measured of a side, or why it was not."""
    if "error" in value:
        return f"{value['error']} | | | | "
    mfu = f"{value['tflops_per_s']:.3g} TFLOP/s" if value["mfu"] is None else f"{value['mfu']:.1%}"
    memory = "" if value["peak_gb"] is None else f"{value['peak_gb']:.1f}"
    speed = f"{value['ms']:.1f} | {value['tokens_per_s']:,.0f}"
    return f"{speed} | {mfu} | {memory} | {value['first_steps_s']:.1f} s"


if __name__ == "__main__":
    main()
