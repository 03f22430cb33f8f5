"""The prover that plays a script."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from common import ConfigError
from generator.environments import (
    BrokenEnvironmentError,
    CannotStartError,
    ProofFinished,
    ProofState,
    Statement,
    TacticError,
    Theorem,
)
from generator.environments.scripted import ScriptedEnvironment

SCRIPT = {
    "starts": {"a": "⊢ a", "B.lean:a": "⊢ b", "P -> P": "⊢ p", "bad": {"error": "its file is broken"}},
    "tactics": {
        "⊢ a": {
            "split": "⊢ a1",
            "loop": {"error": "too long", "kind": "timeout", "delay_s": 0.001},
            "crash": {"broken": "pipe closed"},
        },
        "⊢ a1": {"done": "no goals"},
        "⊢ p": {"done": "no goals"},
    },
}
A = Theorem("A.lean", "a")


def test_it_plays_what_the_script_says() -> None:
    with ScriptedEnvironment(SCRIPT) as environment:
        first = environment.start(A)
        assert first == ProofState("⊢ a") and environment.start(Theorem("B.lean", "a")) == ProofState("⊢ b")
        second = environment.run_tactic(first, "split")
        assert isinstance(second, ProofState) and environment.run_tactic(second, "done") == ProofFinished()
        assert environment.run_tactic(first, "done") == TacticError("unknown tactic 'done'")
        slow = environment.run_tactic(first, "loop")
        assert isinstance(slow, TacticError) and slow.kind == "timeout"
        assert environment.start(Statement("P -> P")) == ProofState("⊢ p")


def test_it_fails_where_the_script_says() -> None:
    environment = ScriptedEnvironment(SCRIPT)
    for name, reason in (("bad", "its file is broken"), ("nope", "no theorem nope")):
        with pytest.raises(CannotStartError, match=reason):
            environment.start(Theorem("A.lean", name))
    with pytest.raises(BrokenEnvironmentError, match="a: pipe closed"):
        environment.run_tactic(environment.start(A), "crash")


def test_it_checks_and_writes_whole_proofs() -> None:
    environment = ScriptedEnvironment(SCRIPT)
    assert environment.check(A, ["split", "done"]).accepted
    assert not environment.check(A, ["split"]).accepted and not environment.check(A, ["split", "done", "done"]).accepted
    files = environment.source([(A, ["split", "done"]), (Statement("P -> P", name="s"), ["done"])])
    assert files == {"A.lean": "a:\n  split\n  done\n", "s.txt": "s: P -> P\n  done\n"}


def test_it_dies_once_and_tells_of_every_call(tmp_path: Path) -> None:
    script, calls = tmp_path / "script.json", tmp_path / "calls"
    effect = {"kill": True, "once": str(tmp_path / "died"), "then": "no goals"}
    script.write_text(json.dumps({"starts": {"a": "⊢ a"}, "tactics": {"⊢ a": {"die": effect}}}), encoding="utf-8")
    code = (
        "from generator.environments import *; from generator.environments.scripted import ScriptedEnvironment;"
        f"e = ScriptedEnvironment({str(script)!r}, {str(calls)!r});"
        "print(e.run_tactic(e.start(Theorem('A', 'a')), 'die').pp)"
    )
    first, second = (subprocess.run([sys.executable, "-c", code], capture_output=True, text=True) for _ in range(2))
    assert first.returncode == -9 and second.stdout == "no goals\n"
    assert [line.split()[1] for line in calls.read_text().splitlines()] == ["start", "run_tactic"] * 2
    assert str(os.getpid()) not in calls.read_text()


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ({"starts": {"a": 3}}, "starts of 'a' is '3'"),
        ({"starts": ["a"]}, "starts: is .* must be a mapping"),
        ({"tactics": {"s": "t"}}, "tactics of 's': is 't'"),
        ({"starts": {"a": {"delay_s": "long"}}}, "option delay_s is 'long'"),
        ({"starts": {"a": "s"}, "tactics": {"s": {"t": {"eror": "x"}}}}, "tactic 't'.* keys among"),
        ({"starts": {"a": {"error": "x", "kind": "bad"}}}, "kind 'bad'; there are error, refused"),
        ("missing.json", "missing.json"),
    ],
)
def test_a_script_that_is_none_is_refused(script: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ScriptedEnvironment(script)  # type: ignore[arg-type]
