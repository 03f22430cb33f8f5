"""Generators around generators: caching, retrying, filtering; and fixed tactics."""

import asyncio
import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from common import ConfigError, Pos
from generator.interface.filtering import FilteredGenerator, has_placeholder, without_placeholders
from generator.interface.tactic_generator import TacticGenerator
from generator.interface.wrappers import CachingGenerator, FixedTacticGenerator, RetryingGenerator


class Scripted(TacticGenerator):
    """Proposes the state in capitals, after what `before` does, and notes what it is asked."""

    def __init__(self, before=lambda states: None, reads_theorem=True):
        self.batches, self.before, self.reads_theorem, self.num_loads = [], before, reads_theorem, 0

    def initialize(self):
        self.num_loads += 1

    def propose(self, contexts, num_candidates):
        states = [context.state for context in contexts]
        self.batches.append(states)
        self.before(states)
        return [[(f"{state.upper()}{i}", -1.0 - i) for i in range(num_candidates)] for state in states]


def ask(generator, states, num_samples=1, name="t", file_path="A.lean", position=(1, 1)):
    n = len(states)
    found = generator.batch_generate(list(states), [file_path] * n, [name] * n, [position] * n, num_samples)
    return [[tactic for tactic, _ in candidates] for candidates in found]


@pytest.mark.parametrize(
    "wrap",
    [CachingGenerator, RetryingGenerator, without_placeholders, lambda inner: FilteredGenerator(inner, bool)],
)
def test_every_wrapper_is_a_generator_that_passes_everything_on(wrap):
    inner = Scripted()
    wrapped = wrap(inner)
    assert isinstance(wrapped, TacticGenerator)
    wrapped.initialize()
    assert inner.num_loads == 1
    assert wrapped.generate("a", "A.lean", "t", Pos(1, 1), 2) == [("A0", -1.0), ("A1", -2.0)]
    assert ask(wrapped, "bcb") == [["B0"], ["C0"], ["B0"]] and ask(wrapped, "") == []
    assert asyncio.run(wrapped.as_async().generate("a", "A.lean", "t", (1, 1), 1)) == [("A0", -1.0)]
    with pytest.raises(ConfigError, match="num_samples is 0"):
        ask(wrapped, "a", num_samples=0)


# --------------------------------------------------------------------------------------------- caching


def test_only_unknown_states_are_asked_for_each_once_and_order_stays():
    inner = Scripted()
    cached = CachingGenerator(inner)
    assert ask(cached, "ab") == [["A0"], ["B0"]]
    assert ask(cached, "cbdcad") == [["C0"], ["B0"], ["D0"], ["C0"], ["A0"], ["D0"]]
    assert inner.batches == [["a", "b"], ["c", "d"]]
    assert (cached.hits, cached.misses, len(cached)) == (4, 4, 4)


def test_what_makes_requests_differ():
    inner = Scripted()
    cached = CachingGenerator(inner)
    for request in ({}, {"name": "u"}, {"file_path": "B.lean"}, {"position": (2, 1)}, {"num_samples": 2}):
        ask(cached, "a", **request)
    assert cached.misses == 5
    ask(cached, "a", position=Pos(1, 1))  # the same place, written otherwise
    assert cached.misses == 5 and cached.hits == 1


@pytest.mark.parametrize("wrap", [lambda inner: inner, RetryingGenerator, without_placeholders])
def test_the_theorem_does_not_matter_to_a_generator_that_does_not_read_it(wrap):
    inner = Scripted(reads_theorem=False)
    cached = CachingGenerator(wrap(inner))
    ask(cached, "a")
    ask(cached, "a", name="u", file_path="B.lean", position=(9, 9))
    assert len(inner.batches) == 1
    ask(cached, "a", num_samples=2)
    assert len(inner.batches) == 2


def test_the_request_that_was_not_made_the_longest_is_forgotten():
    inner = Scripted()
    cached = CachingGenerator(inner, max_entries=2)
    for states in ("a", "b", "a", "c", "a", "b"):
        ask(cached, states)
    assert inner.batches == [["a"], ["b"], ["c"], ["b"]]
    assert ask(cached, "vwxyz") == [["V0"], ["W0"], ["X0"], ["Y0"], ["Z0"]] and len(cached) == 2
    cached.clear()
    ask(cached, "z")
    assert inner.batches[-1] == ["z"]


def test_callers_cannot_change_what_is_remembered():
    cached = CachingGenerator(Scripted())
    cached.generate("a", "A", "t", (1, 1), 1).clear()
    assert cached.generate("a", "A", "t", (1, 1), 1) == [("A0", -1.0)]


