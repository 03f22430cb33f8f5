"""Each tactic: the exact state it leaves, and what it refuses."""

import pytest

from generator.environments import ProofFinished, ProofState, PropositionalEnvironment, TacticError, TacticResult


def run(signature: str, *tactics: str) -> TacticResult:
    """Run tactics from a statement; each but the last must succeed and leave goals."""
    environment = PropositionalEnvironment()
    state: TacticResult = environment.start_statement(signature)
    for tactic in tactics:
        assert isinstance(state, ProofState), state
        state = environment.run_tactic(state, tactic)
    return state


def goal_after(signature: str, *tactics: str) -> str:
    """Return the text of the state that tactics leave."""
    state = run(signature, *tactics)
    assert isinstance(state, ProofState), state
    return state.pp


def assert_proved(signature: str, *tactics: str) -> None:
    """Check that tactics finish the proof."""
    assert run(signature, *tactics) == ProofFinished("no goals")


def assert_refused(signature: str, *tactics: str) -> TacticError:
    """Check that the last tactic fails, with a message."""
    result = run(signature, *tactics)
    assert isinstance(result, TacticError), result
    assert result.message
    return result


def test_hypotheses_of_one_type_share_a_line_when_they_follow_each_other() -> None:
    assert goal_after("(p q : Prop) (h1 h2 : p) (h3 : q) (h4 : p) : q ∧ p") == (
        "p q : Prop\nh1 h2 : p\nh3 : q\nh4 : p\n⊢ q ∧ p"
    )
    assert goal_after("(p : Prop) (h : ¬p) (h1 : p → False) : p") == "p : Prop\nh : ¬p\nh1 : p → False\n⊢ p"
    assert goal_after(": True") == "⊢ True"


def test_intro() -> None:
    assert goal_after("(p q : Prop) : p → ¬q → p", "intro h h1 ") == "p q : Prop\nh : p\nh1 : ¬q\n⊢ p"
    assert goal_after("(p : Prop) : ¬¬p", "intro h") == "p : Prop\nh : ¬p\n⊢ False"
    assert_refused("(p q : Prop) : p ∧ q", "intro h")
    assert_refused("(p q : Prop) : p → q", "intro h h1")
    assert_refused("(p q : Prop) (h : p) : p → q", "intro h")
    assert_refused("(p q : Prop) : p → q", "intro p")
    assert_refused("(p q : Prop) : p → q", "intro mt")
    assert_refused("(p q : Prop) : p → q", "intro")
    assert_refused("(p q : Prop) : p → q", "intro fun")
    assert_refused("(p q : Prop) : p → q", "intro ⟨a, b⟩")


