"""How close to reading JSON is loading a corpus, and how close to the matrix product is retrieving?

    python tests/benchmarks/premise_retrieval.py

Builds a corpus of Mathlib's size (180,000 premises in 5,000 files, 60 MB) and random embeddings of ByT5-small's
width, checks masks and rankings against a brute-force reading of ReProver's definition, then measures

- loading against `json.loads` over the same lines, in new processes, in turns (limit: twice the CPU time, and
  0.5 GB of growth at the peak);
- the search of 64 states against the bare matrix product and `torch.topk`, in turns (limit: 1.5 times), and
  with the masks made from file and position; narrow storage beside float32, with what it costs in recall.

It exits with an error where a limit is exceeded.
"""

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import machine
import torch
from torch.nn.functional import normalize

from retrieval.corpus import Corpus
from retrieval.index import EmbeddingIndex

NUM_FILES, PREMISES_PER_FILE, DIMENSION, NUM_STATES, K = 5_000, 36, 1472, 64, 100
SYMBOLS = ["→", "∀", "≤", "ℕ", "⟨x,", "y⟩", "α", ":", "=", "(h", "hx)", "fun", "Set", "∃", "∧"]
Context = tuple[str, tuple[int, int]]


def write_corpus(path: Path) -> None:
    """Files that import eight of the 400 before them; premises of 200 bytes."""
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(5_000)] + SYMBOLS
    with path.open("w", encoding="utf-8") as lines:
        for number in range(NUM_FILES):
            imports = {rng.randrange(max(0, number - 400), number) for _ in range(8)} if number else set()
            premises = [
                {
                    "full_name": f"{rng.choice(words).title()}.{rng.choice(words)}_{rng.choice(words)}",
                    "code": "theorem " + " ".join(rng.choices(words, k=20) + rng.choices(SYMBOLS, k=20)),
                    "start": [5 * i + 1, 1],
                    "end": [5 * i + 3, rng.randint(5, 60)],
                    "kind": "commanddeclaration",
                }
                for i in range(PREMISES_PER_FILE)
            ]
            file = {"path": _path(number), "imports": [_path(i) for i in sorted(imports)], "premises": premises}
            lines.write(json.dumps(file) + "\n")


def _path(number: int) -> str:
    return f"Mathlib/Folder{number % 40}/File{number}.lean"


def measure_load(path: Path, side: str) -> dict[str, float]:
    """CPU seconds and growth of this process for one way of reading the file."""
    before, start = machine.resident_mb(), time.process_time()
    if side == "json":
        with path.open("rb") as lines:
            for line in lines:
                json.loads(line)
    else:
        corpus = Corpus(path)
        assert len(corpus) == NUM_FILES * PREMISES_PER_FILE
    seconds = time.process_time() - start
    return {"s": seconds, "grew_mb": machine.resident_mb() - before, "peak_mb": machine.resident_mb("VmHWM") - before}


