"""Lean through LeanInteract: what its messages become, and what happens when Lean dies."""

import sys

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
from generator.environments.lean.source_files import indented
from tests.generator.environments.lean.lean_fakes import FILE, SWAP, run


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


def test_scripts_keep_their_own_indentation():
    assert (
        indented(["cases h with\n| inl h =>\n  exact h", "done"]) == "  cases h with\n  | inl h =>\n    exact h\n  done"
    )
