"""What Lean is not asked to run."""

import pytest

from generator.environments.base import TacticError
from generator.environments.lean import LeanEnvironment
from generator.environments.lean.refusals import refusal
from tests.generator.environments.lean.lean_fakes import SWAP

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
