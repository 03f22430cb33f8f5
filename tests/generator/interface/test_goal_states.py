"""Goals of other provers become the text that Lean prints."""

from dataclasses import dataclass, field
from enum import Enum
from types import SimpleNamespace

import pytest

from common import DataError
from generator.environments import PropositionalEnvironment
from generator.environments.propositional.environment import PropositionalState
from generator.interface.goal_states import render_state

# ------------------------------------------------ the shapes of Pantograph (PyPantograph 0.3)


class TacticMode(Enum):
    TACTIC = 1
    CONV = 2


@dataclass
class Variable:
    t: str
    v: str | None = None
    name: str | None = None


@dataclass
class Goal:
    variables: list[Variable]
    target: str
    name: str | None = None
    mode: TacticMode = TacticMode.TACTIC
    id: str = "_uniq.1"


@dataclass
class GoalState:
    goals: list[Goal]
    state_id: int = 0
    messages: list[str] = field(default_factory=list)


def as_pantograph(state: PropositionalState) -> GoalState:
    """The goals of the built-in prover, one variable at a time."""
    return GoalState(
        [
            Goal([Variable(str(h.type), name=h.name) for h in goal.hypotheses], str(goal.target), goal.tag or None)
            for goal in state.goals
        ]
    )


# ------------------------------------------------------------------------------------------- happy path


@pytest.mark.parametrize("tactic", ["constructor", "intro hr", "refine ⟨?_, hpq.1⟩"])
def test_pantograph_goals_read_as_the_prover_prints_them(tactic):
    environment = PropositionalEnvironment()
    signature = {"intro hr": "(p q r : Prop) (hpq : p ∧ q) : r → q ∧ p"}.get(
        tactic, "(p q : Prop) (hpq : p ∧ q) : q ∧ p"
    )
    state = environment.run_tactic(environment.start_statement(signature), tactic)
    assert render_state(as_pantograph(state)) == state.pp
    assert render_state(as_pantograph(state).goals) == state.pp


def test_a_single_goal_is_a_state():
    goal = Goal([Variable("Prop", name="p"), Variable("p", name="h")], "p", "inl")
    assert render_state(goal) == "case inl\np : Prop\nh : p\n⊢ p"


def test_only_neighbours_of_one_type_share_a_line():
    variables = [Variable("ℕ", name="m"), Variable("m = 0", name="h"), Variable("ℕ", name="n"), Variable("ℕ", name="k")]
    assert render_state(Goal(variables, "n = k")) == "m : ℕ\nh : m = 0\nn k : ℕ\n⊢ n = k"


def test_values_are_shown_and_part_a_line():
    variables = [
        Variable("ℕ", name="m"),
        Variable("ℕ", "m + 1", "x"),
        Variable("ℕ", "m + 1", "y"),
        Variable("ℕ", name="n"),
    ]
    assert render_state(Goal(variables, "x = n")) == "m : ℕ\nx : ℕ := m + 1\ny : ℕ := m + 1\nn : ℕ\n⊢ x = n"


def test_inaccessible_names_keep_or_get_their_dagger():
    variables = [
        Variable("Type u_1", name="α"),
        Variable("Group α", name="inst✝¹"),
        Variable("Group α", name="inst✝"),
        Variable("p", name="a._@.Mathlib.Logic._hyg.12"),
        Variable("q"),
    ]
    assert render_state(Goal(variables, "q")) == "α : Type u_1\ninst✝¹ inst✝ : Group α\na✝ : p\n_ : q\n⊢ q"


def test_case_tags_lose_their_macro_scopes_as_lean_prints_them():
    assert render_state(Goal([], "p", "intro.left._@.Mathlib.Logic._hyg.3")) == "case intro.left\n⊢ p"


def test_conversion_goals_have_a_bar():
    assert render_state(Goal([], "a + b", mode=TacticMode.CONV)) == "| a + b"
    assert render_state(SimpleNamespace(target="a", variables=[], is_conversion=True)) == "| a"


