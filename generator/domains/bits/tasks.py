"""The tasks `bit_xor` and `bit_memory` as domains: strings of bits go in, a string of bits comes out.

Source: Lu et al. 2021 (arXiv:2103.05247), section 2.1; its two demonstrations have five bits (xor) and 1,000 (memory).
"""

from __future__ import annotations

import math
import random
import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from common import Candidate, ConfigError, check_probability
from generator.domains.base import Domain, DomainOptions, MakeWriter, MalformedError, SpecError
from generator.domains.writers import BlockWriter

Strings = tuple[str, ...]

MAX_BITS = 100_000  # of a specification, all strings together
HIDDEN = "?"
_SHOWN = 64  # bits of a string, in messages and pictures


@dataclass(frozen=True)
class BitOptions(DomainOptions):
    """How problems are drawn.

    Attributes:
        n: bits of a string
        num_patterns: strings
    """

    n: int = 5
    num_patterns: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value in {"n": self.n, "num_patterns": self.num_patterns}.items():
            if value < 1:
                raise ConfigError(f"{name} is {value}; it must be at least 1")
        if self.n * (self.num_patterns + 1) > MAX_BITS:
            raise ConfigError(
                f"n is {self.n:,} and num_patterns {self.num_patterns:,}; a specification has at most {MAX_BITS:,} bits"
            )


@dataclass(frozen=True)
class XorOptions(BitOptions):
    """See `BitOptions`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_patterns < 2:
            raise ConfigError(f"num_patterns is {self.num_patterns}; xor is of at least 2 strings")


@dataclass(frozen=True)
class MemoryOptions(BitOptions):
    """How problems are drawn.

    Attributes:
        mask_share: each bit of the string that is asked for is hidden with this probability
    """

    n: int = 1000
    num_patterns: int = 5
    mask_share: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_probability(mask_share=self.mask_share)


class BitTask(Domain[Strings, str]):
    """Strings of equal length with spaces between them, and a string of that length as the answer.

    A specification says itself how long it is: `n` and the other options matter for drawing alone.

    Attributes:
        symbols: of a specification
        values: of the symbols, as a linear input layer reads them
    """

    Options: ClassVar[type[DomainOptions]] = BitOptions
    options: BitOptions
    symbols: ClassVar[str]
    values: ClassVar[tuple[float, ...]]

    @abstractmethod
    def answers(self, spec: Strings) -> Mapping[str, float]:
        """Return the right answers, and how probable each is given the specification."""

    @property
    def num_symbols_drawn(self) -> int:
        """Symbols of a specification that is drawn, without spaces."""
        return self.options.n * self.options.num_patterns

    def write_spec(self, spec: Strings) -> str:
        """Return `01101 10010`."""
        return " ".join(spec)

    def read_spec(self, text: str) -> Strings:
        """Read strings of bits.

        Raises:
            SpecError: if they are none, or differ in length
        """
        strings = tuple(text.split(" "))
        for string in strings:
            if not re.fullmatch("[01]+", string, re.ASCII):
                raise SpecError(f"{_cut(string)!r} is no string of bits; a specification is such as 01101 10010")
        self.check_lengths(strings)
        return strings

    def check_lengths(self, strings: Sequence[str]) -> None:
        """Raise SpecError unless there are two strings and more, all of one length, and not too long."""
        if len(strings) < 2:
            raise SpecError(f"{_cut(strings[0])!r} is a single string; a specification has two and more")
        for string in strings:
            if len(string) != len(strings[0]):
                raise SpecError(
                    f"{_cut(string)!r} has {len(string):,} bits, but the first string has {len(strings[0]):,}"
                )
        if len(strings) * len(strings[0]) > MAX_BITS:
            raise SpecError(f"{_cut(strings[0])!r}: a specification has at most {MAX_BITS:,} bits")

    def write_program(self, program: str) -> str:
        """Return the string."""
        return program

    def read_program(self, text: str) -> str:
        """Read a string of bits.

        Raises:
            MalformedError: if it is none
        """
        if not re.fullmatch("[01]+", text, re.ASCII):
            raise MalformedError("is no string of the digits 0 and 1")
        return text

    def refutation(self, spec: Strings, program: str) -> str:
        """Name the first bit that is wrong, of the likeliest answer."""
        if len(program) != len(spec[0]):
            return f"has {len(program):,} bits, and must have {len(spec[0]):,}"
        answers = self.answers(spec)
        if program in answers:
            return ""
        answer = max(answers, key=lambda each: answers[each])
        place = next(i for i, (bit, right) in enumerate(zip(program, answer, strict=True)) if bit != right)
        return f"bit {place + 1} must be {answer[place]}"

    def posterior(self, spec: str) -> Mapping[str, float]:
        """Return the right answers."""
        return self.answers(self.read_spec(spec))

    def groups(self, spec: Strings) -> Mapping[str, str]:
        """Return how long the strings are."""
        return {"bits": str(len(spec[0]))}

    def baselines(self) -> Mapping[str, MakeWriter]:
        """Return the writer that knows nothing."""
        return {"random": lambda seed, learn: RandomBits(self, seed)}

    def symbol_ids(self, spec: str) -> npt.NDArray[np.int64]:
        """Return the number of each symbol of a specification's text among `symbols`, (number of symbols,)."""
        characters = np.frombuffer(spec.replace(" ", "").encode("ascii"), dtype=np.uint8)
        table = np.zeros(128, dtype=np.int64)
        table[np.frombuffer(self.symbols.encode("ascii"), dtype=np.uint8)] = np.arange(len(self.symbols))
        return table[characters]


