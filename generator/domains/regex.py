"""Regular expressions from words that match and words that do not: a domain in one file.

A specification is `+ab,+aab,-b,-`: a word behind + matches as a whole, one behind - does not; the last one here is the
empty word. A program is an expression over a few letters, with . for any letter, | * + ? and parentheses, as short as
`max_program_length`: else the matching words themselves, with | between them, would do.
"""

from __future__ import annotations

import math
import random
import re
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, TypeAlias

from common import Candidate, ConfigError
from generator.domains.base import Domain, DomainOptions, MakeWriter, MalformedError, SpecError
from generator.domains.writers import BlockWriter

Spec: TypeAlias = tuple[tuple[str, bool], ...]  # words, and whether they match
# alternatives of factors in a row; a factor is a letter, . or an expression in parentheses, and "", *, + or ?
Regex: TypeAlias = tuple[tuple[tuple[Any, str], ...], ...]

_MARKS = "*+?"
_MAX_WORDS = 1000


@dataclass(frozen=True)
class RegexOptions(DomainOptions):
    """How problems are drawn.

    Attributes:
        num_letters: of the alphabet, from a on
        max_examples: words of a specification are 1 to this many, some of them repeated
        max_word_length: letters of a word that is drawn
        max_program_length: characters of a program
    """

    num_letters: int = 2
    max_examples: int = 12
    max_word_length: int = 6
    max_program_length: int = 12

    def __post_init__(self) -> None:
        super().__post_init__()
        limits = {"num_letters": 26, "max_examples": _MAX_WORDS, "max_word_length": 100, "max_program_length": 200}
        for name, limit in limits.items():
            if not 1 <= getattr(self, name) <= limit:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be from 1 to {limit:,}")


class Regular(Domain[Spec, Regex]):
    """See the module."""

    name: ClassVar[str] = "regex"
    Options: ClassVar[type[DomainOptions]] = RegexOptions
    options: RegexOptions

    @cached_property
    def letters(self) -> str:
        """The alphabet."""
        return string.ascii_lowercase[: self.options.num_letters]

    def draw(self, rng: random.Random) -> tuple[Spec, Regex]:
        """Return an expression, and words: every second one is written by it, the others are any."""
        program, _ = self.draw_program(rng)
        matcher = Matcher(program)
        words = [self._word(rng, program) for _ in range(rng.randint(1, self.options.max_examples))]
        return tuple((word, matcher.matches(word)) for word in words), program

    def draw_program(self, rng: random.Random) -> tuple[Regex, float]:
        """Return an expression that is short enough, and the log-probability of drawing its text before the cut."""
        while True:
            program, log_prob = _draw(rng, self.letters)
            if len(write(program)) <= self.options.max_program_length:
                return program, log_prob

    def _word(self, rng: random.Random, program: Regex) -> str:
        if rng.random() < 0.5:
            word = "".join(_walk(rng, program, self.letters))
            if len(word) <= self.options.max_word_length:
                return word
        return "".join(rng.choice(self.letters) for _ in range(rng.randint(0, self.options.max_word_length)))

    def write_spec(self, spec: Spec) -> str:
        """Return words with their signs."""
        return ",".join(f"{'+' if matches else '-'}{word}" for word, matches in spec)

    def read_spec(self, text: str) -> Spec:
        """Read words with their signs; SpecError if they are none, or a word has both signs."""
        if not re.fullmatch(rf"[+-][{self.letters}]*(,[+-][{self.letters}]*)*", text) or text.count(",") >= _MAX_WORDS:
            raise SpecError(
                f"the spec {text[:80]!r} is none of this domain; write 1 to {_MAX_WORDS:,} words of the letters "
                f"{self.letters} with signs, such as +ab,-b"
            )
        spec = tuple((word[1:], word[0] == "+") for word in text.split(","))
        if both := {word for word, matches in spec if matches} & {word for word, matches in spec if not matches}:
            raise SpecError(f"no program exists: the word {min(both)!r} is both + and -")
        return spec

    def write_program(self, program: Regex) -> str:
        """Return the expression."""
        return write(program)

    def read_program(self, text: str) -> Regex:
        """Read an expression; MalformedError for every other text."""
        if len(text) > self.options.max_program_length:
            raise MalformedError(f"has {len(text)} characters, over {self.options.max_program_length}")
        return _Reader(text, self.letters).read()

    def refutation(self, spec: Spec, program: Regex) -> str:
        """Name the first word that is on the wrong side."""
        matcher = Matcher(program)
        for word, wanted in spec:
            if matcher.matches(word) != wanted:
                return f"{word!r} must {'' if wanted else 'not '}match"
        return ""

    def key(self, spec: Spec) -> str:
        """Return the words in order, each once."""
        return self.write_spec(tuple(sorted(set(spec))))

    def groups(self, spec: Spec) -> Mapping[str, str]:
        """By whether a word matches."""
        return {"words": "some match" if any(matches for _, matches in spec) else "none matches"}

    def show(self, spec: str, program: str | None = None) -> str:
        """List words by their sign; with a program, those that it has wrong are marked."""
        matcher = None if program is None else Matcher(self.read_program(program))
        lines = [] if program is None else [f"/{program}/"]
        for word, wanted in self.read_spec(spec):
            is_wrong = matcher is not None and matcher.matches(word) != wanted
            lines.append(f"  {'+' if wanted else '-'} {word or '(empty)'}{'  <- wrong' if is_wrong else ''}")
        return "\n".join(lines)

    def baselines(self) -> Mapping[str, MakeWriter]:
        """Expressions as problems have them, whatever the words; and some of the matching words themselves."""
        return {
            "prior": lambda seed, learn: _Draws("prior", seed, self._from_prior),
            "words": lambda seed, learn: _Draws("words", seed, self._from_words),
        }

    def _from_prior(self, spec: str, rng: random.Random) -> Candidate:
        program, log_prob = self.draw_program(rng)
        return write(program), log_prob

    def _from_words(self, spec: str, rng: random.Random) -> Candidate:
        words = sorted({word for word, matches in self.read_spec(spec) if matches and word})
        if not words:
            return self._from_prior(spec, rng)
        chosen = [word for word in words if rng.random() < 0.5] or words
        return "|".join(chosen), -len(words) * math.log(2)


