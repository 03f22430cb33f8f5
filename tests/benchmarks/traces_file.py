"""The train.json that a data benchmark reads: one that is given, or random text of about that shape."""

import argparse
import contextlib
import json
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

LINES = ["x y : ℕ", "h : p ∧ q → r", "inst✝ : Group G", "hf : ∀ n, f n ≤ g n", "this : a * b = b * a"]


def _write(path: Path, num_bytes: int) -> None:
    """Theorems whose states follow one another; their lengths spread as those of Coq's library do."""
    rng = random.Random(0)
    with open(path, "w", encoding="utf-8") as file:
        file.write("[")
        for number in range(num_bytes):
            num_lines = [min(400, int(rng.lognormvariate(2.6, 1.3))) for _ in range(rng.randint(1, 12))]
            states = ["\n".join([*rng.choices(LINES, k=n), f"⊢ goal {rng.random()}"]) for n in num_lines]
            steps = []
            for before, after in zip(states, [*states[1:], "no goals"], strict=True):
                name = f"Lib.lemma{rng.randrange(20_000)}"
                definition = {"full_name": name, "def_path": "Lib.lean", "def_pos": [1, 1], "def_end_pos": [1, 9]}
                tactic = f"rw [<a>{name[4:]}</a> {'x ' * int(rng.lognormvariate(1, 1))}]"
                annotated = [tactic, [definition]]
                steps.append(
                    {"tactic": tactic, "annotated_tactic": annotated, "state_before": before, "state_after": after}
                )
            record = {"url": "u", "commit": "c", "file_path": f"Lib/{number % 5000}.lean", "full_name": f"t{number}"}
            position = {"start": [1, 1], "end": [2, 1], "traced_tactics": steps}
            file.write(", " * bool(number) + json.dumps(record | position))
            if file.tell() > num_bytes:
                break
        file.write("]")


@contextlib.contextmanager
def train_json(description: str | None) -> Iterator[Path]:
    """Yield the path given on the command line, or that of a temporary file of `--size` bytes."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("path", nargs="?", type=Path, help="a train.json of LeanDojo Benchmark 4")
    parser.add_argument("--size", type=int, default=560_000_000, help="bytes of random text where no path is given")
    args = parser.parse_args()
    if args.path is not None:
        yield args.path
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "train.json")
        _write(path, args.size)
        yield path