@pytest.mark.parametrize(
    ("signature", "term"),
    [
        ("(p q : Prop) (h : p ∧ q) : q ∧ p", "⟨h.2, h.1⟩"),
        ("(p q : Prop) (h : p ∧ q) : q ∧ p", "h.symm"),
        ("(p q : Prop) (h : p ∧ q) : q ∧ p", "And.intro h.right h.left"),
        ("(p q : Prop) : p ∧ q → q ∧ p", "And.symm"),
        ("(p q r : Prop) (h : p ∧ q ∧ r) : r ∧ q ∧ p", "⟨h.2.2, h.2.1, h.1⟩"),
        ("(p q : Prop) (h : p ↔ q) (h1 : q) : p", "h.mpr h1"),
        ("(p q : Prop) (h : p ↔ q) (h1 : q) : p", "h.2 h1"),
        ("(p q : Prop) (h : p ↔ q) : q ↔ p", "Iff.symm h"),
        ("(p q : Prop) (h : p ↔ q) : q ↔ p", "⟨h.mpr, h.mp⟩"),
        ("(p q : Prop) (h : p ∨ q) : q ∨ p", "or_comm.mp h"),
        ("(p q : Prop) (h : p ∨ q) : q ∨ p", "Or.elim h (fun x => Or.inr x) Or.inl"),
        ("(p q : Prop) (h : p ∨ q) : q ∨ p", "h.elim Or.inr Or.inl"),
        ("(p q : Prop) (h : p → q) (h1 : ¬q) : ¬p", "mt h h1"),
        ("(p q : Prop) (h : p → q) : ¬q → ¬p", "mt h"),
        ("(p q : Prop) (h : p) (h1 : ¬p) : q", "absurd h h1"),
        ("(p q : Prop) (h : p) (h1 : ¬p) : q", "False.elim (h1 h)"),
        ("(p q : Prop) (h : False) : p ∧ q", "h.elim"),
        ("(p : Prop) (h : ¬p) : p → False", "h"),
        ("(p : Prop) (h : p → False) : ¬p", "h"),
        ("(p : Prop) : p ↔ p", "Iff.refl _"),
        ("(p : Prop) : True", "⟨⟩"),
        ("(p : Prop) : True", "trivial"),
        ("(p q : Prop) : p → q → p", "fun x _ => x"),
        ("(p : Prop) : ¬(p ∧ ¬p)", "fun x => x.2 x.1"),
        ("(p q r : Prop) (h : p ∨ q) (f : p → r) (g : q → r) : r", "Or.elim h f g"),
        ("(p q r : Prop) (h : p ∨ q → r) : q → r", "(or_imp.mp h).2"),
        ("(p q : Prop) (h : (p ↔ q) ∧ p) : q", "h.1.mp h.2"),
    ],
)
def test_exact_accepts(signature: str, term: str) -> None:
    assert_proved(signature, f"exact {term}")


@pytest.mark.parametrize(
    ("signature", "term"),
    [
        ("(p q : Prop) (h : p) : q", "h"),
        ("(p q : Prop) (h : p) : q", "h2"),
        ("(p q : Prop) (h : p) : p", "p"),
        ("(p q : Prop) (h : p ∧ q) : q", "h.1"),
        ("(p q : Prop) (h : p ∨ q) : q", "h.2"),
        ("(p q : Prop) (h : p) : p ∨ q", "⟨h⟩"),
        ("(p q : Prop) (h : p) : p ∧ q", "⟨h, h⟩"),
        ("(p q : Prop) (h : p) : p ∧ p", "⟨h, h, h⟩"),
        ("(p q : Prop) (h : p) : p ∧ p", "⟨h⟩"),
        ("(p q : Prop) (h : p) : p ∧ p", "⟨h, ?_⟩"),
        ("(p q : Prop) (h : p) : p ∧ p", "_"),
        ("(p q : Prop) (h : p → q) : q", "h h"),
        ("(p q : Prop) (h : p) : p", "h h"),
        ("(p q : Prop) (h : p) : p → p", "fun h => h"),
        ("(p q : Prop) (h : p ∨ q) : q ∨ p", "or_comm.mpr.mp h"),
        ("(p q : Prop) (h : p ∨ q) : q ∨ p", "and_comm.mp h"),
        ("(p q : Prop) (h : p) : q", "fun x => x"),
        ("(p : Prop) : p ↔ p", "Iff.refl"),
        ("(p : Prop) : p", "Or.elim"),
        ("(p : Prop) : p ∨ ¬p", "em p"),
        ("(p : Prop) (h : ¬¬p) : p", "not_not.mp h"),
        ("(p q : Prop) (h : p) : p", "And.left (And.intro h Iff.rfl)"),  # of which proposition?
        ("(p : Prop) : p", "And"),
        ("(p : Prop) : p", ""),
        ("(p : Prop) : p", "sorry"),
    ],
)
def test_exact_refuses(signature: str, term: str) -> None:
    assert_refused(signature, f"exact {term}")


def test_a_proposition_does_not_contain_itself() -> None:
    assert "type mismatch" in assert_refused("(p : Prop) : False", "exact iff_not_self Iff.rfl").message


