"""How fast does a generator train? Useful bytes a second, ours against the plain recipe.

    python tests/benchmarks/training.py path/to/coq_stdlib/random/train.json
    python tests/benchmarks/training.py path/to/train.json --model byt5-small --device cuda --dtype bfloat16 --longest

Plain: the model as transformers makes it, torch's default AdamW, 8 random examples a batch, padded to the longest.
Ours: `build_seq2seq`, `adamw_with_warmup`, batches of `LengthGroupedBatchSampler` with a budget of tokens that
holds as many useful bytes as 8 examples do on average, so that a step teaches from as much text; `--sides` has
others. Bytes are those of inputs, cut at --max-inp, and targets, with their EOS; what is padded is not useful.
The loss of each example is compared first, alone and in either side's batch. Preparing batches is not timed.

Batches cost so unequal times that a few random ones say little: each round takes every n-th of an epoch's batches,
in the order of what they cost, from another start, so that few stand for all. Sides take turns, batch by batch, so
that other load on the machine meets all alike. The limit is no padding. With `--longest`, of inputs of full length
alone, nothing is padded on any side: what is left are the model, the optimizer and the device, in model FLOPs a
second (see retrieval/flops.py).
"""

import argparse
import json
import time
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any

import machine
import numpy as np
import torch
import torch.nn.functional as F
from batching import grouped_batches, random_batches
from transformers import T5ForConditionalGeneration

from common import ByteTokenizer
from generator.architectures.encoder_decoder import build_seq2seq
from generator.data.dataset import GeneratorDataset
from retrieval.training.architectures import t5_config
from retrieval.training.batches import LengthGroupedBatchSampler
from retrieval.training.flops import count_tokens, peak_flops_per_s, token_masks, training_flops
from retrieval.training.optimizers import adamw_with_warmup

MODELS: dict[str, dict[str, Any]] = {
    "quickstart": {
        "d_model": 128,
        "d_kv": 32,
        "d_ff": 384,
        "num_heads": 4,
        "num_layers": 3,
        "num_decoder_layers": 2,
        "dropout_rate": 0.0,
    },
    "byt5-small": {
        "d_model": 1472,
        "d_kv": 64,
        "d_ff": 3584,
        "num_heads": 6,
        "num_layers": 12,
        "num_decoder_layers": 4,
        "tie_word_embeddings": False,
        "dropout_rate": 0.1,
    },
}
PLAIN_BATCH = 8  # examples
SIDES = {  # what each side does as the plain recipe does
    "plain": {"batches", "activation", "optimizer"},
    "ours": set(),
    "ours, memory of plain": set(),  # the budget is the padded tokens of 8 inputs and targets of full length
    "plain, our batches": {"activation", "optimizer"},
    "ours, plain activation": {"activation"},
    "ours, plain optimizer": {"optimizer"},
}


