"""Top-k of several generators in one figure and one table.

    python tests/benchmarks/topk_curves.py coq_topk.png 'nearest states=runs/rank/nearest' 'mixture=runs/rank/mixture'

Each folder is the output_dir of `python -m generator.rank`, whose states have to be the same.
"""

import argparse
import json
import math
from pathlib import Path
from typing import Any

from retrieval.training.charts import Lines, Series
from retrieval.training.drawing import draw, to_png

SHOWN = (1, 8, 10, 32)


def curve_of(metrics: dict[str, Any]) -> list[float]:
    """The shares of right tactics among the first 1, 2, ... candidates."""
    found = {int(name.removeprefix("top").split("_")[0]): value for name, value in metrics.items() if "_acc_" in name}
    return [found[k] for k in sorted(found)]


def main() -> None:
    """Write the figure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figure", type=Path)
    parser.add_argument("folders", nargs="+", help="NAME=FOLDER")
    options = parser.parse_args()
    pairs = [each.split("=", 1) for each in options.folders]
    rows = {name: json.loads((Path(folder) / "metrics.json").read_text(encoding="utf-8")) for name, folder in pairs}
    asked = {(row["num_states"], row.get("seed")) for row in rows.values()}
    if len(asked) > 1:
        raise SystemExit(f"the folders are about different states: {asked}")
    curves = {name: curve_of(row) for name, row in rows.items()}
    series = tuple(
        Series(name, tuple(float(k) for k in range(1, len(curve) + 1)), tuple(curve)) for name, curve in curves.items()
    )
    top = min(1.0, math.ceil(10 * max(curve[-1] for curve in curves.values()) + 0.5) / 10)
    num = next(iter(rows.values()))["num_states"]
    chart = Lines(
        title="How high the right tactic is ranked",
        what="states",
        xlabel="first candidates",
        ylabel="right tactic among them",
        series=series,
        num=num,
        is_share=True,
        is_log_x=True,
        top=top,
    )
    options.figure.write_bytes(to_png(draw(chart)))
    print("| | " + " | ".join(f"top-{k}" for k in SHOWN) + " |\n|---|" + "--:|" * len(SHOWN))
    for name, curve in curves.items():
        cells = (f"{100 * curve[k - 1]:.1f}" if k <= len(curve) else "" for k in SHOWN)
        print(f"| {name} | {' | '.join(cells)} |")
    print(f"{num:,} states; wrote {options.figure}")


if __name__ == "__main__":
    main()
