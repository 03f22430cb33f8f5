"""Many problems from many tries: in child processes that are killed when they hang, in shards, with a record of it all.

A try is a pure function of (task, seed, split, number): how many processes work, what was interrupted and what else the
machine does change nothing but which tries time out, and those are counted. With disjoint splits all tries are one
stream, "all", and the hash of a problem says which split it is for, so that nothing drawn is wasted; with independent
ones each split has a stream of its own.

While a folder is made, `shards/` holds the outcomes of ranges of tries, each file whole or not there.
"""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import cache, partial
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import sympy as sp
from sympy.core.random import seed as seed_sympy
from tqdm import tqdm

from common import ConfigError, DataError
from generator.domains.base import Problem, split_of
from generator.domains.problem_files import line_of
from generator.domains.seeds import stable_seed
from generator.domains.symbolic.equations import first_order, second_order
from generator.domains.symbolic.forms import Dropped
from generator.domains.symbolic.integrals import backward, by_parts, forward
from generator.domains.symbolic.options import TASKS, DrawingOptions, Task
from generator.domains.symbolic.parts import Known, known_integrals
from generator.domains.symbolic.pool import Pool, Result
from retrieval.training.datamodule import Split
from retrieval.training.files import writing_file
from retrieval.training.json_lines import parse_object

__all__ = ["TASKS", "Drawer", "DrawingOptions", "Outcome", "Task", "attempt", "write_splits"]

