"""Lean through LeanInteract: what its messages become, and what happens when Lean dies.

Lean is stood in for by `lean_fakes`, behind a stand-in of LeanInteract and, in the slow tests, behind LeanInteract
itself. `pytest -m lean tests/generator/environments/test_lean.py` asks Lean: see `real_lean`.
"""

import importlib.util
import shutil
import stat
import sys
from pathlib import Path

import pytest

from common import ConfigError
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
from generator.environments.lean import LeanEnvironment, LeanState
from generator.environments.lean.refusals import refusal
from generator.environments.lean.source_files import indented
from tests.generator.environments import lean_fakes

SWAP = Statement("(p q : Prop) (h : p ∧ q) : q ∧ p")
FILE = """import Mathlib.Logic.Basic

namespace Foo

theorem first (p : Prop) (h : p) : p := by
  exact h

/-- Both. -/
theorem both (p q : Prop) (h : p ∧ q) : q ∧ p := by
  exact ⟨h.2, h.1⟩

set_option maxHeartbeats 400000 in
open Classical in
theorem last (p q : Prop) (h : p ∨ q) : q ∨ p := by
  rcases h with h | h
  right
  exact h
  left
  exact h
"""


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
    root = Path(__file__).parents[3]
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


def run(environment, state, *tactics):
    for tactic in tactics:
        state = environment.run_tactic(state, tactic)
    return state


def test_a_statement_is_proved_and_its_proof_checked(make):
    with make() as lean:
        start = lean.start(SWAP)
        assert start.pp == "p q : Prop\nh : p ∧ q\n⊢ q ∧ p"
        two = lean.run_tactic(start, "constructor")
        assert two.pp == "case left\np q : Prop\nh : p ∧ q\n⊢ q\n\ncase right\np q : Prop\nh : p ∧ q\n⊢ p"
        assert isinstance(run(lean, two, "exact h.2", "exact h.1"), ProofFinished)
        assert lean.run_tactic(start, "exact ⟨h.2, h.1⟩") == ProofFinished()
        assert lean.check(SWAP, ["constructor", "exact h.2", "exact h.1"]) == Verdict(True)


def test_what_lean_says_of_a_tactic_is_a_value_without_the_repls_own_words(make):
    lean = make()
    result = lean.run_tactic(lean.start(SWAP), "exact h")
    assert isinstance(result, TacticError) and result.kind == "error" and "Lean error" not in result.message
    assert lean.run_tactic(lean.start(SWAP), "logged") == TacticError("a problem")


def test_states_are_equal_by_their_text_and_stay_usable(make):
    lean = make()
    start = lean.start(SWAP)
    lean.run_tactic(start, "constructor")
    lean.start(Statement("(p : Prop) (h : p) : p"))
    assert start == lean.start(SWAP) == LeanState(start.pp, SWAP, ("elsewhere",))
    assert isinstance(lean.run_tactic(start, "exact ⟨h.2, h.1⟩"), ProofFinished)


@pytest.mark.parametrize("tactic", ["metavariable", "hole"])
def test_no_goals_are_no_proof_unless_lean_says_completed(make, tactic):
    lean = make()
    assert isinstance(lean.run_tactic(lean.start(SWAP), tactic), TacticError)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (["cheat"], "unsolved goals"),
        (["constructor", "exact h.2"], "unsolved goals"),
        (["native", "exact ⟨h.2, h.1⟩"], "it depends on Lean.ofReduceBool"),
        (["exact ⟨h.2, h.1⟩", "sorry"], "`sorry` proves nothing"),
        (["exact ⟨h.2, h.1⟩\n\ntheorem x (p : Prop) (h : p) : p := by exact h"], "`theorem` is a command"),
        ([], "there is no proof"),
    ],
)
def test_only_a_whole_proof_with_allowed_axioms_is_accepted(make, script, message):
    verdict = make().check(SWAP, script)
    assert not verdict.accepted and message in verdict.message


def test_what_tactic_mode_accepts_and_a_file_does_not_is_no_proof(make):
    lean = make()
    assert isinstance(lean.run_tactic(lean.start(SWAP), "cheat"), ProofFinished)
    assert not lean.check(SWAP, ["cheat"]).accepted


def test_axioms_are_those_of_lean_or_of_the_option(make):
    script = ["classical", "exact ⟨h.2, h.1⟩"]
    assert make().check(SWAP, script) == Verdict(True)
    assert make(allowed_axioms=["propext"]).check(SWAP, script) == Verdict(
        False, "it depends on Classical.choice, Quot.sound"
    )
    native = ["native", "exact ⟨h.2, h.1⟩"]
    assert make(allowed_axioms=["propext", "Lean.ofReduceBool"]).check(SWAP, native).accepted


