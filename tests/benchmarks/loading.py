"""How much memory and time does loading train.json take? Ours against json.load.

    python tests/benchmarks/loading.py [path/to/train.json]

Each side runs in a process of its own, in turns. Memory is the growth of the resident set after loading
(and its peak), as a ratio to the file's size; the limit is the distinct text. Time is CPU time of the one
thread, which other processes on the machine disturb least. Steps are compared before anything is timed.
Linux only.
"""

import json
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from machine import resident_mb
from traces_file import train_json

from common import format_state, remove_marks
from retrieval.leandojo.traces import TracedTactics

ROUNDS = 5


def json_load(path: Path) -> object:
    """Load as ReProver does."""
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def ours(path: Path) -> object:
    """Load as this project does."""
    return TracedTactics.load(path, progress=False)


def measure(load, path: Path) -> tuple[float, float, float]:
    """CPU seconds, and growth and peak growth as ratios to the file's size."""
    before, start = resident_mb(), time.process_time()
    loaded = load(path)
    seconds = time.process_time() - start
    growths = (resident_mb() - before, resident_mb("VmHWM") - before)
    assert loaded is not None
    return seconds, *(2**20 * growth / path.stat().st_size for growth in growths)


def compare(path: Path) -> tuple[int, float]:
    """Check that both sides give the same steps; return their number and the share of distinct state text."""
    traces, texts, i = TracedTactics.load(path, progress=False), set(), 0
    for theorem in json_load(path):  # type: ignore[attr-defined]
        for step in theorem["traced_tactics"]:
            state = format_state(step["state_before"])
            _, premises = step.get("annotated_tactic") or (step["tactic"], [])
            tactic = step["tactic"]
            if state == "no goals" or not tactic.strip():
                continue
            ours = traces[i]
            found = ours.provenance.full_name, ours.state, remove_marks(ours.tactic)
            assert found == (theorem["full_name"], state, tactic), ours
            assert len(ours.premises) == len(premises)
            texts.add(state)
            i += 1
    assert i == len(traces)
    return i, sum(len(text.encode()) for text in texts) / path.stat().st_size


def in_new_process(function, *args):
    """Run a function where nothing was loaded before."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *args).result()


def main() -> None:
    """Compare, measure in turns, print a Markdown table and a JSON line."""
    with train_json(__doc__) as path:
        num_steps, distinct = in_new_process(compare, path)
        rounds = [[in_new_process(measure, load, path) for load in (json_load, ours)] for _ in range(ROUNDS)]
        size = path.stat().st_size
    reference, found = (
        [statistics.median(values) for values in zip(*side, strict=True)] for side in zip(*rounds, strict=True)
    )
    ratio = statistics.median(found[0] / reference[0] for reference, found in rounds)
    print(f"{size / 1e6:.0f} MB, {num_steps:,} steps, distinct states {distinct:.2f}x the file\n")
    print("| | CPU time, s | grown by | peak |\n|---|---:|---:|---:|")
    for name, (seconds, growth, peak) in (("json.load", reference), ("ours", found)):
        print(f"| {name} | {seconds:.2f} | {growth:.2f}x the file | {peak:.2f}x |")
    result = {"bytes": size, "steps": num_steps, "time_ratio": ratio, "growth": found[1], "peak": found[2]}
    print(json.dumps(result | {"json_load_growth": reference[1], "distinct_states": distinct}))
    sys.exit(ratio > 2 or found[1] > 0.6)


if __name__ == "__main__":
    main()
