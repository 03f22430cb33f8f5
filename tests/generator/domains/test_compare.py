"""What one writer solves that another does not, of results on disk or of a baseline that is run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from common import NextstepError
from generator.domains import make_domain
from generator.domains.__main__ import main
from generator.domains.base import Problem
from generator.domains.compare import Side, compared, report
from generator.domains.results import evaluate_writer
from generator.domains.synthesize import Outcome, Synthesizer, Try
from generator.domains.verdicts import Verdict
from generator.domains.writers import RankedWriter
from generator.interface.wrappers import FixedTacticGenerator

SOLVED, NOT, LATE = Verdict("verified"), Verdict("rejected"), Verdict("timeout")


def run(*words: Any) -> None:
    main([str(word) for word in words])


def side(name: str, **verdicts: Verdict) -> Side:
    outcomes = {}
    for spec, verdict in verdicts.items():
        outcomes[spec] = Outcome(spec, [Try("p", 0.0, verdict, 1, False)], 1, "p" if verdict.holds else None)
        outcomes[spec].seconds_writing = 2.0
    return Side(name, outcomes, dict.fromkeys(verdicts, "p"))


def test_problems_are_counted_by_who_solves_them() -> None:
    one = side("model", a=SOLVED, b=SOLVED, c=NOT, d=LATE, e=SOLVED)
    other = side("sympy", a=SOLVED, b=NOT, c=SOLVED, d=NOT, f=SOLVED)
    found = compared(one, other)
    assert (found["both"], found["only_first"], found["only_second"], found["none"]) == (
        1,
        [["b", "p"]],
        [["c", "p"]],
        1,
    )
    assert found["num_problems"] == 4 and found["num_not_in_common"] == 2
    assert found["first"]["unsolved_and_undecided"] == 1 and found["first"]["mean_seconds_writing"] == 2.0
    text = report(found)
    assert "| model solves | 1 (25.0%) | 1 (25.0%) |" in text and "left out: 2" in text


def evaluated(folder: Path, name: str, programs: list[str], problems: list[Problem], domain: str = "rectangle") -> Path:
    made = make_domain(domain, {"num_check_workers": 1} if domain != "rectangle" else {})
    writer = RankedWriter(FixedTacticGenerator(programs), len(programs), name)
    evaluate_writer(writer, made, problems, Synthesizer(writer, made, len(programs)), folder / name, {})
    return folder / f"{name}.json"


def test_two_results_are_compared_from_their_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    problems = [Problem("[11+]", "[0,2,0,2]"), Problem("[44+]", "[3,5,3,5]"), Problem("[05+50+]", "[0,6,0,6]")]
    one = evaluated(tmp_path / "one", "low", ["[0,2,0,2]"], problems)
    other = evaluated(tmp_path / "other", "high", ["[3,5,3,5]"], problems)
    run("compare", "--results", one, "--with", tmp_path / "other", "--output_dir", tmp_path / "c")
    out = capsys.readouterr().out
    assert "| of 3 problems | high solves | high does not |" in out
    assert "| low solves | 0 (0.0%) | 1 (33.3%) |" in out and "| low does not | 1 (33.3%) | 1 (33.3%) |" in out
    assert "[0,2,0,2]" in out and "[3,5,3,5]" not in out
    found = json.loads((tmp_path / "c" / "compare.json").read_text())
    assert found["only_first"] == [["[11+]", "[0,2,0,2]"]] and found["only_second"] == [["[44+]", "[3,5,3,5]"]]
    assert other.exists()


def test_a_baseline_is_run_once_on_the_same_problems(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    problems = [Problem("[11+]", "[0,2,0,2]"), Problem("[44+12-]", "[3,5,3,5]")]
    one = evaluated(tmp_path / "one", "low", ["[0,2,0,2]"], problems)
    words = ["compare", "--results", one, "--with", "dsl", "--output_dir", tmp_path / "c"]
    run(*words)
    first = capsys.readouterr().out
    monkeypatch.setattr("generator.domains.compare.evaluate_writer", None)
    run(*words)
    assert capsys.readouterr().out == first


def test_sympy_is_compared_with_a_model_of_integrals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It finds the integral of x*cos(x), and of abs(x) one for each half of the line."""
    hard, answer = "sub Y' abs x", "mul div INT+ 1 INT+ 2 mul x abs x"
    problems = [Problem("sub Y' mul x cos x", "add cos x mul x sin x"), Problem(hard, answer)]
    one = evaluated(tmp_path / "one", "model", [answer], problems, "prim_bwd")
    folder = tmp_path / "c"
    run("compare", "--domain", "prim_bwd", "--results", one, "--with", "sympy", "--output_dir", folder)
    out = capsys.readouterr().out
    assert "| model solves | 0 (0.0%) | 1 (50.0%) |" in out and "| model does not | 1 (50.0%) | 0 (0.0%) |" in out
    assert "x*Abs(x)/2" in out
    assert json.loads((folder / "compare.json").read_text())["only_first"] == [[hard, answer]]
    rows = [json.loads(line) for line in (folder / "sympy.jsonl").read_text().splitlines()]
    assert rows[0]["tries"][0][2] == "verified" and {entry[2] for entry in rows[1]["tries"]} == {"rejected"}


@pytest.mark.parametrize(
    ("with_", "reason"),
    [("llm", "with is 'llm'; give a file or folder of results, or a baseline of rectangle"), (".", "holds no results")],
)
def test_what_there_is_nothing_to_compare_with_is_refused(
    with_: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    one = evaluated(tmp_path / "one", "low", ["[0,2,0,2]"], [Problem("[11+]", "[0,2,0,2]")])
    with pytest.raises(NextstepError, match=reason):
        run("compare", "--results", one, "--with", with_, "--output_dir", tmp_path / "c")


def test_results_without_a_problem_in_common_are_refused(tmp_path: Path) -> None:
    one = evaluated(tmp_path / "one", "low", ["[0,2,0,2]"], [Problem("[11+]", "[0,2,0,2]")])
    other = evaluated(tmp_path / "other", "high", ["[3,5,3,5]"], [Problem("[44+]", "[3,5,3,5]")])
    with pytest.raises(NextstepError, match="no problem in common"):
        run("compare", "--results", one, "--with", other, "--output_dir", tmp_path / "c")
    (tmp_path / "one" / "low.jsonl").write_text('{"spec": 1}\n')
    with pytest.raises(NextstepError, match="low.jsonl:1: is no row"):
        run("compare", "--results", one, "--with", other, "--output_dir", tmp_path / "c")
