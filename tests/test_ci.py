"""The script that a change must pass: it judges the run that it made, on data that is its own."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_the_newest_run_is_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = re.search(r"<<'PY'\n(.*?)\nPY\n", SCRIPT, re.DOTALL)
    assert found
    for version, status, time in ((9, "crashed", 1000), (10, "finished", 3000), (11, "crashed", 2000)):
        path = tmp_path / "runs" / "quickstart" / f"version_{version}" / "metrics.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"status": status, "Pass@1_val": 0.5}))
        os.utime(path, (time, time))
    monkeypatch.chdir(tmp_path)
    exec(compile(found[1], ".ci/run", "exec"), {})
    os.utime(path, (4000, 4000))
    with pytest.raises(AssertionError, match="crashed"):
        exec(compile(found[1], ".ci/run", "exec"), {})
    path.write_text(json.dumps({"status": "finished"}))
    with pytest.raises(AssertionError, match="no proofs were searched"):
        exec(compile(found[1], ".ci/run", "exec"), {})


@pytest.mark.parametrize(("status", "said"), [(0, ""), (1, "Coq is not installed: its tests are skipped\n")])
def test_coq_is_installed_where_that_is_possible(tmp_path: Path, status: int, said: str) -> None:
    found = re.search(r"^if ! command -v coqidetop.*?^fi$", SCRIPT, re.DOTALL | re.MULTILINE)
    assert found
    for name, text in (
        ("apt-get", f'echo "$@" >> {tmp_path}/asked; exit {status}'),
        ("sudo", 'shift; "$@"'),
        ("id", "echo 1"),
    ):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    command = ["/bin/bash", "-euo", "pipefail", "-c", found[0]]
    done = subprocess.run(command, env={"PATH": str(tmp_path)}, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, said), done.stderr
    asked = (tmp_path / "asked").read_text()
    assert ("coq libcoq-stdlib" in asked) == (status == 0) and asked.startswith("update")


def test_its_data_is_not_taken_for_the_quickstarts() -> None:
    found = re.search(r"make fit ARGS='(.*?)'", SCRIPT)
    assert found
    words = shlex.split(found[1])
    data = yaml.safe_load((ROOT / "configs" / "quickstart.yaml").read_text(encoding="utf-8"))["data"]
    assert words[words.index("--data.num_theorems") + 1] != str(data["num_theorems"])
    data_path = Path(words[words.index("--data.data_path") + 1])
    assert data_path.name == "random" and data_path.parent != Path(data["data_path"]).parent


def test_the_share_of_the_optimizer_is_judged_on_the_data_of_the_run() -> None:
    found = re.search(r"step_parts\.py (.*)", SCRIPT)
    assert found
    words, made = shlex.split(found[1]), re.search(r"--data\.data_path (\S+?)'", SCRIPT)
    assert made and words[words.index("--data_path") + 1] == made[1]
    assert 0.3 < float(words[words.index("--max-share") + 1]) < 0.35


def test_what_make_runs_keeps_what_python_compiles(tmp_path: Path) -> None:
    (tmp_path / "asked.mk").write_text(f"asked:\n\t@{sys.executable} -c 'import sys; print(sys.dont_write_bytecode)'\n")
    command = ["make", "--no-print-directory", "-f", str(ROOT / "Makefile"), "-f", str(tmp_path / "asked.mk"), "asked"]
    done = subprocess.run(command, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr
