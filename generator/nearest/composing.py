"""Candidates that no known step has: those of the learnt order with a name, a lemma or a part exchanged.

A candidate with a hole where it names a hypothesis, or a lemma, is a template. Templates are filled with the hypotheses
of the state, with the lemmas of other candidates, and with those that a retriever finds; compound tactics lose a part
or take that of another. What the learnt order holds probable is more probable in parts too, so that each candidate,
known or composed, is described by the probabilities of all that share its template, its filling, its first word or its
first part.

Shape legend: C candidates of the learnt order, E candidates in all, F features of a candidate, Q of a state.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import numpy as np

from common import Candidate
from generator.nearest.adaptation import WHOLE_NAME, hypotheses, names_in
from generator.nearest.features import BY_TEXT, Seen, Table, Uses, looks_local, of_text
from generator.nearest.fitting import FITS, GOALS, Fitting
from generator.nearest.lemmas import OF_LEMMAS, QUALIFIED, Lemma, of_lemmas, words_in
from generator.nearest.steps import TURNSTILE

Kind = Literal["hypothesis", "lemma", "part", "binders", "retrieved"]

KINDS: tuple[Kind, ...] = ("hypothesis", "lemma", "part", "binders")
# features in order; a "share" is the logarithm of a sum of probabilities of the learnt order
COMPOSED = (
    *("log-probability", "log-probability of the source", "place of the source", "is known"),
    *(f"{kind} is exchanged" for kind in KINDS),
    *("share of the template of hypotheses", "share of the template of lemmas", "share of the first word"),
    *("share of the first part", "share of the rest", "share of the names", "least share of a name"),
    *("hypothesis from the end", "likeness of hypothesis and goal", "filling in the goal"),
    *BY_TEXT,
    *FITS,
)
RETRIEVED = ("retrieved is filled in", *OF_LEMMAS)  # behind the others where a retriever finds lemmas
COMPOSED_STATE = (
    *("log-probability that none is right", "greatest log-probability", "hypotheses", "candidates"),
    *GOALS,
)

# how many of the learnt order are sources, and of what they are filled with
_SOURCES, _HYPOTHESES, _TEMPLATES, _LEMMAS, _PARTS, _TAILS = 40, 12, 10, 40, 30, 5
# names of retrieved lemmas that are tried, of more that fit the goal, and templates beside those of the candidates: of
# 400 val states of Coq's library 8 that fit add 1.0 points to the recall of all candidates, 24 1.2, as many others 0.2
_RETRIEVED, _FITTING, _USUAL = 8, 16, 12
_ENDS = ("; auto", "; trivial", "; auto with arith")
_NONE = 1e-6  # of probabilities
_HOLE = "\0"
_WORD = re.compile(r"[^\W\d][\w']*")
_BINDERS = re.compile(rf"{TURNSTILE}\s*(?:forall|∀)\s+(.*?),\s", re.DOTALL)


@dataclass(frozen=True)
class Origin:
    """What a composed candidate was made of: the kind, the place of its source, the name that was filled in."""

    kind: Kind
    place: int
    filling: str = ""


def compose(
    ranked: Sequence[Candidate],
    goal: str,
    is_word: Callable[[str], bool],
    retrieved: Mapping[str, Lemma] | None = None,
    usual: Sequence[str] = (),
    *,
    fitting: Fitting,
) -> dict[str, Origin]:
    """Return new candidates, each with where it comes from first; of those that are there already none.

    Args:
        ranked: candidates of the learnt order, best first
        goal: the first goal
        is_word: whether a name is one of the tactic language
        retrieved: lemmas that a retriever found, the best first
        usual: templates that these are tried in beside those of the candidates, see `usual_templates`
        fitting: `fitting_of` the goal and the lemmas
    """
    known = {tactic for tactic, _ in ranked}
    local = [name for name, _ in hypotheses(goal)]
    templates = _LemmaTemplates.of(ranked, _Lemmas(set(local), is_word))
    found: dict[str, Origin] = {}
    for tactic, origin in (
        *_of_hypotheses(ranked, local),
        *_of_lemmas(templates),
        *_of_parts(ranked),
        *_of_binders(ranked, goal),
        *_of_retrieved(templates, _tried(list(retrieved or ()), fitting), usual, len(ranked) - 1),
    ):
        if tactic and tactic not in known:
            found.setdefault(tactic, origin)
    return found


def describe_composed(
    ranked: Sequence[Candidate],
    goal: str,
    uses: Uses,
    composed: dict[str, Origin],
    is_word: Callable[[str], bool],
    retrieved: Mapping[str, Lemma] | None = None,
    first_words: Sequence[str] = (),
    *,
    fitting: Fitting,
) -> Table:
    """Put together what is known of all candidates of a state, those of the learnt order first.

    Args:
        ranked: candidates of the learnt order, best first
        goal: the first goal
        uses: how often tactics and names are used
        composed: what `compose` returned
        is_word: see `compose`
        retrieved: see `compose`
        first_words: of each candidate it is known with which of them it begins, if with any
        fitting: see `compose`
    """
    probabilities = {tactic: float(np.exp(log_prob)) for tactic, log_prob in ranked}
    seen = Seen(goal)
    lemmas = _Lemmas(set(seen.hypotheses), is_word)
    totals: dict[tuple[str, str], float] = defaultdict(float)
    keys = {tactic: _keys(tactic, seen.hypotheses, lemmas) for tactic in (*probabilities, *composed)}
    for tactic, probability in probabilities.items():
        for key in keys[tactic]:
            totals[key] += probability
        for name in names_in(tactic):
            totals["name", name] += probability
    order = {name: place for place, (name, _) in enumerate(reversed(hypotheses(goal)))}
    types = dict(hypotheses(goal))
    rows = []
    for place, (tactic, log_prob) in enumerate(ranked):
        first = [log_prob, log_prob, np.log1p(place), 1.0, *(0.0 for _ in KINDS)]
        rows.append(first + _shares(tactic, keys[tactic], totals))
        rows[-1] += _of_filling(_local_in(tactic, order), order, types, seen) + of_text(tactic, False, seen, uses)
    for tactic, origin in composed.items():
        first = [np.log(_NONE), ranked[origin.place][1], np.log1p(origin.place), 0.0]
        first += [float(origin.kind == kind) for kind in KINDS]
        rows.append(first + _shares(tactic, keys[tactic], totals))
        filling = origin.filling or _local_in(tactic, order)
        rows[-1] += _of_filling(filling, order, types, seen) + of_text(tactic, False, seen, uses)
    target = words_in(seen.target)
    for tactic, row in zip((*probabilities, *composed), rows, strict=True):
        row += fitting.features(tactic)
        if retrieved is not None:
            is_filled = tactic in composed and composed[tactic].kind == "retrieved"
            row += [float(is_filled), *of_lemmas(tactic, retrieved, target)]
        begins = first_word(tactic)
        row += [float(begins == word) for word in first_words]
    none = max(1 - sum(probabilities.values()), _NONE)
    state = [np.log(none), ranked[0][1], len(order) / 10, np.log1p(len(rows)), *fitting.of_goal()]
    return Table([*probabilities, *composed], np.array(rows, dtype=np.float32), np.array(state, dtype=np.float32))


def fitting_of(goal: str, retrieved: Mapping[str, Lemma] | None) -> Fitting:
    """Return what tells whether a goal's hypotheses and retrieved lemmas fit it."""
    return Fitting(goal, {name: lemma.says for name, lemma in (retrieved or {}).items()})


