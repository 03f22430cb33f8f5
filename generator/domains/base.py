"""What a domain is: pairs of a specification and a program by number, their texts, and a checker.

Type legend: S a specification, P a program, as values; texts are what models read and write.
"""

from __future__ import annotations

import math
import random
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeVar, get_args

from common import ConfigError, DataError, NextstepError, check_choice
from generator.domains.seeds import stable_seed
from generator.domains.verdicts import KINDS as KINDS  # those of a checker stand with what a domain is
from generator.domains.verdicts import MalformedError as MalformedError
from generator.domains.verdicts import Verdict as Verdict
from generator.domains.verdicts import VerdictKind as VerdictKind
from generator.domains.writers import Writer
from retrieval.training.datamodule import SPLITS, Split

S = TypeVar("S")
P = TypeVar("P")

Splits = Literal["disjoint", "independent"]

_SHARES = {"val": 10, "test": 10}  # percent of the specifications, by their hash; the others are for train
_MAX_DRAWS = 20_000  # in a row that give nothing new
_NUM_READ = 1024


@dataclass(frozen=True, slots=True)
class Problem:
    """A specification and a program that holds for it; others may hold too.

    Attributes:
        spec: text that a model reads
        program: text that a model should write
    """

    spec: str
    program: str


class SpecError(DataError):
    """A text is no specification of the domain, or one that no program can hold for."""


@dataclass(frozen=True)
class DomainOptions:
    """What every domain is told.

    Attributes:
        splits: "disjoint": no specification is in two splits, whatever the seed, and in none twice; its hash decides
            which it belongs to. "independent": each split is drawn from all, with repetitions
    """

    splits: Splits = "disjoint"

    def __post_init__(self) -> None:
        check_choice("splits", self.splits, get_args(Splits))


@dataclass(frozen=True)
class PublishedCurve:
    """Shares of problems solved within a budget, as someone has published them.

    Attributes:
        writer: the baseline that it is of; "model" for a language model
        label: for the legend
        points: share by budget
    """

    writer: str
    label: str
    points: Mapping[int, float]


MakeWriter = Callable[[int, Callable[[], Sequence[Problem]]], Writer]  # from a seed and the problems to learn from


