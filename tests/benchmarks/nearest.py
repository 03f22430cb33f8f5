"""How good is the lookup, what of a state should it compare, and how long does it take?

python tests/benchmarks/nearest.py path/to/random [--num_states 1000] [--rows default,words]

Each row makes a lookup from train.json in memory, fits its probabilities on 500 held-out steps of train, and ranks the
tactics of the same states of val.
"""

import argparse
import json
import time
from pathlib import Path

import torch
from tqdm import tqdm

from common import remove_marks
from generator.nearest.calibration import Calibration
from generator.nearest.generator import LookupOptions, NearestTacticGenerator
from generator.nearest.make import calibrate, draw_held_out
from generator.nearest.steps import StateText, Steps
from generator.rank import ask, draw_steps
from generator.training.metrics import TopkAccuracy
from retrieval.leandojo.traces import TracedTactics
from retrieval.ngram_index import NgramIndex, NgramOptions

CUTOFFS = (1, 8, 10, 32)
NUM_HELD_OUT = 500
ROWS: dict[str, tuple[StateText, NgramOptions, LookupOptions]] = {
    "default": (StateText(), NgramOptions(), LookupOptions()),
    "names as in the neighbour": (StateText(), NgramOptions(), LookupOptions(adapt_names=False)),
    "50 neighbours": (StateText(), NgramOptions(), LookupOptions(num_neighbors=50)),
    "1000 neighbours": (StateText(), NgramOptions(), LookupOptions(num_neighbors=1000)),
    "bm25": (StateText(), NgramOptions(weighting="bm25"), LookupOptions()),
    "words": (StateText(), NgramOptions(unit="words", min_n=1, max_n=3), LookupOptions()),
    "words, bm25": (StateText(), NgramOptions(unit="words", min_n=1, max_n=3, weighting="bm25"), LookupOptions()),
    "what is to be proved alone": (StateText(part="goal"), NgramOptions(), LookupOptions()),
    "all goals": (StateText(part="all"), NgramOptions(), LookupOptions()),
    "300 characters": (StateText(max_characters=300), NgramOptions(), LookupOptions()),
    "characters 3-4": (StateText(), NgramOptions(min_n=3, max_n=4), LookupOptions()),
    "n-grams of all states too": (StateText(), NgramOptions(max_share=1.0), LookupOptions()),
}


def main() -> None:
    """Print a row for each way, and a JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data_path", type=Path)
    parser.add_argument("--num_states", type=int, default=None)
    parser.add_argument("--rows", default=";".join(ROWS), help="separated by semicolons")
    options = parser.parse_args()
    torch.set_num_threads(1)
    train, val = (TracedTactics.load(options.data_path / f"{split}.json") for split in ("train", "val"))
    held_out = draw_held_out([train], NUM_HELD_OUT, 0)
    steps = draw_steps(val, options.num_states, 0)
    right = [remove_marks(step.tactic) for step in steps]
    print(
        f"{len(train):,} steps of train, {len(steps):,} states of val; seconds and milliseconds of one thread's CPU\n"
    )
    print("| | " + " | ".join(f"top-{k}" for k in CUTOFFS) + " | pairs (M) | index (s) | state (ms) | T | decay |")
    print("|---|" + "--:|" * (len(CUTOFFS) + 5))
    rows, indexes = [], dict[tuple[StateText, NgramOptions], tuple[Steps, NgramIndex, float]]()
    for name in options.rows.split(";"):
        text, ngrams, lookup = ROWS[name]
        if (text, ngrams) not in indexes:
            since = time.process_time()
            table = Steps.of(((train[i], True) for i in range(len(train))), text)
            index = NgramIndex.of([table.text(number) for number in range(table.num_texts)], ngrams)
            indexes = {(text, ngrams): (table, index, time.process_time() - since)}  # one at a time in memory
        table, index, seconds = indexes[text, ngrams]
        generator = NearestTacticGenerator(table, index, text, lookup, Calibration())
        generator.calibration = calibrate(generator, held_out)
        since = time.process_time()
        candidates = ask(generator, steps, max(CUTOFFS))
        ms = (time.process_time() - since) / len(steps) * 1e3
        accuracy = TopkAccuracy(max(CUTOFFS))
        accuracy.update([[tactic for tactic, _ in found] for found in candidates], right)
        curve = [100 * value for value in accuracy.curve().tolist()]
        found = generator.calibration
        numbers = [curve[k - 1] for k in CUTOFFS] + [index.num_pairs / 1e6, seconds, ms]
        shown = " | ".join(f"{number:.1f}" for number in numbers)
        tqdm.write(f"| {name} | {shown} | {found.temperature:.3f} | {found.decay} |")
        rows.append({"row": name, **{f"top{k}": curve[k - 1] for k in CUTOFFS}, "ms": ms, "index_s": seconds})
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
