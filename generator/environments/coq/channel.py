"""A running coqidetop: one request, one answer, a time limit on each.

A request that takes too long is interrupted by SIGINT, and the process is killed if that does not help.
"""

from __future__ import annotations

import os
import select
import signal
import tempfile
import time
from collections.abc import Sequence

from generator.environments.base import ErrorKind
from generator.environments.coq import messages
from generator.environments.coq.confinement import Confinement, how_it_ended, kill, last_words
from generator.environments.coq.messages import ANSWER_END, Answer, GarbledAnswerError, read_answer

_GRACE_S = 2.0  # for an answer to SIGINT, which mostly takes milliseconds
_MAX_ANSWER = 2**28  # bytes; a tactic that prints for ever is stopped before it fills our own memory
_INTERRUPTED = "User interrupt"
_OUT_OF_MEMORY = ("out of memory", "stack overflow", "out_of_memory", "cannot allocate")


class TimeIsUpError(Exception):
    """A request was interrupted; the process goes on, and whether the document has changed is not known."""


class DiedError(Exception):
    """The process is no more, or was killed because it did not answer.

    Attributes:
        kind: why
    """

    def __init__(self, message: str, kind: ErrorKind) -> None:
        super().__init__(message)
        self.kind: ErrorKind = kind


class Channel:
    """Requests and answers of one process."""

    def __init__(self, confinement: Confinement, command: Sequence[str]) -> None:
        self._errors = tempfile.TemporaryFile()
        try:
            self._process = confinement.start(command, self._errors)
        except BaseException:
            self._errors.close()
            raise
        assert self._process.stdin is not None and self._process.stdout is not None
        self._in, self._out = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._in, False)
        self._buffer = bytearray()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def ask(self, request: str, timeout_s: float, with_messages: bool = False) -> Answer:
        """Send a request and return its answer.

        Raises:
            TimeIsUpError: if it took too long and was interrupted
            DiedError: if there is no answer
        """
        deadline = time.monotonic() + timeout_s
        self._write(request.encode("utf-8"), deadline)
        answer = self._read(deadline)
        if answer is None:
            self._interrupt()
            raise TimeIsUpError
        return self._parsed(answer, with_messages)

    def close(self) -> None:
        """Kill the process."""
        kill(self._process)
        self._errors.close()

    def _interrupt(self) -> None:
        """Stop the request that runs, and see to it that the signal does not stop the next one instead."""
        self._process.send_signal(signal.SIGINT)
        answer = self._read(time.monotonic() + _GRACE_S)
        if answer is None:
            self.close()
            raise DiedError("no answer to an interrupt", "timeout")
        parsed = self._parsed(answer)
        if parsed.good or _INTERRUPTED not in parsed.error:  # it came too late, and is pending: this request takes it
            self._write(messages.ABOUT.encode(), time.monotonic() + _GRACE_S)
            if self._read(time.monotonic() + _GRACE_S) is None:
                self.close()
                raise DiedError("no answer after an interrupt", "timeout")

    def _parsed(self, answer: bytes, with_messages: bool = False) -> Answer:
        try:
            return read_answer(answer, with_messages)
        except GarbledAnswerError as error:
            self.close()
            raise DiedError(str(error), "crash") from error

    def _write(self, data: bytes, deadline: float) -> None:
        while data:
            if not _ready(self._in, select.POLLOUT, deadline):
                self.close()
                raise DiedError("it does not read its input", "timeout")
            try:
                data = data[os.write(self._in, data) :]
            except OSError as error:
                raise self._death() from error

    def _read(self, deadline: float) -> bytes | None:
        """Return the next answer, or None if it is not whole by the deadline."""
        searched = 0
        while (end := self._buffer.find(ANSWER_END, max(0, searched - len(ANSWER_END)))) < 0:
            searched = len(self._buffer)
            if not _ready(self._out, select.POLLIN, deadline):
                return None
            data = os.read(self._out, 1 << 18)
            if not data:
                raise self._death()
            self._buffer += data
            if len(self._buffer) > _MAX_ANSWER:
                self.close()
                raise DiedError(f"an answer of more than {_MAX_ANSWER:,} bytes", "memory")
        end += len(ANSWER_END)
        answer = bytes(self._buffer[:end])
        del self._buffer[:end]
        return answer

    def _death(self) -> DiedError:
        """Return why the process died, as far as it told."""
        kill(self._process)
        said = last_words(self._errors)
        self._errors.close()
        last = said.splitlines()[-1] if said else ""
        kind: ErrorKind = "memory" if out_of_memory(said) else "crash"
        return DiedError(f"coqidetop ended with {how_it_ended(self._process)}" + (f": {last}" if last else ""), kind)


def _ready(descriptor: int, event: int, deadline: float) -> bool:
    waiting = select.poll()
    waiting.register(descriptor, event)
    return bool(waiting.poll(max(0.0, deadline - time.monotonic()) * 1000))


def out_of_memory(message: str) -> bool:
    """Whether a message says that memory was short."""
    return any(each in message.lower() for each in _OUT_OF_MEMORY)
