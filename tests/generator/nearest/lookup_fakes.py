"""A small library of proofs in three files, of which B imports A, and C nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from generator.nearest.generator import LookupOptions, NearestTacticGenerator
from generator.nearest.steps import StateText, Steps
from retrieval.corpus import Corpus
from retrieval.leandojo.traces import TracedTactics
from retrieval.ngram_index import NgramIndex, NgramOptions

Step = tuple[str, str]  # state, tactic
ADD = [("n m : nat\n⊢ n + m = m + n", "induction n"), ("m : nat\n⊢ 0 + m = m + 0", "auto")]
MUL = [("n m : nat\n⊢ n * m = m * n", "induction m"), ("n : nat\n⊢ n * 0 = 0 * n", "auto")]
AND = [("p q : Prop\nh : p /\\ q\n⊢ q /\\ p", "destruct h as [hp hq]"), ("p q : Prop\nhp : p\n⊢ q /\\ p", "split")]
OR = [("p q : Prop\nh : p \\/ q\n⊢ q \\/ p", "destruct h"), ("p q : Prop\nhp : p\n⊢ q \\/ p", "right; exact hp")]
NGRAMS = NgramOptions(max_share=1.0)


def theorem(path: str, name: str, line: int, steps: list[Step]) -> dict[str, Any]:
    """A theorem as the files of LeanDojo Benchmark 4 have it."""
    traced = [
        {"tactic": tactic, "annotated_tactic": [tactic, []], "state_before": state, "state_after": "no goals"}
        for state, tactic in steps
    ]
    about = {"url": "https://example.org", "commit": "c0ffee", "file_path": path, "full_name": name}
    return {**about, "start": [line, 1], "end": [line + 3, 1], "traced_tactics": traced}


TRAIN = [theorem("A.v", "add", 1, ADD), theorem("B.v", "and", 20, AND), theorem("C.v", "mul", 1, MUL)]
VAL = [theorem("A.v", "or", 10, OR), theorem("B.v", "or2", 30, [(OR[0][0], "tauto")])]


def write_library(folder: Path) -> Path:
    """Write splits into `random/`, and corpus.jsonl beside it; return the folder of the splits."""
    splits = folder / "random"
    splits.mkdir(parents=True)
    for name, theorems in (("train", TRAIN), ("val", VAL), ("test", VAL)):
        (splits / f"{name}.json").write_text(json.dumps(theorems), encoding="utf-8")
    files = [{"path": "A.v", "imports": []}, {"path": "B.v", "imports": ["A.v"]}, {"path": "C.v", "imports": []}]
    lines = "".join(json.dumps({**file, "premises": []}) + "\n" for file in files)
    (folder / "corpus.jsonl").write_text(lines, encoding="utf-8")
    return splits


def make_lookup(
    splits: Path, *, earlier: tuple[str, ...] = (), with_corpus: bool = True, **options: Any
) -> NearestTacticGenerator:
    """The lookup over train, and over what stands before a theorem in other splits."""
    read = {name: TracedTactics.load(splits / f"{name}.json", progress=False) for name in ("train", *earlier)}
    rows = ((step, name == "train") for name, traced in read.items() for step in traced)
    steps = Steps.of(rows, StateText())
    index = NgramIndex.of([steps.text(number) for number in range(steps.num_texts)], NGRAMS)
    corpus = Corpus(splits.parent / "corpus.jsonl") if with_corpus else None
    return NearestTacticGenerator(steps, index, lookup=LookupOptions(**options), corpus=corpus)
