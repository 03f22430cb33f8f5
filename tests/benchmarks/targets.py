"""How many targets are another text than the field `tactic` of the file, for each way of writing them?

python tests/benchmarks/targets.py path/to/random/val.json [path/to/train.json ...]
"""

import json
import sys
from pathlib import Path

from common import Premise, remove_marks
from retrieval.corpus import Corpus
from retrieval.leandojo.tactic_text import TacticText
from retrieval.leandojo.traces import TracedTactics
from retrieval.training.options import flat

Key = tuple[str, str, tuple[int, ...], int]  # file, theorem, position, number of the step
WAYS = [TacticText(), TacticText(normalize_tactics=True), TacticText("full"), TacticText("full", True)]


def fields(path: Path) -> dict[Key, str]:
    """The field `tactic` of every step, as ReProver takes it since July 2024."""
    theorems = json.loads(path.read_text(encoding="utf-8"))
    return {
        (theorem["file_path"], theorem["full_name"], tuple(theorem["start"]), i): remove_marks(step["tactic"])
        for theorem in theorems
        for i, step in enumerate(theorem["traced_tactics"])
    }


def num_other(path: Path, way: TacticText, tactics: dict[Key, str]) -> tuple[int, int]:
    """Steps that are read, and how many of their targets differ from the field."""
    traces = TracedTactics.load(path, progress=False, **flat(way))
    origins = (step.provenance for step in traces)
    keys = ((o.file_path, o.full_name, tuple(o.start), o.tactic_idx) for o in origins)
    found = (remove_marks(step.tactic) for step in traces)
    return len(traces), sum(tactics[key] != target for key, target in zip(keys, found, strict=True))


def num_premises_marked_otherwise(corpus: Corpus) -> int:
    """Premises in whose code ReProver marks a part of a longer name, or none in quotes, and we the whole name."""
    import re

    def of_reprover(premise: Premise) -> str:
        marked = f"<a>{premise.full_name}</a>"
        code = premise.code.replace(f"_root_.{premise.full_name}", marked)
        parts = premise.full_name.split(".")
        for i in range(len(parts)):
            pattern = f"(?<=\\s)«?{'.'.join(parts[i:])}»?"
            try:
                changed = re.sub(pattern, lambda _: marked, code)
            except re.error:
                return ""
            if changed != code:
                return changed
        return code

    return sum(premise.serialize() != of_reprover(premise) for premise in (corpus[i] for i in range(len(corpus))))


def main() -> None:
    """Print a row for each file and way, and a JSON line."""
    rows = []
    print("| file | steps | tactic_names | normalize_tactics | other than `tactic` |\n|---|--:|---|---|--:|")
    for path in map(Path, sys.argv[1:]):
        tactics = fields(path)
        for way in WAYS:
            num_steps, other = num_other(path, way, tactics)
            print(f"| {path.name} | {num_steps:,} | {way.tactic_names} | {way.normalize_tactics} | {other:,} |")
            rows.append({"file": path.name, "steps": num_steps, **flat(way), "other": other})
    corpus_path = Path(sys.argv[1]).parents[1] / "corpus.jsonl"
    if corpus_path.is_file():
        corpus = Corpus(corpus_path)
        other = num_premises_marked_otherwise(corpus)
        print(f"\n{other:,} of {len(corpus):,} premises have their marks elsewhere than ReProver's")
        rows.append({"file": corpus_path.name, "premises": len(corpus), "other": other})
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