# ------------------------------------------------------------------------------------------------
# New candidates


class _Lemmas:
    """Tells which names of a tactic are those of lemmas: neither hypotheses nor words of the tactic language."""

    def __init__(self, local: Set[str], is_word: Callable[[str], bool]) -> None:
        self._local, self._is_word = local, is_word

    def __call__(self, tactic: str) -> list[str]:
        names = list(dict.fromkeys(QUALIFIED.findall(tactic)))[1:]
        return [
            name
            for name in names
            if len(name) > 3 and name not in self._local and not self._is_word(name) and not looks_local(name)
        ]


def usual_templates(uses: Mapping[str, int], is_word: Callable[[str], bool]) -> list[str]:
    """Return the templates of lemmas that known steps use most.

    Args:
        uses: how often each tactic is used
        is_word: see `compose`
    """
    lemmas, totals = _Lemmas(set(), is_word), defaultdict[str, float](float)
    for tactic, number in uses.items():
        for name in lemmas(tactic):
            totals[_with_holes(QUALIFIED, tactic, {name})] += number
    return _greatest(totals, _USUAL)


def _of_hypotheses(ranked: Sequence[Candidate], local: Sequence[str]) -> Iterator[tuple[str, Origin]]:
    """Each hypothesis of the state for one that a tactic names, which need not be there."""
    if not local:
        return
    there = set(local)
    for place, (tactic, _) in enumerate(ranked[:_SOURCES]):
        if tactic.startswith("intro"):
            continue
        for name in dict.fromkeys(WHOLE_NAME.findall(tactic)):
            if name in there or looks_local(name):
                template = _with_holes(WHOLE_NAME, tactic, {name})
                for other in local[-_HYPOTHESES:]:
                    yield template.replace(_HOLE, other), Origin("hypothesis", place, other)