def wait_until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_threads_that_meet_on_a_state_ask_for_it_once():
    release = threading.Event()
    inner = Scripted(before=lambda states: release.wait(10))
    cached = CachingGenerator(inner)
    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(ask, cached, states) for states in ("ab", "ba", "ac", "bc")]
        wait_until(lambda: cached.hits + cached.misses == 8)  # all have said what they need
        release.set()
        found = [answer.result(10) for answer in answers]
    assert found == [[["A0"], ["B0"]], [["B0"], ["A0"]], [["A0"], ["C0"]], [["B0"], ["C0"]]]
    assert sorted(state for batch in inner.batches for state in batch) == ["a", "b", "c"]
    assert (cached.hits, cached.misses) == (5, 3)


def test_a_failure_is_not_remembered_and_does_not_become_another_threads():
    entered, release = threading.Event(), threading.Event()

    def fail_first(states):
        if len(inner.batches) == 1:
            entered.set()
            release.wait(10)
            raise RuntimeError("the first call fails")

    inner = Scripted(before=fail_first)
    cached = CachingGenerator(inner)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(ask, cached, "ab")
        entered.wait(10)
        second = pool.submit(ask, cached, "bc")
        wait_until(lambda: len(inner.batches) == 2)  # it asks for c, and waits for b
        release.set()
        with pytest.raises(RuntimeError, match="the first call fails"):
            first.result(10)
        assert second.result(10) == [["B0"], ["C0"]]
    assert inner.batches == [["a", "b"], ["c"], ["b"]]
    assert ask(cached, "a") == [["A0"]]


def test_a_generator_that_loses_a_state_is_found_out():
    inner = Scripted()
    inner.propose = lambda contexts, num_candidates: [[("x", -1.0)]]
    cached = CachingGenerator(inner)
    with pytest.raises(ValueError, match="zip"):
        ask(cached, "ab")
    assert ask(cached, "b") == [["x"]]


# -------------------------------------------------------------------------------------------- retrying


def fail(*errors):
    """Raises one error after the other, then nothing."""
    left = list(errors)
    return lambda states: (_ for _ in ()).throw(left.pop(0)) if left else None


@pytest.mark.parametrize(
    "error", [ConnectionResetError("gone"), TimeoutError("slow"), OSError("hub"), BrokenPipeError()]
)
def test_errors_that_may_pass_are_tried_again(error):
    retrying = RetryingGenerator(Scripted(fail(error, error)), attempts=3, wait_s=0)
    assert ask(retrying, "ab") == [["A0"], ["B0"]]
    assert retrying.num_retries == 2 and len(retrying.generator.batches) == 3


def test_the_last_error_is_raised():
    retrying = RetryingGenerator(Scripted(fail(OSError("one"), OSError("two"))), attempts=2, wait_s=0)
    with pytest.raises(OSError, match="two"):
        ask(retrying, "a")


@pytest.mark.parametrize("error", [FileNotFoundError("x"), PermissionError("x"), ValueError("x"), KeyboardInterrupt()])
def test_other_errors_are_raised_at_once(error):
    retrying = RetryingGenerator(Scripted(fail(error)), wait_s=0)
    with pytest.raises(type(error)):
        ask(retrying, "a")
    assert len(retrying.generator.batches) == 1


def test_loading_is_tried_again_too():
    inner, left = Scripted(), [ConnectionError("hub")]
    inner.initialize = lambda: (_ for _ in ()).throw(left.pop()) if left else None
    RetryingGenerator(inner, wait_s=0).initialize()
    assert not left


def test_waiting_doubles(monkeypatch):
    waits = []
    monkeypatch.setattr("time.sleep", waits.append)
    ask(RetryingGenerator(Scripted(fail(*[OSError()] * 3)), attempts=4, wait_s=0.5), "a")
    assert waits == [0.5, 1.0, 2.0]


def test_a_batch_that_does_not_fit_is_halved_until_it_does():
    def too_many(states):
        if len(states) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    inner = Scripted(too_many)
    retrying = RetryingGenerator(inner)
    assert ask(retrying, "abcdefg") == [[f"{state}0"] for state in "ABCDEFG"]
    assert [len(batch) for batch in inner.batches] == [7, 4, 2, 2, 3, 2, 1]
    assert retrying.num_halvings == 3 and retrying.num_retries == 0


def test_a_single_state_that_does_not_fit_says_what_to_lower():
    retrying = RetryingGenerator(Scripted(fail(*[torch.OutOfMemoryError("CUDA out of memory")] * 2)))
    with pytest.raises(torch.OutOfMemoryError) as caught:
        ask(retrying, "ab")
    assert retrying.num_halvings == 1
    assert "lower num_samples" in caught.value.__notes__[0]


