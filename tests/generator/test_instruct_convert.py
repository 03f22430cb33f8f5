"""LeanDojo Benchmark files and instruct data: there and back, nothing is lost but what is counted."""

import errno
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from common import ConfigError, DataError
from generator.environments.propositional_benchmark import build_propositional_benchmark
from generator.instruct_convert import cli, main, to_instruct, to_leandojo
from generator.prompts.templates import TEMPLATES, get_template
from retrieval.leandojo.traces import TracedTactics
from tests.fakes import theorem

SPLITS = ("train", "val", "test")


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "propositional"
    build_propositional_benchmark(folder, num_theorems=30, progress=False)
    return folder / "random"


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_theorems(path: Path, *theorems: dict[str, Any]) -> Path:
    path.write_text(json.dumps(theorems, ensure_ascii=False), encoding="utf-8")
    return path


@pytest.mark.parametrize("template", TEMPLATES)
def test_steps_come_back_as_they_were(benchmark: Path, tmp_path: Path, template: str) -> None:
    main(["--data_path", str(benchmark), "--template", template, "--output_dir", str(tmp_path / "instruct")])
    main(["--data_path", str(tmp_path / "instruct"), "--reverse", "--output_dir", str(tmp_path / "back")])
    for split in SPLITS:
        before = TracedTactics.load(benchmark / f"{split}.json", progress=False)
        after = TracedTactics.load(tmp_path / "back" / f"{split}.json", progress=False)
        assert list(after) == list(before) and len(before) > 0
    assert any(step.premises for step in before), "premises of tactics come back too"


def test_an_example_carries_what_the_benchmark_knows(benchmark: Path, tmp_path: Path) -> None:
    to_instruct(benchmark / "train.json", tmp_path / "train.jsonl", "ntp-st", progress=False)
    steps = TracedTactics.load(benchmark / "train.json", progress=False)
    examples = records(tmp_path / "train.jsonl")
    assert len(examples) == len(steps)
    raw = {
        (t["full_name"], i): step
        for t in json.loads((benchmark / "train.json").read_text(encoding="utf-8"))
        for i, step in enumerate(t["traced_tactics"])
    }
    for example, step in zip(examples, steps, strict=True):
        metadata = example["metadata"]
        assert set(example) == {"task", "prompt", "prompt_name", "completion", "metadata"}
        assert example["prompt"] == get_template("ntp-st").format(step.state) and example["prompt_name"] == "ntp-st"
        assert metadata.items() >= step.provenance.to_record().items()
        assert metadata["state_after"] == raw[step.provenance.full_name, step.provenance.tactic_idx]["state_after"]


def test_what_was_left_out_is_counted(tmp_path: Path) -> None:
    path = write_theorems(
        tmp_path / "train.json",
        theorem(0, [("⊢ p", "a ::: b"), ("⊢ q", "simp"), ("no goals", "done")]),
        theorem(1, []),
        theorem(2, [("no goals", "done")]),
        theorem(3, [("⊢ r", "ring"), ("⊢ s", "")]),
    )
    target = tmp_path / "train.jsonl"
    summary = to_instruct(path, target, "bfs-prover", progress=False)
    seen = [(r["completion"], r["metadata"]["tactic_idx"], r["metadata"]["state_after"]) for r in records(target)]
    assert seen == [("simp", 1, "no goals"), ("ring", 0, "⊢ s")]
    left_out = ("1 theorems without", "2 steps from", "1 steps with an empty", "1 tactics that template")
    for part in (*left_out, "2 examples in"):
        assert part in summary


def test_steps_of_a_theorem_are_brought_together_in_their_order(tmp_path: Path) -> None:
    theorems = [theorem(0, [("⊢ a", "t0"), ("⊢ b", "t1")]), theorem(1, [("⊢ c", "t2")])]
    path = write_theorems(tmp_path / "val.json", *theorems)
    to_instruct(path, tmp_path / "val.jsonl", "llmstep", progress=False)
    lines = (tmp_path / "val.jsonl").read_text(encoding="utf-8").splitlines()
    (tmp_path / "val.jsonl").write_text("\n".join([lines[1], lines[2], lines[0]]) + "\n", encoding="utf-8")
    to_leandojo([tmp_path / "val.jsonl"], tmp_path / "back.json", progress=False)
    assert json.loads((tmp_path / "back.json").read_text(encoding="utf-8")) == theorems


