"""LeanDojo's Dojo as an environment; LeanDojo is stood in for, by its names, calls and answers."""

import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from common import ConfigError
from generator.environments import PropositionalEnvironment
from generator.environments.base import (
    BrokenEnvironmentError,
    CannotStartError,
    ProofFinished,
    ProofState,
    Statement,
    TacticError,
    Theorem,
    Verdict,
)
from generator.environments.dojo import DojoEnvironment
from tests.generator.dojo_fakes import DojoFinished, LeanError, TacticState

PROVER = PropositionalEnvironment()
FILE = "A/B.lean"
SIGNATURES = {"swap": "(p q : Prop) (h : p ∧ q) : q ∧ p", "same": "(p : Prop) (h : p) : p"}
SWAP, SAME = Theorem(FILE, "swap"), Theorem(FILE, "same")
TEXT = f"import C\ntheorem swap {SIGNATURES['swap']} := x\n\ntheorem same {SIGNATURES['same']}\n| _ => y\n"


@dataclass(frozen=True)
class ProofGivenUp:
    pass


class DojoCrashError(Exception):
    @property
    def is_out_of_memory(self):
        return str(self) == "OOM"


class DojoTacticTimeoutError(Exception):
    pass


class DojoInitError(Exception):
    pass


class Dojo:
    """LeanDojo's: a process for each theorem, whose states have numbers."""

    made = []

    def __init__(self, entry, timeout, additional_imports, build_deps):
        self.entry, self.options = entry, (timeout, additional_imports, build_deps)
        self.is_open, self.states = False, []
        Dojo.made.append(self)

    def __enter__(self):
        if self.entry.full_name == "crashes":
            raise DojoCrashError("Unexpected EOF")
        if self.entry.full_name not in SIGNATURES:
            raise DojoInitError(f"Failed to locate the theorem with `{self.entry.full_name}`")
        self.is_open = True
        return self, self._add(PROVER.start_statement(SIGNATURES[self.entry.full_name]))

    def __exit__(self, *error):
        self.is_open = False

    def _add(self, state):
        self.states.append(state)
        return TacticState(state.pp, len(self.states) - 1)

    def run_tac(self, state, tactic):
        assert isinstance(state, TacticState)
        if not self.is_open:
            raise DojoCrashError("Unexpected exit code: 1")
        errors = {"crash": DojoCrashError("x"), "eat": DojoCrashError("OOM"), "loop": DojoTacticTimeoutError()}
        if tactic in errors:
            self.is_open = False
            raise errors[tactic]
        if tactic == "give_up":
            return ProofGivenUp()
        result = PROVER.run_tactic(self.states[state.id], tactic)
        if isinstance(result, TacticError):
            return LeanError(result.message)
        return DojoFinished(state.id) if isinstance(result, ProofFinished) else self._add(result)


def check_proof(theorem, proof):
    first, *lines = proof.split("\n")
    assert first == "by" and all(line.startswith("  ") for line in lines)
    if theorem.full_name not in SIGNATURES:
        raise DojoInitError("Failed to locate")
    return PROVER.check(Statement(SIGNATURES[theorem.full_name]), [line[2:] for line in lines]).accepted


class LeanFile:
    """LeanDojo's: text by positions, here by offsets."""

    start_pos = 0

    def __getitem__(self, part):
        return TEXT[part]


class TracedFile:
    lean_file = LeanFile()

    @classmethod
    def from_traced_file(cls, root, json_path, repo):
        assert (root, json_path) == (Path("/traced"), Path("/traced/A/B.ast.json"))
        return cls()

    def get_traced_theorem(self, theorem):
        start = TEXT.index({"swap": "x\n", "same": "| _ => y"}[theorem.full_name])
        return SimpleNamespace(locate_proof=lambda: (start, TEXT.index("\n", start)))


