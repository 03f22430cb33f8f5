"""The interface that prover code imports."""

import asyncio
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from common import ConfigError, Context, DataError, Pos
from generator.interface.tactic_generator import TacticGenerator, merge_candidates
from generator.interface.wrappers import FixedTacticGenerator


class Echo(TacticGenerator):
    """Proposes the state itself, and notes what it was asked and by which thread."""

    def __init__(self):
        self.contexts, self.threads = [], []

    def propose(self, contexts, num_candidates):
        self.contexts += contexts
        self.threads.append(threading.current_thread())
        return [[(context.state, -1.0)][:num_candidates] for context in contexts]


def test_async_view_awaits_off_the_event_loop():
    echo = Echo()
    view = echo.as_async()

    async def prove():
        await view.initialize()
        one = await view.generate("s", "f", "t", (1, 1), 1)
        many = await view.batch_generate(["a", "b"], ["f"] * 2, ["t"] * 2, [(1, 1)] * 2, 1)
        return one, many

    one, many = asyncio.run(prove())
    assert one == [("s", -1.0)] and many == [[("a", -1.0)], [("b", -1.0)]]
    assert all(thread is not threading.main_thread() for thread in echo.threads)


def test_merging_keeps_the_first_of_equal_tactics():
    merged = merge_candidates([("exact <a>f</a>", -1.0), ("exact f", -2.0), ("simp", -3.0)])
    assert merged == [("exact f", -1.0), ("simp", -3.0)]


def test_a_blank_tactic_is_no_candidate_of_any_generator():
    assert merge_candidates([("", -0.5), ("<a></a> ", -0.6), ("simp", -1.0)]) == [("simp", -1.0)]
    assert FixedTacticGenerator(["", "simp"]).generate("s", "f", "t", (1, 1), 2) == [
        ("simp", pytest.approx(-0.693, abs=1e-3))
    ]
    assert Echo().batch_generate(["", " \n", "s"], ["f"] * 3, ["t"] * 3, [None] * 3, 1) == [[], [], [("s", -1.0)]]


def test_provers_lists_become_contexts():
    echo = Echo()
    kinds = [Pos(1, 2), (1, 2), [1, 2], SimpleNamespace(line_nb=1, column_nb=2)]
    echo.batch_generate(["s"] * 4, ["f", Path("f")] * 2, ["t"] * 4, kinds, 1)
    assert echo.contexts == [Context("f", "t", Pos(1, 2), "s")] * 4
    assert echo.batch_generate([], [], [], [], 1) == []


def test_bad_requests_are_refused():
    with pytest.raises(ConfigError, match="num_samples is 0"):
        Echo().generate("s", "f", "t", (1, 1), 0)
    with pytest.raises(ConfigError, match=r"\[2, 1, 2, 2\]"):
        Echo().batch_generate(["s"] * 2, ["f"], ["t"] * 2, [(1, 1)] * 2, 1)
    with pytest.raises(DataError, match="position"):
        Echo().generate("s", "f", "t", "here", 1)


def test_the_interface_cannot_be_instantiated():
    with pytest.raises(TypeError, match="propose"):
        TacticGenerator()
