"""How much of a batch is padding? Batches of similar length against random batches of 8.

    python tests/benchmarks/batching.py [path/to/train.json]

Both sides show every example once an epoch (checked first); inputs are cut at 2,300 bytes, targets over 512
bytes are left out. The limit is no padding. `shared` tells how well batches are shuffled: the largest share
of a batch that was together in one batch of the epoch before, averaged over batches (1 would mean that
batches never change).
"""

import json
from collections import Counter
from collections.abc import Iterable

import numpy as np
from traces_file import train_json

from common import ByteTokenizer
from generator.data.dataset import GeneratorDataset
from retrieval.training.batches import LengthGroupedBatchSampler

MAX_INP, MAX_OUP = 2300, 512
Batches = list[list[int]]


def random_batches(num_examples: int, batch_size: int, epoch: int = 0) -> Batches:
    """One epoch, as a shuffling DataLoader draws it."""
    order = np.random.default_rng(epoch).permutation(num_examples)
    return [batch.tolist() for batch in np.array_split(order, range(batch_size, num_examples, batch_size))]


def grouped_batches(sampler: LengthGroupedBatchSampler, epoch: int = 0) -> Batches:
    """One epoch of ours."""
    sampler.set_epoch(epoch)
    return [[index for _, index in keys] for keys in sampler]


def padding(batches: Batches, lengths: Iterable[np.ndarray]) -> float:
    """Share of padding in the padded lengths of all batches."""
    lengths = list(lengths)
    useful = sum(int(x.sum()) for x in lengths)
    return 1 - useful / sum(len(batch) * int(x[batch].max()) for batch in batches for x in lengths)


def shared(batches: Batches, previous: Batches) -> float:
    """Mean over batches of the largest share that comes from one batch of the previous epoch."""
    home = {index: number for number, batch in enumerate(previous) for index in batch}
    return float(np.mean([max(Counter(home[i] for i in b).values()) / len(b) for b in batches]))


def main() -> None:
    """Check, count, print a Markdown table and a JSON line."""
    options = {"max_inp_seq_len": MAX_INP, "max_oup_seq_len": MAX_OUP, "is_train": True}
    with train_json(__doc__) as path:
        dataset = GeneratorDataset(path, tokenizer=ByteTokenizer(), **options)
    source, target = dataset.source_lengths, dataset.target_lengths
    sides = {"random, 8 examples": [random_batches(len(dataset), 8, epoch) for epoch in (0, 1)]}
    for name, limit in (
        ("grouped, 8 examples", {"batch_size": 8}),
        ("grouped, 16,384 tokens", {"max_tokens": 16_384}),
        ("grouped, 32,768 tokens", {"max_tokens": 32_768}),
    ):
        sampler = LengthGroupedBatchSampler(source, target, **limit)
        sides[name] = [grouped_batches(sampler, epoch) for epoch in (0, 1)]
    for batches in sides.values():
        assert all(sorted(sum(epoch, [])) == list(range(len(dataset))) for epoch in batches)
    print(dataset.summary() + "\n")
    print("| batches | an epoch | padding of input | of target | of both | shared |\n|---|--:|--:|--:|--:|--:|")
    result = {}
    for name, (first, second) in sides.items():
        shares = [padding(second, which) for which in ([source], [target], [source, target])]
        result[name] = {"batches": len(second), "padding": shares, "shared": shared(second, first)}
        print(f"| {name} | {len(second):,} | " + " | ".join(f"{100 * s:.1f}%" for s in shares), end=" | ")
        print(f"{result[name]['shared']:.2f} |")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
