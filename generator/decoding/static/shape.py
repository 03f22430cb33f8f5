"""A search of one shape over static buffers: what both families share of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from generator.decoding.protocol import SpecialTokens
from generator.decoding.settings import Decoding
from generator.decoding.static.beams import StaticBeams
from generator.decoding.static.buffers import room_for
from generator.decoding.static.programs import STEPS_PER_CHECK, Program
from generator.decoding.static.samples import StaticSamples
from generator.decoding.static.store import Store
from generator.decoding.stopping import StopStrings


class CaptureError(RuntimeError):
    """A step of this model cannot be captured; the message is torch's."""


@dataclass(frozen=True)
class Shape:
    """All that a graph has for granted but the model.

    Attributes:
        num_states: that there is room for
        longest: tokens of the longest input that there is room for
        num_candidates: for each state
        decoding: how they are found
        has_stop: whether the host looks for stop texts at each step
        captures: whether graphs are captured at all
    """

    num_states: int
    longest: int
    num_candidates: int
    decoding: Decoding
    has_stop: bool
    captures: bool

    @property
    def num_rows(self) -> int:
        """Rows of each state."""
        return self.decoding.rows_for(self.num_candidates)


class Search(ABC):
    """The bookkeeping of a shape, and for each capacity of the model's cache a network with its program."""

    def __init__(self, model: Any, store: Store, shape: Shape) -> None:
        """Takes the memory of the bookkeeping.

        Args:
            model: whose candidates are searched for.
            store: of the model, which keeps this.
            shape: for which inputs and settings it is.
        """
        self.model, self.store, self.shape, self.num_rows = model, store, shape, shape.num_rows
        self.device: torch.device = model.get_input_embeddings().weight.device
        self.max_new_tokens = shape.decoding.max_new_tokens
        kind = StaticBeams if shape.decoding.sampling is None else StaticSamples
        # a decoder-only model's chunks begin behind the first token, so that the last one may go this far
        width = room_for(self.max_new_tokens, STEPS_PER_CHECK) + STEPS_PER_CHECK
        sizes = (shape.num_states, shape.num_candidates, shape.decoding)
        self.book = kind(*sizes, self.special(), width, self.device)
        self.programs: dict[int, Program] = {}
        self._pool: Any = None

    @property
    def num_bytes(self) -> int:
        """Memory of its buffers and graphs."""
        programs: list[Any] = list(self.programs.values())
        return self.book.num_bytes + sum(int(one.network.num_bytes) + int(one.graph_bytes) for one in programs)

    @property
    def pool(self) -> Any:
        """Memory that its graphs share, as one runs at a time; it goes with them."""
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        return self._pool

    def run(self, states: Sequence[Tensor], noise: Tensor | None, stop: StopStrings | None) -> tuple[Tensor, Tensor]:
        """See `search.search`."""
        program = self.begin(states)
        if noise is not None and isinstance(self.book, StaticSamples):
            self.book.take_noise(noise)
        step = self.first_step(stop)
        while step < self.max_new_tokens and not self.book.look():
            program = self.with_room(program, step)
            self._chunk(program, step, stop)
            step += STEPS_PER_CHECK
        self.book.look()
        return self.book.results(len(states))

    def _chunk(self, program: Program, step: int, stop: StopStrings | None) -> None:
        if stop is None:
            program.run(0)
            return
        for number in range(min(STEPS_PER_CHECK, self.max_new_tokens - step)):
            program.run(2 * number)
            is_wider = self.book.end_by_text(stop, step + number + 1)
            (program.run_plainly if is_wider else program.run)(2 * number + 1)

    def captured(self, program: Program) -> Program:
        """Captures a program where that is wanted; what the buffers of its network hold is lost.

        Raises:
            CaptureError: where it cannot be.
        """
        if not self.shape.captures or program.is_captured:
            return program
        # a graph of other capacity took about as much
        self.store.trim(max((one.graph_bytes for one in self.programs.values()), default=0))
        held = [(buffer, buffer.clone()) for buffer in self.book.tensors()]
        self.book.reset(self.shape.num_states)  # a warm-up behind the last tokens would write beyond the buffers
        try:
            program.capture(self.pool)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            raise CaptureError(" ".join(str(error).split())[:200]) from error
        for buffer, before in held:
            buffer.copy_(before)
        return program

    @abstractmethod
    def special(self) -> SpecialTokens:
        """The tokens that start, end and fill up."""

    @abstractmethod
    def begin(self, states: Sequence[Tensor]) -> Program:
        """Reads the states; returns the program to begin with."""

    @abstractmethod
    def first_step(self, stop: StopStrings | None) -> int:
        """Takes the step that needs no network, if there is one; returns how many tokens are written then."""

    @abstractmethod
    def with_room(self, program: Program, step: int) -> Program:
        """The program that has room for the next chunk, with all that was written in so many steps."""