@pytest.mark.parametrize("name", ["Foo.first", "Foo.both", "Foo.last"])
def test_theorems_of_a_file_are_proved_where_they_stand(make, project, name):
    lean, theorem = make(project=project), Theorem("Logic/Foo.lean", name)
    start = lean.start(theorem)
    assert start.pp.startswith("p")
    tactic = {"Foo.first": "exact h", "Foo.both": "exact ⟨h.2, h.1⟩", "Foo.last": "exact Or.symm h"}[name]
    assert isinstance(lean.run_tactic(start, tactic), ProofFinished)
    assert lean.check(theorem, [tactic]) == Verdict(True)
    assert not lean.check(theorem, ["exact p"]).accepted


def test_a_proof_is_written_into_its_file_and_statements_under_their_header(make, project):
    lean = make(project=project, imports=["Mathlib"])
    files = lean.source(
        [
            (Theorem("Logic/Foo.lean", "Foo.last"), ["exact Or.symm h"]),
            (Theorem("Logic/Foo.lean", "Foo.first"), ["constructor", "· exact h\n\n  done"]),
            (SWAP, ["exact ⟨h.2, h.1⟩"]),
            (SWAP, ["exact And.symm h"]),
        ]
    )
    assert files["Logic/Foo.lean"] == FILE.replace(
        "  exact h\n\n/--", "  constructor\n  · exact h\n\n    done\n\n/--"
    ).replace(FILE[FILE.index("  rcases") :].rstrip("\n"), "  exact Or.symm h")
    assert files["statements.lean"] == (
        "import Mathlib\n\n"
        "theorem searched_statement (p q : Prop) (h : p ∧ q) : q ∧ p := by\n  exact ⟨h.2, h.1⟩\n\n"
        "theorem searched_statement_2 (p q : Prop) (h : p ∧ q) : q ∧ p := by\n  exact And.symm h\n"
    )


@pytest.mark.parametrize(
    ("theorem", "message"),
    [
        (Theorem("Logic/Foo.lean", "Foo.missing"), "Logic/Foo.lean has no theorem Foo.missing"),
        (Theorem("Logic/Bar.lean", "Foo.first"), "cannot be read"),
        (Statement("(p : Prop : p"), "searched_statement: "),
        (Statement("(p : Prop) : p", header="import Missing"), "what stands before it is not accepted: unknown module"),
    ],
)
def test_what_cannot_be_started_says_why(make, project, theorem, message):
    with pytest.raises(CannotStartError, match=message):
        make(project=project).start(theorem)


def test_a_theorem_of_a_file_needs_a_project(make):
    with pytest.raises(CannotStartError, match="needs the option project"):
        make().start(Theorem("Logic/Foo.lean", "Foo.first"))


def test_a_name_that_stands_twice_in_a_file_needs_its_position(make, tmp_path):
    twice = "theorem t (p : Prop) (h : p) : p := by\n  exact h\n\ntheorem t (q : Prop) (h : q) : q := by\n  exact h\n"
    (tmp_path / "Twice.lean").write_text(twice)
    (tmp_path / "lean-toolchain").write_text("leanprover/lean4:v4.19.0\n")
    lean = make(project=str(tmp_path))
    assert lean.start(Theorem("Twice.lean", "t", (4, 1))).pp.startswith("q : Prop")
    with pytest.raises(CannotStartError, match="has 2 theorems t, at 1:1 and 4:1; give one of these"):
        lean.start(Theorem("Twice.lean", "t"))


def test_a_file_is_read_once_and_what_stands_before_a_theorem_is_not_read_again(configs, project):
    lean = LeanEnvironment(project=project)
    for name in ("Foo.first", "Foo.both", "Foo.both"):
        lean.start(Theorem("Logic/Foo.lean", name))
    texts = [request["cmd"] for request in configs[0].requests]
    assert texts.count(FILE) == 1 and len(texts) == len(set(texts)) + 1


# ------------------------------------------------------------------------------------ Lean that dies


@pytest.mark.parametrize(("tactic", "kind"), [("crash", "crash"), ("loop", "timeout"), ("eat", "memory")])
def test_lean_is_started_again_and_states_of_before_lead_on(make, tactic, kind):
    lean = make(tactic_timeout_s=2)
    one = lean.run_tactic(lean.start(SWAP), "constructor")
    two = lean.run_tactic(one, "exact h.2")
    result = lean.run_tactic(two, tactic)
    assert isinstance(result, TacticError) and result.kind == kind and result.message
    other = Statement("(p : Prop) (h : p) : p", name="other")
    assert isinstance(lean.run_tactic(lean.start(other), "exact h"), ProofFinished)
    assert isinstance(lean.run_tactic(two, "exact h.1"), ProofFinished)
    assert lean.run_tactic(one, "exact h.2") == two