class RandomBits(BlockWriter):
    """Fair bits, whatever the specification says, as many as the answer has."""

    def __init__(self, task: BitTask, seed: int = 0) -> None:
        super().__init__("random", seed)
        self.task = task

    def draw(self, spec: str, block: int) -> list[Candidate]:
        """See `BlockWriter.draw`."""
        rng, n = random.Random(self.seed_of(spec, block)), len(spec.split(" ")[0])
        return [(_draw_bits(rng, n), -n * math.log(2)) for _ in range(self.block_size)]

    def success_probability(self, spec: str) -> float:
        """See `Writer.success_probability`."""
        strings = self.task.read_spec(spec)
        return len(self.task.answers(strings)) * 2.0 ** -len(strings[0])

    def log_prob(self, spec: str, program: str) -> float | None:
        """See `Writer.log_prob`."""
        n = len(spec.split(" ")[0])
        return -n * math.log(2) if len(program) == n and not set(program) - {"0", "1"} else None


class BitXor(BitTask):
    """The exclusive or of strings, place by place."""

    name: ClassVar[str] = "bit_xor"
    Options: ClassVar[type[DomainOptions]] = XorOptions
    symbols: ClassVar[str] = "01"
    values: ClassVar[tuple[float, ...]] = (0.0, 1.0)

    def draw(self, rng: random.Random) -> tuple[Strings, str]:
        """Return strings of independent, fair bits."""
        spec = tuple(_draw_bits(rng, self.options.n) for _ in range(self.options.num_patterns))
        return spec, xor_of(spec)

    def answers(self, spec: Strings) -> Mapping[str, float]:
        """Return the one answer."""
        return {xor_of(spec): 1.0}

    def show(self, spec: str, program: str | None = None) -> str:
        """Return the strings one below another, with what they make."""
        rows = [f"  {_cut(string)}" for string in self.read_spec(spec)]
        return "\n".join(rows if program is None else [*rows, f"= {_cut(program)}"])


class BitMemory(BitTask):
    """One of several strings is shown again with bits hidden as "?", and is to be completed.

    Where several fit what is left of it, each of them is right.
    """

    name: ClassVar[str] = "bit_memory"
    Options: ClassVar[type[DomainOptions]] = MemoryOptions
    options: MemoryOptions
    symbols: ClassVar[str] = "01" + HIDDEN
    values: ClassVar[tuple[float, ...]] = (-1.0, 1.0, 0.0)

    @property
    def num_symbols_drawn(self) -> int:
        """See `BitTask`; the string that is shown again counts."""
        return self.options.n * (self.options.num_patterns + 1)

    def draw(self, rng: random.Random) -> tuple[Strings, str]:
        """Return strings of fair bits, the last of them one of the others with bits hidden."""
        patterns = tuple(_draw_bits(rng, self.options.n) for _ in range(self.options.num_patterns))
        asked = rng.choice(patterns)
        shown = "".join(HIDDEN if rng.random() < self.options.mask_share else bit for bit in asked)
        return (*patterns, shown), asked

    def read_spec(self, text: str) -> Strings:
        """Read strings of bits, the last of which may hold "?".

        Raises:
            SpecError: if they are none, differ in length, or the last one fits none of the others
        """
        *patterns, shown = text.split(" ")
        for string in patterns:
            if not re.fullmatch("[01]+", string, re.ASCII):
                raise SpecError(f"{_cut(string)!r} is no string of bits; a specification is such as 0110 1001 0?1?")
        if not re.fullmatch("[01?]+", shown, re.ASCII):
            raise SpecError(f"{_cut(shown)!r} is no string of bits and ?; a specification is such as 0110 1001 0?1?")
        spec = (*patterns, shown)
        self.check_lengths(spec)
        if not self.answers(spec):
            raise SpecError(f"{_cut(shown)!r} fits none of the strings before it")
        return spec

    def answers(self, spec: Strings) -> Mapping[str, float]:
        """Return the strings that fit, by how often they are there."""
        *patterns, shown = spec
        counts = Counter(pattern for pattern in patterns if _fits(pattern, shown))
        return {pattern: count / counts.total() for pattern, count in counts.items()}

    def show(self, spec: str, program: str | None = None) -> str:
        """Return the strings one below another, the one that is asked for behind a question mark."""
        *patterns, shown = self.read_spec(spec)
        rows = [*(f"  {_cut(string)}" for string in patterns), f"? {_cut(shown)}"]
        return "\n".join(rows if program is None else [*rows, f"= {_cut(program)}"])


def xor_of(strings: Sequence[str]) -> str:
    """Return the exclusive or of strings of one length, place by place.

    >>> xor_of(["01101", "10010"])
    '11111'
    """
    total = 0
    for string in strings:
        total ^= int(string, 2)
    return f"{total:0{len(strings[0])}b}"


def _fits(pattern: str, shown: str) -> bool:
    return all(bit in (HIDDEN, other) for bit, other in zip(shown, pattern, strict=True))


def _draw_bits(rng: random.Random, n: int) -> str:
    return f"{rng.getrandbits(n):0{n}b}"


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
