"""The loss of generators on the same steps of a split, for each byte of tactics.

python tests/benchmarks/loss_per_byte.py runs/coq_small/version_0/checkpoints/last.ckpt ... --split val

A loss for each token depends on how many bytes a token has; this one compares bytes, pieces and pretrained models. The
end of a tactic counts as a byte. It tells small changes of training apart where a top-k accuracy of a few hundred steps
does not. Each checkpoint is given its own data: how long inputs are and what stands in front of states is as in its
training. Steps whose tactic a checkpoint may not write, as it is too long, count neither in loss nor in bytes.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common import IGNORE_INDEX
from generator.causal import CausalGenerator
from generator.datamodule import GeneratorDataModule
from generator.instruct_datamodule import InstructDataModule
from generator.load import load_generator
from retrieval.training.checkpoints import read_checkpoint


def main() -> None:
    """Print a line for each checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", type=Path, nargs="+")
    parser.add_argument("--split", choices=["train", "val"], default="val")
    parser.add_argument("--num_steps", type=int, default=1024)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data_path", help="of the split, where it is not that of the training")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    args = parser.parse_args()
    for path in args.paths:
        options = read_checkpoint(path)["datamodule_hyper_parameters"]
        if args.data_path is not None:
            options["data_path"] = args.data_path
        model: Any = load_generator(path, dtype=args.dtype).eval()
        kind = InstructDataModule if isinstance(model, CausalGenerator) else GeneratorDataModule
        data = kind(**options)
        data.setup("validate" if args.split == "val" else "fit")
        print(path, measured(model, data.datasets[args.split], args.num_steps, args.seed))


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
        labels = batch["labels"] if "labels" in batch else batch["tactic_ids"]
        is_labelled = (labels != IGNORE_INDEX).any(dim=1).tolist()
        num_bytes += sum(
            len(tactic.encode()) + 1 for tactic, is_one in zip(batch["tactic"], is_labelled, strict=True) if is_one
        )
    return f"{loss / num_bytes:.4f} a byte, {loss / tokens:.4f} a token; {num_bytes:,} bytes, {tokens:,} tokens"


if __name__ == "__main__":
    main()