@dataclass(frozen=True)
class _LemmaTemplates:
    """The place of each template of lemmas where it stands first, and the probabilities of templates and lemmas."""

    places: dict[str, int]
    of_template: dict[str, float]
    of_lemma: dict[str, float]

    @classmethod
    def of(cls, ranked: Sequence[Candidate], lemmas: _Lemmas) -> _LemmaTemplates:
        made = cls({}, defaultdict(float), defaultdict(float))
        for place, (tactic, log_prob) in enumerate(ranked):
            for name in lemmas(tactic):
                template = _with_holes(QUALIFIED, tactic, {name})
                made.places.setdefault(template, place)
                made.of_template[template] += np.exp(log_prob)
                made.of_lemma[name] += np.exp(log_prob)
        return made

    @property
    def best(self) -> list[str]:
        """The most probable ones."""
        return _greatest(self.of_template, _TEMPLATES)


def _of_lemmas(templates: _LemmaTemplates) -> Iterator[tuple[str, Origin]]:
    """The most probable lemmas in the most probable templates of lemmas."""
    for template in templates.best:
        for name in _greatest(templates.of_lemma, _LEMMAS):
            yield template.replace(_HOLE, name), Origin("lemma", templates.places[template], name)


def _tried(names: Sequence[str], fitting: Fitting) -> list[str]:
    """The best lemmas, and the best others that fit the goal."""
    return [*names[:_RETRIEVED], *islice(filter(fitting.fits, names[_RETRIEVED:]), _FITTING)]


def _of_retrieved(
    templates: _LemmaTemplates, names: Sequence[str], usual: Sequence[str], last: int
) -> Iterator[tuple[str, Origin]]:
    """Retrieved lemmas in the most probable and the most used templates of lemmas; these come from the last place."""
    for template in dict.fromkeys((*templates.best, *usual)):
        for name in names:
            yield template.replace(_HOLE, name), Origin("retrieved", templates.places.get(template, last), name)