@pytest.fixture
def environment(monkeypatch):
    monkeypatch.setattr(Dojo, "made", [])
    module, utils = ModuleType("lean_dojo"), ModuleType("lean_dojo.utils")
    for each in (TacticState, LeanError, DojoCrashError, DojoTacticTimeoutError, DojoInitError, Dojo, TracedFile):
        setattr(module, each.__name__, each)
    module.ProofFinished, module.ProofGivenUp, module.check_proof = DojoFinished, ProofGivenUp, check_proof
    module.LeanGitRepo = lambda url, commit: SimpleNamespace(url=url, commit=commit)
    module.Theorem = lambda repo, file_path, full_name: SimpleNamespace(file_path=file_path, full_name=full_name)
    module.get_traced_repo_path = lambda repo, build_deps: Path("/traced")
    utils.to_json_path = lambda root, path, repo: root / path.with_suffix(".ast.json")
    monkeypatch.setitem(sys.modules, "lean_dojo", module)
    monkeypatch.setitem(sys.modules, "lean_dojo.utils", utils)
    with DojoEnvironment("https://example.org/mathlib4", "c0ffee", timeout_s=30, additional_imports=["Aesop"]) as made:
        yield made
    assert not any(dojo.is_open for dojo in Dojo.made)


def test_theorems_are_proved_and_checked(environment):
    two = environment.run_tactic(environment.start(SWAP), "constructor")
    assert two.pp.startswith("case left\np q : Prop") and "\n\ncase right\n" in two.pp
    one = environment.run_tactic(two, "exact h.2")
    assert isinstance(environment.run_tactic(one, "exact h.1"), ProofFinished)
    assert environment.check(SWAP, ["constructor", "exact h.2", "exact h.1"]) == Verdict(True)
    assert not environment.check(SWAP, ["constructor"]).accepted and not environment.check(SWAP, []).accepted
    assert Dojo.made[0].options == (30, ["Aesop"], True)


def test_what_lean_says_is_a_value(environment):
    start = environment.start(SWAP)
    assert environment.run_tactic(start, "exact h").kind == "error"
    assert environment.run_tactic(start, "give_up") == TacticError("the proof is given up")
    for tactic in ("sorry", "run_tac x", "native_decide", "trivial\n#eval 1", ""):
        assert environment.run_tactic(start, tactic).kind == "refused"
        assert not environment.check(SWAP, [tactic]).accepted
    with pytest.raises(TypeError, match="a state of this environment"):
        environment.run_tactic(ProofState("⊢ p"), "trivial")


@pytest.mark.parametrize(("tactic", "kind"), [("crash", "crash"), ("eat", "memory"), ("loop", "timeout")])
def test_a_dojo_that_dies_is_entered_again_and_brought_back(environment, tactic, kind):
    one = environment.run_tactic(environment.run_tactic(environment.start(SWAP), "constructor"), "exact h.2")
    result = environment.run_tactic(one, tactic)
    assert result.kind == kind and "LeanDojo" in result.message
    assert isinstance(environment.run_tactic(one, "exact h.1"), ProofFinished)
    assert len(Dojo.made) == 2


def test_states_of_another_theorem_stay_usable(environment):
    one = environment.run_tactic(environment.start(SWAP), "constructor")
    assert isinstance(environment.run_tactic(environment.start(SAME), "exact h"), ProofFinished)
    assert not Dojo.made[0].is_open, "one process at a time"
    assert environment.run_tactic(one, "exact h.2").pp.startswith("case right")


def test_what_cannot_be_started_says_why(environment):
    with pytest.raises(CannotStartError, match="missing of A/B.lean: Failed to locate"):
        environment.start(Theorem(FILE, "missing"))
    with pytest.raises(CannotStartError, match="Failed to locate"):
        environment.check(Theorem(FILE, "missing"), ["trivial"])
    with pytest.raises(CannotStartError, match="take the environment lean"):
        environment.start(Statement("(p : Prop) : p"))
    with pytest.raises(BrokenEnvironmentError, match="crashes of A/B.lean: 3 times in turn"):
        environment.start(Theorem(FILE, "crashes"))


def test_proofs_are_written_into_the_traced_file(environment):
    text = environment.source([(SAME, ["exact h"]), (SWAP, ["constructor", "exact h.2", "exact h.1"])])[FILE]
    assert text == (
        f"import C\ntheorem swap {SIGNATURES['swap']} := by\n  constructor\n  exact h.2\n  exact h.1\n\n"
        f"theorem same {SIGNATURES['same']} := by\n  exact h\n"
    )


def test_without_leandojo_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "lean_dojo", None)
    with pytest.raises(ConfigError, match=r"needs the package lean_dojo; pip install -e '\.\[dojo\]'"):
        DojoEnvironment("https://example.org", "c0ffee")