def test_data_of_ntp_toolkit_becomes_theorems_as_far_as_it_tells(tmp_path: Path) -> None:
    template = get_template("ntp-st")
    lines = [
        {"prompt": template.format("⊢ p"), "completion": "simp\n[/TAC]", "metadata": {"file": "A.lean", "declId": name}}
        for name in ("d1", None, "d1", None)
    ]
    lines += [{"prompt": "Q", "completion": "A"}]
    (tmp_path / "dev.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    main(["--reverse", "--data_path", str(tmp_path), "--output_dir", str(tmp_path / "out")])
    theorems = json.loads((tmp_path / "out" / "val.json").read_text(encoding="utf-8"))
    assert [(t["file_path"], t["full_name"], len(t["traced_tactics"])) for t in theorems] == [
        ("A.lean", "d1", 2),
        ("A.lean", "", 1),
        ("A.lean", "", 1),
    ]
    assert len(TracedTactics.load(tmp_path / "out" / "val.json", progress=False)) == 4


PREMISE = {"full_name": "Nat.foo", "def_path": "A.lean", "def_pos": [1, 1], "def_end_pos": [1, 9]}


def with_names(folder: Path) -> tuple[Path, dict[str, Any]]:
    """A file of a theorem with short names, several lines and odd white space."""
    record = theorem(
        0, [("⊢ a", "rw [foo,  foo] "), ("⊢ b", "have h : p := by\n  simp \n  exact  foo"), ("⊢ c", "x  y")]
    )
    first, second, third = record["traced_tactics"]
    first["annotated_tactic"] = ["rw [<a>foo</a>,  <a>foo</a>] ", [PREMISE, PREMISE]]
    second["annotated_tactic"] = ["have h : p := by\n  simp \n  exact  <a>foo</a>", [PREMISE]]
    del third["annotated_tactic"]
    return write_theorems(folder / "train.json", record), record


@pytest.mark.parametrize(
    ("options", "completions"),
    [
        ([], ["rw [foo,  foo]", "have h : p := by\n  simp \n  exact  foo", "x  y"]),
        (["--normalize_tactics"], ["rw [foo, foo]", "have h : p := by\n  simp\n  exact  foo", "x y"]),
        (
            ["--tactic_names", "full", "--normalize_tactics"],
            ["rw [Nat.foo, Nat.foo]", "have h : p := by\n  simp\n  exact  Nat.foo", "x y"],
        ),
    ],
)
def test_the_way_back_restores_tactics_however_they_were_written(
    tmp_path: Path, options: list[str], completions: list[str]
) -> None:
    _, record = with_names(tmp_path)
    out = tmp_path / "instruct"
    main(["--data_path", str(tmp_path), "--template", "llmstep", "--output_dir", str(out), *options])
    assert [example["completion"] for example in records(out / "train.jsonl")] == completions
    main(["--data_path", str(out), "--reverse", "--output_dir", str(tmp_path / "back")])
    (back,) = json.loads((tmp_path / "back" / "train.json").read_text(encoding="utf-8"))
    record["traced_tactics"][2]["annotated_tactic"] = ["x  y", []]
    assert back == record


def test_instruct_data_that_was_converted_with_joined_lines_comes_back_as_the_file_had_it(tmp_path: Path) -> None:
    path, record = with_names(tmp_path)
    to_instruct(path, tmp_path / "train.jsonl", "llmstep", progress=False)
    examples = records(tmp_path / "train.jsonl")
    for example, old in zip(
        examples, ["rw [Nat.foo, Nat.foo]", "have h : p := by simp exact Nat.foo", "x y"], strict=True
    ):
        example["completion"] = old
        del example["metadata"]["tactic"]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, examples)), encoding="utf-8")
    report = to_leandojo([tmp_path / "train.jsonl"], tmp_path / "back.json", progress=False)
    (back,) = json.loads((tmp_path / "back.json").read_text(encoding="utf-8"))
    assert back["traced_tactics"][:2] == record["traced_tactics"][:2] and "without their premises" not in report


@pytest.mark.parametrize(
    "annotation",
    [
        [[1, 2], []],
        ["simp", [1]],
        ["simp", {"full_name": "h"}],
        ["simp"],
        "simp",
        [None, None],
        {},
        7,
        ["exact <a>h</a>", [PREMISE]],
        ["<a>simp</a>", [{**PREMISE, "def_pos": [[], 1]}]],
        ["<a>simp</a>", [{**PREMISE, "full_name": None}]],
    ],
)
def test_a_broken_annotation_is_counted_and_its_step_kept(tmp_path: Path, annotation: Any) -> None:
    metadata = {"annotated_tactic": annotation, "end": [[]], "state_after": 5, "url": 7, "tactic_idx": "x", "start": {}}
    line = {"prompt": "[GOAL]⊢ p[PROOFSTEP]", "completion": "simp", "prompt_name": "llmstep", "metadata": metadata}
    (tmp_path / "train.jsonl").write_text(json.dumps(line), encoding="utf-8")
    report = to_leandojo([tmp_path / "train.jsonl"], tmp_path / "train.json", progress=False)
    assert "without their premises: 1 examples whose annotated_tactic is broken or of another tactic (first" in report
    (step,) = TracedTactics.load(tmp_path / "train.json", progress=False)
    assert (step.tactic, step.state, step.premises) == ("simp", "⊢ p", ())