# ------------------------------------------------------------------------------------------- filtering


@pytest.mark.parametrize(
    "tactic",
    [
        "sorry",
        "admit",
        "exact sorry",
        "exact ⟨sorry, h⟩",
        "exact sorry.1",
        "have h : p := by sorry",
        "constructor <;> sorry",
        "·sorry",
        "exact sorryAx _ false",
        "simp -- a comment\nsorry",
        "/- a /- nested -/ comment -/ sorry",
        'trace "text" ; sorry',
        '/- " -/ sorry /- " -/',
        "exact f '\"' sorry '\"'",
        "/- sorry /- does not end -/",
        "«a» sorry «b»",
        "exact h' (sorry) h'",
        "/- does not end sorry",
        "sorry.",
        "stop",
        "exact?",
        "rw? at h",
        "show_term apply?",
        "have h : p := by decide := by stop",
        "admit.",
        "- admit.",
        "-- admit.",
        "split. -- admit.",
        "(* done? *) give_up.",
        "auto. Admitted.",
        "oops",
    ],
)
def test_placeholders_are_found(tactic):
    assert has_placeholder(tactic)


@pytest.mark.parametrize(
    "tactic",
    [
        "exact sorry_lemma",
        "exact Foo.sorry",
        "exact sorry.intro h",
        "exact sorry'",
        "exact admittance",
        "exact «sorry»",
        "exact x.«sorry admit».y",
        "exact sorry.«x y»",
        'trace "sorry"',
        'trace "a \\" sorry"',
        "simp -- sorry",
        "simp /- sorry /- admit -/ sorry -/",
        "exact h₁sorry",
        "simp [h'sorry]",
        "exact nonstop",
        "simp [exact?_foo]",
        "auto with hintDb.",
        "(* admit (* give_up *) *) auto.",
        'idtac "Admitted".',
        "",
    ],
)
def test_names_texts_and_comments_are_no_placeholders(tactic):
    assert not has_placeholder(tactic)


def test_candidates_with_placeholders_are_dropped_and_counted():
    inner = FixedTacticGenerator({"a": [("sorry", -0.1), ("simp", -0.5), ("exact (admit)", -1.0)], "b": ["rfl"]})
    filtered = without_placeholders(inner)
    assert ask(filtered, "ab", num_samples=3) == [["simp"], ["rfl"]]
    assert filtered.num_dropped == 2
    assert ask(without_placeholders(inner, words=["rfl"]), "ab", num_samples=3) == [
        ["sorry", "simp", "exact (admit)"],
        [],
    ]


# ----------------------------------------------------------------------------------------- fixed tactics


def test_fixed_tactics_are_ranked_and_cut():
    fixed = FixedTacticGenerator([("simp", -2.0), ("aesop", -1.0), ("exact <a>h</a>", -3.0), ("exact h", -4.0)])
    assert fixed.generate("any", "A", "t", (1, 1), 9) == [("aesop", -1.0), ("simp", -2.0), ("exact h", -3.0)]
    assert ask(fixed, "ab", num_samples=1) == [["aesop"], ["aesop"]]


def test_without_log_probabilities_all_tactics_are_equally_likely():
    assert FixedTacticGenerator("aesop").generate("s", "A", "t", (1, 1), 2) == [("aesop", 0.0)]
    two = FixedTacticGenerator(["b", "a"]).generate("s", "A", "t", (1, 1), 2)
    assert [tactic for tactic, _ in two] == ["b", "a"] and sum(math.exp(p) for _, p in two) == pytest.approx(1)
    assert FixedTacticGenerator([]).generate("s", "A", "t", (1, 1), 2) == []


def test_a_state_without_tactics_gets_none():
    assert ask(FixedTacticGenerator({"a": "simp"}), "ba") == [[], ["simp"]]


# --------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CachingGenerator(Scripted(), max_entries=0), "max_entries is 0"),
        (lambda: RetryingGenerator(Scripted(), attempts=0), "attempts is 0"),
        (lambda: RetryingGenerator(Scripted(), wait_s=-1), "wait_s is -1"),
        (lambda: FixedTacticGenerator([("simp", 0.5)]), "log-probability of 'simp' is 0.5"),
        (lambda: FixedTacticGenerator({"s": [("simp", math.nan)]}), "log-probability of 'simp' is nan"),
    ],
)
def test_options_that_do_not_fit_are_named(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
