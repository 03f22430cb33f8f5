"""How far does one get without reading the state? The most frequent tactics of train, proposed for every state of val.

python tests/benchmarks/majority.py data/propositional/random
"""

import json
import sys
from collections import Counter
from pathlib import Path

from common import remove_marks
from generator.training.metrics import TopkAccuracy
from retrieval.leandojo.traces import TracedTactics

NUM_CANDIDATES = 8


def main() -> None:
    """Print top-k for every k, and a JSON line."""
    folder = Path(sys.argv[1])
    train, val = (
        [remove_marks(step.tactic) for step in TracedTactics.load(folder / f"{split}.json")]
        for split in ("train", "val")
    )
    most_frequent = [tactic for tactic, _ in Counter(train).most_common(NUM_CANDIDATES)]
    topk = TopkAccuracy(NUM_CANDIDATES)
    topk.update([most_frequent] * len(val), val)
    curve = topk.curve().tolist()
    print("| steps of train | of val | top-1 | top-8 | most frequent |\n|--:|--:|--:|--:|---|")
    shown = ", ".join(f"`{tactic}`" for tactic in most_frequent[:3])
    print(f"| {len(train):,} | {len(val):,} | {curve[0]:.1%} | {curve[-1]:.1%} | {shown} |")
    print(json.dumps({f"top{k}": value for k, value in enumerate(curve, start=1)}))


if __name__ == "__main__":
    main()
