"""Child processes with a hard limit on time: nothing that an item does harms another, and none outlives its process."""

from __future__ import annotations

import functools
import itertools
import multiprocessing
import operator
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from common import ConfigError
from generator.domains.symbolic import children
from generator.domains.symbolic.pool import Pool, PoolError, Result

HUGE = functools.partial(pow, 7)  # of 10 ** 9 it would take for ever, in one step that lets no other thread run


@pytest.fixture(scope="module")
def sleepers() -> Iterator[Pool[Any, None]]:
    with Pool(time.sleep, num_workers=2, timeout_s=0.3) as pool:
        yield pool


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def until(holds: Any, seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while not holds() and time.monotonic() < end:
        time.sleep(0.02)
    return bool(holds())


def test_results_come_in_the_order_of_the_items() -> None:
    with Pool(abs, num_workers=2) as pool:
        assert [result.value for result in pool.map(range(-300, 0))] == list(range(300, 0, -1))


def test_what_takes_too_long_is_a_result_and_the_others_go_on(sleepers: Pool[Any, None]) -> None:
    kinds = [result.kind for result in sleepers.map([0, 60, 0.01, 60, 0])]
    assert kinds == ["value", "timeout", "value", "timeout", "value"]


def test_an_item_may_have_a_limit_of_its_own(sleepers: Pool[Any, None]) -> None:
    results = list(sleepers.map([0.5, 60], lambda item: 30 if item == 0.5 else 0.1))
    assert [result.kind for result in results] == ["value", "timeout"]
    assert results[1].seconds == 0.1
    assert results[0].seconds >= 0.5


def test_an_exception_is_a_result(sleepers: Pool[Any, None]) -> None:
    [result] = sleepers.map(["no number"])
    assert result.kind == "error"
    assert "TypeError" in result.message


def test_what_cannot_be_sent_is_a_result_on_either_way(sleepers: Pool[Any, None]) -> None:
    assert [result.kind for result in sleepers.map([lambda: 0, 0])] == ["error", "value"]
    with Pool(operator.methodcaller("__iter__")) as pool:
        [there, back] = pool.map([[1], {1: 2}.keys()])
    assert (there.kind, back.kind) == ("value", "error")


def test_a_process_that_dies_costs_its_item_alone() -> None:
    with Pool(eval, num_workers=2) as pool:  # of the text of this test, and no other
        results = list(pool.map(["1", "__import__('os')._exit(0)", "__import__('os').abort()", "2"]))
    assert [result.kind for result in results] == ["value", "died", "died", "value"]
    assert [result.value for result in results] == [1, None, None, 2]


def test_what_holds_the_interpreter_is_ended_too() -> None:
    with Pool(HUGE, timeout_s=0.3) as pool:
        assert [result.kind for result in pool.map([10**9, 2])] == ["timeout", "value"]


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="limits of memory are those of Linux")
def test_memory_is_limited() -> None:
    with Pool(bytearray, max_memory_mb=200) as pool:
        assert [result.kind for result in pool.map([300 << 20, 10 << 20])] == ["error", "value"]


def test_items_may_be_endless_and_are_taken_as_needed() -> None:
    taken = itertools.count()
    with Pool(abs) as pool:
        found = list(itertools.islice(pool.map(iter(lambda: next(taken), -1)), 50))
        assert [result.value for result in found] == list(range(50))
        assert next(taken) < 1000


def test_it_works_on_any_thread_and_on_several(sleepers: Pool[Any, None]) -> None:
    found: dict[int, list[str]] = {}

    def work(number: int) -> None:
        found[number] = [result.kind for result in sleepers.map([0, 60 if number else 0, 0])]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == {0: ["value"] * 3, 1: ["value", "timeout", "value"], 2: ["value", "timeout", "value"]}


def test_no_signal_of_the_process_is_touched(sleepers: Pool[Any, None]) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGALRM, signal.SIGINT, signal.SIGCHLD)]
    list(sleepers.map([0, 60]))
    assert [signal.getsignal(number) for number in (signal.SIGALRM, signal.SIGINT, signal.SIGCHLD)] == before