class _Draws(BlockWriter):
    """Draws proposals one after another."""

    tells_probability = False  # programs that are too long were drawn anew

    def __init__(self, name: str, seed: int, draw_one: Callable[[str, random.Random], Candidate]) -> None:
        super().__init__(name, seed)
        self.draw_one = draw_one

    def draw(self, spec: str, block: int) -> list[Candidate]:
        """See `BlockWriter.draw`."""
        rng = random.Random(self.seed_of(spec, block))
        return [self.draw_one(spec, rng) for _ in range(self.block_size)]


# ------------------------------------------------------------------------------------------------
# Expressions


def write(regex: Regex) -> str:
    """Return the text of an expression."""
    return "|".join("".join(_atom(atom) + mark for atom, mark in factors) for factors in regex)


def _atom(atom: Any) -> str:
    return atom if isinstance(atom, str) else f"({write(atom)})"


class _Reader:
    """Reads an expression by recursive descent; its length, which the caller limits, limits the depth."""

    def __init__(self, text: str, letters: str) -> None:
        self.text, self.letters, self.place = text, letters, 0

    def read(self) -> Regex:
        regex = self._alternatives()
        if self.place < len(self.text):
            raise MalformedError(f"is no expression: unexpected {self.text[self.place]!r} at {self.place + 1}")
        return regex

    def _alternatives(self) -> Regex:
        found = [self._factors()]
        while self._take("|"):
            found.append(self._factors())
        return tuple(found)

    def _factors(self) -> tuple[tuple[Any, str], ...]:
        found = []
        while self.place < len(self.text) and self.text[self.place] in self.letters + ".(":
            found.append((self._read_atom(), self._take(_MARKS)))
        if not found:
            raise MalformedError(f"is no expression: a letter, . or ( is missing at {self.place + 1}")
        return tuple(found)

    def _read_atom(self) -> Any:
        if not self._take("("):
            return self._take(self.letters + ".")
        inner = self._alternatives()
        if not self._take(")"):
            raise MalformedError(f"is no expression: ) is missing at {self.place + 1}")
        return inner

    def _take(self, accepted: str) -> str:
        """The next character if it is accepted, else ""."""
        if self.place < len(self.text) and self.text[self.place] in accepted:
            self.place += 1
            return self.text[self.place - 1]
        return ""


