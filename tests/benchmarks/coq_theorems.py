"""Draws theorems of a split, and prints them as a file of names for proof search.

python tests/benchmarks/coq_theorems.py D/random/val.json --num_theorems 200 --seed 0 > tests/benchmarks/coq_val_200.txt

`--without names.txt` leaves out theorems of another such file.
"""

import argparse
from pathlib import Path

from generator.environments.base import Theorem
from generator.search.theorems import TheoremOptions, choose, in_file_order, load_theorems


def main() -> None:
    """Print a remark that says where the theorems come from, and a line for each: file, full name, line:column."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("--num_theorems", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--without", type=Path)
    args = parser.parse_args()
    found = _read(TheoremOptions(data_path=args.path))
    left_out = set(_read(TheoremOptions(names_path=args.without))) if args.without else set()
    drawn = choose([each for each in found if each not in left_out], args.num_theorems, "random", args.seed)
    but = f" without those of {args.without.name}" if args.without else ""
    print(f"# {len(drawn)} of {len(found):,} theorems of {args.path.stem}{but}, seed {args.seed}")
    for each in in_file_order(drawn):
        place = "" if each.start is None else f" {each.start[0]}:{each.start[1]}"
        print(f"{each.file_path} {each.full_name}{place}")


def _read(options: TheoremOptions) -> list[Theorem]:
    return [each for each in load_theorems(options) if isinstance(each, Theorem)]


if __name__ == "__main__":
    main()
