"""How fast is a file in the published format read, and how much memory does that take?

    python tests/benchmarks/symbolic_files.py --num_lines 500000

The file has lines `count|problem<TAB>answer` of the length of the published ones for prim_bwd, each problem another.
The memory is that of this process at its peak, above what it held before; the limit is what the numbers themselves
need, 16 bytes a line, and what sorting them takes. The last line is JSON.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

from machine import facts, peak_mb

from generator.domains.symbolic.files import opened, split_lines

PROBLEM = (
    "sub Y' add mul cos mul INT+ 2 pow x INT+ 3 mul INT+ {0} sin x mul INT- 6 mul pow x INT+ 2 mul cos x mul sin mul "
    "INT+ 2 pow x INT+ 3 add INT+ 1 mul div INT+ 1 INT+ 2 mul pow x div INT- 1 INT+ 2 exp sqrt x"
)
ANSWER = "mul cos x add INT+ {0} mul INT- 1 cos mul INT+ 2 pow x INT+ 3"


def write_file(path: Path, num_lines: int) -> None:
    """A file of different problems."""
    with path.open("w") as file:
        for number in range(num_lines):
            digits = " ".join(str(number + 1))
            file.write(f"{num_lines - number}|{PROBLEM.format(digits)}\t{ANSWER.format(digits)}\n")


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num_lines", type=int, default=500_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        large, small = Path(folder) / "large", Path(folder) / "small"
        write_file(large, args.num_lines)
        write_file(small, 1000)
        seconds: dict[str, float] = {}

        def read(path: Path, num_held_out: int) -> None:
            start = time.process_time()
            with opened(path, "prim_bwd") as lines:
                seconds["read"] = time.process_time() - start
                parts = split_lines(lines.marks, num_held_out, None, seed=0)
                seconds["split"] = time.process_time() - start - seconds["read"]
                assert sum(map(len, parts.lines.values())) == len(lines) and not lines.faults.counts
                assert lines[len(lines) - 1].program.startswith("mul cos x add")

        memory = peak_mb(lambda: read(large, 5000), lambda: read(small, 50), "cpu")
        size = large.stat().st_size
    row = {
        "lines": args.num_lines,
        "file_mb": size / 1e6,
        "lines_per_second": args.num_lines / seconds["read"],
        "split_seconds": seconds["split"],
        "peak_mb": memory,
        "bytes_a_line": memory * 2**20 / args.num_lines,
    }
    print("| lines | file | lines a second | to split | memory at the peak | a line |\n|--:|--:|--:|--:|--:|--:|")
    print(
        f"| {args.num_lines:,} | {row['file_mb']:.0f} MB | {row['lines_per_second']:,.0f} "
        f"| {row['split_seconds']:.2f} s "
        f"| {memory:.0f} MB | {row['bytes_a_line']:.0f} bytes |"
    )
    print(json.dumps({**facts(), **row}))


if __name__ == "__main__":
    main()
