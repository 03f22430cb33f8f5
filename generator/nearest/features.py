"""What a learnt ranking knows of a candidate: who proposes it, how often it is used, and whether its names are there.

Shape legend: K nearest steps, C distinct candidates, F features of a candidate, Q of a state.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from generator.nearest.adaptation import hypotheses, names_in
from generator.nearest.evidence import Evidence
from generator.nearest.steps import TURNSTILE
from retrieval.ngram_index import shares

MAX_CANDIDATES = 200
# features that the text of a candidate and its uses say
BY_TEXT = (
    *("uses", "uses in the file", "frequency in the file", "is adapted"),
    *("names", "hypotheses", "names that are unknown", "names of hypotheses that are not there", "names in the goal"),
    *(
        "frequency of names in the goal",
        "length",
        "introduces",
        "introduces what stands there",
        "unfolds what is there",
    ),
)
# features of candidates in order; "share": of the votes of all K steps, by that kind of evidence
_BY = ("state", "goal", "shape", "whole", "all")
_VOTES = (*_BY[:-1], "near")  # what the votes are by
_LIKENESSES = (*_BY[:-1], "name")
_PLACED = {
    **{f"place by {kind}": f"share by {kind}" for kind in _BY},
    "place by name": "greatest name",
    "place in the file": "share in the file",
}
CANDIDATE = (
    *(*(f"share by {kind}" for kind in _BY), "share in the file", "share in the folder"),
    *("steps", "first step", "steps in the file", *(f"greatest {kind}" for kind in _LIKENESSES), "state x name"),
    *(f"below the best share by {kind}" for kind in _BY),
    *(f"below the best {kind}" for kind in _LIKENESSES),
    *_PLACED,
    *BY_TEXT,
)
STATE = (
    *(f"greatest {kind}" for kind in _LIKENESSES),
    *("steps in the file", "share of the file", "best share"),
    *("length of the goal", "hypotheses"),
)

_TEMPERATURE, _DECAY = 0.2, 0.75
_NAME = re.compile(r"[^\W\d][\w']*")
_LOCAL = re.compile(r"H\w*'?|IH\w*|[a-z]\d?'*")  # what provers call hypotheses
_BEHIND_HEAD = re.compile(r"[\s;.]")
_RARE = 2  # distinct tactics: a name in no more of them is taken for one of a hypothesis

_Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Uses:
    """How often tactics and names are used in all steps that may be looked up.

    Attributes:
        everywhere: of each tactic as written
        in_file: of each in the theorem's file
        of_name: in how many distinct tactics a name stands
    """

    everywhere: Mapping[str, int]
    in_file: Mapping[str, int]
    of_name: Mapping[str, int]

    @cached_property
    def num_in_file(self) -> int:
        """Steps of the theorem's file."""
        return sum(self.in_file.values())


@dataclass(frozen=True)
class Table:
    """The candidates of a state with what is known of them.

    Attributes:
        tactics: C, the most voted for first
        candidates: float32 (C, F)
        state: float32 (Q,)
    """

    tactics: list[str]
    candidates: _Floats
    state: _Floats


def describe(evidence: Evidence, proposed: Sequence[str], written: Sequence[str], goal: str, uses: Uses) -> Table:
    """Put together what is known of the candidates of a state.

    Args:
        evidence: of the K nearest steps, at least one
        proposed: the tactic that each of them proposes, K
        written: the tactic as it was written there, K
        goal: the first goal
        uses: how often tactics and names are used
    """
    columns = {tactic: number for number, tactic in enumerate(dict.fromkeys(proposed))}
    of_step = np.array([columns[tactic] for tactic in proposed])
    votes = {kind: _votes(getattr(evidence, kind)) for kind in _VOTES}
    total = sum(np.bincount(of_step, votes[kind], len(columns)) for kind in _VOTES)
    kept = np.argsort(-np.asarray(total), kind="stable")[:MAX_CANDIDATES]
    tactics = list(columns)
    is_adapted = {tactic for tactic, other in zip(proposed, written, strict=True) if tactic != other}
    chosen = [tactics[number] for number in kept.tolist()]
    seen = Seen(goal)
    by_votes = _of_votes(evidence, votes, of_step, len(columns))[kept]
    by_text = np.array([of_text(tactic, tactic in is_adapted, seen, uses) for tactic in chosen], dtype=np.float32)
    state = [getattr(evidence, kind).max() for kind in _LIKENESSES]
    state += [
        np.log1p(uses.num_in_file),
        evidence.same_file.mean(),
        np.log(votes["near"].max() + 1e-4),
        len(seen.target) / 500,
    ]
    return Table(
        chosen,
        np.concatenate([by_votes, _places(by_votes), by_text], axis=1).astype(np.float32),
        np.array([*state, len(seen.hypotheses) / 10], dtype=np.float32),
    )


