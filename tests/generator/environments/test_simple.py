"""A prover of one's own, of which two methods are written."""

import pytest

from generator import FixedTacticGenerator
from generator.environments import (
    CannotStartError,
    ProofFinished,
    ProofState,
    SimpleEnvironment,
    Statement,
    TacticError,
    Theorem,
    Verdict,
    make_environment,
)
from generator.search.loop import prove


class Countdown(SimpleEnvironment):
    """Proves that a number comes down to 0, by halving even ones and subtracting 1."""

    is_closed = False

    def start(self, theorem):
        if not theorem.text.isdecimal():
            raise CannotStartError(f"{theorem.text} is no number")
        return ProofState(f"⊢ {theorem.text}")

    def run_tactic(self, state, tactic):
        number = int(state.pp.removeprefix("⊢ "))
        if tactic == "halve" and number % 2:
            return TacticError(f"{number} is odd")
        number = number // 2 if tactic == "halve" else number - 1
        return ProofState(f"⊢ {number}") if number else ProofFinished()

    def close(self):
        self.is_closed = True


TEN = Statement("10")


def test_search_proves_with_it():
    generator = FixedTacticGenerator([("halve", -0.5), ("decrement", -1.0)])
    assert prove(TEN, Countdown(), generator).proof == ("halve", "decrement", "halve", "halve", "decrement")
    assert prove(Statement("x"), Countdown(), generator).status == "discarded"


@pytest.mark.parametrize(
    ("statement", "script", "message"),
    [
        ("4", ["halve", "halve"], "goals are left:\n⊢ 1"),
        ("4", [], "goals are left:\n⊢ 4"),
        ("5", ["halve"], "'halve': 5 is odd"),
        ("1", ["decrement", "decrement"], "'decrement' comes after the end of the proof"),
        ("x", ["decrement"], "x is no number"),
    ],
)
def test_only_whole_proofs_are_accepted(statement, script, message):
    assert Countdown().check(Statement(statement), script) == Verdict(False, message)
    assert Countdown().check(Statement("2"), ["halve", "decrement"]) == Verdict(True)


def test_proofs_are_written_as_text():
    written = Countdown().source([(Statement("2"), ["halve", "decrement"]), (Theorem("A.txt", "one"), ["decrement"])])
    assert written == {
        "searched_statement.txt": "searched_statement:\n  halve\n  decrement\n",
        "A.txt": "one:\n  decrement\n",
    }


def test_it_is_an_environment_by_its_class_path_and_closes():
    with make_environment(f"{__name__}.Countdown") as environment:
        assert environment.start(TEN).pp == "⊢ 10"
    assert environment.is_closed
