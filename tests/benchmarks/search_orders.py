"""Which order of search proves more: the same theorems, the same candidates, the same number of states tried.

    python tests/benchmarks/search_orders.py --ckpt_path runs/quickstart/version_0/checkpoints/last.ckpt

The prover is the built-in one. Searches that take as long as they are allowed are counted at each of `--expansions`:
what an order does does not depend on where its limit stands. A state's candidates are decoded once for all orders. A
theorem counts when its proof, checked from nothing, holds. Won and lost are theorems that the first order has not
proved, or has alone; cache hits are what the prove command's memory would answer.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from machine import facts

from common import Candidate, Context
from generator.environments.propositional.environment import PropositionalEnvironment
from generator.environments.propositional.lemma_files import Library
from generator.interface.wrappers import GeneratorWrapper
from generator.search.loop import SearchResult, prove
from generator.search.options import SearchOptions
from generator.search.shared_generator import SharedGenerator
from generator.search.tactic_sources import GeneratorOptions, make_generator
from generator.search.theorems import Goal, TheoremOptions, load_theorems
from retrieval.training.charts import Share

ORDERS: dict[str, dict[str, Any]] = {
    "best first": {},
    "length penalty 0.5": {"length_penalty": 0.5},
    "length penalty 1": {"length_penalty": 1.0},
    "length penalty 2": {"length_penalty": 2.0},
    "breadth first": {"algorithm": "breadth_first"},
    "breadth first, 8 a depth": {"algorithm": "breadth_first", "max_breadth": 8},
    "breadth first, 4 a depth": {"algorithm": "breadth_first", "max_breadth": 4},
    "rollouts": {"algorithm": "rollouts"},
    "rollouts, temperature 2": {"algorithm": "rollouts", "temperature": 2.0},
}


class Memory(GeneratorWrapper):
    """A generator's candidates by state, which outlive one order, and in a file the run."""

    def __init__(self, generator: Any, path: Path | None) -> None:
        super().__init__(generator)
        self._path = path
        self._known: dict[str, list[Candidate]] = {}
        if path is not None and path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                state, row = json.loads(line)
                self._known[state] = [(tactic, log_prob) for tactic, log_prob in row]

    def propose(self, contexts: Sequence[Context], num_candidates: int) -> list[list[Candidate]]:
        new = {context.state: context for context in contexts if context.state not in self._known}
        found = dict(zip(new, self.generator.propose(list(new.values()), num_candidates), strict=True)) if new else {}
        self._known |= found
        if self._path is not None and found:
            with open(self._path, "a", encoding="utf-8") as file:
                file.writelines(json.dumps(pair) + "\n" for pair in found.items())
        return [self._known[context.state] for context in contexts]


def search_all(
    theorems: Sequence[Goal], memory: Memory, options: SearchOptions, library: Library, in_flight: int
) -> tuple[list[SearchResult], float]:
    """The results of one order, and how many of its states were answered from its own memory."""
    with SharedGenerator(memory, max_batch=in_flight) as shared, ThreadPoolExecutor(in_flight) as pool:

        def search(theorem: Goal) -> SearchResult:
            with PropositionalEnvironment(library) as environment:
                return prove(theorem, environment, shared, options)

        return list(pool.map(search, theorems)), shared.hit_rate


def proved_within(results: Sequence[SearchResult], limit: int) -> set[int]:
    """Numbers of the theorems that were proved before more states were tried."""
    return {i for i, result in enumerate(results) if result.status == "proved" and result.num_expansions <= limit}


def main() -> None:
    """Print a Markdown table and a JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ckpt_path")
    parser.add_argument("--tactics", help="instead of a model, as of the command prove")
    parser.add_argument("--root", type=Path, default=Path("data/propositional/lean"))
    parser.add_argument("--data_path", type=Path, default=Path("data/propositional/random"))
    parser.add_argument("--theorems", type=int, default=200)
    parser.add_argument("--candidates", type=int, default=8)
    parser.add_argument("--expansions", type=int, nargs="+", default=[4, 8, 16, 64])
    parser.add_argument("--compare_at", type=int, default=16, help="states tried, for the interval and won and lost")
    parser.add_argument("--orders", nargs="+", default=list(ORDERS), choices=list(ORDERS))
    parser.add_argument("--in_flight", type=int, default=32, help="theorems that are searched at the same time")
    parser.add_argument("--memory", type=Path, help="file of candidates by state, which is read and added to")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    theorems = load_theorems(TheoremOptions(args.data_path, num_theorems=args.theorems))
    model = make_generator(GeneratorOptions(args.ckpt_path, args.tactics), args.data_path, 0)
    if isinstance(model, torch.nn.Module):
        model.eval()
    assert not model.reads_theorem, "candidates are remembered by state alone"
    memory = Memory(model, args.memory)
    library, limits = Library.load(args.root), sorted(args.expansions)
    base = SearchOptions(num_candidates=args.candidates, max_expansions=limits[-1], max_seconds=None)
    print(
        f"| order | {' | '.join(map(str, limits))} | 95% interval | won, lost | states tried | tactics run | "
        "cache hits |"
    )
    print("|---|" + "--:|" * (len(limits) + 5), flush=True)
    rows, first = list[dict[str, Any]](), None
    for name in args.orders:
        results, hit_rate = search_all(theorems, memory, replace(base, **ORDERS[name]), library, args.in_flight)
        assert not any(result.status == "discarded" for result in results), "the prover starts every theorem"
        counts = [len(proved_within(results, limit)) for limit in limits]
        proved = proved_within(results, args.compare_at)
        first = proved if first is None else first
        share = Share.of(len(proved), len(theorems))
        row = {
            "order": name,
            "proved": dict(zip(limits, counts, strict=True)),
            "interval": [share.low, share.high],
            "won": len(proved - first),
            "lost": len(first - proved),
            "states": sum(result.num_expansions for result in results),
            "tactics": sum(result.num_calls for result in results),
            "hit_rate": hit_rate,
        }
        rows.append(row)
        print(
            f"| {name} | {' | '.join(map(str, counts))} | {100 * share.low:.1f} to {100 * share.high:.1f}% | "
            f"+{row['won']} -{row['lost']} | {row['states']:,} | {row['tactics']:,} | {100 * hit_rate:.1f}% |",
            flush=True,
        )
    print(json.dumps({"theorems": len(theorems), "rows": rows} | facts()))


if __name__ == "__main__":
    main()
