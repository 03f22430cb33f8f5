"""Work of several processes that share what the parent has read, in order; and tokenizers in processes that are forked.

A tokenizer of the library tokenizers works in threads of its own. A forked process has none of them, and where
TOKENIZERS_PARALLELISM is true it waits for them without end.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from pytorch_lightning.utilities import rank_zero_warn

_TOKENIZERS = "TOKENIZERS_PARALLELISM"
MAX_PROCESSES = 16  # the parent joins what they find, and pays for each

Part = TypeVar("Part")
Found = TypeVar("Found")


@contextlib.contextmanager
def serial_tokenizers() -> Iterator[None]:
    """Processes that are started meanwhile tokenise in one thread, whatever the environment says."""
    before = os.environ.get(_TOKENIZERS)
    os.environ[_TOKENIZERS] = "false"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_TOKENIZERS]
        else:
            os.environ[_TOKENIZERS] = before


def num_processes(num_parts: int) -> int:
    """Return how many processes may work on so many parts: one where forking is not possible or not wished."""
    is_serial = os.environ.get(_TOKENIZERS, "").lower() in ("false", "0", "no", "off", "f", "n")
    if is_serial or "fork" not in multiprocessing.get_all_start_methods() or multiprocessing.current_process().daemon:
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, MAX_PROCESSES, num_parts // 2))  # two parts each, or it does not pay to begin


def in_order(work: Callable[[Part], Found], parts: Sequence[Part], processes: int) -> Iterator[Found]:
    """Yield what `work` returns for each part, which must be worth pickling, in their order.

    Args:
        work: called in forked processes, which have all that this one has
        parts: what it is called with
        processes: how many; 1 works here. Where one of them is killed, the rest is done here, which is said
    """
    num_done = 0
    if processes > 1:
        context: Any = multiprocessing.get_context("fork")
        with serial_tokenizers():
            pool = ProcessPoolExecutor(processes, context, _begin, (work,))
            futures = [pool.submit(_call, part) for part in parts]  # the first starts all processes
        try:
            for future in futures:
                yield future.result()
                num_done += 1
        except BrokenProcessPool:
            rank_zero_warn(
                f"a process that worked on part {num_done + 1} of {len(parts)} was killed, perhaps for its memory; the "
                "rest is done in one process"
            )
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    for part in parts[num_done:]:
        yield work(part)


_work: Callable[[Any], Any] | None = None


def _begin(work: Callable[[Any], Any]) -> None:
    """In a process that begins: Ctrl-C and the like are the parent's to answer."""
    global _work
    _work = work
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _call(part: Any) -> Any:
    assert _work is not None
    return _work(part)
