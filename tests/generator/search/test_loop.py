"""One theorem's search joined to a prover and a generator: what counts, what is discarded, what it says of itself."""

import math

import pytest

from common import NO_GOALS, ConfigError, DataError, Pos
from generator.environments.base import (
    BrokenEnvironmentError,
    CannotStartError,
    ProofState,
    Statement,
    TacticError,
    Theorem,
    Verdict,
)
from generator.environments.propositional.environment import PropositionalEnvironment
from generator.interface.tactic_generator import TacticGenerator
from generator.interface.wrappers import CachingGenerator, FixedTacticGenerator
from generator.search.best_first import BestFirstSearch
from generator.search.loop import new_search, prove
from generator.search.options import SearchOptions
from generator.search.rollouts import Rollouts
from tests.generator.search.search_fakes import THEOREM, Clock, Prover, Writer, random_graph

GRAPH = {
    "start": {"wrong": (-0.1, TacticError("no")), "split": (-0.5, "two goals"), "loop": (-0.7, "start")},
    "two goals": {"too slow": (-0.2, TacticError("5 s", "timeout")), "left": (-1.0, "one goal")},
    "one goal": {"done": (-0.1, NO_GOALS)},
}
ALGORITHMS = ["best_first", "breadth_first", "rollouts"]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_proof_is_found_checked_from_nothing_and_told_with_what_it_took(algorithm):
    prover = Prover(GRAPH)
    result = prove(THEOREM, prover, Writer(GRAPH), SearchOptions(algorithm=algorithm))
    assert result.status == "proved" and result.reason == "proved"
    assert result.proof == ("split", "left", "done")
    assert prover.checks == [("split", "left", "done")]
    assert result.theorem is THEOREM
    assert result.num_calls == len(prover.calls) and result.num_states == 3 and result.num_expansions == 3
    assert sum(result.errors.values()) == sum(
        GRAPH[state][tactic][1] not in ("start", *GRAPH, NO_GOALS) for state, tactic in prover.calls
    )


def test_errors_are_counted_by_kind_and_time_is_split():
    clock = Clock()

    class Slow(Writer):
        def propose(self, contexts, num_candidates):
            clock.now += 2
            return super().propose(contexts, num_candidates)

    prover = Prover(GRAPH, on_call=lambda tactic: setattr(clock, "now", clock.now + 0.5))
    result = prove(THEOREM, prover, Slow(GRAPH), clock=clock)
    assert result.errors == {"error": 1, "timeout": 1}
    assert result.model_s == 6
    assert result.environment_s == 0.5 * (6 + 3)  # six tactics, and three again in the check
    assert result.total_s == result.model_s + result.environment_s


def test_the_search_is_timed_without_the_start_and_without_the_check_that_accepts_its_proof():
    clock = Clock()

    class Slow(Prover):
        def start(self, theorem):
            clock.now += 0.0 if self.calls else 30
            return super().start(theorem)

        def check(self, theorem, script):
            clock.now += 7
            super().check(theorem, script)
            return Verdict(len(script) > 1, "by one tactic?")

    graph = {"start": {"cheat": (-0.1, NO_GOALS), "on": (-0.5, "a")}, "a": {"done": (-0.1, NO_GOALS)}}
    result = prove(THEOREM, Slow(graph), Writer(graph), clock=clock)
    assert result.proof == ("on", "done") and result.proof_states == ("start", "a")
    assert (result.start_s, result.check_s, result.total_s) == (30, 7, 30 + 7 + 7)
    assert result.search_s == 7  # the check that refused is of the search, which went on


def test_the_generator_is_asked_with_file_name_position_and_number_in_batches():
    writer = Writer(GRAPH)
    prove(THEOREM, Prover(GRAPH), writer, SearchOptions(num_candidates=2, batch_size=4))
    assert writer.asked == [["start"], ["two goals"], ["one goal"]]
    first = writer.contexts[0]
    assert (first.path, first.theorem_full_name, first.theorem_pos) == ("A.lean", "t", Pos(3, 1))
    graph = {"start": {"a": (-1.0, "a"), "b": (-2.0, "b")}, "a": {}, "b": {"done": (-1.0, NO_GOALS)}}
    writer = Writer(graph)
    assert prove(THEOREM, Prover(graph), writer, SearchOptions(batch_size=2)).status == "proved"
    assert writer.asked == [["start"], ["a", "b"]]


def test_a_statement_is_asked_about_by_its_name_without_a_place():
    writer = FixedTacticGenerator(["intro h", "exact h"])
    seen = []
    writer.batch_generate = lambda *lists: seen.append(lists) or TacticGenerator.batch_generate(writer, *lists)
    result = prove(Statement("(p : Prop) : p → p", name="mine"), PropositionalEnvironment(), writer)
    assert result.proof == ("intro h", "exact h")
    assert seen[0] == (["p : Prop\n⊢ p → p"], [""], ["mine"], [None], 64)


