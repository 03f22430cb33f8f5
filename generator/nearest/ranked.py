"""The lookup's candidates in the order of a learnt ranking."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from common import Candidate, Context, remove_marks
from generator.nearest.adaptation import adapted, first_goal, names_in
from generator.nearest.composing import (
    COMPOSED,
    COMPOSED_STATE,
    RETRIEVED,
    compose,
    describe_composed,
    first_word,
    fitting_of,
    usual_templates,
)
from generator.nearest.evidence import EvidenceIndex
from generator.nearest.features import Table, Uses, describe
from generator.nearest.lemmas import WRITTEN_FILE, LemmaFinder
from generator.nearest.ranking import Ranking, learn
from generator.nearest.steps import StateText, Steps
from retrieval.leandojo.traces import TracedTactic
from retrieval.ngram_index import NgramIndex
from retrieval.training.processes import in_order, num_processes

RANKING_FILE = "ranking.safetensors"
GOALS_FILE, NAMES_FILE = "goals.safetensors", "theorems.safetensors"
SHAPES_FILE, WHOLES_FILE = "shapes.safetensors", "state_shapes.safetensors"
_INDEXES = {"goals": GOALS_FILE, "shapes": SHAPES_FILE, "wholes": WHOLES_FILE, "names": NAMES_FILE}  # of the evidence
COMPOSED_FILE = "composed.safetensors"
NUM_STEPS = 600  # whose tactics are ranked; of 400 val states 200 hold the right one in 40.5%, 1,000 in 45.8%

_AT_ONCE = 50  # held-out steps that a process is given
_OFTEN = 10
_FIRST_WORDS = 24  # that candidates are told apart by
_FIXED = frozenset(("with", "using", "arith", "zarith", "real", "into", "repeat", "then", "else", "forall", "match"))

Visible = Callable[[Context], npt.NDArray[np.bool_]]  # which steps may be looked up for a theorem
_Counts = tuple[npt.NDArray[np.int64], dict[str, int]]  # uses of tactics by number everywhere, and by text in a file


class RankedSteps:
    """Ranks the tactics of the steps that are the nearest by all that tells how near they are.

    Attributes:
        evidence: finds the nearest steps
        ranking: the order of their tactics
        composed: the order of these and of candidates composed of them; None: none are composed
        find_lemmas: finds what candidates are composed of beside their own parts; None: nothing does
    """

    def __init__(
        self,
        steps: Steps,
        text: StateText,
        evidence: EvidenceIndex,
        ranking: Ranking,
        composed: Ranking | None = None,
        find_lemmas: LemmaFinder | None = None,
    ) -> None:
        """Join the parts."""
        self._steps, self._text = steps, text
        self.evidence, self.ranking, self.composed, self.find_lemmas = evidence, ranking, composed, find_lemmas

    def candidates(self, context: Context, visible: npt.NDArray[np.bool_], *, adapt_names: bool) -> list[Candidate]:
        """Return the candidates of a state, best first.

        Args:
            context: the theorem and the state
            visible: which steps may be looked up, bool (N,)
            adapt_names: whether tactics are written with the state's names
        """
        if self.composed is not None:
            table = self.composed_table(context, visible, adapt_names=adapt_names)
            return [] if table is None else self.composed.rank(table)
        table = self.table(context, visible, adapt_names=adapt_names)
        return [] if table is None else self.ranking.rank(table)

    def composed_table(self, context: Context, visible: npt.NDArray[np.bool_], *, adapt_names: bool) -> Table | None:
        """Return what is known of the candidates and of those composed of them; None if nothing is near."""
        counts = self._counts(context, visible)
        table = self._table(context, visible, counts, adapt_names=adapt_names)
        if table is None:
            return None
        ranked, goal, is_word = self.ranking.rank(table), first_goal(context.state), self._words.__contains__
        retrieved = None if self.find_lemmas is None else self.find_lemmas(context)
        fitting = fitting_of(goal, retrieved)
        usual = () if retrieved is None else self._usual
        composed = compose(ranked, goal, is_word, retrieved, usual, fitting=fitting)
        uses = self._uses(counts, {*table.tactics, *composed})
        return describe_composed(ranked, goal, uses, composed, is_word, retrieved, self._first_words, fitting=fitting)

    def table(self, context: Context, visible: npt.NDArray[np.bool_], *, adapt_names: bool) -> Table | None:
        """Return what is known of the candidates; None if nothing is near."""
        return self._table(context, visible, self._counts(context, visible), adapt_names=adapt_names)

    def _table(
        self, context: Context, visible: npt.NDArray[np.bool_], counts: _Counts, *, adapt_names: bool
    ) -> Table | None:
        found = self.evidence.nearest(context, self._text(context.state), visible, NUM_STEPS)
        if not len(found.numbers):
            return None
        steps = self._steps
        written = steps.tactics(found.numbers)
        proposed = adapted(steps, found.numbers, context.state) if adapt_names else written
        uses = self._uses(counts, {*proposed, *written})
        return describe(found, proposed, written, first_goal(context.state), uses)

    def _counts(self, context: Context, visible: npt.NDArray[np.bool_]) -> _Counts:
        """How often each tactic is used where it may be looked up; the theorem's own proof counts nothing."""
        steps = self._steps
        in_file = visible & (steps.file_of_step == steps.file_number(context.path))
        counts = Counter(steps.tactic_of[in_file].tolist())
        return (
            np.bincount(steps.tactic_of[visible], minlength=steps.num_tactics),
            {steps.tactic(number): count for number, count in counts.items()},
        )

    def _uses(self, counts: _Counts, tactics: set[str]) -> Uses:
        everywhere, in_file = counts
        numbers = {tactic: self._number_of[tactic] for tactic in tactics if tactic in self._number_of}
        return Uses({tactic: int(everywhere[number]) for tactic, number in numbers.items()}, in_file, self._of_name)

    @cached_property
    def _number_of(self) -> dict[str, int]:
        return {self._steps.tactic(number): number for number in range(self._steps.num_tactics)}

    @cached_property
    def _of_name(self) -> Counter[str]:
        return Counter(name for tactic in self._number_of for name in names_in(tactic))

    @cached_property
    def _words(self) -> frozenset[str]:
        """Names of tactics and what stands beside them: those that begin tactics often, and short fixed ones."""
        first = Counter(first_word(tactic) for tactic in self._number_of if tactic.strip())
        return frozenset(word for word, number in first.items() if number >= _OFTEN) | _FIXED

    @cached_property
    def _usual(self) -> list[str]:
        return usual_templates(self._num_uses, self._words.__contains__)

    @cached_property
    def _first_words(self) -> list[str]:
        """The words that most steps begin with."""
        uses: Counter[str] = Counter()
        for tactic, number in self._num_uses.items():
            uses[first_word(tactic)] += number
        return [word for word, _ in uses.most_common(_FIRST_WORDS) if word]

    @cached_property
    def _num_uses(self) -> dict[str, int]:
        uses = np.bincount(self._steps.tactic_of, minlength=self._steps.num_tactics).tolist()
        return {tactic: uses[number] for tactic, number in self._number_of.items()}

    @property
    def of_composed(self) -> tuple[str, ...]:
        """The features that candidates are described by where some are composed."""
        of_lemmas = () if self.find_lemmas is None else RETRIEVED
        return (*COMPOSED, *of_lemmas, *(f"begins with {word}" for word in self._first_words))

    # -------------------------------------------------------------------------------------------- files

    def save(self, folder: Path, made_from: str) -> None:
        """Write five files, or up to seven, into the folder of a lookup.

        Raises:
            DataError: if the system refuses to write
        """
        self.ranking.save(folder / RANKING_FILE)
        if self.composed is not None:
            self.composed.save(folder / COMPOSED_FILE)
        if self.find_lemmas is not None:
            self.find_lemmas.save(folder)
        for name, file in _INDEXES.items():
            getattr(self.evidence, name).save(folder / file, made_from)

    @classmethod
    def load(
        cls,
        folder: Path,
        steps: Steps,
        text: StateText,
        states: NgramIndex,
        made_from: str,
        *,
        is_composed: bool = False,
        lemmas: LemmaFinder | None = None,
    ) -> RankedSteps:
        """Open what `save` wrote.

        Raises:
            DataError: if a file is missing, broken, or of another folder
        """
        indexes = {name: NgramIndex.load(folder / file, made_from) for name, file in _INDEXES.items()}
        evidence = EvidenceIndex(steps, states, **indexes)
        ranked = cls(steps, text, evidence, Ranking.load(folder / RANKING_FILE), find_lemmas=lemmas)
        if is_composed:
            ranked.composed = Ranking.load(folder / COMPOSED_FILE, ranked.of_composed, COMPOSED_STATE)
        return ranked