def test_an_annotation_of_another_tactic_is_not_kept(tmp_path: Path) -> None:
    line = {
        "prompt": "[GOAL]⊢ p[PROOFSTEP]",
        "completion": "simp",
        "prompt_name": "llmstep",
        "metadata": {"annotated_tactic": ["exact <a>h</a>", [{"full_name": "h", "def_path": "A", "def_pos": [1, 1]}]]},
    }
    (tmp_path / "train.jsonl").write_text(json.dumps(line), encoding="utf-8")
    to_leandojo([tmp_path / "train.jsonl"], tmp_path / "train.json", progress=False)
    (back,) = json.loads((tmp_path / "train.json").read_text(encoding="utf-8"))
    assert back["traced_tactics"][0]["annotated_tactic"] == ["simp", []]


# ------------------------------------------------------------------------------------------------
# Refusals


def test_nothing_is_written_over(benchmark: Path, tmp_path: Path) -> None:
    (tmp_path / "val.jsonl").write_text("mine")
    with pytest.raises(DataError, match="val.jsonl is there already"):
        main(["--data_path", str(benchmark), "--template", "ntp-st", "--output_dir", str(tmp_path)])
    assert [path.name for path in tmp_path.iterdir()] == ["val.jsonl"]


def test_a_broken_file_leaves_nothing_behind(tmp_path: Path) -> None:
    template = get_template("llmstep")
    good = json.dumps({"prompt": template.format("⊢ p"), "completion": "simp", "prompt_name": "llmstep"})
    (tmp_path / "train.jsonl").write_text(good + "\n{\n", encoding="utf-8")
    arguments = ["--reverse", "--data_path", str(tmp_path), "--output_dir", str(tmp_path / "out")]
    with pytest.raises(DataError, match="train.jsonl:2: broken JSON"):
        main(arguments)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())
    main([*arguments, "--skip_invalid"])
    assert len(TracedTactics.load(tmp_path / "out" / "train.json", progress=False)) == 1


def test_a_file_that_fails_while_it_is_written_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_theorems(tmp_path / "train.json", theorem(0, [("⊢ p", "simp")]))
    monkeypatch.setattr("generator.instruct_convert._record", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        to_instruct(path, tmp_path / "out" / "train.jsonl", "ntp-st", progress=False)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_folder_that_cannot_be_made_is_one_line(
    benchmark: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "file" / "out"
    out.parent.touch()
    arguments = ["--data_path", str(benchmark), "--template", "ntp-st", "--output_dir", str(out)]
    monkeypatch.setattr(sys, "argv", ["instruct_convert", *arguments])
    with pytest.raises(SystemExit) as stopped:
        cli()
    advice = "check the path, permissions, and room on the disk"
    assert stopped.value.code == 2
    assert capsys.readouterr().err == f"error: cannot write {out / 'train.jsonl'}: Not a directory; {advice}\n"


def test_a_full_disk_is_named_and_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_theorems(tmp_path / "train.json", theorem(0, [("⊢ p", "simp")]))

    def fail(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("generator.instruct_convert._record", fail)
    with pytest.raises(DataError, match=r"cannot write .*train\.jsonl: No space left on device; check"):
        to_instruct(path, tmp_path / "out" / "train.jsonl", "ntp-st", progress=False)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--template", "ntp-st", "--data_path", "nowhere"], "data_path nowhere: there is no such folder"),
        (["--template", "ntp-st", "--data_path", "."], "none of train.json, val.json, test.json is there"),
        (["--reverse", "--data_path", "."], "none of train.jsonl, val.jsonl, test.jsonl is there"),
    ],
)
def test_a_folder_without_splits_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=message):
        main([*arguments, "--output_dir", "out"])


def test_the_way_back_takes_no_way_of_writing() -> None:
    with pytest.raises(ConfigError, match="--reverse restores the file's tactics"):
        main(["--reverse", "--tactic_names", "full", "--data_path", ".", "--output_dir", "out"])


@pytest.mark.parametrize("arguments", [[], ["--reverse", "--template", "ntp-st"]])
def test_one_direction_is_chosen(arguments: list[str]) -> None:
    with pytest.raises(ConfigError, match="give either --template, .* or --reverse"):
        main([*arguments, "--data_path", ".", "--output_dir", "out"])


def test_a_template_is_one_of_ours(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"template is 'ntp'; choose one of .*{list(TEMPLATES)[-1]}"):
        main(["--template", "ntp", "--data_path", str(tmp_path / "gone"), "--output_dir", "out"])