def test_a_proof_that_the_prover_refuses_as_a_whole_does_not_count_and_the_search_goes_on():
    graph = {
        "start": {"cheat": (-0.1, NO_GOALS), "on": (-1.0, "a")},
        "a": {"done": (-1.0, NO_GOALS)},
    }

    class Strict(Prover):
        def check(self, theorem, script):
            super().check(theorem, script)
            return Verdict("cheat" not in script, "uses sorry")

    result = prove(THEOREM, Strict(graph), Writer(graph))
    assert result.proof == ("on", "done") and result.errors == {"refused": 1}
    del graph["a"]["done"]
    result = prove(THEOREM, Strict(graph), Writer(graph))
    assert result.status == "failed" and result.proof is None
    assert result.reason == "no tactic is left to try; 1 found but refused as a whole, the first: uses sorry"
    graph["start"] = {"cheat": (-0.1, NO_GOALS)}
    result = prove(THEOREM, Strict(graph), Writer(graph), SearchOptions(max_calls=1))
    assert result.status != "proved" and "uses sorry" in result.reason


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_proof_can_be_replayed_where_equal_texts_hide_different_states(algorithm, seed):
    """The prover's states carry the way that led to them, and it counts for what a tactic does."""
    graph = random_graph(seed, num_states=6, num_tactics=3)

    class Way(ProofState):
        pass

    class Hiding(Prover):
        def start(self, theorem):
            return self._with_way(super().start(theorem), ())

        def _with_way(self, state, way):
            found = Way(state.pp)
            object.__setattr__(found, "way", way)
            return found

        def run_tactic(self, state, tactic):
            result = super().run_tactic(state, tactic)
            if isinstance(result, ProofState):
                return self._with_way(result, (*state.way, tactic))
            return TacticError("not this way") if len(state.way) % 2 else result

    prover = Hiding(graph)
    result = prove(THEOREM, prover, Writer(graph), SearchOptions(algorithm=algorithm, max_expansions=200))
    assert "refused" not in result.errors
    if result.status == "proved":
        assert prover.check(THEOREM, result.proof).accepted
        state = prover.start(THEOREM)
        for seen, tactic in zip(result.proof_states, result.proof, strict=True):
            assert state.pp == seen
            state = prover.run_tactic(state, tactic)


def test_a_theorem_that_does_not_start_is_discarded_with_the_reason():
    result = prove(Theorem("A.lean", "unknown"), Prover(GRAPH), Writer(GRAPH))
    assert (result.status, result.reason) == ("discarded", "the script has no theorem unknown")
    assert result.num_expansions == result.num_states == 0 and result.proof is None


def test_a_prover_that_breaks_discards_the_theorem_and_tells_how_far_it_came():
    def die(tactic):
        if tactic == "left":
            raise BrokenEnvironmentError("t: the channel is gone")

    result = prove(THEOREM, Prover(GRAPH, on_call=die), Writer(GRAPH))
    assert (result.status, result.reason) == ("discarded", "t: the channel is gone")
    assert result.num_states == 2 and result.num_expansions == 2


def test_a_prover_that_breaks_while_it_checks_proves_nothing():
    class Breaking(Prover):
        def check(self, theorem, script):
            raise BrokenEnvironmentError("t: died in the check")

    result = prove(THEOREM, Breaking(GRAPH), Writer(GRAPH))
    assert (result.status, result.reason, result.proof) == ("discarded", "t: died in the check", None)


def test_a_prover_that_dies_of_every_tactic_fails_the_theorem_after_each_was_tried_once():
    graph = {"start": {f"t{i}": (-1.0, TacticError("died", "crash")) for i in range(7)}}
    prover = Prover(graph)
    result = prove(THEOREM, prover, Writer(graph))
    assert result.status == "failed" and result.errors == {"crash": 7}
    assert len(prover.calls) == len(set(prover.calls)) == 7


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_generator_that_returns_nothing_ends_the_search_as_failed(algorithm):
    result = prove(THEOREM, Prover(GRAPH), FixedTacticGenerator([]), SearchOptions(algorithm=algorithm))
    assert (result.status, result.reason) == ("failed", "the generator proposes no tactic")
    assert result.num_calls == 0 and result.num_expansions == 1


def test_a_generator_that_refuses_the_theorem_discards_it_and_one_that_breaks_is_raised():
    class Failing(FixedTacticGenerator):
        error: Exception = DataError("theorem_pos of t is not given")

        def propose(self, contexts, num_candidates):
            raise self.error

    result = prove(THEOREM, Prover(GRAPH), Failing([]))
    assert (result.status, result.reason) == ("discarded", "theorem_pos of t is not given")
    Failing.error = RuntimeError("out of memory")
    with pytest.raises(RuntimeError, match="out of memory"):
        prove(THEOREM, Prover(GRAPH), Failing([]))