SHARD_TRIES = 100  # of each of the first shards; later ones have more, so that millions of problems take few files
_SHARDS_OF_A_SIZE, _MOST_DOUBLINGS = 50, 6
_MAX_BARREN = 200  # first shards' worth of tries in a row without a new problem for a split that still needs some
_TIMED_OUT, _REPEATED, _NOT_NEEDED = "timed out", "repeated", "for a split that is full"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a try gives: a problem, or the reason why there is none.

    Attributes:
        spec: words of a problem, with spaces; "" if there is none
        program: words of its answer
        reason: one of few
        seconds: of a processor that it took; those of a try that timed out are not known, and its limit stands for them
    """

    spec: str = ""
    program: str = ""
    reason: str = ""
    seconds: float = 0.0


def attempt(task: Task, options: DrawingOptions, known: Known | None, seed: int) -> Outcome:
    """Try to draw a problem; the same arguments give the same. It may hang: see `Drawer`.

    Args:
        task: which
        options: how
        known: integrals, for prim_ibp
        seed: of the try
    """
    start, rng = time.process_time(), random.Random(seed)
    seed_sympy(seed)  # its assumptions and zero tests draw numbers
    try:
        if task == "prim_ibp":
            assert known is not None
            spec, program = by_parts(rng, options, known)
        else:
            spec, program = _MAKERS[task](rng, options)
    except Dropped as dropped:
        spec, program, reason = [], [], str(dropped)
    except Exception as error:  # of sympy, on an expression that nobody thought of
        spec, program, reason = [], [], f"sympy failed ({type(error).__name__})"
    else:
        reason = ""
    return Outcome(" ".join(spec), " ".join(program), reason, time.process_time() - start)


_MAKERS: dict[str, Callable[[random.Random, DrawingOptions], tuple[list[str], list[str]]]] = {
    "prim_fwd": forward,
    "prim_bwd": backward,
    "ode1": first_order,
    "ode2": second_order,
}


class Drawer:
    """Draws problems of a task in child processes.

    Attributes:
        pool: the processes, which start with the first try
    """

    def __init__(self, task: Task, options: DrawingOptions, num_workers: int = 1) -> None:
        self.task, self.options = task, options
        known = _known(json.dumps(asdict(options), sort_keys=True)) if task == "prim_ibp" else None
        self.pool: Pool[int, Outcome] = Pool(partial(attempt, task, options, known), num_workers, options.limit_s(task))

    def draw(self, rng: random.Random) -> Problem:
        """Return the problem of the first try that gives one."""
        while True:
            (result,) = self.pool.map([rng.getrandbits(63)])
            outcome = _outcome(result)
            if not outcome.reason:
                return Problem(outcome.spec, outcome.program)

    def tries(self, seeds: Iterator[int]) -> Iterator[Outcome]:
        """Yield what tries give, in order."""
        return map(_outcome, self.pool.map(seeds))


@cache
def _known(options: str) -> Known:
    return known_integrals(DrawingOptions(**json.loads(options)))


def _outcome(result: Result[Outcome]) -> Outcome:
    if result.value is not None:
        return result.value
    if result.kind == "timeout":
        return Outcome(reason=_TIMED_OUT, seconds=result.seconds)
    what = "its process died" if result.kind == "died" else f"sympy failed ({result.message.partition(':')[0]})"
    return Outcome(reason=what)


# ------------------------------------------------------------------------------------------------
# Folders


def write_splits(
    drawer: Drawer, key: Callable[[str], str], folder: Path, sizes: Mapping[Split, int], seed: int
) -> dict[str, Any]:
    """Write {split}.jsonl of a folder, from its shards, or new tries where they end.

    Args:
        drawer: draws
        key: what is the same for problems that say the same, of the text of a problem
        folder: to write to
        sizes: problems of each split
        seed: of the draws

    Returns:
        What the folder's card says of it: versions, counts, what was dropped and why, rates.

    Raises:
        ConfigError: if there are not so many problems, or the shards are of another version of sympy
    """
    tally, shards = _Tally(), folder / "shards"
    nothing = {"same_text": 0.0, "same_meaning": 0.0}  # the hash of what a problem says has decided its split
    leaks = {split: nothing for split in sizes if split != "train"}
    in_train: Collection[int] = ()
    with ExitStack() as stack:
        files: dict[Split, TextIO] = {}
        for split in sizes:
            part = stack.enter_context(writing_file(folder / f"{split}.jsonl"))
            files[split] = stack.enter_context(part.open("w", encoding="utf-8"))
        if drawer.options.splits == "disjoint":
            _fill(_Filling("all", dict(sizes), files, tally, key), drawer, shards, seed)
        else:
            for split, size in sizes.items():
                filling = _Filling(split, {split: size}, files, tally, key, repeats=True)
                _fill(filling, drawer, shards, seed)
                if split == "train":
                    in_train = filling.seen
                else:
                    share = filling.count_in(in_train) / max(1, size)
                    leaks[split] = {"same_text": share, "same_meaning": share}
    return {"drawn": tally.card(), "leaks": leaks}


class _Tally:
    """What became of tries."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.num_tries, self.num_kept, self.seconds = 0, 0, 0.0

    def add(self, shard: _Shard) -> None:
        self.num_tries += shard.num_tries
        self.seconds += shard.seconds
        self.counts.update(shard.dropped)

    def card(self) -> dict[str, Any]:
        seconds = max(self.seconds, 1e-9)
        return {
            **_versions(),
            "tries": self.num_tries,
            "kept": self.num_kept,
            "dropped": dict(self.counts.most_common()),
            "core_seconds": round(self.seconds, 1),
            "kept_per_core_second": round(self.num_kept / seconds, 2),
            "problems_per_core_second": round((self.num_kept + self.counts[_NOT_NEEDED]) / seconds, 2),
        }


def _versions() -> dict[str, str]:
    return {"sympy": sp.__version__, "numpy": version("numpy")}


class _Filling:
    """Files of splits that a stream of problems goes to.

    Attributes:
        left: problems that each still needs
        seen: by the hash of what it says, how often each problem came. 8 bytes: of 40 million problems two have the
            same hash in one run of 20,000
    """

    def __init__(
        self,
        stream: str,
        left: dict[Split, int],
        files: Mapping[Split, TextIO],
        tally: _Tally,
        key: Callable[[str], str],
        repeats: bool = False,
    ) -> None:
        self.stream, self.left, self.files, self.tally, self.key, self.repeats = (
            stream,
            left,
            files,
            tally,
            key,
            repeats,
        )
        self.seen: dict[int, int] = {}

    def take(self, problem: Problem) -> bool:
        """Write a problem where it belongs, if it is new and needed; whether it is."""
        text = self.key(problem.spec)
        mark = stable_seed("seen", text)
        if mark in self.seen and not self.repeats:
            self.tally.counts[_REPEATED] += 1
            return False
        split: Split = next(iter(self.left)) if self.repeats else split_of(text)
        if not self.left.get(split):
            self.tally.counts[_NOT_NEEDED] += 1
            return False
        self.seen[mark] = self.seen.get(mark, 0) + 1
        self.files[split].write(line_of(problem))
        self.left[split] -= 1
        self.tally.num_kept += 1
        return True

    def count_in(self, marks: Collection[int]) -> int:
        """How many of its problems are among others."""
        return sum(count for mark, count in self.seen.items() if mark in marks)