def in_turns(sides: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Best seconds of each side, measured one after the other again and again."""
    best = dict.fromkeys(sides, float("inf"))
    for _ in range(rounds):
        for name, run in sides.items():
            best[name] = min(best[name], machine.seconds(run))
    return best


def check(path: Path, corpus: Corpus, index: EmbeddingIndex, queries: torch.Tensor, contexts: list[Context]) -> None:
    """Compare with ReProver's definition, read from the JSON premise by premise."""
    files = [json.loads(line) for line in path.open(encoding="utf-8")]
    imports = {file["path"]: file["imports"] for file in files}
    premises = [(file["path"], tuple(premise["end"])) for file in files for premise in file["premises"]]
    accessible = corpus.accessible_masks(contexts)
    numbers = index.search(queries, accessible, K)[1].tolist()
    scores = (queries @ index.vectors(range(len(index))).T).tolist()
    for row, (file, pos) in enumerate(contexts):
        reached, queue = set(), list(imports[file])
        while queue:
            if (name := queue.pop()) not in reached:
                reached.add(name)
                queue += imports[name]
        allowed = [n for n, (p, end) in enumerate(premises) if p in reached or (p == file and end <= pos)]
        assert accessible[row].nonzero().flatten().tolist() == allowed
        ranking = sorted(allowed, key=lambda n: -scores[row][n])[:K]
        assert [number for number in numbers[row] if number >= 0] == ranking, f"ranking of context {row}"


def main() -> None:
    """Check, measure, print Markdown tables and a JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="turns of each measurement")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(measure_load(Path(args.child[1]), args.child[0])))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "corpus.jsonl"
        write_corpus(path)
        load = load_table(path, args.rounds)
        search = search_table(path, args.rounds)
    print(json.dumps({"load": load, "search": search}))
    assert load["ratio"] <= 2 and load["peak_mb"] <= 500 and search["ratio"] <= 1.5, "a limit is exceeded"


def load_table(path: Path, rounds: int) -> dict[str, float]:
    """Measure loading in new processes, in turns."""
    runs: dict[str, list[dict[str, float]]] = {"json": [], "corpus": []}
    for _ in range(rounds):
        for side, results in runs.items():
            results.append(json.loads(machine.last_line_of(__file__, "--child", side, path)))
    seconds = {side: min(run["s"] for run in results) for side, results in runs.items()}
    median = {name: statistics.median(run[name] for run in runs["corpus"]) for name in ("grew_mb", "peak_mb")}
    ratio = seconds["corpus"] / seconds["json"]
    print("| premises, file | json.loads, s | Corpus, s | ratio | grew by | at its peak |\n|---|--:|--:|--:|--:|--:|")
    size = f"{NUM_FILES * PREMISES_PER_FILE:,}, {path.stat().st_size / 1e6:.0f} MB"
    print(f"| {size} | {seconds['json']:.2f} | {seconds['corpus']:.2f} | **{ratio:.2f}** ", end="")
    print(f"| {median['grew_mb']:.0f} MB | {median['peak_mb']:.0f} MB |\n")
    return {"json_s": seconds["json"], "corpus_s": seconds["corpus"], "ratio": ratio, **median}


def search_table(path: Path, rounds: int) -> dict[str, float]:
    """Measure the search of a batch of states, in turns."""
    corpus = Corpus(path)
    generator = torch.Generator().manual_seed(0)
    # vectors around a thousand centres, and queries around the same ones: neighbours differ by little
    centres = torch.randn(1000, DIMENSION, generator=generator)
    nearest = torch.randint(1000, (len(corpus),), generator=generator)
    embeddings = normalize(centres[nearest] + torch.randn(len(corpus), DIMENSION, generator=generator), dim=1)
    queries = centres[:NUM_STATES] + torch.randn(NUM_STATES, DIMENSION, generator=generator)
    queries = normalize(queries, dim=1)
    rng = random.Random(1)
    contexts = [(_path(rng.randrange(NUM_FILES)), (rng.randrange(1, 180), 1)) for _ in range(NUM_STATES)]
    index = EmbeddingIndex(corpus, embeddings)
    check(path, corpus, index, queries[:16], contexts[:16])

    def masks() -> torch.Tensor:
        return corpus.accessible_masks(contexts)

    accessible = masks()
    narrow = {dtype: EmbeddingIndex(corpus, embeddings, dtype=dtype) for dtype in ("bfloat16", "int8")}
    best = in_turns(
        {
            "matrix product": lambda: queries @ embeddings.T,
            "matrix product and torch.topk": lambda: (queries @ embeddings.T).topk(K),
            "search": lambda: index.search(queries, accessible, K),
            "search and masks": lambda: index.search(queries, masks(), K),
            **{f"search, {d}": lambda i=i: i.search(queries, accessible, K) for d, i in narrow.items()},
        },
        rounds,
    )
    bare = best["matrix product and torch.topk"]
    exact = index.search(queries, accessible, K)[1]
    print(f"| {NUM_STATES} states, {len(corpus):,} x {DIMENSION}, k = {K} | s | ratio | same top 10 | same top 100 |")
    print("|---|--:|--:|--:|--:|")
    result = {"ratio": best["search"] / bare}
    for name, seconds in best.items():
        found = narrow[name.split()[-1]].search(queries, accessible, K)[1] if name[-1] in "68" else None
        shares = [f"{100 * overlap(found, exact, k):.1f}%" if found is not None else "" for k in (10, 100)]
        print(f"| {name} | {seconds:.3f} | {seconds / bare:.2f} | {shares[0]} | {shares[1]} |")
        result[name] = seconds
    print()
    return result


def overlap(found: torch.Tensor, exact: torch.Tensor, k: int) -> float:
    """Share of the exact k best premises that are among the k found, over all states."""
    pairs = zip(found[:, :k].tolist(), exact[:, :k].tolist(), strict=True)
    counts = [(len(set(a) & set(b) - {-1}), len(set(b) - {-1})) for a, b in pairs]
    return sum(hits for hits, _ in counts) / sum(total for _, total in counts)


if __name__ == "__main__":
    main()