@pytest.mark.parametrize("score", [1.0, math.nan])
def test_a_score_that_is_no_log_probability_names_generator_and_tactic(score):
    class Scored(TacticGenerator):
        def propose(self, contexts, num_candidates):
            return [[("intro \x1b h", score)] for _ in contexts]

    with pytest.raises(ConfigError, match=r"Scored gives the tactic 'intro \\\\x1b h' the log-probability"):
        prove(THEOREM, Prover(GRAPH), Scored())


def test_rounding_above_zero_is_zero():
    class Rounded(TacticGenerator):
        def propose(self, contexts, num_candidates):
            return [[("done", 1e-6)] for _ in contexts]

    assert prove(THEOREM, Prover({"start": {"done": (0.0, NO_GOALS)}}), Rounded()).status == "proved"


def test_time_for_the_prover_to_start_is_not_the_theorems():
    clock = Clock()

    class LateStart(Prover):
        def start(self, theorem):
            clock.now += 100
            return super().start(theorem)

    result = prove(THEOREM, LateStart(GRAPH), Writer(GRAPH), SearchOptions(max_seconds=10), clock=clock)
    assert result.status == "proved" and result.environment_s == 200


def test_a_proof_that_the_prover_returns_after_the_deadline_counts():
    clock = Clock()
    prover = Prover(GRAPH, on_call=lambda tactic: setattr(clock, "now", clock.now + (20 if tactic == "done" else 0)))
    result = prove(THEOREM, prover, Writer(GRAPH), SearchOptions(max_seconds=10), clock=clock)
    assert result.status == "proved" and result.total_s > 10


def test_after_the_deadline_no_tactic_is_run_and_no_state_asked_about():
    clock = Clock()
    prover, writer = Prover(GRAPH, on_call=lambda tactic: setattr(clock, "now", clock.now + 6)), Writer(GRAPH)
    result = prove(THEOREM, prover, writer, SearchOptions(max_seconds=10), clock=clock)
    assert (result.status, result.reason) == ("open", "max_seconds 10 reached")
    assert len(prover.calls) == 2 and writer.asked == [["start"]]
    assert prover.checks == []


def test_states_that_the_generator_knew_are_counted():
    caching = CachingGenerator(Writer(GRAPH))
    assert prove(THEOREM, Prover(GRAPH), caching).num_cache_hits == 0
    assert prove(THEOREM, Prover(GRAPH), caching).num_cache_hits == 3


def test_the_observer_sees_the_tree_grow_and_at_the_end_the_proof():
    seen = []
    prove(THEOREM, Prover(GRAPH), Writer(GRAPH), observer=lambda search: seen.append((len(search.tree), search.status)))
    assert seen == [(2, "open"), (3, "open"), (3, "proved"), (3, "proved")]


def test_unicode_in_names_states_and_tactics_goes_through():
    theorem = Theorem("Données/Fichier.lean", "«théorème ∀»", (1, 1))
    graph = {"⊢ 𝔸 → ⟨λ⟩\u202e": {"introλ \x07": (-1.0, NO_GOALS)}}
    prover = Prover(graph, start="⊢ 𝔸 → ⟨λ⟩\u202e")
    prover._starts["«théorème ∀»"] = prover._starts["t"]
    assert prove(theorem, prover, Writer(graph)).proof == ("introλ \x07",)


def test_theorems_of_one_name_in_different_files_are_different():
    class ByFile(Prover):
        def start(self, theorem):
            if theorem.file_path == "B.lean":
                raise CannotStartError("B.lean is broken")
            return super().start(theorem)

    assert prove(THEOREM, ByFile(GRAPH), Writer(GRAPH)).status == "proved"
    assert prove(Theorem("B.lean", "t"), ByFile(GRAPH), Writer(GRAPH)).status == "discarded"


def test_options_name_the_search():
    start = ProofState("start")
    assert type(new_search(start, SearchOptions())) is BestFirstSearch
    assert type(new_search(start, SearchOptions(algorithm="breadth_first"))) is BestFirstSearch
    assert type(new_search(start, SearchOptions(algorithm="rollouts"))) is Rollouts


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"algorithm": "depth_first"}, "algorithm is 'depth_first'; choose one of best_first, breadth_first, rollouts"),
        ({"num_candidates": 0}, "num_candidates is 0"),
        ({"max_seconds": -1.0}, "max_seconds is -1.0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"length_penalty": -0.5}, "length_penalty is -0.5; it must be at least 0"),
        ({"temperature": math.inf}, "temperature is inf"),
        ({"max_seconds": None}, "give max_expansions, max_seconds or max_calls"),
    ],
)
def test_options_that_cannot_be_used_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        SearchOptions(**options)
