"""The loss of encoder-decoders on the same steps of a split, for each byte of tactics.

python tests/benchmarks/loss_per_byte.py runs/coq_small/version_0/checkpoints/last.ckpt ... --split val

A loss for each token depends on how many bytes a token has; this one compares bytes and pieces. The end of a tactic
counts as a byte. It tells small changes of training apart where a top-k accuracy of a few hundred steps does not. Each
checkpoint is given its own data: how long inputs are and what stands in front of states is as in its training.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch

from generator.datamodule import GeneratorDataModule
from generator.load import load_generator
from retrieval.training.checkpoints import read_checkpoint


def main() -> None:
    """Print a line for each checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", type=Path, nargs="+")
    parser.add_argument("--split", choices=["train", "val"], default="val")
    parser.add_argument("--num_steps", type=int, default=1024)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    for path in args.paths:
        data = GeneratorDataModule(**read_checkpoint(path)["datamodule_hyper_parameters"])
        data.setup("validate" if args.split == "val" else "fit")
        print(path, measured(load_generator(path).eval(), data.datasets[args.split], args.num_steps, args.seed))


@torch.no_grad()
def measured(model: Any, dataset: Any, num_steps: int, seed: int) -> str:
    """The losses of steps that are drawn by seed."""
    drawn = np.random.default_rng(seed).choice(len(dataset), min(num_steps, len(dataset)), replace=False)
    by_length = sorted(drawn.tolist(), key=lambda number: int(dataset.source_lengths[number]))
    loss, tokens, num_bytes = 0.0, 0, 0
    for first in range(0, len(by_length), 32):
        batch = dataset.collate([dataset.example(0, number) for number in by_length[first : first + 32]])
        mean, number = model.loss_of(batch)
        loss, tokens = loss + float(mean) * number, tokens + number
        num_bytes += sum(len(tactic.encode()) + 1 for tactic in batch["tactic"])
    return f"{loss / num_bytes:.4f} a byte, {loss / tokens:.4f} a token; {num_bytes:,} bytes, {tokens:,} tokens"


if __name__ == "__main__":
    main()