class Domain(ABC, Generic[S, P]):
    """Problems by number, and what judges answers to them.

    A subclass gives `draw`, the four functions between values and texts, and `refutation`; the rest is optional.

    Attributes:
        name: as `make_domain` takes it
        Options: the class of `options`
        options: what the domain is told
        published: curves of others, for figures
        akin: names of domains whose problems are read and judged as this one's, so that their files serve it too
        published_across: shares of problems of this domain that a model of others solved, by what it was trained on
            and by budget
        published_sizes: of others, shares of problems solved with one proposal by the number of training problems
        is_slow: whether a check takes so long that validation judges some problems alone, and results are kept often
    """

    name: ClassVar[str]
    Options: ClassVar[type[DomainOptions]] = DomainOptions
    published: ClassVar[tuple[PublishedCurve, ...]] = ()
    akin: ClassVar[tuple[str, ...]] = ()
    published_across: ClassVar[Mapping[str, Mapping[int, float]]] = {}
    published_sizes: ClassVar[tuple[PublishedCurve, ...]] = ()
    is_slow: ClassVar[bool] = False

    def __init__(self, options: Any = None) -> None:
        self.options = self.Options() if options is None else options
        self._read: dict[str, S] = {}  # specifications that many proposals are for

    # ------------------------------------------------------------------------------- what a domain gives

    @abstractmethod
    def draw(self, rng: random.Random) -> tuple[S, P]:
        """Return a specification and a program that holds for it."""

    @abstractmethod
    def write_spec(self, spec: S) -> str:
        """Return the text of a specification."""

    @abstractmethod
    def read_spec(self, text: str) -> S:
        """Read what `write_spec` wrote, or a user did.

        Raises:
            SpecError: if it is none, or one that no program can hold for
        """

    @abstractmethod
    def write_program(self, program: P) -> str:
        """Return the text of a program."""

    @abstractmethod
    def read_program(self, text: str) -> P:
        """Read the text of a program, which a model wrote: strictly, and never with eval.

        Raises:
            MalformedError: if it is none
        """

    @abstractmethod
    def refutation(self, spec: S, program: P) -> str:
        """Return why a program does not hold, in a line; "" if it does.

        Raises:
            TimeoutError: if it was not decided within a time that the domain sets (subprocess.TimeoutExpired too)
        """

    def key(self, spec: S) -> str:
        """Return what is the same for specifications that say the same; their text, unless a domain knows better."""
        return self.write_spec(spec)

    def baselines(self) -> Mapping[str, MakeWriter]:
        """Return named writers that are no language model."""
        return {}

    def posterior(self, spec: str) -> Mapping[str, float] | None:
        """Return how probable each program is, given the specification alone, where that is known.

        Its entropy, on average, is the least loss a model can have.
        """
        return None

    def floor(self, spec: str) -> float | None:
        """Return the entropy of the posterior, in nats a program, where that is known."""
        posterior = self.posterior(spec)
        return None if posterior is None else -sum(p * math.log(p) for p in posterior.values() if p > 0)

    def groups(self, spec: S) -> Mapping[str, str]:
        """Return in which group of each kind a specification is, for figures by group."""
        return {}

    def show(self, spec: str, program: str | None = None) -> str:
        """Return a picture of a problem for a terminal, with a program where there is one."""
        return spec if program is None else f"{spec}\n{program}"

    # ------------------------------------------------------------------------------------ texts of users

    def spec_of_user(self, text: str) -> str:
        """Return the text of the specification that a user typed, if a domain takes more than its own texts.

        Raises:
            SpecError: if it is none
        """
        return text

    def program_of_user(self, text: str) -> str:
        """Return the text of the program that a user typed.

        Raises:
            MalformedError: if it is none
        """
        return text

    def for_user(self, program: str) -> str:
        """Return a program that was judged as users read it, in a line."""
        return program

    # ------------------------------------------------------------------------------------------ checking

    def check(self, spec: str, program: str) -> Verdict:
        """Judge a proposal.

        Raises:
            SpecError: if the specification is broken, which is no fault of the program
        """
        value = self._spec(spec)
        start = time.perf_counter()
        kind, message = self._judge(value, program)
        return Verdict(kind, message, time.perf_counter() - start)

    def check_all(self, pairs: Sequence[tuple[str, str]]) -> list[Verdict]:
        """Judge several proposals, each a specification and a program; a slow checker may do so in parallel."""
        return [self.check(spec, program) for spec, program in pairs]

    def expect(self, problems: Sequence[Problem]) -> None:
        """Be told of problems that answers will be judged for: their own programs may help, where checks are slow."""

    def gold_verdicts(self, problems: Sequence[Problem]) -> list[Verdict]:
        """Judge each problem's own program, which should hold: what a checker misses here, it misses of models too.

        A domain that knows the own program by sight must not look at it here.
        """
        return self.check_all([(problem.spec, problem.program) for problem in problems])

    def _spec(self, text: str) -> S:
        if text not in self._read:
            if len(self._read) >= _NUM_READ:
                self._read.clear()
            self._read[text] = self.read_spec(text)
        return self._read[text]

    def _judge(self, spec: S, text: str) -> tuple[VerdictKind, str]:
        try:
            reason = self.refutation(spec, self.read_program(text))
        except MalformedError as error:
            return "malformed", str(error)
        except (TimeoutError, subprocess.TimeoutExpired) as error:
            return "timeout", str(error) or "was not decided in time"
        except NextstepError:
            raise
        except Exception as error:  # of our own code, on a program that nobody thought of: the search goes on
            return "error", f"{type(error).__name__}: {error}"
        return ("rejected", reason) if reason else ("verified", "")

    # ------------------------------------------------------------------------------------------ problems

    def problem(self, seed: int, split: Split, index: int, epoch: int = 0) -> Problem:
        """Return a problem of a split, which follows from the arguments alone.

        A split goes on for ever; see `problems` for one without repetitions.

        Raises:
            ConfigError: if hardly any specification falls into the split
        """
        rng = random.Random(stable_seed(self.name, seed, split, epoch, index))
        for _ in range(_MAX_DRAWS):
            spec, program = self.draw(rng)
            if self.options.splits == "independent" or split_of(self.key(spec)) == split:
                return Problem(self.write_spec(spec), self.write_program(program))
        raise ConfigError(
            f"of {_MAX_DRAWS:,} specifications of domain {self.name} none is for {split}; it has too few for disjoint "
            "splits. Take splits=independent"
        )

    def problems(self, seed: int, split: Split, count: int) -> list[Problem]:
        """Return the first problems of a split; of disjoint splits, without a specification twice.

        Raises:
            ConfigError: if there are not so many
        """
        check_choice("split", split, SPLITS)
        numbered = self.distinct(self.problem(seed, split, index) for index in range(2**62))
        return [next(numbered) for _ in range(count)]

    def write_splits(
        self, folder: Path, sizes: Mapping[Split, int], seed: int, num_workers: int
    ) -> dict[str, Any] | None:
        """Write {split}.jsonl of a folder in a way of the domain's own, where to draw a problem takes long.

        What is under way may be kept in `shards` of the folder, which is removed when all is done.

        Returns:
            What the folder's card says of it; None, as by default, for problems by number.
        """
        return None

    def distinct(self, problems: Iterator[Problem]) -> Iterator[Problem]:
        """Yield problems, of disjoint splits those alone whose specification says something new.

        Raises:
            ConfigError: if nothing new comes for very long
        """
        seen, num_repeated = set[str](), 0
        for problem in problems:
            if self.options.splits == "independent":
                yield problem
                continue
            key = self.key(self.read_spec(problem.spec))
            if key not in seen:
                seen.add(key)
                num_repeated = 0
                yield problem
            elif (num_repeated := num_repeated + 1) > _MAX_DRAWS:
                raise ConfigError(
                    f"domain {self.name} has hardly more than {len(seen):,} different specifications for this split; "
                    "ask for fewer problems, or take splits=independent"
                )

    def leaks(self, train: Sequence[Problem], held_out: Sequence[Problem]) -> dict[str, float]:
        """Return the shares of held-out specifications that are in train too: as the same text, and saying the same."""
        texts = {problem.spec for problem in train}
        keys = {self.key(self.read_spec(text)) for text in texts}
        count = max(1, len(held_out))
        return {
            "same_text": sum(problem.spec in texts for problem in held_out) / count,
            "same_meaning": sum(self.key(self.read_spec(problem.spec)) in keys for problem in held_out) / count,
        }


def split_of(key: str) -> Split:
    """Return the split that a specification belongs to, whatever the seed."""
    place = stable_seed("split", key) % 100
    return "val" if place < _SHARES["val"] else "test" if place < _SHARES["val"] + _SHARES["test"] else "train"
