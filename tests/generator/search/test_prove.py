"""The command, in this process: what it writes, how it goes on, and what it makes of bad input."""

from __future__ import annotations

import fcntl
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from common import Candidate, ConfigError, DataError
from generator.environments import Statement
from generator.interface.tactic_generator import TacticGenerator
from generator.search import prove as command
from generator.search.results import ResultsFile
from retrieval.training.commands import run
from tests.generator.search.own_prover import Even
from tests.generator.search.prove_fakes import arguments, prove, results_of, statuses, write_script, write_split

NAMES = [("A.v", "a1"), ("A.v", "a2"), ("B.v", "b")]
STARTS = {"a1": "⊢ 1", "a2": "⊢ 2", "b": "⊢ 3"}


@pytest.fixture
def split(tmp_path: Path) -> Path:
    """Three theorems in two files."""
    return write_split(tmp_path / "data" / "test.json", NAMES)


def test_a_run_leaves_results_a_summary_proofs_and_figures(
    split: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = write_script(tmp_path / "s.json", STARTS, {"⊢ 2": {"step": "⊢ 1"}, "⊢ 3": {"step": "⊢ 3"}})
    prove(split, script, tmp_path / "out", "--figures=true")
    assert statuses(tmp_path / "out") == {"a1": "proved", "a2": "proved", "b": "failed"}
    printed = capsys.readouterr().out
    assert "3 theorems: 2 proved, 1 failed, 0 open, 0 discarded" in printed
    assert "Pass@1 66.7% (95% interval 20.8 to 93.9)" in printed
    assert "proofs of 1 to 2 tactics (median 1.5)" in printed
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["proved"] == 2 and summary["proof_lengths"] == {"1": 1, "2": 1}
    assert summary["pass_at_1_interval"] == [pytest.approx(0.2077, abs=1e-3), pytest.approx(0.9385, abs=1e-3)]
    assert (tmp_path / "out" / "proofs" / "A.v").read_text() == "a1:\n  done\na2:\n  step\n  done\n"
    pictures = sorted(path.name for path in (tmp_path / "out" / "figures").iterdir())
    assert pictures == ["expansions.png", "pass_at_1.png", "proof_lengths.png"]
    assert len(list((tmp_path / "out").glob("events.out.tfevents.*"))) == 1


def test_a_run_goes_on_where_it_was_stopped_and_searches_nothing_twice(
    split: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, calls = write_script(tmp_path / "s.json", STARTS), tmp_path / "calls"
    args = (split, script, tmp_path / "out", f"--environment_options.calls_path={calls}", "--recheck=false")
    append, done = ResultsFile.append, []

    def append_two(self: ResultsFile, result: Any) -> None:
        append(self, result)
        done.append(result)
        if len(done) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(ResultsFile, "append", append_two)
    with pytest.raises(KeyboardInterrupt):
        prove(*args)
    with open(tmp_path / "out" / "results.jsonl", "ab") as file:
        file.write(b'{"theorem": {"file_path": "B.v", "full')  # as a killed process leaves it
    monkeypatch.undo()
    prove(*args)
    assert [result["theorem"]["full_name"] for result in results_of(tmp_path / "out")] == ["a1", "a2", "b"]
    before = calls.read_text()
    assert [line.split()[2] for line in before.splitlines() if " check " in line] == ["a1", "a2", "b"]
    prove(*args)  # and once all is done, nothing is searched
    assert calls.read_text() == before


def test_ctrl_c_says_how_to_go_on(
    split: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script, append = write_script(tmp_path / "s.json", STARTS), ResultsFile.append

    def append_and_stop(self: ResultsFile, result: Any) -> None:
        append(self, result)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(ResultsFile, "append", append_and_stop)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
    try:
        with pytest.raises(SystemExit) as ended:
            prove(split, script, tmp_path / "out")
    finally:
        signal.signal(signal.SIGINT, before)
    assert ended.value.code == 130
    assert "interrupted by Ctrl-C: 1 of 3 theorems are done; the same command goes on" in capsys.readouterr().err


def test_two_commands_do_not_write_the_same_results(split: Path, tmp_path: Path) -> None:
    script, out = write_script(tmp_path / "s.json", STARTS), tmp_path / "out"
    prove(split, script, out)
    with open(out / "results.jsonl", "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match="another process is writing it"):
            prove(split, script, out)


def test_results_of_another_run_are_refused_and_kept(split: Path, tmp_path: Path) -> None:
    script, out = write_script(tmp_path / "s.json", STARTS), tmp_path / "out"
    prove(split, script, out, "--num_theorems=2")
    before = (out / "results.jsonl").read_bytes()
    for more, message in (
        (["--num_theorems=1"], "its num_theorems is 2, that of this run 1"),
        (["--num_theorems=2", "--max_expansions=3"], "its search.max_expansions is not set, that of this run 3"),
        (["--num_theorems=2", "--tactics=auto"], 'its generator.tactics is "step,done"'),
        (["--num_theorems=2", "--choice=first"], "its theorems is"),
    ):
        with pytest.raises(ConfigError, match="another run"):
            try:
                prove(split, script, out, *more)
            except ConfigError as error:
                assert message in str(error)
                raise
    assert (out / "results.jsonl").read_bytes() == before
    (out / "results.jsonl").write_text('{"a": 1}\n')
    with pytest.raises(ConfigError, match="no results of a search"):
        prove(split, script, out, "--num_theorems=2")


def test_a_run_that_came_to_nothing_is_in_nobodys_way(split: Path, tmp_path: Path) -> None:
    script, out = write_script(tmp_path / "s.json", STARTS), tmp_path / "out"
    with pytest.raises(ConfigError, match="did you mean calls_path"):
        prove(split, script, out, "--environment_options.calls_pat=x")
    prove(split, script, out)
    assert len(results_of(out)) == 3


@pytest.mark.parametrize("name", ["proofs/Mine.v", "summary.json"])
def test_a_run_begins_in_no_folder_where_it_would_replace_what_is_not_its_own(
    name: str, split: Path, tmp_path: Path
) -> None:
    script, out = write_script(tmp_path / "s.json", STARTS), tmp_path / "out"
    (out / name).parent.mkdir(parents=True)
    (out / name).write_text("mine")
    with pytest.raises(ConfigError, match=rf"{name.split('/')[0]} is there and of no run that goes on"):
        prove(split, script, out)
    assert (out / name).read_text() == "mine" and not (out / "results.jsonl").exists()


def test_events_of_a_training_run_in_the_same_folder_stay(split: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    script, out = write_script(tmp_path / "s.json", STARTS), tmp_path / "out"
    out.mkdir()
    (out / "events.out.tfevents.1.host.2.0").write_text("training")
    for _ in range(2):  # its own are replaced
        prove(split, script, out, "--figures=true")
        assert len(list(out.glob("events.out.tfevents.*"))) == 2
    assert (out / "events.out.tfevents.1.host.2.0").read_text() == "training"


def test_a_proof_that_does_not_hold_once_more_is_none(
    split: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script, out = write_script(tmp_path / "s.json", STARTS), tmp_path / "out"
    prove(split, script, out)
    lines = (out / "results.jsonl").read_text().replace('"done"', '"magic"', 1)
    (out / "results.jsonl").write_text(lines.replace("step,magic", "step,done"))
    capsys.readouterr()
    prove(split, script, out)
    printed = capsys.readouterr().out
    assert "2 proved, 1 failed, 0 open, 0 discarded" in printed
    assert "Pass@1 66.7%" in printed, "it was searched, and counts as not proved"
    assert "failed 1: its proof was refused when it was checked again" in printed
    summary = json.loads((out / "summary.json").read_text())
    assert summary["pass_at_1"] == pytest.approx(2 / 3) and list(summary["refused_by_reason"].values()) == [1]
    assert "magic" not in "".join(path.read_text() for path in (out / "proofs").iterdir())


def test_a_broken_line_of_results_is_named(split: Path, tmp_path: Path) -> None:
    script, out = write_script(tmp_path / "s.json", STARTS), tmp_path / "out"
    prove(split, script, out)
    good = (out / "results.jsonl").read_text().splitlines()
    stranger = json.dumps(json.loads(good[1]) | {"theorem": {"file_path": "C.v", "full_name": "c", "start": None}})
    unproved = json.dumps(json.loads(good[1]) | {"proof": None})
    for line, message in (
        ("{", "is no JSON"),
        ("[]", "is no object"),
        ("{}", "is no result"),
        (unproved, "status and its proof"),
        (stranger, "not of this run"),
        (good[1], "stands there twice"),
    ):
        (out / "results.jsonl").write_text("\n".join([*good[:2], line, *good[3:], ""]))
        with pytest.raises(DataError, match=rf"results.jsonl:3: .*{message}"):
            prove(split, script, out)


def test_a_theorem_that_cannot_start_is_discarded_with_its_reason(
    split: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = write_script(tmp_path / "s.json", {"a1": "⊢ 1", "a2": {"error": "A.v does not compile"}})
    prove(split, script, tmp_path / "out")
    assert statuses(tmp_path / "out") == {"a1": "proved", "a2": "discarded", "b": "discarded"}
    printed = capsys.readouterr().out
    assert "Pass@1 100.0% (95% interval 20.7 to 100.0, discarded ones left out)" in printed
    assert "discarded 1: ... does not compile" in printed and "discarded 1: the script has no theorem ..." in printed


def test_tactics_that_loop_cost_their_time_and_nothing_else(split: Path, tmp_path: Path) -> None:
    loop = {"step": {"error": "timeout", "kind": "timeout"}, "done": "no goals"}
    prove(split, write_script(tmp_path / "s.json", STARTS, {"⊢ 1": loop}), tmp_path / "out")
    first = results_of(tmp_path / "out")[0]
    assert first["status"] == "proved" and first["errors"] == {"timeout": 1}


def test_a_prover_that_breaks_at_every_call_ends_with_every_theorem_discarded(
    split: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = {"broken": "pipe closed"}
    tactics = {state: {"step": broken, "done": broken} for state in STARTS.values()}
    prove(split, write_script(tmp_path / "s.json", STARTS, tactics), tmp_path / "out")
    assert set(statuses(tmp_path / "out").values()) == {"discarded"}
    printed = capsys.readouterr().out
    assert "discarded 3: ...: pipe closed" in printed and "Pass@1" not in printed
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["pass_at_1"] is None


def test_a_generator_that_proposes_nothing_fails_every_theorem(
    split: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Silent(TacticGenerator):
        def propose(self, contexts: Any, num_candidates: int) -> list[list[Candidate]]:
            return [[] for _ in contexts]

    monkeypatch.setattr(command, "make_generator", lambda *_: Silent())
    prove(split, write_script(tmp_path / "s.json", STARTS), tmp_path / "out")
    results = results_of(tmp_path / "out")
    assert {result["status"] for result in results} == {"failed"} and {result["num_calls"] for result in results} == {0}
    assert not (tmp_path / "out" / "proofs").exists()


def test_names_may_be_of_any_script_and_stand_in_several_files(tmp_path: Path) -> None:
    names = [("Ünï/Ä.v", "定理'₁"), ("B.v", "定理'₁"), ("B.v", "a b")]
    split = write_split(tmp_path / "test.json", names)
    starts = {"Ünï/Ä.v:定理'₁": "⊢ 1", "B.v:定理'₁": "⊢ 2", "a b": "⊢ 3"}
    script = write_script(tmp_path / "s.json", starts, {"⊢ 2": {}})
    prove(split, script, tmp_path / "out")
    found = {(r["theorem"]["file_path"], r["theorem"]["full_name"]): r["status"] for r in results_of(tmp_path / "out")}
    assert found == {names[0]: "proved", names[1]: "failed", names[2]: "proved"}
    assert "定理'₁:\n  done\n" in (tmp_path / "out" / "proofs" / "Ünï" / "Ä.v").read_text(encoding="utf-8")
    prove(split, script, tmp_path / "out")  # and the results are known again


def test_proofs_stay_inside_their_folder(tmp_path: Path) -> None:
    split = write_split(tmp_path / "test.json", [("../../evil.v", "a1")])
    with pytest.raises(DataError, match="outside the folder of proofs"):
        prove(split, write_script(tmp_path / "s.json", STARTS), tmp_path / "out")
    assert not (tmp_path.parent / "evil.v").exists()


def test_a_statement_is_proved_and_printed(capsys: pytest.CaptureFixture[str]) -> None:
    args = ["--environment=propositional", "--tactics=intro h,exact h", "--max_expansions=10"]
    command.main([*args, "--statement=P -> P"])
    assert capsys.readouterr().out.endswith(
        "theorem searched_statement (P : Prop) : P → P := by\n  intro h\n  exact h\n"
    )
    with pytest.raises(SystemExit) as ended:
        command.main([*args, "--statement=P -> Q"])
    assert ended.value.code == 1 and "failed: no tactic is left to try" in capsys.readouterr().err


def test_a_prover_of_ones_own_needs_two_methods(capsys: pytest.CaptureFixture[str]) -> None:
    args = ["--environment=tests.generator.search.own_prover.Even", "--tactics=zero,minus_two"]
    command.main([*args, "--statement=4"])
    assert capsys.readouterr().out.endswith("searched_statement: 4\n  minus_two\n  minus_two\n  zero\n")
    with Even() as environment:
        four = Statement("4")
        assert environment.check(four, ["minus_two", "minus_two", "zero"]).accepted
        for theorem, script, reason in (
            (four, ["minus_two"], "goals are left:\n2"),
            (four, ["zero"], "'zero': zero does not apply to 4"),
            (Statement("0"), ["zero", "zero"], "'zero' comes after the end"),
            (Statement("x"), ["zero"], "is no number"),
        ):
            verdict = environment.check(theorem, script)
            assert not verdict.accepted and reason in verdict.message


def test_a_trace_draws_the_tree_of_one_theorem_and_leaves_results_alone(
    split: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = write_script(tmp_path / "s.json", STARTS, {"⊢ 3": {"step": "⊢ 1", "other": "⊢ 2"}})
    prove(split, script, tmp_path / "out", "--trace=b", "--num_theorems=1", "--tactics=other,step,done")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("✓ 0: ⊢ 3")
    assert any("★ other" in line and "⊢ 2" in line for line in lines) and any("∎" in line for line in lines)
    assert lines[-3:] == ["B.v:b: proved", "  other", "  done"]
    assert (tmp_path / "out" / "trace_b.svg").read_text(encoding="utf-8").startswith("<svg")
    assert not (tmp_path / "out" / "results.jsonl").exists()


def test_a_trace_of_what_cannot_be_searched_says_so(
    split: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = write_script(tmp_path / "s.json", {"a1": {"error": "does not compile"}})
    prove(split, script, tmp_path / "out", "--trace=a1")
    assert "A.v:a1: discarded: does not compile" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="there is no theorem a3 among the 3 that the options name; give a full name"):
        prove(split, script, tmp_path / "out", "--trace=a3")


def test_options_come_from_yaml_and_the_command_line_wins(
    split: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = write_script(tmp_path / "s.json", STARTS)
    config = tmp_path / "prove.yaml"
    config.write_text(
        f"environment: scripted\nenvironment_options: {{script: {script}}}\ntactics: done\nworkers: 0\n"
        f"data_path: {split.parent}\nnum_theorems: 1\n"
    )
    command.main([f"--config={config}", f"--output_dir={tmp_path / 'out'}", "--num_theorems=2"])
    assert len(results_of(tmp_path / "out")) == 2


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--environment=isabel"], "environment is 'isabel'; there are propositional"),
        (["--environment=null"], "no prover is named; give --environment, one of propositional"),
        (["--data_path=null"], "there is nothing to prove; give data_path"),
        (["--tactics=null"], "nobody proposes tactics; give ckpt_path"),
        (["--ckpt_path=x.ckpt"], "ckpt_path and tactics both say"),
        (["--output_dir=null"], "give --output_dir"),
        (["--statement=P"], "leave out data_path"),
        (["--workers=-1"], "workers is -1"),
        (["--num_theorems=0"], "num_theorems is 0"),
        (["--max_expansions=0"], "max_expansions is 0"),
        (["--environment_options.scrpt=x"], "no option scrpt; did you mean script"),
        (["--tactics=missing.txt"], "there is no such file"),
        (["--tactics=,"], "tactics is empty"),
        (["--tactics=majority"], "need a training split; give its train.json"),
        (["--num_candidtes=3"], "did you mean 'num_candidates'"),
    ],
)
def test_a_mistake_ends_in_a_line_that_says_what_to_give(
    args: list[str], message: str, split: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = write_script(tmp_path / "s.json", STARTS)
    given = arguments(split, script, tmp_path / "out", *args)
    with pytest.raises(SystemExit) as ended:
        run(lambda: command.main(given))
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "holds no theorems"),
        ("{", "test.json"),
        ('[{"full_name": "a"}]', r"theorem 0: field 'file_path' must be a text"),
        ('[{"full_name": "a", "file_path": "A", "start": [0, 1]}]', "theorem 0: field 'start'"),
    ],
)
def test_a_split_without_theorems_is_refused(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "test.json").write_text(content)
    with pytest.raises(DataError, match=message):
        prove(tmp_path / "test.json", write_script(tmp_path / "s.json", STARTS), tmp_path / "out")
    with pytest.raises(DataError, match="there is no test.json; there are"):
        (tmp_path / "empty").mkdir()
        prove(tmp_path / "empty", tmp_path / "s.json", tmp_path / "out")


def test_a_prover_that_is_not_installed_is_named_in_a_line(
    split: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        given = ["--environment=coq", "--environment_options={coqidetop: /no/such/coqidetop}"]
        run(lambda: command.main(arguments(split, tmp_path / "s.json", tmp_path / "out", *given)))
    printed = capsys.readouterr().err
    assert ended.value.code == 2 and "coqidetop" in printed and len(printed.strip().splitlines()) == 1
