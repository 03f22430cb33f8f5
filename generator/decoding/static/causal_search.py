"""A search with a decoder-only model over static buffers."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from generator.decoding.causal_decoder import special_tokens
from generator.decoding.protocol import SpecialTokens
from generator.decoding.static.buffers import room_for
from generator.decoding.static.causal import StaticCausal
from generator.decoding.static.programs import STEPS_PER_CHECK, Program
from generator.decoding.static.shape import Search
from generator.decoding.stopping import StopStrings

MIN_STEPS = 16  # steps whose nodes there is room for at first; then twice as many, and so on


class CausalSearch(Search):
    """See `Search`; a network of more capacity takes over the prompts."""

    first_logits: Tensor | None = None
    num_used = 0  # nodes that are written, dead ones too

    def special(self) -> SpecialTokens:
        return special_tokens(self.model)

    def begin(self, states: Sequence[Tensor]) -> Program:
        program = self._program(min(MIN_STEPS * self.num_rows, self._most))
        network = _network(program)
        self.first_logits = network.read(states)
        if not program.is_captured:  # keys and values have their types and places since the prompts were read
            self.captured(program)
        network.reset()
        self.book.reset(len(states))
        self.num_used = 0
        return program

    def first_step(self, stop: StopStrings | None) -> int:
        read = self.first_logits
        assert read is not None
        logits = read.new_zeros((self.shape.num_states, self.num_rows, read.shape[-1]))
        logits[: len(read)] = read
        self.first_logits = None
        self.book.extend(logits)
        if stop is not None:
            self.book.end_by_text(stop, 1)
        self.book.settle()
        return 1

    def with_room(self, program: Program, step: int) -> Program:
        network, num_new = _network(program), STEPS_PER_CHECK * self.num_rows
        if self.num_used + num_new > network.capacity:
            num_alive, capacity = network.num_alive(), network.capacity
            while 2 * num_alive + num_new > capacity and capacity < self._most:
                capacity = min(2 * capacity, self._most)
            program = self._program(capacity)
            larger = _network(program)
            if larger is not network:
                if not larger.held:
                    larger.allocate(network)
                self.captured(program)
            larger.adopt(network)
            self.num_used = num_alive
        self.num_used += num_new
        return program

    @property
    def _most(self) -> int:
        """Nodes that there can be."""
        return self.num_rows * (room_for(self.max_new_tokens, STEPS_PER_CHECK) + STEPS_PER_CHECK)

    def _program(self, capacity: int) -> Program:
        if capacity not in self.programs:
            sizes = (self.shape.num_states, self.num_rows, self.shape.longest, capacity, self.max_new_tokens)
            self.programs[capacity] = Program(StaticCausal(self.model, *sizes), self.book, self.shape.has_stop)
        return self.programs[capacity]


def _network(program: Program) -> StaticCausal:
    assert isinstance(program.network, StaticCausal)
    return program.network
