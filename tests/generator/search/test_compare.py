"""Runs over the same theorems, side by side."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from common import ConfigError, DataError
from generator.environments.base import Theorem
from generator.search.compare import Row, curve, limits_of, main, num_states, read_rows, report, seconds
from generator.search.loop import SearchResult
from generator.search.results import ResultsFile

THEOREMS = [Theorem(path, name, (1, 1)) for path, name in [("a/b/A.v", "x"), ("a/b/A.v", "y"), ("a/C.v", "z")]]


def result(number: int, proved_at: tuple[int, float] | None = None) -> SearchResult:
    """A theorem proved after so many states and seconds of search, or one that was searched in vain for 9 s."""
    theorem = THEOREMS[number]
    if proved_at is None:
        return SearchResult(theorem, "open", num_expansions=7, num_calls=10, total_s=10, start_s=1, errors={"error": 4})
    states, search_s = proved_at
    times = {"model_s": search_s / 2, "total_s": search_s + 3, "start_s": 1.0, "check_s": 2.0}
    return SearchResult(theorem, "proved", "", ("t",), ("s",), num_expansions=states, num_calls=10, **times)


RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"
RUNS = {
    "one": [result(0, (1, 0.5)), result(1, (5, 3.0)), result(2)],
    "two": [result(0, (2, 1.0)), result(1), result(2)],
}


def write_runs(folder: Path, theorems: str = "same") -> list[str]:
    for name, results in RUNS.items():
        run = {"num_theorems": 3, "search": {"max_seconds": 9.0}, "theorems": theorems}
        with ResultsFile(folder / name / "results.jsonl", run, THEOREMS) as file:
            for each in results:
                file.append(each)
    return [str(folder / name) for name in RUNS]


def test_runs_stand_side_by_side_with_what_smaller_limits_would_have_given(tmp_path: Path) -> None:
    rows = read_rows([Path(each) for each in write_runs(tmp_path)], ["first", "second"])
    totals, states, times, folders, errors = report(rows, [1, 4, 8], [0.5, 2.0, 9.5], depth=2)
    assert totals.splitlines()[2:] == [
        "| first | 66.7% | 20.8 to 93.9 | 2, 0, 1, 0 | 1 | 13 | 30 | 12 | 14% |",
        "| second | 33.3% | 6.1 to 79.2 | 1, 0, 2, 0 | 0 | 16 | 30 | 19 | 3% |",
        "| any of them | 66.7% |  |  |  |  |  |  |  |",
    ]
    assert states.splitlines()[2:] == ["| first | 33.3 | 33.3 | 66.7 (1) |", "| second | 0.0 | 33.3 | 33.3 (2) |"]
    assert times.splitlines()[2:] == ["| first | 33.3 | 33.3 | 66.7 (1) |", "| second | 0.0 | 33.3 | 33.3 (2) |"]
    assert times.startswith("| Pass@1 (%) within so many seconds (searches cut off before) | 0.5 | 2 | 9.5 |")
    assert folders.splitlines()[2:] == ["| a | 1 | 0 | 0 |", "| a/b | 2 | 2 | 1 |"]
    assert errors.splitlines()[2:] == ["| first | 13.3 |", "| second | 26.7 |"]


def test_a_curve_steps_up_where_a_proof_was_found(tmp_path: Path) -> None:
    rows = read_rows([Path(each) for each in write_runs(tmp_path)])
    first, second = curve(rows, num_states, "states tried").series
    assert (first.name, second.name) == ("one", "two")
    assert first.x == (1, 5, 5, 7, 7)
    assert first.y == pytest.approx([100 / 3, 100 / 3, 200 / 3, 200 / 3, 200 / 3])
    assert second.x == (1, 2, 2, 7, 7)
    assert second.y == pytest.approx([0, 0, 100 / 3, 100 / 3, 100 / 3])
    assert curve(rows, seconds, "seconds").series[0].x == (0.5, 3.0, 3.0, 9.0, 9.0)


def test_the_command_prints_tables_and_draws_both_curves_in_one_figure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    runs = write_runs(tmp_path)
    summary = {"refused_by_reason": {"Qed": 1}}
    (tmp_path / "two" / "summary.json").write_text(json.dumps(summary))
    main(["--runs", *runs, "--names", "first", "second", "--output_path", str(tmp_path / "figure.png")])
    printed = capsys.readouterr().out
    assert "| first | 66.7% |" in printed and f"figure: {tmp_path / 'figure.png'}" in printed
    assert f"{tmp_path / 'two'}: 1 of these proofs did not hold when they were checked again" in printed
    with Image.open(tmp_path / "figure.png") as image:
        assert image.width > 1.9 * image.height


def test_a_figure_says_how_many_seconds_the_searches_had() -> None:
    rows = [Row(str(limit), [], limit) for limit in (60.0, None, 5.0, 5.0)]
    assert limits_of(rows) == "5 or 60 s each" and limits_of(rows[1:2]) == ""


def test_runs_that_cannot_be_compared_are_refused(tmp_path: Path) -> None:
    first, second = write_runs(tmp_path)
    with pytest.raises(ConfigError, match="runs is empty"):
        read_rows([])
    with pytest.raises(ConfigError, match="1 names for 2 runs"):
        main(["--runs", first, second, "--names", "x"])
    with pytest.raises(DataError, match=r"nowhere.*No such file.*generator.search.prove"):
        main(["--runs", first, str(tmp_path / "nowhere")])
    other, _ = write_runs(tmp_path / "other", "others")
    with pytest.raises(ConfigError, match="is a search of other theorems than"):
        main(["--runs", first, other])
    path = Path(second) / "results.jsonl"
    path.write_text("\n".join([*path.read_text().splitlines()[:-1], "{"]))
    with pytest.raises(ConfigError, match="1 of its theorems are not searched yet; finish it by the same command"):
        main(["--runs", first, second])
    path.write_text('{"a": 1}\n')
    with pytest.raises(DataError, match="holds no results of a search"):
        main(["--runs", first, second])
    write_runs(tmp_path / "more")
    (tmp_path / "more" / "one" / "summary.json").write_text("[]")
    with pytest.raises(DataError, match=r"summary.json: is not what a search writes"):
        main(["--runs", str(tmp_path / "more" / "one")])


def test_the_page_on_coq_shows_what_its_kept_results_say() -> None:
    names = ["scripts", "majority", "nearest", "composed"]
    rows = read_rows([RESULTS / "coq_proving" / name for name in names], names)
    page = (RESULTS / "coq.md").read_text(encoding="utf-8").replace("**", "")
    for table in report(rows, [1, 4, 8, 16, 24], [0.5, 1.0, 2.0, 5.0], depth=2):
        assert table.strip() in page