def _fill(filling: _Filling, drawer: Drawer, folder: Path, seed: int) -> None:
    """Write problems of a stream until all files have as many as they need."""
    left, tally, num_barren = filling.left, filling.tally, 0
    name = f"{drawer.task} {filling.stream}"
    with tqdm(total=sum(left.values()), desc=name, unit="problem", mininterval=1) as progress:
        for shard in _shards(drawer, folder, seed, filling.stream):
            tally.add(shard)
            before = dict(left)
            progress.update(sum([filling.take(problem) for problem in shard.problems]))
            progress.set_postfix(tries=tally.num_tries, timed_out=tally.counts[_TIMED_OUT])
            wanting = [split for split, count in left.items() if count]
            if not wanting:
                return
            is_barren = all(left[split] == before[split] for split in wanting)
            num_barren = num_barren + shard.num_tries if is_barren else 0
            if num_barren >= _MAX_BARREN * SHARD_TRIES:
                raise ConfigError(
                    f"{num_barren:,} tries of {drawer.task} gave nothing new for {', '.join(wanting)}; "
                    "ask for fewer problems, allow more operators, or take splits=independent"
                )


@dataclass(frozen=True)
class _Shard:
    """The outcomes of a range of tries."""

    problems: list[Problem]
    dropped: dict[str, int]
    num_tries: int
    seconds: float


def _shards(drawer: Drawer, folder: Path, seed: int, stream: str) -> Iterator[_Shard]:
    """Yield the shards of a stream without end: from disk as far as they are there, then new ones.

    Tries of coming shards are under way while one is written, so that no process waits at its end.
    """
    number = 0
    while (path := folder / f"{stream}-{number:06d}.json").is_file():
        yield _read(path)
        number += 1
    first = sum(map(_num_tries, range(number)))
    seeds = (stable_seed(drawer.task, seed, stream, first + place) for place in range(2**62))
    outcomes = drawer.tries(seeds)
    try:
        while True:
            shard = _gathered(islice(outcomes, _num_tries(number)))
            _write(folder / f"{stream}-{number:06d}.json", shard)
            yield shard
            number += 1
    finally:
        drawer.pool.close()


def _num_tries(number: int) -> int:
    return SHARD_TRIES << min(number // _SHARDS_OF_A_SIZE, _MOST_DOUBLINGS)


def _gathered(outcomes: Iterator[Outcome]) -> _Shard:
    problems, dropped, seconds, num_tries = list[Problem](), Counter[str](), 0.0, 0
    for outcome in outcomes:
        num_tries += 1
        seconds += outcome.seconds
        if outcome.reason:
            dropped[outcome.reason] += 1
        else:
            problems.append(Problem(outcome.spec, outcome.program))
    return _Shard(problems, dict(dropped), num_tries, seconds)


def _write(path: Path, shard: _Shard) -> None:
    content = {**_versions(), **asdict(shard)}
    with writing_file(path) as part:
        part.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def _read(path: Path) -> _Shard:
    """A shard of an earlier run.

    Raises:
        ConfigError: if it is of another version of sympy
        DataError: if it is broken
    """
    advice = "remove it, and run `generate` again"
    try:
        content = parse_object(path.read_text(encoding="utf-8"), str(path), advice)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}); {advice}") from error
    found = {name: content.pop(name, None) for name in _versions()}
    if found["sympy"] != sp.__version__:
        raise ConfigError(
            f"{path} was drawn with sympy {found['sympy']}, and this is {sp.__version__}, which may write other forms; "
            "go on with that one, or give a new folder"
        )
    try:
        problems = [Problem(str(each["spec"]), str(each["program"])) for each in content["problems"]]
        dropped = {str(reason): int(count) for reason, count in content["dropped"].items()}
        shard = _Shard(problems, dropped, int(content["num_tries"]), float(content["seconds"]))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is broken ({type(error).__name__}: {error}); {advice}") from error
    if len(problems) + sum(dropped.values()) != shard.num_tries:
        raise DataError(f"{path} is broken: its tries do not add up; {advice}")
    return shard
