"""The interface that prover code imports."""

import asyncio
import threading
from types import SimpleNamespace

import pytest

from common import ConfigError, DataError, Pos
from generator.interface.tactic_generator import TacticGenerator, check_request, merge_candidates


class Echo(TacticGenerator):
    """Proposes the state itself, and notes which thread asked."""

    def __init__(self):
        self.threads = []

    def generate(self, state, file_path, theorem_full_name, theorem_pos, num_samples):
        self.threads.append(threading.current_thread())
        return [(state, -1.0)][:num_samples]

    def batch_generate(self, states, file_paths, theorem_full_names, theorem_positions, num_samples):
        check_request(states, file_paths, theorem_full_names, theorem_positions, num_samples)
        return [self.generate(s, None, None, None, num_samples) for s in states]


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


def test_positions_of_every_kind_are_read():
    kinds = [Pos(1, 2), (1, 2), [1, 2], SimpleNamespace(line_nb=1, column_nb=2)]
    assert check_request(["s"] * 4, ["f"] * 4, ["t"] * 4, kinds, 1) == [Pos(1, 2)] * 4


def test_bad_requests_are_refused():
    with pytest.raises(ConfigError, match="num_samples is 0"):
        check_request(["s"], ["f"], ["t"], [(1, 1)], 0)
    with pytest.raises(ConfigError, match=r"\[2, 1, 2, 2\]"):
        check_request(["s"] * 2, ["f"], ["t"] * 2, [(1, 1)] * 2, 1)
    with pytest.raises(DataError, match="position"):
        check_request(["s"], ["f"], ["t"], ["here"], 1)


def test_the_interface_cannot_be_instantiated():
    with pytest.raises(TypeError, match="batch_generate"):
        TacticGenerator()
