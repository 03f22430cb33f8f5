"""One generator that threads and processes share: batches, memory, errors, clients that die."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from common import ConfigError, Context, DataError, Pos
from generator.interface.tactic_generator import TacticGenerator
from generator.search.remote_generator import GeneratorFailedError
from generator.search.shared_generator import SharedGenerator

WAIT_S = 30.0


class Recording(TacticGenerator):
    """Answers with the state itself, and takes down its batches; waits for a gate if it has one."""

    def __init__(self, reads_theorem: bool = False) -> None:
        self.batches: list[list[str]] = []
        self.contexts: list[Context] = []
        self.reads_theorem = reads_theorem
        self.gate = threading.Event()
        self.gate.set()
        self.is_asked = threading.Event()

    def propose(self, contexts, num_candidates):
        self.is_asked.set()
        assert self.gate.wait(WAIT_S)
        self.batches.append([context.state for context in contexts])
        self.contexts += contexts
        for context in contexts:
            if context.state == "data":
                raise DataError("no position")
            if context.state == "bug":
                raise RuntimeError("a bug")
        return [[(f"{context.state} {i}", -float(i)) for i in range(num_candidates)] for context in contexts]


def ask(generator, state, number=2, name="t"):
    return generator.generate(state, "A.lean", name, (1, 2), number)


def expected(state, number=2):
    return [(f"{state} {i}", -float(i)) for i in range(number)]


def ask_in_threads(shared, recording, states):
    """Answers to states that all ask while the generator is busy with another one."""
    recording.gate.clear()
    recording.is_asked.clear()
    with ThreadPoolExecutor(len(states) + 1) as pool:
        first = pool.submit(ask, shared, "first")
        assert recording.is_asked.wait(WAIT_S)
        rest = [pool.submit(ask, shared, state) for state in states]
        while shared.num_waiting < len(set(states)):
            os.sched_yield()
        recording.gate.set()
        assert first.result() == expected("first")
        return [each.result() for each in rest]


def test_requests_that_come_while_the_generator_works_are_one_batch_each_state_once():
    recording = Recording()
    with SharedGenerator(recording) as shared:
        answers = ask_in_threads(shared, recording, ["a", "b", "c", "a", "a"])
    assert answers == [expected(state) for state in ["a", "b", "c", "a", "a"]]
    assert [sorted(batch) for batch in recording.batches] == [["first"], ["a", "b", "c"]]
    assert (shared.hits, shared.misses, shared.num_batches) == (2, 4, 2)
    assert shared.hit_rate == pytest.approx(2 / 6)


def test_a_batch_has_no_more_states_than_max_batch_and_one_number_of_candidates():
    recording = Recording()
    with SharedGenerator(recording, max_batch=2) as shared:
        ask_in_threads(shared, recording, ["a", "b", "c", "d", "e"])
        assert [len(batch) for batch in recording.batches] == [1, 2, 2, 1]
        assert ask(shared, "a", 3) == expected("a", 3)
        states = ["x", "y", "z"]
        found = shared.batch_generate(states, ["A"] * 3, ["t"] * 3, [None] * 3, 1)
        assert found == [expected(state, 1) for state in states]


def test_a_batch_waits_until_it_is_as_large_as_the_last_one_and_one_asker_never_waits():
    recording = Recording()
    with SharedGenerator(recording, wait_s=60.0) as shared:
        assert [ask(shared, state) for state in "ab"] == [expected("a"), expected("b")]
        ask_in_threads(shared, recording, ["c", "d", "e"])
        with ThreadPoolExecutor(3) as pool:
            assert list(pool.map(lambda state: ask(shared, state), "xyz")) == [expected(state) for state in "xyz"]
    assert sorted(recording.batches[-1]) == ["x", "y", "z"]


def test_what_was_asked_before_is_remembered_up_to_max_entries():
    recording = Recording()
    with SharedGenerator(recording, max_entries=2) as shared:
        for state in ["a", "b", "a", "c", "a", "b"]:
            assert ask(shared, state) == expected(state)
    assert recording.batches == [["a"], ["b"], ["c"], ["b"]]


def test_the_theorem_counts_for_a_generator_that_reads_it():
    for reads_theorem, number in ((True, 2), (False, 1)):
        recording = Recording(reads_theorem)
        with SharedGenerator(recording) as shared:
            ask(shared.client(), "a", name="t")
            ask(shared.client(), "a", name="u")
        assert len(recording.batches) == number
        assert recording.contexts[0] == Context("A.lean", "t", Pos(1, 2), "a")


def test_errors_reach_those_whose_state_it_is_and_nobody_else():
    recording = Recording()
    with SharedGenerator(recording) as shared:
        recording.gate.clear()
        with ThreadPoolExecutor(4) as pool:
            first = pool.submit(ask, shared, "first")
            assert recording.is_asked.wait(WAIT_S)
            good, data, bug = (pool.submit(ask, shared, state) for state in ("good", "data", "bug"))
            while shared.num_waiting < 3:
                os.sched_yield()
            recording.gate.set()
            assert first.result() == expected("first") and good.result() == expected("good")
            with pytest.raises(DataError, match="no position"):
                data.result()
            with pytest.raises(RuntimeError, match="a bug"):
                bug.result()
        client = shared.client()
        with pytest.raises(DataError, match="no position"):
            ask(client, "data")
        with pytest.raises(GeneratorFailedError, match="RuntimeError: a bug"):
            ask(client, "bug")
        assert ask(client, "good") == expected("good")


def test_a_client_counts_its_own_hits_and_keeps_every_text_as_it_is():
    recording = Recording()
    state = "⊢ 𝔸 \ud800\u202e\x00\n"
    with SharedGenerator(recording) as shared:
        one, two = shared.client(), shared.client()
        assert ask(one, state) == ask(two, state) == expected(state)
        assert ask(two, state) == expected(state)
        assert (one.hits, two.hits) == (0, 2)
        assert one.generate("a", "", "", None, 1) == expected("a", 1)


def test_settings_that_cannot_be_used_are_refused():
    for settings in ({"max_batch": 0}, {"wait_s": -1.0}, {"max_entries": 0}):
        with pytest.raises(ConfigError, match=next(iter(settings))):
            SharedGenerator(Recording(), **settings)


def test_a_closed_generator_says_so_and_closes_twice():
    shared = SharedGenerator(Recording())
    client = shared.client()
    assert ask(client, "a") == expected("a")
    shared.close()
    shared.close()
    with pytest.raises(GeneratorFailedError, match="closed"):
        ask(shared, "b")
    with pytest.raises(GeneratorFailedError, match="closed"):
        ask(client, "b")
    with pytest.raises(GeneratorFailedError, match="has ended"):
        ask(pickle.loads(pickle.dumps(client)), "b")


def _search(client, states, answers):
    for state in states:
        answers.put((state, ask(client, state)))


def _ask_for_ever(client, is_asking):
    number = 0
    while True:
        ask(client, f"endless {number}")
        is_asking.set()
        number += 1


def test_processes_share_it_and_one_that_is_killed_holds_up_nobody():
    forking = multiprocessing.get_context("fork")  # a new interpreter would import torch for seconds
    recording = Recording()
    with SharedGenerator(recording) as shared:
        is_asking, answers = forking.Event(), forking.Queue()
        endless = forking.Process(target=_ask_for_ever, args=(shared.client(), is_asking), daemon=True)
        worker = forking.Process(target=_search, args=(shared.client(), ["a", "b", "a"], answers), daemon=True)
        endless.start()
        worker.start()
        assert is_asking.wait(WAIT_S)
        os.kill(endless.pid, signal.SIGKILL)
        endless.join(WAIT_S)
        found = [answers.get(timeout=WAIT_S) for _ in range(3)]
        worker.join(WAIT_S)
        assert found == [(state, expected(state)) for state in ("a", "b", "a")]
        assert endless.exitcode == -signal.SIGKILL and worker.exitcode == 0
        assert ask(shared.client(), "after") == expected("after")


def test_a_client_that_is_no_client_is_turned_away_and_others_are_served():
    with SharedGenerator(Recording()) as shared:
        client = shared.client()
        stranger = type(client)(client._address, b"wrong", False)
        with pytest.raises(GeneratorFailedError):
            ask(stranger, "a")
        assert ask(client, "a") == expected("a")