@dataclass
class Side:
    """A model that trains, the batches of an epoch, and what was measured, by round."""

    model: Any
    optimizer: torch.optim.Optimizer
    batches: list[list[int]]  # cheapest first
    padding: float  # share of an epoch's tokens
    seconds: list[float] = field(default_factory=list)
    useful: list[int] = field(default_factory=list)
    flops: list[int] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Useful bytes a second."""
        return sum(self.useful) / sum(self.seconds)


def main() -> None:
    """Compare, time, print Markdown rows and a JSON line."""
    args = parse_arguments()
    torch.set_num_threads(args.threads)
    dataset = GeneratorDataset(
        args.path,
        tokenizer=ByteTokenizer(),
        max_inp_seq_len=args.max_inp,
        max_oup_seq_len=args.max_oup,
        is_train=True,
        progress=False,
    )
    rows = np.arange(len(dataset))
    if args.longest:
        rows = np.flatnonzero(dataset.source_lengths >= 0.95 * args.max_inp)
    assert len(rows) >= 10 * PLAIN_BATCH, "too few examples"
    sides = {name: make_side(name, dataset, rows, args) for name in args.sides}
    difference = largest_difference(list(sides.values()), dataset, rows, args)
    print(f"{dataset.summary()}; {len(rows):,} examples used; losses differ by {difference:.1e} at most", flush=True)
    samples = {name: spread_sample(side.batches, args.batches, args.rounds) for name, side in sides.items()}
    for name, side in sides.items():  # kernels are chosen and memory is taken
        train(side, [side.batches[0], *samples[name][0][-1:]], dataset, args)
    for round_number in range(args.rounds):
        for side in sides.values():
            side.seconds.append(0)
            side.useful.append(0)
            side.flops.append(0)
        for first in range(0, args.batches, args.batches_a_turn):
            for name, side in sides.items():
                chosen = samples[name][round_number][first : first + args.batches_a_turn]
                measured = train(side, chosen, dataset, args)
                for total, value in zip((side.seconds, side.useful, side.flops), measured, strict=True):
                    total[-1] += value
    report(sides, args)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path, help="a train.json in the layout of LeanDojo Benchmark 4")
    parser.add_argument("--model", choices=MODELS, default="quickstart")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=["plain", "ours"])
    parser.add_argument("--max-inp", type=int, default=2300)
    parser.add_argument("--max-oup", type=int, default=512)
    parser.add_argument("--longest", action="store_true", help="only inputs of at least 0.95 of --max-inp")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=8, help="of each side in each round")
    parser.add_argument("--batches-a-turn", type=int, help="1 on a CPU; 8 on a GPU, which is waited for in between")
    machine.add_arguments(parser, bfloat16="autocast")
    args = parser.parse_args()
    args.batches_a_turn = args.batches_a_turn or (1 if args.device == "cpu" else 8)
    return args


# ---------------------------------------------------------------------------------------------- the sides


def make_side(name: str, dataset: GeneratorDataset, rows: np.ndarray, args: argparse.Namespace) -> Side:
    """Build one side; all start from the same weights."""
    plain = SIDES[name]
    torch.manual_seed(0)
    weights = T5ForConditionalGeneration(t5_config(MODELS[args.model], ByteTokenizer())).state_dict()
    architecture = MODELS[args.model]
    model = (
        T5ForConditionalGeneration(t5_config(architecture, ByteTokenizer()))
        if "activation" in plain
        else build_seq2seq(architecture)
    )
    model.load_state_dict(weights)
    model.to(args.device).train()
    lr = 1e-4
    if "optimizer" in plain:
        optimizer: Any = torch.optim.AdamW(model.parameters(), lr=lr)
    else:
        optimizer = adamw_with_warmup(model.parameters(), lr, warmup_steps=1)["optimizer"]
    lengths = dataset.source_lengths[rows], dataset.target_lengths[rows]
    if "batches" in plain:
        batches = random_batches(len(rows), PLAIN_BATCH)
    else:
        batches = grouped_batches(LengthGroupedBatchSampler(*lengths, max_tokens=budget(name, *lengths, args)))
    shapes = np.array([(len(batch), *(int(which[batch].max()) for which in lengths)) for batch in batches])
    num_padded = int((shapes[:, 0] * (shapes[:, 1] + shapes[:, 2])).sum())
    useful = sum(int(which[batch].sum()) for batch in batches for which in lengths)
    order = np.argsort(padded_flops(model, shapes), kind="stable")
    return Side(model, optimizer, [rows[batches[i]].tolist() for i in order], 1 - useful / num_padded)


def padded_flops(model: Any, shapes: np.ndarray) -> np.ndarray:
    """What batches of (examples, source length, target length) cost with their padding."""
    examples, source, target = shapes.T.astype(float)
    costs = training_flops(model)
    assert costs is not None
    counts = (source, source**2, target, target**2, source * target, target)
    return examples * sum(cost * count for cost, count in zip(astuple(costs), counts, strict=True))


def budget(name: str, sources: np.ndarray, targets: np.ndarray, args: argparse.Namespace) -> int:
    """Padded tokens of a batch of ours."""
    longest = int((sources + targets).max())
    if name == "ours, memory of plain":
        return max(longest, PLAIN_BATCH * (args.max_inp + args.max_oup))
    useful = PLAIN_BATCH * float((sources + targets).mean())
    tokens = useful
    for _ in range(3):  # what is padded, and what the last example of a batch leaves free, comes on top
        sampler = LengthGroupedBatchSampler(sources, targets, max_tokens=max(longest, round(tokens)))
        tokens *= useful / (float((sources + targets).sum()) / len(sampler))
    return max(longest, round(tokens))


def spread_sample(batches: list[list[int]], num_batches: int, num_rounds: int) -> list[list[list[int]]]:
    """For each round, batches spread evenly over the cheap and the dear; rounds are offset to one another.

    A round is shuffled, so that sides do not all meet their dearest batch at the same time.
    """
    rng = np.random.default_rng(2)
    sample = []
    for round_number in range(num_rounds):
        offset = (round_number + 0.5) / num_rounds
        places = ((np.arange(num_batches) + offset) * len(batches) / num_batches).astype(int)
        sample.append([batches[place] for place in rng.permutation(places)])
    return sample


# ------------------------------------------------------------------------------------------------ equality


def largest_difference(
    sides: list[Side], dataset: GeneratorDataset, rows: np.ndarray, args: argparse.Namespace
) -> float:
    """Check that an example's loss is the same on every side, in a mixed batch, and alone.

    Returns:
        the largest difference of a mean loss over an example's target, in float32
    """
    chosen = np.random.default_rng(1).choice(rows, PLAIN_BATCH, replace=False).tolist()
    found = []
    for side in sides:
        found.append(losses(side.model, dataset, chosen, args.device))
        found.append(torch.cat([losses(side.model, dataset, [index], args.device) for index in chosen]))
    difference = float((torch.stack(found) - found[0]).abs().max())
    assert difference < 1e-4, f"the sides' losses differ by {difference}"
    return difference


@torch.no_grad()
def losses(model: Any, dataset: GeneratorDataset, indices: list[int], device: str) -> torch.Tensor:
    """Mean loss over the target of each example, without dropout."""
    batch = dataset.collate(dataset[indices])
    labels = batch["tactic_ids"].to(device)
    model.eval()
    logits = model(batch["state_ids"].to(device), batch["state_mask"].to(device), labels=labels).logits
    model.train()
    by_token = F.cross_entropy(logits.transpose(1, 2).float(), labels, reduction="none")
    return (by_token.sum(dim=1) / (labels >= 0).sum(dim=1)).cpu()


# -------------------------------------------------------------------------------------------------- timing


def train(
    side: Side, chosen: list[list[int]], dataset: GeneratorDataset, args: argparse.Namespace
) -> tuple[float, int, int]:
    """Prepare batches, then train on them against the clock.

    Returns:
        seconds, useful bytes, model FLOPs
    """
    batches = [dataset.collate(dataset[indices]) for indices in chosen]
    on_device = [{k: v.to(args.device) for k, v in b.items() if isinstance(v, torch.Tensor)} for b in batches]
    machine.wait(args.device)
    start = time.perf_counter()
    for batch in on_device:
        train_step(side, batch, args)
    machine.wait(args.device)
    seconds = time.perf_counter() - start
    costs = training_flops(side.model)
    assert costs is not None
    masks = [token_masks(batch) for batch in batches]
    useful = sum(int(mask.count_nonzero()) for found in masks for mask in found.values())
    return seconds, useful, sum(costs.total(count_tokens(found, "tactic_mask").tolist()) for found in masks)


def train_step(side: Side, batch: dict[str, torch.Tensor], args: argparse.Namespace) -> None:
    """One step as Lightning takes it."""
    with torch.autocast(args.device, dtype=torch.bfloat16, enabled=args.dtype == "bfloat16"):
        loss = side.model(batch["state_ids"], batch["state_mask"], labels=batch["tactic_ids"]).loss
    side.optimizer.zero_grad()
    loss.backward()
    side.optimizer.step()


# -------------------------------------------------------------------------------------------------- report


def report(sides: dict[str, Side], args: argparse.Namespace) -> None:
    """Print a row for each side, and the JSON line."""
    peak = peak_flops_per_s(torch.device(args.device))
    base = next(iter(sides.values()))
    num_steps = args.rounds * args.batches
    result = []
    print(
        f"\n| {args.model}, {args.device}, {args.dtype} | useful bytes a step | padding | useful bytes/s "
        "| ratio | by round | model GFLOP/s | MFU |\n|---|--:|--:|--:|--:|--:|--:|--:|"
    )
    for name, side in sides.items():
        ratios = [
            (useful / seconds) / (base_useful / base_seconds)
            for useful, seconds, base_useful, base_seconds in zip(
                side.useful, side.seconds, base.useful, base.seconds, strict=True
            )
        ]
        flops_per_s = sum(side.flops) / sum(side.seconds)
        row = {
            "side": name,
            "attention": side.model.config._attn_implementation,
            "batches_an_epoch": len(side.batches),
            "useful_bytes_per_step": sum(side.useful) / num_steps,
            "padding_share": side.padding,
            "useful_bytes_per_s": side.rate,
            "ratio": side.rate / base.rate,
            "ratio_by_round": ratios,
            "seconds_per_step": sum(side.seconds) / num_steps,
            "model_flops_per_s": flops_per_s,
            "mfu": flops_per_s / peak if peak else None,
        }
        result.append(row)
        print(
            f"| {name} | {row['useful_bytes_per_step']:,.0f} | {side.padding:.1%} | {side.rate:,.0f} "
            f"| {row['ratio']:.2f}x | {min(ratios):.2f} to {max(ratios):.2f} | {flops_per_s / 1e9:,.1f} | "
            + (f"{row['mfu']:.1%} |" if peak else "- |")
        )
    options = {key: str(value) if isinstance(value, Path) else value for key, value in vars(args).items()}
    print(json.dumps({"rows": result, "options": options, **machine.facts(args.device)}))


if __name__ == "__main__":
    main()