def test_apply_keeps_the_tag_of_a_single_new_goal() -> None:
    assert goal_after("(p q : Prop) (h : p → q) : q", "apply h") == "p q : Prop\nh : p → q\n⊢ p"
    assert goal_after("(p : Prop) (h : ¬p) : False", "apply h") == "p : Prop\nh : ¬p\n⊢ p"
    assert goal_after("(p q : Prop) (h : p → q) : ¬p", "apply mt h") == "p q : Prop\nh : p → q\n⊢ ¬q"
    after = goal_after("(p q : Prop) (h : p → q) : q ∧ p", "constructor", "apply h")
    assert after.startswith("case left\np q : Prop\nh : p → q\n⊢ p\n\ncase right\n")


def test_apply_names_several_new_goals_after_the_arguments() -> None:
    assert goal_after("(p q r : Prop) (h : p → q → r) : r", "apply h") == (
        "case a\np q r : Prop\nh : p → q → r\n⊢ p\n\ncase a\np q r : Prop\nh : p → q → r\n⊢ q"
    )
    assert goal_after("(p q r : Prop) (h : p ∨ q) : r", "apply Or.elim h") == (
        "case left\np q r : Prop\nh : p ∨ q\n⊢ p → r\n\ncase right\np q r : Prop\nh : p ∨ q\n⊢ q → r"
    )
    assert (
        goal_after("(p q : Prop) : p ∧ q", "apply And.intro")
        == "case left\np q : Prop\n⊢ p\n\ncase right\np q : Prop\n⊢ q"
    )


def test_apply_counts_the_propositions_of_a_bare_lemma() -> None:
    assert goal_after("(p : Prop) : ¬¬p", "apply not_not_intro") == "case h\np : Prop\n⊢ p"
    assert goal_after("(p q : Prop) : p ∨ q", "apply Or.inl") == "case h\np q : Prop\n⊢ p"
    assert goal_after("(p q : Prop) : p ∧ q", "apply And.symm") == "case a\np q : Prop\n⊢ q ∧ p"
    assert goal_after("(p q : Prop) : p ∨ q", "apply or_comm.mp") == "p q : Prop\n⊢ q ∨ p"


def test_apply_uses_as_few_arguments_as_possible() -> None:
    assert goal_after("(p q r : Prop) (h : p → q → r) : q → r", "apply h") == "p q r : Prop\nh : p → q → r\n⊢ p"
    assert_proved("(p q r : Prop) (h : p → q → r) : p → q → r", "apply h")
    assert_proved("(p q : Prop) (h : p ∧ q) : q ∧ p", "apply And.symm h")


def test_apply_refuses() -> None:
    assert_refused("(p q : Prop) (h : p → q) : p", "apply h")
    assert_refused("(p q : Prop) (h : p ↔ q) : p", "apply h")
    assert_refused("(p q : Prop) : ¬p", "apply mt")  # q stays unknown
    assert_refused("(p q r : Prop) : p ∧ q → r", "apply and_imp.mpr")  # Lean takes the whole goal for the conclusion
    assert_refused("(p q : Prop) : p", "apply absurd")
    assert_refused("(p q : Prop) : p ∧ q", "apply And.intro ?_")


def test_constructor() -> None:
    assert goal_after("(p q : Prop) : (p ↔ q) ∧ p", "constructor", "constructor") == (
        "case left.mp\np q : Prop\n⊢ p → q\n\ncase left.mpr\np q : Prop\n⊢ q → p\n\ncase right\np q : Prop\n⊢ p"
    )
    assert_proved(": True", "constructor")
    assert_refused("(p q : Prop) : p ∨ q", "constructor")
    assert_refused("(p q : Prop) : p → q", "constructor")
    assert_refused("(p q : Prop) : p ∧ q", "constructor h")


def test_left_and_right() -> None:
    assert goal_after("(p q : Prop) : p ∨ q", "left") == "case h\np q : Prop\n⊢ p"
    assert goal_after("(p q r : Prop) : p ∨ q ∨ r", "right", "right") == "case h.h\np q r : Prop\n⊢ r"
    assert_refused("(p q : Prop) : p ∧ q", "left")
    assert_refused("(p q : Prop) : p", "right")