def learnt_of(folder: Path) -> list[bytes]:
    """Return what a lookup's folder has learnt, as it stands in its files: what made it no setting tells."""
    paths = (folder / name for name in (RANKING_FILE, COMPOSED_FILE, WRITTEN_FILE))
    return [path.read_bytes() if path.is_file() else b"" for path in paths]


def learn_ranking(
    steps: Steps,
    text: StateText,
    states: NgramIndex,
    held_out: Sequence[TracedTactic],
    visible: Visible,
    *,
    adapt_names: bool,
    seed: int = 0,
) -> RankedSteps:
    """Return the ranking that is learnt from held-out steps, for each of which its own proof is not looked up.

    Args:
        steps: that may be looked up
        text: what is compared of a state
        states: index of these texts
        held_out: steps
        visible: which steps may be looked up
        adapt_names: whether tactics are written with the state's names
        seed: see `learn`

    Raises:
        ConfigError: if none of the right tactics is among the candidates
    """
    made = RankedSteps(steps, text, EvidenceIndex.of(steps, states, progress=True), Ranking())
    made.ranking = learn(_tables(made.table, held_out, visible, adapt_names), seed, progress=True)
    return made


def learn_composed(
    ranked: RankedSteps, held_out: Sequence[TracedTactic], visible: Visible, *, adapt_names: bool, seed: int = 0
) -> Ranking:
    """Return the order of known and composed candidates, learnt like that of the known ones; see `learn_ranking`."""
    tables = _tables(ranked.composed_table, held_out, visible, adapt_names)
    return learn(tables, seed, candidate=ranked.of_composed, of_state=COMPOSED_STATE, progress=True)


def _tables(
    table_of: Callable[..., Table | None], held_out: Sequence[TracedTactic], visible: Visible, adapt_names: bool
) -> list[tuple[Table, str]]:
    """What is known of the candidates of each held-out step, and its tactic; without steps that nothing is near.

    All cores take part.
    """

    def work(numbers: range) -> list[tuple[Table, str] | None]:
        torch.set_num_threads(1)  # a forked process has none of the threads that torch may have started
        found: list[tuple[Table, str] | None] = []
        for step in held_out[numbers.start : numbers.stop]:
            table = table_of(step.context, visible(step.context), adapt_names=adapt_names)
            found.append(None if table is None else (table, remove_marks(step.tactic)))
        return found

    parts = [range(start, min(start + _AT_ONCE, len(held_out))) for start in range(0, len(held_out), _AT_ONCE)]
    tables: list[tuple[Table, str]] = []
    with tqdm(total=len(held_out), desc="held-out steps", unit="state") as bar:
        for found in in_order(work, parts, num_processes(len(parts))):
            tables += [each for each in found if each is not None]
            bar.update(len(found))
    return tables