def test_a_copy_has_children_of_its_own(sleepers: Pool[Any, None]) -> None:
    with pickle.loads(pickle.dumps(sleepers)) as copy:
        assert [result.kind for result in copy.map([0])] == ["value"]
        assert copy.timeout_s == sleepers.timeout_s


def test_children_end_with_the_pool_and_new_items_start_new_ones() -> None:
    pool = Pool(eval)  # of the text of this test, and no other
    [first] = pool.map(["__import__('os').getpid()"])
    pool.close()
    assert until(lambda: not is_alive(first.value))
    [second] = pool.map(["__import__('os').getpid()"])
    del pool
    assert until(lambda: not is_alive(second.value))


def test_items_that_wait_when_a_pool_is_closed_do_not_wait_for_ever() -> None:
    pool: Pool[float, None] = Pool(time.sleep)
    futures = [pool.submit(60) for _ in range(3)]
    pool.close()
    for future in futures:
        with pytest.raises(PoolError, match="closed"):
            future.result(timeout=10)


def test_children_that_cannot_begin_are_told_at_once() -> None:
    with Pool(_Broken()) as pool, pytest.raises(PoolError, match="before they have begun"):
        list(pool.map([1]))


class _Broken:
    """A function that cannot be read where it is to run."""

    def __call__(self, item: int) -> int:
        return item

    def __reduce__(self) -> Any:
        return os.listdir, ("/no such folder",)


@pytest.mark.parametrize("busy", ["__import__('time').sleep(60)", "7 ** 10 ** 9"])
@pytest.mark.skipif(not children.CAN_FORK, reason="needs fork")
def test_children_die_with_their_process_even_if_it_is_killed(busy: str) -> None:
    reader, writer = os.pipe()
    parent = os.fork()
    if parent == 0:
        pool = Pool(eval, num_workers=2, timeout_s=600)  # of the texts of this test, and no others
        pids = [result.value for result in pool.map(["__import__('os').getpid()"] * 2)]
        pool.submit(busy)
        pool.submit(busy)
        time.sleep(0.2)
        os.write(writer, repr(pids).encode())
        time.sleep(600)
    pids = {int(pid) for pid in os.read(reader, 1000).decode().strip("[]").split(",")}
    assert all(is_alive(pid) for pid in pids)
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    assert until(lambda: not any(is_alive(pid) for pid in pids))


@pytest.mark.skipif(not children.CAN_FORK, reason="needs fork")
def test_children_are_in_a_group_that_an_interrupt_of_the_terminal_does_not_reach(sleepers: Pool[Any, None]) -> None:
    with Pool(os.getpgid) as pool:
        [result] = pool.map([0])
    assert result.value != os.getpgid(0)


@pytest.mark.slow  # each child imports torch
def test_without_fork_children_are_spawned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "CAN_FORK", False)
    with Pool(time.sleep, num_workers=1, timeout_s=0.5) as pool:
        assert [result.kind for result in pool.map([0, 60, 0])] == ["value", "timeout", "value"]
        assert multiprocessing.active_children()
    assert not multiprocessing.active_children()


def test_the_order_of_sets_is_the_same_in_every_child() -> None:
    with Pool(hash) as pool:
        [here] = pool.map(["a text"])
    script = "print(hash('a text'))"
    env = {**os.environ, "PYTHONHASHSEED": "0"}
    assert (
        str(here.value)
        == subprocess.run(
            [sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True
        ).stdout.strip()
    )


def test_a_limit_that_is_no_time_is_refused() -> None:
    for timeout_s in (0, -1, float("inf"), float("nan")):
        with pytest.raises(ConfigError, match="timeout_s"):
            Pool(abs, timeout_s=timeout_s)
    with pytest.raises(ConfigError, match="num_workers"):
        Pool(abs, num_workers=0)
    assert Result("value", 1) == Result("value", 1)