class Matcher:
    """Matches whole words without backtracking, in time that grows with word times expression squared.

    The letters of the expression are numbered: which may come first, which after which, which last.

    Source: Glushkov, "The abstract theory of automata" (1961).
    """

    def __init__(self, regex: Regex) -> None:
        self.letters: list[str] = []
        self.after: list[set[int]] = []
        self.first, self.last, self.has_empty = self._alternatives(regex)

    def matches(self, word: str) -> bool:
        """Whether the expression matches the whole word."""
        reached = self.first
        for place, letter in enumerate(word):
            here = {k for k in reached if self.letters[k] in (letter, ".")}
            if place == len(word) - 1:
                return bool(here & self.last)
            reached = set().union(*(self.after[k] for k in here))
        return self.has_empty

    def _alternatives(self, regex: Regex) -> tuple[set[int], set[int], bool]:
        parts = [self._factors(factors) for factors in regex]
        first, last, has_empty = zip(*parts, strict=True)
        return set[int]().union(*first), set[int]().union(*last), any(has_empty)

    def _factors(self, factors: Sequence[tuple[Any, str]]) -> tuple[set[int], set[int], bool]:
        first, last, has_empty = set[int](), set[int](), True
        for atom, mark in factors:
            new_first, new_last, new_empty = self._letter(atom) if isinstance(atom, str) else self._alternatives(atom)
            if mark in ("*", "+"):
                self._join(new_last, new_first)
            new_empty = new_empty or mark in ("*", "?")
            self._join(last, new_first)
            first = first | new_first if has_empty else first
            last = last | new_last if new_empty else new_last
            has_empty = has_empty and new_empty
        return first, last, has_empty

    def _letter(self, letter: str) -> tuple[set[int], set[int], bool]:
        self.letters.append(letter)
        self.after.append(set())
        return {len(self.letters) - 1}, {len(self.letters) - 1}, False

    def _join(self, ends: set[int], starts: set[int]) -> None:
        for k in ends:
            self.after[k] |= starts


def _draw(rng: random.Random, letters: str, depth: int = 0) -> tuple[Regex, float]:
    """An expression and its log-probability: each text is drawn in one way alone."""
    log_prob, alternatives = 0.0, []
    while True:
        factors = []
        while True:
            atom: Any = rng.choice(letters + ".")
            if depth < 2 and rng.random() < 0.25:
                atom, gained = _draw(rng, letters, depth + 1)
                log_prob += gained + math.log(0.25)
            else:
                log_prob += math.log((0.75 if depth < 2 else 1.0) / (len(letters) + 1))
            mark = rng.choice(["", "", "", *_MARKS])
            log_prob += math.log(1 / 2 if mark == "" else 1 / 6)
            factors.append((atom, mark))
            goes_on = rng.random() < 0.5
            log_prob += math.log(0.5)
            if not goes_on:
                break
        alternatives.append(tuple(factors))
        goes_on = rng.random() < 0.25
        log_prob += math.log(0.25 if goes_on else 0.75)
        if not goes_on:
            return tuple(alternatives), log_prob


def _walk(rng: random.Random, regex: Regex, letters: str) -> Iterator[str]:
    """Letters of a word that the expression matches."""
    for atom, mark in rng.choice(regex):
        count = 0 if mark in ("*", "?") and rng.random() < 0.5 else 1
        while mark in ("*", "+") and count and rng.random() < 0.4:
            count += 1
        for _ in range(count):
            if isinstance(atom, str):
                yield rng.choice(letters) if atom == "." else atom
            else:
                yield from _walk(rng, atom, letters)
