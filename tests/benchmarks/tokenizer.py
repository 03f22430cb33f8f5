"""How fast are bytes tokenized? Ours against transformers.ByT5Tokenizer; the limit is a memory copy.

    python tests/benchmarks/tokenizer.py

A batch of 64 states of 1 KB becomes padded int64 tensors with a mask, on one core. Outputs are compared
before anything is timed; the sides take turns; a side's time is its median round.
"""

import json
import random
import statistics
import time

import numpy as np
import torch
import transformers

from common import ByteTokenizer

SYMBOLS = "abcdefghij xyz():=<>∀∃→↔∧∨¬⊢ℕℝ₀₁'αβ\n"


def states(num: int, num_bytes: int) -> list[str]:
    """Random states of about num_bytes bytes of UTF-8."""
    rng = random.Random(0)
    return ["".join(rng.choices(SYMBOLS, k=int(num_bytes / 1.45))) for _ in range(num)]


def seconds(function, repeats: int) -> float:
    """Mean time of a call."""
    start = time.perf_counter()
    for _ in range(repeats):
        function()
    return (time.perf_counter() - start) / repeats


def main() -> None:
    """Compare, time, print a Markdown row and a JSON line."""
    torch.set_num_threads(1)
    batch = states(64, 1024)
    num_bytes = sum(len(text.encode()) for text in batch)
    reference, ours = transformers.ByT5Tokenizer(), ByteTokenizer()
    options = {"padding": True, "return_tensors": "pt"}
    expected, got = reference(batch, **options), ours(batch, **options)
    assert all(torch.equal(expected[key], got[key]) for key in ("input_ids", "attention_mask"))
    source = got["input_ids"].numpy()
    target = np.empty_like(source)

    def copy() -> None:  # ids and mask must at least be written
        np.copyto(target, source)
        np.copyto(target, source)

    rounds = [
        (
            seconds(lambda: reference(batch, **options), 3),
            seconds(lambda: ours(batch, **options), 300),
            seconds(copy, 300),
        )
        for _ in range(7)
    ]
    slow, fast, limit = (statistics.median(times) for times in zip(*rounds, strict=True))
    rates = [num_bytes / t / 1e6 for t in (slow, fast, limit)]
    print("| transformers, MB/s | ours, MB/s | memory copy, MB/s | ratio |\n|---:|---:|---:|---:|")
    print(f"| {rates[0]:.2f} | {rates[1]:.0f} | {rates[2]:.0f} | {slow / fast:.0f}x |")
    print(json.dumps({"transformers_s": slow, "ours_s": fast, "copy_s": limit, "ratio": slow / fast}))


if __name__ == "__main__":
    main()