def test_refine() -> None:
    signature = "(p q : Prop) (h : p) : p ∧ q"
    assert goal_after(signature, "refine ⟨?_, ?_⟩") == (
        "case refine_1\np q : Prop\nh : p\n⊢ p\n\ncase refine_2\np q : Prop\nh : p\n⊢ q"
    )
    assert goal_after(signature, "refine ⟨h, ?_⟩") == "p q : Prop\nh : p\n⊢ q"
    assert goal_after("(p q : Prop) : p → q", "refine fun x => ?_") == "p q : Prop\nx : p\n⊢ q"
    assert goal_after("(p q r : Prop) : p ∧ q → r", "refine and_imp.mpr ?_") == "p q r : Prop\n⊢ p → q → r"
    assert goal_after("(p q : Prop) : ¬(p ∨ q) ∧ p", "constructor", "refine not_or.mpr ⟨?_, ?_⟩").startswith(
        "case left.refine_1\np q : Prop\n⊢ ¬p\n\ncase left.refine_2\n"
    )
    assert_proved(signature.replace("∧ q", "∧ p"), "refine ⟨h, h⟩")
    assert_refused(signature, "refine ⟨?_, h⟩")
    assert_refused(signature, "refine mt ?_ ?_")
    assert_refused("(p q : Prop) : p → q", "refine fun _ => ?_")


def test_rcases_conjunction() -> None:
    signature = "(p q r : Prop) (h : p ∧ q ∧ r) (h1 : r) : p"
    assert goal_after(signature, "rcases h with ⟨h, h2⟩") == (
        "case intro\np q r : Prop\nh1 : r\nh : p\nh2 : q ∧ r\n⊢ p"
    )
    assert goal_after(signature, "rcases h with ⟨a, b, c⟩") == (
        "case intro.intro\np q r : Prop\nh1 : r\na : p\nb : q\nc : r\n⊢ p"
    )
    assert goal_after(signature, "rcases h with ⟨a, ⟨b, c⟩⟩") == goal_after(signature, "rcases h with ⟨a, b, c⟩")
    assert goal_after("(p q : Prop) (h : p ↔ q) : p", "rcases h with ⟨f, g⟩") == (
        "case intro\np q : Prop\nf : p → q\ng : q → p\n⊢ p"
    )


def test_rcases_disjunction() -> None:
    signature = "(p q r : Prop) (h : p ∨ q ∨ r) : p"
    assert goal_after(signature, "rcases h with h | h") == (
        "case inl\np q r : Prop\nh : p\n⊢ p\n\ncase inr\np q r : Prop\nh : q ∨ r\n⊢ p"
    )
    state = goal_after(signature, "rcases h with a | b | c")
    assert [line for line in state.splitlines() if line.startswith("case")] == [
        "case inl",
        "case inr.inl",
        "case inr.inr",
    ]
    state = goal_after("(p q r : Prop) (h : p ∧ q ∨ r) : r", "rcases h with ⟨a, b⟩ | c")
    assert [line for line in state.splitlines() if line.startswith("case")] == ["case inl.intro", "case inr"]
    state = goal_after("(p q r : Prop) (h : p ∧ (q ∨ r)) : r", "rcases h with ⟨a, b | c⟩")
    assert [line for line in state.splitlines() if line.startswith("case")] == ["case intro.inl", "case intro.inr"]


def test_rcases_of_a_term_keeps_the_hypothesis() -> None:
    assert goal_after("(p q : Prop) (h : ¬(p ∨ q)) : ¬p", "rcases not_or.mp h with ⟨a, b⟩") == (
        "case intro\np q : Prop\nh : ¬(p ∨ q)\na : ¬p\nb : ¬q\n⊢ ¬p"
    )