def test_pantographs_json_reads_like_its_objects():
    state = {
        "nextStateId": 1,
        "goals": [
            {
                "name": "_uniq.38",
                "userName": "mp",
                "fragment": "tactic",
                "vars": [
                    {"name": "_uniq.1", "userName": "p", "isInaccessible": False, "type": {"pp": "Prop"}},
                    {"name": "_uniq.2", "userName": "q", "type": {"pp": "Prop"}},
                    {"name": "_uniq.3", "userName": "h", "isInaccessible": True, "type": {"pp": "p"}},
                    {"name": "_uniq.5", "userName": "k✝¹", "isInaccessible": True, "type": {"pp": "p"}},
                    {"name": "_uniq.4", "userName": "x", "type": {"pp": "ℕ"}, "value": {"pp": "1"}},
                ],
                "target": {"pp": "q"},
            },
            {"name": "_uniq.39", "vars": [], "target": {"pp": "True"}},
        ],
    }
    assert render_state(state) == "case mp\np q : Prop\nh✝ k✝¹ : p\nx : ℕ := 1\n⊢ q\n\n⊢ True"


def test_goal_strings_are_joined_by_blank_lines():
    goals = ["case left\np : Prop\n⊢ p", "\ncase right\np : Prop\n⊢ p\n"]
    joined = "case left\np : Prop\n⊢ p\n\ncase right\np : Prop\n⊢ p"
    assert render_state(goals) == render_state(tuple(goals)) == joined
    assert render_state(SimpleNamespace(proof_state=3, proof_status="Incomplete", goals=goals)) == joined
    assert render_state({"proofState": 3, "goals": goals}) == joined
    assert render_state(SimpleNamespace(goal="⊢ p", proof_state=0)) == render_state({"goal": "⊢ p"}) == "⊢ p"


def test_texts_pass_through_and_states_that_print_themselves_do():
    assert render_state("\n p : Prop\n") == "\n p : Prop\n" and render_state("") == ""
    assert render_state(SimpleNamespace(pp="⊢ p", id=3, goals=["not this"])) == "⊢ p"


def test_no_goals_are_said_to_be_none():
    assert render_state([]) == render_state(GoalState([])) == render_state({"goals": []}) == "no goals"


# ------------------------------------------------------------------------------------------------ edges


def test_long_lines_break_where_lean_breaks_them():
    long = "x = " + "y" * 113
    assert render_state(Goal([Variable(long, name="h")], "p")) == f"h :\n  {long}\n⊢ p"  # 121 columns
    assert render_state(Goal([Variable(long[:-1], name="h")], "p")) == f"h : {long[:-1]}\n⊢ p"
    broken = "∀ x,\n  f x"
    assert render_state(Goal([Variable(broken, name="h")], broken)) == "h :\n  ∀ x,\n    f x\n⊢ ∀ x,\n    f x"


# --------------------------------------------------------------------------------------------- refusals


class Pairs:
    """Like pydantic's objects, which give their fields when they are iterated over."""

    def __iter__(self):
        return iter([("message", "unknown identifier")])

    def __repr__(self):
        return "Pairs()"


@pytest.mark.parametrize(
    ("goals", "message"),
    [
        (3, "cannot be read from an object of type builtins.int; give a text; LeanDojo's"),
        (None, "builtins.NoneType"),
        (b"\xe2\x8a\xa2 p", "builtins.bytes"),
        (["⊢ p", 3], "builtins.int"),
        ({"message": "unknown identifier"}, "a mapping with the keys message"),
        ({}, r"\(none\)"),
        (Pairs(), "test_goal_states.Pairs"),
        (SimpleNamespace(target="p", variables="h : p"), "variables of a goal are an object of type builtins.str"),
        (SimpleNamespace(target="p", variables=[SimpleNamespace(name="h")]), "variable of a goal is .*no type"),
    ],
    ids=str,
)
def test_what_is_no_state_is_named(goals, message):
    with pytest.raises(DataError, match=message):
        render_state(goals)
