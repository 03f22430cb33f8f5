"""Whether what a candidate uses and introduces fits the goal, as far as text tells.

What a statement binds matches any part of the goal in balanced parentheses, the same one everywhere: `x + y = y + x`
fits `a * b + c = c + a * b`. Types, notations and what computes to the same are not known, which makes it a feature of
a ranking and no check.

Shape legend: T tokens.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from generator.nearest.adaptation import WHOLE_NAME, hypotheses
from generator.nearest.statements import (
    CLOSE,
    KINDS,
    OPEN,
    Statement,
    Tokens,
    kind_of,
    number_bound,
    read,
    stated_type,
    tokens,
)
from generator.nearest.steps import TURNSTILE

# features of a candidate in order, by the lemma or hypothesis that it applies or rewrites with first: 1 for one that
# fits, -1 for one that does not, 0 if it uses none that is known
FITS = (
    *("applies what fits", "applies", "rewrites what is there", "rewrites"),
    *("share of its constants that the goal lacks", "applies the goal itself"),
    *("introduces more than is there", "introduces names that are taken"),
    *(f"names a hypothesis that is {kind}" for kind in KINDS),
)
# of a state: what its first goal is
GOALS = (*(f"goal is {kind}" for kind in KINDS), "both sides are the same", "goal is a hypothesis")

_NO_KIND = [0.0] * len(KINDS)
_LONGEST = 300  # tokens of a goal that are read
_MOST_ATOMS, _MOST_STEPS = 8, 600  # atoms that a bound name matches, and steps of a search before it gives up
_MOST_BOUND = 100  # names in a pattern: each is a call deeper
_USE = re.compile(r"\b(?:(e?rewrite|setoid_rewrite|rw|simp_rw|erw)|[er]?apply|e?exact|e?refine)\b\s*(.*)", re.DOTALL)
_FIRST = re.compile(r"[\s(@!?\d\[]*(<-|->|←)?[\s(@!?\d]*([^\W\d](?:[\w'.]*[\w'])?)")
_IN = re.compile(r"\bin\s+([^\W\d][\w']*)")
_INTRODUCES = re.compile(r"\s*r?intros?\s+([^;.\[\](){}|]*)")
_BACKWARDS = frozenset(("<-", "←"))


class Target:
    """What a pattern is matched with: tokens, and where each balanced part ends."""

    def __init__(self, found: Tokens) -> None:
        """Take over the first tokens."""
        self.tokens = found[:_LONGEST]
        self.known = frozenset(self.tokens)
        self.ends: list[int | None] = []  # behind each token, or behind the parenthesis that closes it
        opened: list[int] = []
        for place, token in enumerate(self.tokens):
            self.ends.append(None if token in OPEN or token in CLOSE else place + 1)
            if token in OPEN:
                opened.append(place)
            elif token in CLOSE and opened:
                self.ends[opened.pop()] = place + 1

    def has(self, pattern: Tokens, bound: frozenset[str]) -> bool:
        """Tell whether a part of it matches; what binds everything matches nothing."""
        return self._may_match(pattern, bound) and any(map(_Search(pattern, bound, self), range(len(self.tokens))))

    def is_like(self, pattern: Tokens, bound: frozenset[str]) -> bool:
        """Tell whether the whole of it matches."""
        return self._may_match(pattern, bound) and _Search(pattern, bound, self, whole=True)(0)

    def _may_match(self, pattern: Tokens, bound: frozenset[str]) -> bool:
        constants = [token for token in pattern if token not in bound]
        if not constants or not self.known.issuperset(constants):
            return False
        return len(bound.intersection(pattern)) <= _MOST_BOUND


class _Search:
    """Looks for a pattern from a place on."""

    def __init__(self, pattern: Tokens, bound: frozenset[str], target: Target, *, whole: bool = False) -> None:
        self._pattern, self._bound, self._target, self._whole = pattern, bound, target, whole
        self._left = _MOST_STEPS

    def __call__(self, place: int, at: int = 0, stands_for: Mapping[str, Tokens] | None = None) -> bool:
        """Tell whether the pattern from `at` on matches what stands from `place` on."""
        self._left -= 1
        if self._left < 0:
            return False
        there, stands_for = self._target.tokens, stands_for or {}
        for following, token in enumerate(self._pattern[at:], start=at + 1):
            meant = stands_for.get(token) if token in self._bound else (token,)
            if meant is None:
                return any(
                    self(end, following, {**stands_for, token: there[place:end]}) for end in self._ends_of_parts(place)
                )
            end = _behind(there, place, meant)
            if end is None:
                return False
            place = end
        return not self._whole or place == len(there)

    def _ends_of_parts(self, place: int) -> Iterator[int]:
        for _ in range(_MOST_ATOMS):
            end = self._target.ends[place] if place < len(self._target.tokens) else None
            if end is None:
                return
            yield end
            place = end


def _behind(there: Tokens, place: int, meant: Tokens) -> int | None:
    """Where tokens end that stand at a place, with parentheses around them, or without theirs; None if they do not."""
    bare = meant[1:-1] if meant[:1] == ("(",) else ()
    for written in (meant, bare, ("(", *meant, ")") if len(meant) > 1 else ()):
        if written and there[place : place + len(written)] == written:
            return place + len(written)
    return None


def _one_of(kind: str) -> list[float]:
    return [float(kind == other) for other in KINDS]


class Fitting:
    """Tells what of a state's lemmas and hypotheses fits its first goal."""

    def __init__(self, goal: str, lemmas: Mapping[str, Statement | None]) -> None:
        """Read a goal.

        Args:
            goal: the first goal
            lemmas: what lemmas say, by the names that they are written with
        """
        self._lemmas, self._types = lemmas, dict(hypotheses(goal))
        said = tokens(goal[goal.rfind(TURNSTILE) + len(TURNSTILE) :] if TURNSTILE in goal else goal)
        self._goal, self._conclusion = Target(said), Target(read(said).conclusion)
        self._number_bound = number_bound(said)
        self._kinds = {name: _one_of(kind_of(tokens(kind))) for name, kind in self._types.items()}
        self._types_read: dict[str, Target] = {}
        self._known: dict[tuple[str, str, str], tuple[float, float]] = {}

    def features(self, tactic: str) -> list[float]:
        """The features `FITS` of a tactic."""
        named = next((name for name in WHOLE_NAME.findall(tactic) if name in self._kinds), None)
        kinds = _NO_KIND if named is None else self._kinds[named]
        return [*self._of_use(tactic), *self._of_introduced(tactic), *kinds]

    def of_goal(self) -> list[float]:
        """The features `GOALS` of the state."""
        said = self._goal.tokens
        sides = read(said).sides if kind_of(said) in ("equation", "equality") else None
        is_there = any(tokens(kind) == said for kind in self._types.values())
        return [*_one_of(kind_of(said)), float(sides is not None and sides[0] == sides[1]), float(is_there)]

    def _of_introduced(self, tactic: str) -> list[float]:
        found = _INTRODUCES.match(tactic)
        names = found[1].split() if found else ()
        return [float(max(len(names) - self._number_bound, 0)), float(sum(name in self._types for name in names))]

    def _of_use(self, tactic: str) -> list[float]:
        applied, rewritten, lacking = [0.0, 0.0], [0.0, 0.0], 0.0
        use = _USE.search(tactic)
        named = use and _FIRST.match(use[2])
        says = self._says(named[2]) if named else None
        if use is None or named is None or says is None:
            return [*applied, *rewritten, lacking, 0.0]
        place = _IN.search(use[2].partition(";")[0])
        if use[1]:
            where = place[1] if place and place[1] in self._types else ""
            fits, lacking = self._kept("rewrite" + (named[1] or ""), named[2], where, says)
            rewritten = [fits, 1.0]
        elif not place:
            fits, lacking = self._kept("apply", named[2], "", says)
            applied = [fits, 1.0]
        is_goal = not use[1] and not place and says.conclusion == self._conclusion.tokens
        return [*applied, *rewritten, lacking, float(is_goal)]

    def fits(self, name: str) -> bool:
        """Tell whether a lemma may be applied to the goal, or rewrite a part of it from left to right."""
        says = self._says(name)
        if says is None:
            return False
        is_there = says.sides is not None and self._kept("rewrite", name, "", says)[0] > 0
        return is_there or self._kept("apply", name, "", says)[0] > 0

    def _says(self, name: str) -> Statement | None:
        return stated_type(self._types[name]) if name in self._types else self._lemmas.get(name)

    def _kept(self, how: str, name: str, where: str, says: Statement) -> tuple[float, float]:
        key = (how, name, where)
        if key not in self._known:
            self._known[key] = self._looked_up(how, where, says)
        return self._known[key]

    def _looked_up(self, how: str, where: str, says: Statement) -> tuple[float, float]:
        """1 or -1 for whether it fits, and how many of its constants are not there."""
        if how == "apply":
            target, part, fits = self._conclusion, says.conclusion, self._applies(says)
        else:
            if where and where not in self._types_read:
                self._types_read[where] = Target(tokens(self._types[where]))
            target = self._types_read[where] if where else self._goal
            backwards = how.removeprefix("rewrite") in _BACKWARDS
            part = says.conclusion if says.sides is None else says.sides[backwards]
            fits = target.has(part, says.bound)
        constants = says.constants_of(part)
        lacking = sum(token not in target.known for token in constants) / (len(constants) + 1)
        return (1.0 if fits else -1.0), lacking

    def _applies(self, says: Statement) -> bool:
        parts = (says.conclusion, *(says.sides or () if says.is_equivalence else ()))
        return any(target.is_like(part, says.bound) for target in (self._conclusion, self._goal) for part in parts)
