"""The files of proof search: results that a run goes on with, names of theorems, tactics."""

from __future__ import annotations

import random
from pathlib import Path

from generator.environments import Statement, Theorem
from generator.environments.scripted import ScriptedEnvironment
from generator.search.loop import SearchResult
from generator.search.results import ResultsFile, read_results
from generator.search.tactic_sources import GeneratorOptions, make_generator
from generator.search.theorems import TheoremOptions, load_theorems

RUN = {"num_theorems": 3, "search": {"max_seconds": 1.5}}
RESULTS = [
    SearchResult(
        Theorem("A.v", "é", (1, 2)), "proved", "proved", ("intro h", "exact h"), ("⊢ p → p", "⊢ p"), errors={"error": 2}
    ),
    SearchResult(Statement("p → p"), "open", "max_seconds 1.5 reached", total_s=1.6),
    SearchResult(Theorem("B.v", "x"), "discarded", "B.v does not compile"),
]


def make_search_results(folder: Path) -> None:
    """Write results of three theorems."""
    with ResultsFile(folder / "results.jsonl", RUN, [result.theorem for result in RESULTS]) as file:
        for result in RESULTS:
            file.append(result)


def read_search_results(folder: Path, rng: random.Random) -> None:
    """Go on with them: what is read must be writable again."""
    with ResultsFile(folder / "results.jsonl", RUN, [result.theorem for result in RESULTS]) as file:
        read = {result.theorem for result in file.results}
        for result in RESULTS:
            if result.theorem not in read:
                file.append(result)
        assert {result.theorem for result in file.results} == {result.theorem for result in RESULTS}
    assert len(read_results(folder)[1]) == len(RESULTS), "who compares runs reads the same"


def make_lists(folder: Path) -> None:
    """Write names of theorems, tactics with log-probabilities, and a script."""
    (folder / "names.txt").write_text("# two\nA.v é 1:2\nB.v x\n", encoding="utf-8")
    (folder / "tactics.txt").write_text("-1.5\tintro h\n-2\texact ⟨h, h⟩\n", encoding="utf-8")
    (folder / "script.json").write_text('{"starts": {"x": "⊢ x"}, "tactics": {"⊢ x": {"t": {"error": "e"}}}}')


def read_lists(folder: Path, rng: random.Random) -> None:
    """Read them, and what else lies there as one of them."""
    if (folder / "names.txt").exists():
        load_theorems(TheoremOptions(names_path=folder / "names.txt"))
    make_generator(GeneratorOptions(tactics=str(folder / "tactics.txt")), None, 0)
    ScriptedEnvironment(folder / "script.json")
