"""Lean stood in for by `lean_fakes`: behind a stand-in of LeanInteract, in slow tests behind LeanInteract itself."""

import stat
import sys
from pathlib import Path

import pytest

from generator.environments.lean import LeanEnvironment
from tests.generator.environments.lean import lean_fakes
from tests.generator.environments.lean.lean_fakes import FILE


@pytest.fixture
def configs(monkeypatch):
    return lean_fakes.install(monkeypatch)


@pytest.fixture
def project(tmp_path):
    (tmp_path / "Logic").mkdir()
    (tmp_path / "Logic" / "Foo.lean").write_text(FILE, encoding="utf-8")
    (tmp_path / "lean-toolchain").write_text("leanprover/lean4:v4.19.0\n")
    return str(tmp_path)


def interact(tmp_path):
    """Lean behind the real LeanInteract: a `lake` and a REPL that are `lean_fakes`."""
    root = Path(__file__).parents[4]
    lake = tmp_path / "lake"
    lake.write_text(f'#!/bin/sh\nPYTHONPATH="{root}" exec "{sys.executable}" "{lean_fakes.__file__}" "$@"\n')
    lake.chmod(lake.stat().st_mode | stat.S_IEXEC)
    repl = tmp_path / "repl"
    (repl / ".lake/build/bin").mkdir(parents=True)
    (repl / ".lake/build/bin/repl").touch()
    (repl / "lean-toolchain").write_text("leanprover/lean4:v4.19.0\n")
    return {"lake_path": str(lake), "repl_path": str(repl), "memory_limit_mb": None}


@pytest.fixture(params=["a stand-in", pytest.param("LeanInteract", marks=pytest.mark.slow)])
def make(request, tmp_path, monkeypatch):
    """Make an environment on the fake REPL."""
    options = {}
    if request.param == "LeanInteract":
        pytest.importorskip("lean_interact", reason="LeanInteract itself; pip install -e '.[lean]'")
        options = interact(tmp_path)
    else:
        lean_fakes.install(monkeypatch)
    made = []

    def environment(**more):
        made.append(LeanEnvironment(**options, **more))
        return made[-1]

    yield environment
    for each in made:
        each.close()
