"""A search with a T5-family model over static buffers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from generator.decoding.autocast import autocast_dtype
from generator.decoding.protocol import SpecialTokens
from generator.decoding.static.buffers import bucket
from generator.decoding.static.programs import STEPS_PER_CHECK, Program
from generator.decoding.static.shape import Search
from generator.decoding.static.t5 import StaticT5, T5Memory, encoded_states
from generator.decoding.stopping import StopStrings
from generator.decoding.t5_stack import T5Stack

MIN_STEPS = 32  # tokens written that there is room for at first; then twice as many, and so on


class T5Search(Search):
    """See `Search`; the networks of all capacities share what was read of the inputs."""

    memory: T5Memory | None = None

    @property
    def stack(self) -> T5Stack:
        """The decoder's weights, which all searches of the model share."""
        dtype = autocast_dtype(self.device)
        name, shared = f"stack {dtype}", self.store.shared
        if name not in shared:
            shared[name] = T5Stack(self.model, dtype)
        found: T5Stack = shared[name]
        return found

    @property
    def num_bytes(self) -> int:
        return super().num_bytes + (0 if self.memory is None else self.memory.num_bytes)

    def special(self) -> SpecialTokens:
        return self.stack.special

    def begin(self, states: Sequence[Tensor]) -> Program:
        stack, dtype = self.stack, autocast_dtype(self.device)
        stack.refresh()  # weights may have been trained meanwhile
        encoded = encoded_states(self.model, dtype, states)
        if self.memory is None:
            weight = stack.layers[0].cross_key.weight
            held = dtype or (stack.embedding.dtype if weight is None else weight.dtype)
            self.memory = T5Memory(stack, self.shape.num_states, self.shape.longest, held)
        program = self._program(MIN_STEPS)
        with torch.autocast(self.device.type, enabled=False):
            self.memory.read(stack, encoded)
        for one in self.programs.values():
            _network(one).refresh()
        _network(program).reset()
        self.book.reset(len(states))
        return program

    def first_step(self, stop: StopStrings | None) -> int:
        return 0

    def with_room(self, program: Program, step: int) -> Program:
        if step + STEPS_PER_CHECK <= program.network.capacity:
            return program
        larger = self._program(bucket(step + STEPS_PER_CHECK, MIN_STEPS))
        _network(larger).adopt(_network(program))
        return larger

    def _program(self, capacity: int) -> Program:
        assert self.memory is not None
        if capacity not in self.programs:
            network = StaticT5(self.stack, self.memory, self.num_rows, capacity)
            self.programs[capacity] = Program(network, self.book, self.shape.has_stop)
        return self.captured(self.programs[capacity])


def _network(program: Program) -> StaticT5:
    assert isinstance(program.network, StaticT5)
    return program.network
