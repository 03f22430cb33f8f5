"""Do the writers of the rectangle domain have the curves that are known of them?

    python -m generator.domains baseline --output_dir runs/rectangle --num_problems 12000 --budget 100 \
        --domain_options.splits independent --stop_at_first \
        --writers dsl tight manual unigram_as_published unigram bigram posterior all_strings
    python tests/benchmarks/rectangle_curves.py runs/rectangle

Sampled shares, those that each writer's own probabilities give, and those of an independent simulation of 12,000
problems (mean of 1 - (1 - p)^b over exact p). z is the difference of sampled and known in standard errors of both; the
last line is JSON.
"""

import argparse
import json
import math
from pathlib import Path

BUDGETS = (1, 2, 5, 10, 50, 99)
KNOWN = {
    "dsl": (0.165, 0.197, 0.230, 0.272, 0.469, 0.591),
    "tight": (0.133, 0.211, 0.345, 0.466, 0.756, 0.857),
    "manual": (0.342, 0.406, 0.512, 0.599, 0.803, 0.872),
    "unigram_as_published": (0.324, 0.463, 0.659, 0.782, 0.925, 0.954),
    "unigram": (0.710, 0.873, 0.967, 0.989, 0.999, 1.0),
}


def rows_of(folder: Path) -> list[dict[str, float | str | int]]:
    """One for each writer and budget that are known."""
    rows: list[dict[str, float | str | int]] = []
    for writer, shares in KNOWN.items():
        metrics = json.loads((folder / f"{writer}.json").read_text(encoding="utf-8"))
        sampled, exact = metrics["curve"], metrics["exact_curve"]
        for budget, known in zip(BUDGETS, shares, strict=True):
            i = budget - 1
            # the simulation's own standard error is that of exact probabilities, and it was rounded to 0.001
            error = math.sqrt(sampled["standard_error"][i] ** 2 + exact["standard_error"][i] ** 2 + 0.0003**2)
            row = {"writer": writer, "budget": budget, "sampled": sampled["share"][i], "exact": exact["share"][i]}
            rows.append({**row, "known": known, "z": (sampled["share"][i] - known) / error})
    return rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="output_dir of baseline")
    rows = rows_of(parser.parse_args().folder)
    print("| writer | " + " | ".join(f"b={budget}" for budget in BUDGETS) + " | largest z |")
    print("|---|" + "--:|" * (len(BUDGETS) + 1))
    for writer in KNOWN:
        own = [row for row in rows if row["writer"] == writer]
        cells = [f"{row['sampled']:.3f} ({row['exact']:.3f}; {row['known']:.3f})" for row in own]
        print(f"| {writer} | {' | '.join(cells)} | {max((float(row['z']) for row in own), key=abs):+.1f} |")
    worst = max(abs(float(row["z"])) for row in rows)
    print(json.dumps({"largest_z": round(worst, 2), "num": len(rows)}))


if __name__ == "__main__":
    main()