def _of_parts(ranked: Sequence[Candidate]) -> Iterator[tuple[str, Origin]]:
    """Tactics without what stands behind a semicolon, with the end of another, and with what ends proofs often."""
    tails: dict[str, float] = defaultdict(float)
    for place, (tactic, log_prob) in enumerate(ranked):
        head, semicolon, tail = tactic.partition(";")
        if semicolon:
            tails[f";{tail}"] += np.exp(log_prob)
            yield head.strip(), Origin("part", place)
            yield tactic.rpartition(";")[0].strip(), Origin("part", place)
            yield tail.strip(), Origin("part", place)
        if tactic.startswith("now "):
            yield tactic[4:].strip(), Origin("part", place)
        elif place < _PARTS:
            yield f"now {tactic}", Origin("part", place)
    ends = dict.fromkeys((*_greatest(tails, _TAILS), *_ENDS))
    for place, (tactic, _) in enumerate(ranked[:_PARTS]):
        for end in ends:
            yield tactic + end, Origin("part", place)
            if ";" in tactic:
                yield tactic.partition(";")[0].rstrip() + end, Origin("part", place)


def _of_binders(ranked: Sequence[Candidate], goal: str) -> Iterator[tuple[str, Origin]]:
    """Introductions of the names that the goal itself binds, alone and with the rest of a known introduction."""
    found = _BINDERS.search(goal, max(goal.rfind(TURNSTILE), 0))
    if not found:
        return
    binders = found[1]
    groups = re.findall(r"\(([^():]*):", binders) if "(" in binders else [binders.partition(":")[0]]
    names = [name for group in groups for name in _WORD.findall(group)]
    known = [place for place, (tactic, _) in enumerate(ranked) if tactic.startswith("intro")]
    place = known[0] if known else len(ranked) - 1
    starts = [f"intros {' '.join(names[:number])}" for number in range(1, len(names) + 1)]
    starts += [f"intro {name}" for name in names[:1]]
    starts += [f"intros {' '.join(names)} {name}" for name in ("H", "H1 H2", "H0")] if names else []
    rests = dict.fromkeys(f";{ranked[at][0].partition(';')[2]}" for at in known[:30] if ";" in ranked[at][0])
    for start in starts:
        yield start, Origin("binders", place)
        for rest in (*rests,)[:5]:
            yield start + rest, Origin("binders", place)


def _greatest(totals: dict[str, float], number: int) -> list[str]:
    return sorted(totals, key=lambda name: -totals[name])[:number]


# ------------------------------------------------------------------------------------------------
# What is known of them


def first_word(tactic: str) -> str:
    """Return what a tactic begins with, up to a space; nothing of a blank one."""
    return tactic.split(maxsplit=1)[0] if tactic.strip() else ""


def _keys(tactic: str, local: Set[str], lemmas: _Lemmas) -> list[tuple[str, str]]:
    """What a tactic shares with others: two templates, its first word, its first part, and the rest."""
    named = set(lemmas(tactic))
    places = {name for name in names_in(tactic) if name in local or looks_local(name)}
    head, _, tail = tactic.partition(";")
    return [
        ("hypotheses", _with_holes(WHOLE_NAME, tactic, places)),
        ("lemmas", _with_holes(QUALIFIED, tactic, named)),
        ("word", first_word(tactic)),
        ("part", head.strip()),
        ("rest", tail.strip()),
    ]


def _with_holes(pattern: re.Pattern[str], tactic: str, names: Set[str]) -> str:
    return pattern.sub(lambda match: _HOLE if match[1] in names else match[1], tactic) if names else tactic


def _shares(tactic: str, keys: Iterable[tuple[str, str]], totals: dict[tuple[str, str], float]) -> list[float]:
    of_names = [np.log(totals.get(("name", name), 0.0) + _NONE) for name in names_in(tactic)] or [0.0]
    return [*(np.log(totals.get(key, 0.0) + _NONE) for key in keys), sum(of_names) / len(of_names), min(of_names)]


def _local_in(tactic: str, order: dict[str, int]) -> str:
    """The hypothesis that a tactic names last."""
    return next((name for name in reversed(WHOLE_NAME.findall(tactic)) if name in order), "")


def _of_filling(name: str, order: dict[str, int], types: dict[str, str], seen: Seen) -> list[float]:
    words = set(_WORD.findall(types.get(name, "")))
    likeness = len(words & seen.in_target) / (len(words) + 1)
    return [np.log1p(order.get(name, 30)), likeness, float(name in seen.in_target)]
