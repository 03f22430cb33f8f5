"""How long does it take to draw the negatives of an example? By runs of numbers, against a mask of all premises.

    python tests/benchmarks/negatives.py path/to/coq_stdlib
    python tests/benchmarks/negatives.py --mathlib

Both draw the same premises, which is asserted. The sides take turns; time is CPU time of one thread, of one example.
"""

import argparse
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from premise_retrieval import write_corpus

from retrieval.corpus import Corpus, positive_premises
from retrieval.leandojo.traces import TracedTactics
from retrieval.negatives import Negatives

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.retrieval.negatives_by_mask import by_mask as negatives_by_mask

ROUNDS, EXAMPLES = 7, 1000
Example = tuple[tuple[str, object], int, list[int]]  # where its theorem is, the premise to find, all that it cites


def by_mask(corpus: Corpus, example: Example, wanted: Negatives, rng: np.random.Generator) -> list[int]:
    """As it was: all candidates written out, from a mask of all premises."""
    place, target, positives = example
    return negatives_by_mask(corpus, place, target, positives, wanted, rng)


def by_runs(corpus: Corpus, example: Example, wanted: Negatives, rng: np.random.Generator) -> list[int]:
    """As it is."""
    return wanted.draw(corpus, *example, rng)


def of_data(folder: Path) -> tuple[Corpus, list[Example]]:
    """Examples of training data."""
    corpus, traces = Corpus(folder / "corpus.jsonl"), TracedTactics.load(folder / "random" / "train.json")
    examples = [
        (step.provenance.place, target, cited)
        for step, cited in zip(traces, positive_premises(traces, corpus), strict=True)
        for target in cited
    ]
    return corpus, random.Random(0).sample(examples, ROUNDS * EXAMPLES)


def of_mathlib_size() -> tuple[Corpus, list[Example]]:
    """Random places and citations in a corpus of 180,000 premises in 5,000 files."""
    with tempfile.TemporaryDirectory() as folder:
        write_corpus(Path(folder) / "corpus.jsonl")
        corpus = Corpus(Path(folder) / "corpus.jsonl")
    rng, paths = random.Random(0), list(corpus.paths)
    examples: list[Example] = []
    for _ in range(ROUNDS * EXAMPLES):
        file = rng.randrange(1, len(paths))
        target = rng.randrange(corpus.numbers_in_file(paths[file]).start)
        examples.append(((paths[file], (90, 1)), target, [target]))
    return corpus, examples


def main() -> None:
    """Draw in turns, compare, print microseconds of an example."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, help="of coq_stdlib")
    parser.add_argument("--mathlib", action="store_true", help="a made corpus of Mathlib's size instead")
    args = parser.parse_args()
    corpus, examples = of_mathlib_size() if args.mathlib else of_data(args.folder)
    found: dict[str, list[float]] = {"mask": [], "runs": []}
    for start in range(0, len(examples), EXAMPLES):
        some = list(enumerate(examples[start : start + EXAMPLES]))
        drawn = []
        for name, draw in (("mask", by_mask), ("runs", by_runs)):
            begun = time.process_time()
            drawn.append(
                [draw(corpus, each, Negatives(), np.random.default_rng([0, i])) for i, each in enumerate(some)]
            )
            found[name].append(1e6 * (time.process_time() - begun) / len(some))
        assert drawn[0] == drawn[1]
    median = {name: statistics.median(times) for name, times in found.items()}
    print(f"{len(corpus):,} premises in {corpus.num_files:,} files: ", end="")
    print(f"mask {median['mask']:.0f} us, runs {median['runs']:.0f} us, {median['mask'] / median['runs']:.1f} times")


if __name__ == "__main__":
    main()