def test_a_repl_that_always_dies_is_an_error_that_names_the_theorem(configs):
    lean = LeanEnvironment()
    state = lean.start(SWAP)
    configs[0].is_broken = True
    assert lean.run_tactic(state, "constructor").kind == "crash"
    with pytest.raises(BrokenEnvironmentError, match="searched_statement: 3 times in turn: Lean died"):
        lean.run_tactic(state, "constructor")
    with pytest.raises(BrokenEnvironmentError, match="searched_statement"):
        lean.check(SWAP, ["constructor"])
    with pytest.raises(BrokenEnvironmentError, match="searched_statement"):
        lean.start(SWAP)
    configs[0].is_broken = False
    assert isinstance(lean.run_tactic(state, "exact ⟨h.2, h.1⟩"), ProofFinished)


def test_a_repl_that_keeps_many_states_is_replaced_between_theorems(configs, monkeypatch):
    monkeypatch.setattr("generator.environments.lean.environment._MAX_STATES", 2)
    lean = LeanEnvironment()
    state = run(lean, lean.start(SWAP), "constructor", "exact h.2")
    lean.start(Statement("(p : Prop) (h : p) : p"))
    assert configs[0].num_started == 2
    assert isinstance(lean.run_tactic(state, "exact h.1"), ProofFinished)


def test_limits_and_places_reach_leaninteract(configs, project):
    LeanEnvironment(project=project, memory_limit_mb=9000, repl_path="/repl", lake_path="/bin/lake", build=True)
    options = configs[0].options
    assert options["memory_hard_limit_mb"] == 9000 and options["lake_path"] == "/bin/lake"
    assert options["local_repl_path"] == "/repl" and options["build_repl"] is False
    assert vars(options["project"]) == {"directory": project, "lake_path": "/bin/lake", "auto_build": True}
    LeanEnvironment(lean_version="v4.19.0")
    assert configs[1].options["lean_version"] == "v4.19.0" and configs[1].options["project"] is None


def test_it_may_be_closed_twice_and_starts_no_lean_before_it_is_asked(configs):
    lean = LeanEnvironment()
    assert configs[0].num_started == 0
    lean.start(SWAP)
    lean.close()
    lean.close()
    assert configs[0].num_started == 1


# ------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"project": "/no/such/folder"}, "project /no/such/folder is no folder"),
        ({"project": ".", "lean_version": "v4.19.0"}, "a project names its own"),
        ({"lake_path": "no-such-lake"}, "Lean cannot be set up: .* install Lean by elan"),
        ({"tactic_timeout_s": 0}, "tactic_timeout_s is 0"),
        ({"imports": "Mathlib"}, "lists of names"),
    ],
)
def test_options_that_cannot_be_are_refused_in_a_line(configs, options, message):
    with pytest.raises(ConfigError, match=message):
        LeanEnvironment(**options)


def test_without_leaninteract_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "lean_interact", None)
    with pytest.raises(ConfigError, match=r"needs the package lean_interact; pip install -e '\.\[lean\]'"):
        LeanEnvironment()


def test_states_of_others_are_refused(configs):
    with pytest.raises(TypeError, match="a state of this environment"):
        LeanEnvironment().run_tactic(ProofState("⊢ p"), "trivial")


HOSTILE = [
    "sorry",
    "admit",
    "exact sorry",
    "exact sorryAx _ false",
    "(sorry)",
    "stop",
    "by_cases h : p <;> sorry",
    'run_tac IO.FS.removeFile "x"',
    "exact (by_elab return (Lean.mkConst ``True))",
    "run_cmd pure ()",
    "run_elab x",
    "run_meta x",
    "#eval IO.println 1",
    "#print axioms x",
    "#check x",
    "trivial\n#eval 1",
    "exact unsafe x",
    "exact eval% x",
    "trivial\n\naxiom bad : False",
    "trivial\ntheorem x : False := bad",
    "lemma x : p := h",
    "def x := 1",
    "abbrev x := 1",
    "instance : Inhabited p := x",
    'macro "x" : tactic => `(tactic| skip)',
    "macro_rules | `(x) => `(y)",
    'syntax "x" : tactic',
    'elab "x" : tactic => pure ()',
    'notation "x" => y',
    'infixl:65 " + " => f',
    "import Mathlib",
    "namespace X",
    "end X",
    "section",
    "mutual",
    "universe u",
    "variable (p : Prop)",
    "export X (y)",
    "initialize x : Nat ← pure 1",
    "inductive X | a",
    "structure X where",
    "opaque x : Nat",
    "example : p := h",
    "set_option debug.skipKernelTC true in exact h",
    "set_option debug.byAsSorry true in exact h",
    "simproc x (_) := fun _ => pure .continue",
    'exact include_str "/etc/passwd"',
    "trivial /- and",
    "trivial -/ )",
    "exact (h",
    "exact h)",
    "exact ⟨h, h)",
    'exact "x',
    'exact s!"{by run_tac pure ()}"',
    "",
    "  \n",
    "trivial\0",
    "@[implemented_by x] trivial",
]


