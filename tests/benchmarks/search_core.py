"""What the tree and the order of a search cost: microseconds a record and bytes a node, at many nodes.

    python tests/benchmarks/search_core.py

A made-up prover answers from a formula of the state, so that time is the search's own. Of ten tactics tried, six fail,
three give a new state, and one a state that is known, which may lie above: the states are a graph with circles. It is
proved at the end only, for the last column. A record is one tactic's result; closing a state and choosing the next are
in its time, which is the process's own on the processor.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import time
import tracemalloc
from dataclasses import dataclass

from machine import facts

from generator.environments.base import ProofFinished, ProofState, TacticError, TacticResult
from generator.search.best_first import BestFirstSearch
from generator.search.options import SearchOptions

TACTICS = [(f"tactic {i}", -0.1 - 0.3 * i) for i in range(10)]
ERROR = TacticError("no")


@dataclass
class Workload:
    """Results by turns: errors, new states, old ones; all are made before the clock starts."""

    results: list[list[TacticResult]]


def workload(num_nodes: int, seed: int) -> Workload:
    """As many expansions as give a number of nodes."""
    rng = random.Random(seed)
    states = [ProofState(f"p q : Prop\nh{i} : p ∧ q\n⊢ q ∧ p") for i in range(num_nodes)]
    results, found = list[list[TacticResult]](), 1
    while found < num_nodes:
        row: list[TacticResult] = [ERROR] * 6
        new = min(3, num_nodes - found)
        row += states[found : found + new]
        row.append(states[rng.randrange(found)])
        found += new
        rng.shuffle(row)
        results.append(row)
    return Workload(results)


def run(work: Workload, options: SearchOptions) -> tuple[BestFirstSearch, int]:
    """Search; returns how many results were recorded."""
    search = BestFirstSearch(ProofState("p q : Prop\nh0 : p ∧ q\n⊢ q ∧ p"), options)
    rows, num_records = iter(work.results), 0
    while goals := search.next_goals():
        for node in goals:
            if (row := next(rows, None)) is None:
                return search, num_records
            for (tactic, log_prob), result in zip(search.select(node, TACTICS), row, strict=False):
                if not search.may_run():
                    break
                search.record(node, tactic, log_prob, result)
                num_records += 1
            search.close(node)
    return search, num_records


def measure(name: str, num_nodes: int, options: SearchOptions, seed: int) -> dict[str, object]:
    """Time and memory of one search; memory in a second run, since counting it takes time."""
    work = workload(num_nodes, seed)
    gc.collect()
    start = time.process_time()
    search, num_records = run(work, options)
    elapsed = time.process_time() - start
    search.tree.check_invariants()
    start = time.process_time()
    last = max(search.tree, key=lambda node: (not node.is_closed, node.depth))
    search.record(last, "done", -0.1, ProofFinished())
    search.tree.proof()
    proof_ms = (time.process_time() - start) * 1e3
    search.tree.check_invariants()
    num_found = len(search.tree)
    del search
    tracemalloc.start()
    again, _ = run(work, options)
    memory = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    row = {
        "search": name,
        "nodes": num_found,
        "records": num_records,
        "us_per_record": elapsed / num_records * 1e6,
        "us_per_node": elapsed / num_found * 1e6,
        "bytes_per_node": memory / len(again.tree),
        "proof_ms": proof_ms,
    }
    print(
        f"| {name} | {num_found:,} | {num_records:,} | {row['us_per_record']:.1f} µs | {row['us_per_node']:.1f} µs | "
        f"{row['bytes_per_node']:,.0f} | {proof_ms:.1f} ms |",
        flush=True,
    )
    return row


def main() -> None:
    """Print a Markdown table and a JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    endless = {"max_seconds": 3600.0}
    searches = {
        "best first": SearchOptions(**endless),
        "best first, 8 at a time": SearchOptions(batch_size=8, **endless),
        "length penalty 0.5": SearchOptions(length_penalty=0.5, **endless),
        "length penalty 2": SearchOptions(length_penalty=2.0, **endless),
        "breadth first": SearchOptions(algorithm="breadth_first", **endless),
    }
    print("| search | nodes | records | a record | a node | bytes a node | a proof handed up |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    rows = [measure(name, args.nodes, options, args.seed) for name, options in searches.items()]
    print(json.dumps({"rows": rows} | facts()))


if __name__ == "__main__":
    main()
