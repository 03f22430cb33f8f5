"""Environments by name."""

import subprocess
import sys
from pathlib import Path

import pytest

from common import ConfigError
from generator.environments import ENVIRONMENTS, PropositionalEnvironment, make_environment
from generator.environments.scripted import ScriptedEnvironment


def test_an_environment_is_made_by_its_name_or_its_class_path() -> None:
    assert isinstance(make_environment("propositional"), PropositionalEnvironment)
    own = make_environment("generator.environments.scripted.ScriptedEnvironment", {"script": {"starts": {"a": "⊢ a"}}})
    assert isinstance(own, ScriptedEnvironment)


def test_names_are_known_without_importing_what_stands_behind_them() -> None:
    code = (
        "import sys, generator.environments as e; assert 'coq' in e.ENVIRONMENTS;"
        "assert not any(name.startswith('generator.environments.coq') for name in sys.modules);"
        "assert 'generator.environments.scripted' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("propositionl", {}, "did you mean propositional"),
        ("isabelle", {}, "there are propositional, coq"),
        ("no.such.Prover", {}, "no.such.Prover cannot be imported"),
        ("generator.environments.scripted.Nope", {}, "cannot be imported"),
        ("generator.environments.base.Verdict", {}, "which has no start, run_tactic"),
        ("propositional", {"rot": "x"}, "no option rot; did you mean root"),
        ("propositional", {"timeout_s": 3}, "no option timeout_s; it takes root"),
        ("scripted", {}, "needs the option script; give --environment_options.script"),
        ("scripted", {"script": {}, "calls_path": 3}, r"calls_path is 3; it must be of type str \| None"),
    ],
)
def test_what_is_unknown_is_refused_with_what_is_accepted(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_environment(name, options)


def test_what_its_own_constructor_refuses_is_told_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no folder"):
        make_environment("propositional", {"root": str(tmp_path / "missing")})


def test_every_name_has_one_class_path() -> None:
    assert all(path.startswith("generator.environments.") for path in ENVIRONMENTS.values())
