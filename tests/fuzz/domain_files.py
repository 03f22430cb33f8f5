"""The files of domains: problems, published ones of symbolic mathematics, results."""

from __future__ import annotations

import random
from pathlib import Path

from generator.domains import make_domain
from generator.domains.figures import result_charts
from generator.domains.problem_files import read_split, write_problem_files
from generator.domains.results import evaluate_writer, read_results
from generator.domains.symbolic.files import opened, split_lines
from generator.domains.synthesize import Synthesizer
from retrieval.training.datamodule import SPLITS


def make_problems(folder: Path) -> None:
    """Write problems, as `generate` does."""
    write_problem_files(make_domain("rectangle"), folder, {"train": 6, "val": 2, "test": 3}, seed=0)


def read_domain_problems(folder: Path, rng: random.Random) -> tuple[int, int]:
    """Read a split; all its problems can be judged."""
    domain, split = make_domain("rectangle"), rng.choice(SPLITS)
    problems = read_split(folder, split, domain)
    assert all(domain.check(problem.spec, problem.program).kind != "error" for problem in problems)
    return sum(1 for line in (folder / f"{split}.jsonl").read_bytes().split(b"\n") if line.strip()), len(problems)


def make_published(folder: Path) -> None:
    """Write lines as published files have them."""
    lines = [f"{9 - power}|sub Y' pow x INT+ {power}\tmul x pow x INT+ {power}\n" for power in range(9)]
    (folder / "prim.data").write_text("".join(lines))


def read_published(folder: Path, rng: random.Random) -> tuple[int, int]:
    """Read them; each line is a problem, or is said to be none."""
    with opened(folder / "prim.data", rng.choice(["", "prim_fwd"])) as lines:
        assert all(lines[number].spec for number in range(len(lines)))
        num_found = len(lines) + lines.faults.counts.total()
        assert split_lines(lines.marks, 1, None, seed=0).lines["train"].size
    return lines_of_bytes(folder / "prim.data"), num_found


def lines_of_bytes(path: Path) -> int:
    """Count the lines that are not blank, which line feeds alone end."""
    return sum(1 for line in path.read_bytes().split(b"\n") if line.strip())


def make_result(folder: Path) -> None:
    """Write what a baseline did."""
    domain = make_domain("rectangle")
    writer, problems = domain.baselines()["tight"](0, list), domain.problems(0, "test", 3)
    search = Synthesizer(writer, domain, 30, stop_at_first=False)
    evaluate_writer(writer, domain, problems, search, folder / "tight", {})


def read_result(folder: Path, rng: random.Random) -> None:
    """Draw it."""
    domain = make_domain("rectangle")
    assert result_charts(read_results([folder], domain), domain.published)
