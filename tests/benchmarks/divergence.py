"""What does it cost to see that a run has diverged? Against writing the checkpoint that is guarded.

    python tests/benchmarks/divergence.py

300 MB of weights are looked at by their sums, as we do, and one by one; both sides must answer the same, for weights
that are finite and that are not. Sides take turns on one core; a side's time is its median round. The losses of 50
batches are looked at together.
"""

import json
import statistics
import tempfile
from pathlib import Path

import torch
from machine import facts, seconds

from retrieval.training.checkpoint_files import WholeFileCheckpointIO
from retrieval.training.divergence import are_finite


def one_by_one(weights: list[torch.Tensor]) -> bool:
    """The same answer, from each number."""
    return bool(torch.stack([weight.isfinite().all() for weight in weights]).all())


def main() -> None:
    """Compare, time, print a Markdown row and a JSON line."""
    torch.set_num_threads(1)
    weights = [torch.randn(1024, 1024) for _ in range(75)]
    bad = [*weights[:-1], weights[-1].clone()]
    bad[-1][7, 7] = float("nan")
    assert are_finite(weights) == one_by_one(weights) is True and are_finite(bad) == one_by_one(bad) is False
    losses = [torch.rand(()) for _ in range(50)]
    with tempfile.TemporaryDirectory() as folder:
        write = WholeFileCheckpointIO().save_checkpoint
        rounds = [
            (
                seconds(are_finite, weights),
                seconds(one_by_one, weights),
                seconds(write, {"weights": weights}, Path(folder, "last.ckpt")),
                seconds(lambda: torch.stack(losses).isfinite().tolist()) / len(losses),
            )
            for _ in range(7)
        ]
    sums, single, written, loss = (statistics.median(times) for times in zip(*rounds, strict=True))
    print("| sums | one by one | writing | sums, of writing | losses, a batch |\n|---:|---:|---:|---:|---:|")
    print(f"| {sums:.3f} s | {single:.3f} s | {written:.3f} s | {sums / written:.3f} | {loss * 1e6:.1f} µs |")
    times = {"sums_s": sums, "one_by_one_s": single, "writing_s": written, "loss_s": loss}
    print(json.dumps({**times, "share_of_writing": sums / written, **facts()}))


if __name__ == "__main__":
    main()
