"""A tactic of another state with the names of this one's hypotheses.

Source: the idea is Tactician's (Blaauwbroek, Urban, Geuvers, arXiv:2008.00120), which substitutes hypotheses of similar
type when it replays a tactic in another context.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from generator.nearest.steps import TURNSTILE, Steps

_NAME = r"[^\W\d][\w']*"
# a name that stands alone: no part of a longer one, of a qualified one, or of a number
WHOLE_NAME = re.compile(rf"(?<![\w.'])({_NAME})(?![\w'])(?!\.\w)")

Hypothesis = tuple[str, str]  # name, and what stands behind it: its type, or value and type


@lru_cache(maxsize=100_000)  # the states of a library: the same ones are near again and again
def hypotheses(goal: str) -> tuple[Hypothesis, ...]:
    r"""Return the hypotheses of a goal, in order; of several names of one type each.

    >>> hypotheses("n m : nat\nH : n = m\n⊢ m = n")
    (('n', 'nat'), ('m', 'nat'), ('H', 'n = m'))
    """
    return tuple(pair for entry in _entries(goal) for pair in _named(entry))


def _named(entry: str) -> Iterator[Hypothesis]:
    """The names in front of the first colon, with what follows it; nothing where that are no names."""
    head, _, kind = entry.partition(":")
    names, body = head.split(), " ".join(kind.removeprefix("=").split())
    if all(name.replace("'", "").isidentifier() for name in names):
        for name in names:
            yield name, body


def _entries(goal: str) -> Iterator[str]:
    """The lines above the turnstile, each with the indented ones that go on with it."""
    entry = ""
    for line in goal.partition(f"\n{TURNSTILE}")[0].split("\n"):
        if line.startswith(TURNSTILE):
            break
        if line[:1].isspace():
            entry += f"\n{line}"
        else:
            yield entry
            entry = line
    yield entry


def adapt(tactic: str, theirs: str, ours: str) -> str:
    r"""Write a tactic of one goal for another: names of hypotheses become those of hypotheses of the same type.

    Hypotheses of the same name and type stay. The others that the tactic names take, in the order of the context, the
    last hypothesis of the same type that is not taken, where types are compared with the names already exchanged. A
    name that finds none stays as it is.

    >>> adapt("rewrite H0", "a : nat\nH0 : a = 0\n⊢ a + a = 0", "n : nat\nHn : n = 0\n⊢ n + n = 0")
    'rewrite Hn'

    Args:
        tactic: of the other goal
        theirs: the goal that it was written for
        ours: the goal that it is wanted for
    """
    named = names_in(tactic)
    if not any(name in theirs for name in named):  # before hypotheses are read, which takes longer
        return tactic
    their_hypotheses, our_hypotheses = hypotheses(theirs), hypotheses(ours)
    if all(hypothesis in our_hypotheses for hypothesis in their_hypotheses if hypothesis[0] in named):
        return tactic
    renamed = _renaming(their_hypotheses, our_hypotheses)
    return _exchanged(tactic, renamed) if any(name in renamed for name in named) else tactic


def adapted(steps: Steps, numbers: npt.NDArray[np.int64], state: str) -> list[str]:
    """Return the tactics of known steps, each written for a state's first goal; see `adapt`."""
    goal = first_goal(state)
    theirs = (first_goal(steps.text(number)) for number in steps.text_of[numbers].tolist())
    return [adapt(tactic, text, goal) for tactic, text in zip(steps.tactics(numbers), theirs, strict=True)]


def first_goal(state: str) -> str:
    """Return the goal that tactics act on."""
    return state.partition("\n\n")[0]


@lru_cache(maxsize=20_000)
def names_in(tactic: str) -> frozenset[str]:
    """Return the names that stand alone in a tactic, those of tactics included."""
    return frozenset(WHOLE_NAME.findall(tactic))


def _renaming(theirs: Sequence[Hypothesis], ours: Sequence[Hypothesis]) -> dict[str, str]:
    """Our name for each of their hypotheses that has a counterpart of another name."""
    types, of_kind = _by_name_and_kind(tuple(ours))
    taken = {name for name, kind in theirs if types.get(name) == kind}
    kept, renamed = set(taken), dict[str, str]()
    for name, kind in theirs:
        if name in kept:
            continue
        wanted = _exchanged(kind, renamed)
        fitting = [our_name for our_name in of_kind.get(wanted, ()) if our_name not in taken]
        if name in fitting:
            taken.add(name)
        elif fitting:
            renamed[name] = fitting[-1]
            taken.add(fitting[-1])
    return renamed


@lru_cache(maxsize=64)  # the state that is asked about, held against hundreds of known ones
def _by_name_and_kind(ours: tuple[Hypothesis, ...]) -> tuple[dict[str, str], dict[str, list[str]]]:
    of_kind: dict[str, list[str]] = {}
    for name, kind in ours:
        of_kind.setdefault(kind, []).append(name)
    return dict(ours), of_kind


def _exchanged(text: str, renamed: dict[str, str]) -> str:
    if not any(name in text for name in renamed):
        return text
    return WHOLE_NAME.sub(lambda match: renamed.get(match[1], match[1]), text)