def _votes(likeness: _Floats) -> _Floats:
    """What each step counts by one kind of evidence, float32 (K,)."""
    order = np.argsort(-likeness, kind="stable")
    found = np.empty_like(likeness)
    found[order] = shares(likeness[order], _TEMPERATURE, _DECAY)
    return found


def _of_votes(evidence: Evidence, votes: Mapping[str, _Floats], of_step: npt.NDArray[np.int64], number: int) -> _Floats:
    """The features of all candidates that the steps say, as far as "below the best name", float32 (number, 26)."""

    def added(weights: _Floats) -> npt.NDArray[np.float64]:
        return np.bincount(of_step, weights, number).astype(np.float64)

    def greatest(values: _Floats) -> _Floats:
        found = np.zeros(number, dtype=np.float32)
        np.maximum.at(found, of_step, values)
        return found

    first = np.full(number, len(of_step))
    np.minimum.at(first, of_step, np.arange(len(of_step)))
    voted = [np.log(added(votes[kind]) + 1e-4) for kind in _VOTES]
    near = [greatest(getattr(evidence, kind)) for kind in _LIKENESSES]
    columns = [
        *voted,
        np.log(added(votes["state"] * evidence.same_file) + 1e-4),
        np.log(added(votes["state"] * evidence.same_folder) + 1e-4),
        np.log1p(added(np.ones_like(evidence.state))),
        np.log1p(first),
        np.log1p(added(evidence.same_file)),
        *near,
        greatest(evidence.state * evidence.name),
        *(column - column.max() for column in (*voted, *near)),
    ]
    return np.stack(columns, axis=1).astype(np.float32)


def _places(by_votes: _Floats) -> _Floats:
    """The logarithm of how many candidates are ahead of each by a feature, float32 (C, 7)."""
    columns = [by_votes[:, CANDIDATE.index(name)] for name in _PLACED.values()]
    return np.stack([np.log1p((c[None] > c[:, None]).sum(axis=1)) for c in columns], axis=1).astype(np.float32)


class Seen:
    """The names of a goal."""

    def __init__(self, goal: str) -> None:
        self.target = goal[goal.rfind(TURNSTILE) :] if TURNSTILE in goal else goal
        self.in_target = frozenset(_NAME.findall(self.target))
        self.names = frozenset(_NAME.findall(goal))
        self.hypotheses = frozenset(name for name, _ in hypotheses(goal))
        self.is_product = self.target.lstrip(f"{TURNSTILE} ").startswith(("forall", "∀")) or "->" in self.target[:400]


@lru_cache(maxsize=20_000)
def looks_local(name: str) -> bool:
    """Tell whether a name is one of those that provers give to hypotheses."""
    return _LOCAL.fullmatch(name) is not None


def of_text(tactic: str, is_adapted: bool, seen: Seen, uses: Uses) -> list[float]:
    """The features that a tactic's text and its uses say, from "uses" on."""
    names = names_in(tactic)
    missing = [name for name in names if name not in seen.names]
    every = set(_NAME.findall(tactic))
    in_goal = len(every & seen.in_target)
    share = in_goal / (len(every) + 1)
    in_file = uses.in_file.get(tactic, 0)
    head = _BEHIND_HEAD.split(tactic, maxsplit=1)[0]
    introduces = head in ("intro", "intros", "rintro", "rintros")
    return [
        np.log1p(uses.everywhere.get(tactic, 0)),
        np.log1p(in_file),
        in_file / (uses.num_in_file + 5),
        is_adapted,
        len(names),
        sum(name in seen.hypotheses for name in names),
        sum(uses.of_name.get(name, 0) <= _RARE for name in missing),
        sum(looks_local(name) for name in missing),
        in_goal,
        share,
        np.log1p(len(tactic)),
        introduces,
        introduces and seen.is_product,
        (head in ("unfold", "delta", "dsimp")) * share,
    ]
