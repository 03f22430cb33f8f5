"""Signals that end a command: the exit status tells which."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

WORDS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}


class Interrupted(SystemExit):
    """A signal ends the process, with the exit status that shells and schedulers know it by: 128 and its number.

    Attributes:
        signal: which
    """

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.signal = signal.Signals(number)

    def __str__(self) -> str:
        return WORDS.get(self.signal, self.signal.name)


@contextmanager
def interrupted_by_signals() -> Iterator[None]:
    """Raise `Interrupted` in the block for Ctrl-C and SIGTERM, in the main thread, where Python handles them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        came.append(number)
        raise Interrupted(number)

    before = {number: signal.signal(number, interrupt) for number in WORDS}
    try:
        yield
    except SystemExit as error:
        if came and not isinstance(error, Interrupted):  # a library's native code, such as Ray's, has made it another
            raise Interrupted(came[0]) from error
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def handlers_kept() -> Iterator[None]:
    """Put the handlers of Ctrl-C and SIGTERM back that a library replaces in the block, in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in WORDS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
