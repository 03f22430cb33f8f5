"""An evaluation that was interrupted goes on, and ends as if it had not been."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from common import ConfigError, DataError
from generator.domains.base import Problem
from generator.domains.results import evaluate_writer
from generator.domains.synthesize import Outcome, Synthesizer
from tests.generator.domains.marked import Marked, Told

PROGRAMS = {str(spec): ["no", "late", "no", "all" if spec % 2 else "yes", "?", f"yes {spec}"] for spec in range(10)}
PROBLEMS = [Problem(spec, "yes") for spec in PROGRAMS]


def evaluate(folder: Path, progress: Any = lambda outcomes, _: outcomes, **options: Any) -> tuple[dict[str, Any], Told]:
    writer = Told(PROGRAMS)
    search = Synthesizer(writer, Marked(), 6, stop_at_first=False, group_size=2)
    options = {"budget": 6, "device": "cpu", **options}
    return evaluate_writer(writer, Marked(), PROBLEMS, search, folder / "told", options, progress), writer


def cut(after: int) -> Any:
    """What stops an evaluation behind so many problems."""

    def progress(outcomes: Iterable[Outcome], num_kept: int) -> Iterator[Outcome]:
        for number, outcome in enumerate(outcomes):
            if number == after:
                raise KeyboardInterrupt
            yield outcome

    return progress


def rows(folder: Path, name: str = "told.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_times(each) for name, each in value.items() if "seconds" not in name}
    return value


@pytest.mark.parametrize("after", [1, 4, 9])
def test_it_goes_on_where_it_stopped_and_ends_the_same(after: int, tmp_path: Path) -> None:
    whole, _ = evaluate(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        evaluate(tmp_path / "cut", cut(after))
    assert not (tmp_path / "cut" / "told.jsonl").exists() and not (tmp_path / "cut" / "told.json").exists()
    assert len(rows(tmp_path / "cut", "told.jsonl.unfinished")) == after
    ended, writer = evaluate(tmp_path / "cut", device="cuda")
    assert writer.asked == list(PROGRAMS)[after:], "what was done is not asked for again"
    assert without_times(ended | {"options": {}}) == without_times(whole | {"options": {}})
    for found, expected in zip(rows(tmp_path / "cut"), rows(tmp_path / "whole"), strict=True):
        assert [each[:3] + each[4:] for each in found["tries"]] == [each[:3] + each[4:] for each in expected["tries"]]
    assert sorted(path.name for path in (tmp_path / "cut").iterdir()) == ["told.json", "told.jsonl"]


def test_a_line_that_was_cut_off_is_done_again(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        evaluate(tmp_path, cut(5))
    path = tmp_path / "told.jsonl.unfinished"
    path.write_bytes(path.read_bytes()[:-20])
    assert evaluate(tmp_path)[1].asked == list(PROGRAMS)[4:] and len(rows(tmp_path)) == 10


def test_another_evaluation_does_not_go_on_with_it(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        evaluate(tmp_path, cut(5))
    with pytest.raises(ConfigError, match=r"interrupted, whose budget is 6, and not 7; give the same options, another"):
        evaluate(tmp_path, budget=7)
    path = tmp_path / "told.jsonl.unfinished"
    first, *others = path.read_text().splitlines()
    path.write_text("\n".join([*others, first]) + "\n")
    with pytest.raises(DataError, match=r"unfinished:1: is not of problem 1 of this evaluation; remove the file"):
        evaluate(tmp_path)
    path.write_text(first.replace('"late"', '"never"', 1).replace('"timeout"', '"soon"') + "\n")
    with pytest.raises(DataError, match=r"unfinished:1: is no row of an evaluation \(\['soon'\] is no verdict\)"):
        evaluate(tmp_path)


def test_nobody_writes_the_same_rows_at_once(tmp_path: Path) -> None:
    def again(outcomes: Iterable[Outcome], num_kept: int) -> Iterator[Outcome]:
        with pytest.raises(ConfigError, match="another process is writing it"):
            evaluate(tmp_path)
        yield from outcomes

    assert evaluate(tmp_path, again)[0]["num_problems"] == 10


def test_results_of_a_name_with_a_dot_keep_it(tmp_path: Path) -> None:
    writer = Told(PROGRAMS, "top_p0.9")
    evaluate_writer(writer, Marked(), PROBLEMS, Synthesizer(writer, Marked(), 6), tmp_path / writer.name, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["top_p0.9.json", "top_p0.9.jsonl"]
