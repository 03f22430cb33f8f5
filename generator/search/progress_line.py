"""How far a run is: a bar in a terminal, and else a line now and then."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Self, TextIO

from tqdm import tqdm

from generator.search.loop import SearchResult
from generator.search.summary import reason_of
from retrieval.training.durations import words

_EVERY_S = 30.0  # a line, where there is no terminal
_MAX_REASON = 40  # characters


class ProgressLine:
    """Counts what came of theorems, and says when the rest may be done."""

    def __init__(
        self,
        num_theorems: int,
        done: Iterable[SearchResult] = (),
        *,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin to count.

        Args:
            num_theorems: in all
            done: results of earlier runs
            stream: stderr by default
            clock: seconds
        """
        self._stream = sys.stderr if stream is None else stream
        self._clock, self._num = clock, num_theorems
        self._counts, self._reasons = Counter[str](), Counter[str]()
        for result in done:
            self._count(result)
        self._num_before = self._counts.total()
        self._said_at = clock()
        self._first_at: float | None = None  # when the first result came; before it, workers start
        self._bar: tqdm[Any] | None = None
        if self._stream.isatty():
            bar: tqdm[Any] = tqdm(
                total=num_theorems, initial=self._num_before, desc="prove", unit="thm", file=self._stream
            )
            bar.set_postfix_str(self.counts())
            self._bar = bar

    def add(self, result: SearchResult) -> None:
        """Count a result."""
        self._count(result)
        if self._first_at is None:
            self._first_at = self._clock()
        if self._bar is not None:
            self._bar.set_postfix_str(self.counts(), refresh=False)
            self._bar.update()
        elif self._clock() - self._said_at >= _EVERY_S:
            self._said_at = self._clock()
            print(self.line(), file=self._stream, flush=True)

    def counts(self) -> str:
        """Return what came of theorems so far."""
        parts = [f"{self._counts[status]} {status}" for status in ("proved", "failed", "open", "discarded")]
        if self._reasons:
            reason, number = self._reasons.most_common(1)[0]
            short = reason if len(reason) <= _MAX_REASON else f"{reason[:_MAX_REASON]}..."
            parts[-1] += f" ({number}: {short})"
        return ", ".join(parts)

    def line(self) -> str:
        """Return the line that is printed now and then."""
        done = self._counts.total()
        text = f"{done:,} of {self._num:,} theorems: {self.counts()}"
        num_since = done - self._num_before - 1  # the first result
        if self._first_at is not None and num_since > 0 and done < self._num:
            left_s = (self._clock() - self._first_at) / num_since * (self._num - done)
            text += f"; time left: about {words(left_s)}"
        return text

    def close(self) -> None:
        """Leave the last state of the bar on the screen."""
        if self._bar is not None:
            self._bar.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _count(self, result: SearchResult) -> None:
        self._counts[result.status] += 1
        if result.status == "discarded":
            self._reasons[reason_of(result)] += 1