@pytest.mark.parametrize(
    "tactic",
    [
        "rcases h with a | b",
        "rcases h with ⟨a⟩",
        "rcases h with ⟨a, b, c⟩",
        "rcases h with ⟨a, a⟩",
        "rcases h with ⟨k, a⟩",
        "rcases h with ⟨⟨a, b⟩, c⟩",
        "rcases k with ⟨a, b⟩",
        "rcases x with ⟨a, b⟩",
        "rcases h",
        "rcases h with",
        "rcases h with ⟨a, b",
    ],
)
def test_rcases_refuses(tactic: str) -> None:
    assert_refused("(p q r : Prop) (h : (p → q) ∧ r) (k : p) : p", tactic)


def test_exfalso() -> None:
    assert goal_after("(p q : Prop) : p ∧ q", "constructor", "exfalso").startswith("case left\np q : Prop\n⊢ False\n\n")


def test_contradiction() -> None:
    assert_proved("(p q : Prop) (h : False) : q", "contradiction")
    assert_proved("(p q : Prop) (h : ¬(p ∧ q)) (h1 : p ∧ q) : q", "contradiction")
    assert_refused("(p q : Prop) (h : p) (h1 : ¬q) : q", "contradiction")


def test_assumption() -> None:
    assert_proved("(p q : Prop) (h : p ∧ q) : p ∧ q", "assumption")
    assert_proved("(p q : Prop) (h : p → False) : ¬p", "assumption")
    assert_refused("(p q : Prop) (h : p ∧ q) : q ∧ p", "assumption")
    assert_refused("(p q : Prop) (h : p ∧ q) : p ∧ q", "assumption h")


def test_trivial() -> None:
    assert_proved(": True ∧ True", "trivial")
    assert_proved("(p q : Prop) (h : p) : p ∧ True", "trivial")
    assert_proved("(p q : Prop) (h : p) (h1 : ¬p) : q", "trivial")
    assert_refused("(p q : Prop) (h : p) : p ∨ q", "trivial")


def test_have() -> None:
    signature = "(p q : Prop) (h : p → q) (k : p) : q"
    after = "p q : Prop\nh : p → q\nk : p\nh1 : q\n⊢ q"
    assert goal_after(signature, "have h1 := h k") == after
    assert goal_after(signature, "have h1 : q := h k") == after
    assert goal_after(signature, "have h1 : p → p := fun x => x").endswith("h1 : p → p\n⊢ q")
    assert goal_after("(p : Prop) (h : ¬p) (k : p) : p", "have h1 := h k").endswith("h1 : False\n⊢ p")
    for tactic in (
        "have h1 : p := h k",
        "have h := h k",
        "have h1 : s := k",
        "have h1 := fun x => x",
        "have h1 := absurd k",
        "have h1 : q",
        "have h1 : q := ?_",
        "have := h k",
        "have h1 := Or.inl k",
    ):
        assert_refused(signature, tactic)


@pytest.mark.parametrize(
    "tactic",
    ["", " ", "simp", "exact h;", "exact h <;> exact h", "exact h\nexact h", "sorry", "tauto", "exact 0", "\0"],
)
def test_anything_else_is_an_error_value(tactic: str) -> None:
    assert_refused("(p : Prop) (h : p) : p", tactic)


def test_deep_nesting_is_an_error_value() -> None:
    assert_refused("(p : Prop) (h : p) : p", f"exact {'(' * 5000}h{')' * 5000}")


def test_lines_that_lean_would_break_are_refused() -> None:
    signature = "(p q : Prop) (h : p) : p"
    wide = " ∧ ".join(["p"] * 40)
    assert_refused(signature, f"have h1 : {wide} := ⟨{', '.join(['h'] * 40)}⟩")


def test_tactics_act_on_the_first_goal_and_leave_the_others() -> None:
    assert goal_after("(p q : Prop) (h : p) : p ∧ q", "constructor", "exact h") == "case right\np q : Prop\nh : p\n⊢ q"