@pytest.mark.parametrize("tactic", HOSTILE)
def test_hostile_tactics_are_refused_before_lean_sees_them(tactic, configs):
    lean = LeanEnvironment()
    state = lean.start(SWAP)
    seen = len(configs[0].requests)
    result = lean.run_tactic(state, tactic)
    assert isinstance(result, TacticError) and result.kind == "refused" and result.message
    assert not lean.check(SWAP, [tactic]).accepted
    assert len(configs[0].requests) == seen


@pytest.mark.parametrize(
    "tactic",
    [
        "exact h.end",
        "rw [Nat.add_comm, ← Nat.mul_comm] at h ⊢",
        "rcases h with ⟨x, hx⟩ | h'",
        "simp only [sorry_free, admits, Foo.axiom.lemma'] -- sorry",
        "exact f /- a comment, with /- another -/ and an axiom -/ x",
        "exact f \"sorry )\" '(' x",
        "open Classical in exact h",
        "set_option maxHeartbeats 0 in simp",
        "«sorry» x",
        "refine ⟨fun x ↦ ?_, ?_⟩",
        "induction' n with n ih",
        "match h with\n| Or.inl h => exact h\n| Or.inr h => exact h",
        "exact #[1, 2]",
    ],
)
def test_tactics_of_proofs_are_not_refused(tactic):
    assert refusal(tactic) is None


def test_scripts_keep_their_own_indentation():
    assert (
        indented(["cases h with\n| inl h =>\n  exact h", "done"]) == "  cases h with\n  | inl h =>\n    exact h\n  done"
    )


# ---------------------------------------------------------------------------------------- the real one

COMMAND = (
    "install elan, then: pip install -e '.[lean]' && pytest -m lean tests/generator/environments/test_lean.py "
    "(LeanInteract fetches and builds its REPL the first time, which takes minutes and the network)"
)


@pytest.fixture(scope="module")
def real_lean():
    if shutil.which("lake") is None or importlib.util.find_spec("lean_interact") is None:
        pytest.skip(COMMAND)
    with LeanEnvironment() as environment:
        yield environment


@pytest.mark.lean
def test_real_lean_prints_states_as_the_built_in_prover_does(real_lean):
    from generator.environments import PropositionalEnvironment

    ours = PropositionalEnvironment()
    for tactics in (["constructor"], ["refine ⟨?_, h.1⟩"], ["rcases h with ⟨hp, hq⟩", "constructor"]):
        expected, state = ours.start_statement(SWAP.text), real_lean.start(SWAP)
        for tactic in tactics:
            assert state.pp == expected.pp
            expected, state = ours.run_tactic(expected, tactic), real_lean.run_tactic(state, tactic)
        assert state.pp == expected.pp


@pytest.mark.lean
def test_real_lean_accepts_proofs_and_nothing_else(real_lean):
    assert real_lean.check(SWAP, ["constructor", "exact h.2", "exact h.1"]) == Verdict(True)
    assert not real_lean.check(SWAP, ["constructor", "exact h.2"]).accepted
    classical = Statement("(p : Prop) : p ∨ ¬p")
    assert real_lean.check(classical, ["exact Classical.em p"]).accepted
    assert not real_lean.check(Statement(": (10 : Nat) < 11"), ["native_decide"]).accepted
    assert isinstance(real_lean.run_tactic(real_lean.start(SWAP), "exact h"), TacticError)


@pytest.mark.lean
def test_real_lean_survives_a_tactic_without_end(real_lean):
    real_lean._tactic_timeout_s = 5.0
    state = real_lean.start(SWAP)
    result = real_lean.run_tactic(
        state, "set_option maxHeartbeats 0 in set_option maxRecDepth 100000 in repeat (have := h)"
    )
    assert isinstance(result, TacticError)
    assert isinstance(real_lean.run_tactic(state, "exact ⟨h.2, h.1⟩"), ProofFinished)


@pytest.mark.lean
def test_real_lean_finds_theorems_in_a_file(real_lean, tmp_path):
    (tmp_path / "Foo.lean").write_text(FILE.replace("import Mathlib.Logic.Basic\n", ""), encoding="utf-8")
    real_lean._root = tmp_path
    theorem = Theorem("Foo.lean", "Foo.last")
    assert real_lean.start(theorem).pp == "p q : Prop\nh : p ∨ q\n⊢ q ∨ p"
    assert real_lean.check(theorem, ["exact Or.symm h"]) == Verdict(True)
