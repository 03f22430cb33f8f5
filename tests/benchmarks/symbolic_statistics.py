"""Are drawn problems of symbolic mathematics like the published ones: lengths, words, and forms that are sympy's own?

    for task in prim_fwd prim_bwd prim_ibp ode1 ode2; do
        python -m generator.domains generate --domain $task --domain_options.splits independent \
            --num_train 300 --output_dir data/drawn/$task
    done
    python tests/benchmarks/symbolic_statistics.py data/drawn --figure lengths.png

Reads train of each folder, and asserts that what is read and written again is the same: every answer, and every
integrand. The published means are of Lample & Charton's Table 1. The last line is JSON.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from machine import facts

from generator.domains.problem_files import read_records
from generator.domains.symbolic.options import TASKS
from generator.domains.symbolic.prefix import expression_of, text_of

PUBLISHED = {
    "prim_fwd": (18.9, 49.6),
    "prim_bwd": (70.2, 21.3),
    "prim_ibp": (17.5, 26.4),
    "ode1": (123.6, 23.0),
    "ode2": (149.1, 24.3),
}


def mean(values: Sequence[float]) -> float:
    """The arithmetic mean."""
    return sum(values) / len(values)


def row_of(folder: Path, task: str) -> dict[str, Any]:
    """What a folder of a task holds."""
    problems = [(record["spec"], record["program"]) for _, record in read_records(folder / "train.jsonl")]
    for spec, program in problems:
        assert text_of(expression_of(program)) == program, program
        problem = spec.removeprefix("sub Y' ") if task.startswith("prim") else spec
        assert text_of(expression_of(problem)) == problem, problem
    card = json.loads((folder / "domain.json").read_text(encoding="utf-8"))["drawn"]
    return {
        "problems": len(problems),
        "words": len({word for texts in problems for text in texts for word in text.split()}),
        "in": [len(spec.split()) for spec, _ in problems],
        "out": [len(program.split()) for _, program in problems],
        "kept": 1 - sum(card["dropped"].values()) / card["tries"],
        "timed_out": card["dropped"].get("timed out", 0) / card["tries"],
    }


def draw(rows: dict[str, dict[str, Any]], path: Path) -> None:
    """Write histograms of lengths, a panel for each task."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 2.4), layout="constrained")
    for axes, (task, row) in zip(figure.subplots(1, len(rows), squeeze=False)[0], rows.items(), strict=True):
        bins = range(0, 310, 10)
        axes.hist([min(value, 305) for value in row["in"]], bins, alpha=0.6, label="problem")
        axes.hist([min(value, 305) for value in row["out"]], bins, alpha=0.6, label="answer")
        for color, value in zip(("tab:blue", "tab:orange"), PUBLISHED[task], strict=True):
            axes.axvline(value, color=color, linestyle=":")
        axes.set(title=task, xlabel="words")
    axes.legend()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--figure", type=Path)
    args = parser.parse_args()
    rows = {task: row_of(args.folder / task, task) for task in TASKS if (args.folder / task / "train.jsonl").is_file()}
    print("| task | problems | words of a problem, mean (published) | of an answer (published) | of the 91 words |")
    print("|---|--:|--:|--:|--:|")
    for task, row in rows.items():
        published = PUBLISHED[task]
        cells = f"{mean(row['in']):.1f} ({published[0]}) | {mean(row['out']):.1f} ({published[1]})"
        print(f"| {task} | {row['problems']:,} | {cells} | {row['words']} |")
    if args.figure:
        draw(rows, args.figure)
    for row in rows.values():
        row["in"], row["out"] = mean(row["in"]), mean(row["out"])
    print(json.dumps({**facts(), "found": rows}))


if __name__ == "__main__":
    main()
