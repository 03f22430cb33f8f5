"""What it brings that searches share a model: states a second with one theorem in flight and with several.

    python tests/benchmarks/search_batching.py --threads 1

The model is a T5 from scratch of the quickstart's size, on bytes; the prover is the built-in one. Every search ends
after the same number of expansions, so that both sides do the same work. Tactics of a script, which fixed scores rank
behind the model's, keep the searches alive whatever an untrained model writes.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from machine import add_arguments, facts

from common import Candidate, Context
from generator.environments.base import Statement
from generator.environments.propositional.environment import PropositionalEnvironment
from generator.interface.wrappers import GeneratorWrapper
from generator.model import RetrievalAugmentedGenerator
from generator.search.loop import SearchResult, prove
from generator.search.options import SearchOptions
from generator.search.shared_generator import SharedGenerator

SIZES = {
    "d_model": 128,
    "d_kv": 32,
    "d_ff": 384,
    "num_heads": 4,
    "num_layers": 3,
    "num_decoder_layers": 2,
    "feed_forward_proj": "gated-gelu",
}
SCRIPT = ["intro h", "intro h2", "constructor", "left", "right", "exfalso", "rcases h with h1 | h1", "assumption"]
FORMULAS = ["p ∧ q → q ∧ r", "p ∨ q → q", "(p → q) → q", "p → q ∧ p", "(p ∧ q) ∨ r → p", "¬p → q", "p ∨ (q ∧ r)"]


class WithScript(GeneratorWrapper):
    """A model's tactics, and a script's behind them."""

    def propose(self, contexts: Sequence[Context], num_candidates: int) -> list[list[Candidate]]:
        script = [(tactic, -20.0 - i) for i, tactic in enumerate(SCRIPT)]
        return [[*row, *script] for row in self.generator.propose(contexts, num_candidates)]


def run(model: Any, in_flight: int, theorems: Sequence[Statement], options: SearchOptions) -> dict[str, Any]:
    """All searches, so many at a time."""
    with SharedGenerator(model, max_batch=in_flight) as shared, ThreadPoolExecutor(in_flight) as pool:

        def search(theorem: Statement) -> SearchResult:
            return prove(theorem, PropositionalEnvironment(), shared, options)

        start = time.perf_counter()
        results = list(pool.map(search, theorems))
        elapsed = time.perf_counter() - start
        num_states = sum(result.num_expansions for result in results)
        return {
            "in_flight": in_flight,
            "states": num_states,
            "states_per_s": num_states / elapsed,
            "batch": shared.misses / max(shared.num_batches, 1),
            "hit_rate": shared.hit_rate,
            "model_share": shared.busy_s / elapsed,
            "proofs": [result.proof for result in results],
        }


def main() -> None:
    """Print a Markdown table and a JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--in_flight", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--theorems", type=int, default=32)
    parser.add_argument("--expansions", type=int, default=6)
    parser.add_argument("--candidates", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=2)
    add_arguments(parser)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model = RetrievalAugmentedGenerator(
        SIZES, num_beams=args.candidates, max_inp_seq_len=256, max_oup_seq_len=32, length_penalty=0.0
    ).eval()
    names = "abcdefghijklmnopstuvwxyz"
    theorems = [
        Statement(f"(p q r {names[i % 24]}{i} : Prop) : {FORMULAS[i % len(FORMULAS)]}") for i in range(args.theorems)
    ]
    options = SearchOptions(
        num_candidates=args.candidates, max_expansions=args.expansions, max_seconds=None, max_depth=8
    )
    generator = WithScript(model)
    run(generator, 1, theorems[:1], options)  # warms up
    print("| theorems in flight | states | states a second | states a batch | cache hits | model's share |")
    print("|--:|--:|--:|--:|--:|--:|", flush=True)
    rows = []
    for _ in range(args.rounds):
        for in_flight in args.in_flight:
            row = run(generator, in_flight, theorems, options)
            rows.append(row)
            print(
                f"| {in_flight} | {row['states']} | {row['states_per_s']:.1f} | {row['batch']:.1f} | "
                f"{row['hit_rate']:.0%} | {row['model_share']:.0%} |",
                flush=True,
            )
    assert all(row["proofs"] == rows[0]["proofs"] for row in rows), "the searches find the same"
    best = {n: max(row["states_per_s"] for row in rows if row["in_flight"] == n) for n in args.in_flight}
    for row in rows:
        del row["proofs"]
    ratio = best[max(best)] / best[min(best)]
    print(json.dumps({"rows": rows, "ratio": ratio, "threads": args.threads} | facts()))


if __name__ == "__main__":
    main()
