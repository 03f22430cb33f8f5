"""The lookup as a generator: what was done in the most similar states of proofs that are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from common import Candidate, Context, DataError, check_positive
from generator.interface.tactic_generator import TacticGenerator, not_blank
from generator.nearest.adaptation import adapted
from generator.nearest.calibration import Calibration
from generator.nearest.lemmas import LemmaFinder, LemmaSource
from generator.nearest.ranked import RankedSteps
from generator.nearest.steps import StateText, Steps
from retrieval.corpus import Corpus
from retrieval.ngram_index import NgramIndex, largest
from retrieval.retriever import Retriever
from retrieval.training.checkpoints import class_path, read_settings, write_settings
from retrieval.training.files import writing_folder
from retrieval.training.options import check_types

STEPS_FILE, INDEX_FILE = "steps.safetensors", "ngrams.safetensors"


@dataclass(frozen=True)
class LookupOptions:
    """How the nearest steps become candidates.

    Attributes:
        num_neighbors: K, steps whose tactics are proposed
        adapt_names: write the tactics with the names that hypotheses of the same type have in the state; see `adapt`
        only_before: look up only what stands before the theorem, in its file or in one that it imports
    """

    num_neighbors: int = 200
    adapt_names: bool = True
    only_before: bool = False

    def __post_init__(self) -> None:
        check_positive(num_neighbors=self.num_neighbors)


class NearestTacticGenerator(TacticGenerator):
    """Proposes the tactics of the K steps whose states are the most similar, searched exactly.

    The proof of the theorem itself is never looked up. The log-probabilities are calibrated on held-out steps, see
    `generator.nearest.calibration`: a candidate's is that of the right tactic being among those of the K steps, times
    the share that the steps with this tactic have of all K. Where a ranking was learnt, it says the order and the
    probabilities instead, see `generator.nearest.ranking`.

    Attributes:
        steps: that may be looked up
        index: of what is compared of their states
        text: what that is
        lookup: how the nearest steps become candidates
        calibration: how similarities become probabilities
        corpus: tells which files a file imports; None: what stands before a theorem is in its own file alone
        ranked: proposes in the order of a learnt ranking; None: by the votes of the K steps
    """

    def __init__(
        self,
        steps: Steps,
        index: NgramIndex,
        text: StateText = StateText(),
        lookup: LookupOptions = LookupOptions(),
        calibration: Calibration = Calibration(),
        corpus: Corpus | None = None,
        ranked: RankedSteps | None = None,
    ) -> None:
        """Join the parts; see the class.

        Raises:
            DataError: if the index is not of the steps' texts
        """
        if len(index) != steps.num_texts:
            raise DataError(f"the index holds {len(index)} texts, and the steps {steps.num_texts}; make both again")
        self.steps, self.index, self.text = steps, index, text
        self.lookup, self.calibration, self.corpus, self.ranked = lookup, calibration, corpus, ranked

    @property
    def retriever(self) -> Retriever | None:
        """See `TacticGenerator`: where composed candidates get lemmas from."""
        found = None if self.ranked is None else self.ranked.find_lemmas
        return None if found is None else found.retriever

    def propose(self, contexts: Sequence[Context], num_candidates: int) -> list[list[Candidate]]:
        """See `TacticGenerator.propose`."""
        return [self._candidates(context)[:num_candidates] for context in contexts]

    def neighbors(self, context: Context) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Return the nearest steps of a state: numbers and similarities, greatest first; of equal ones the first.

        There are at most K of them, and none that shares nothing with the state.
        """
        similarities = self.index.scores(self.text(context.state))[self.steps.text_of]
        similarities *= self.visible(context)
        numbers = largest(similarities, self.lookup.num_neighbors)
        return numbers, similarities[numbers]

    def visible(self, context: Context) -> npt.NDArray[np.bool_]:
        """Tell which steps may be looked up for a theorem, bool (N,)."""
        imported = () if self.corpus is None else self.corpus.imported_by(context.path)
        return self.steps.may_look_up(context, imported, only_before=self.lookup.only_before)

    def tactics(self, numbers: npt.NDArray[np.int64], context: Context) -> list[str]:
        """Return the tactic that each of these steps proposes for a state."""
        is_adapted = self.lookup.adapt_names
        return adapted(self.steps, numbers, context.state) if is_adapted else self.steps.tactics(numbers)

    def _candidates(self, context: Context) -> list[Candidate]:
        if self.ranked is not None:
            visible, adapt_names = self.visible(context), self.lookup.adapt_names
            return not_blank(self.ranked.candidates(context, visible, adapt_names=adapt_names))
        numbers, similarities = self.neighbors(context)
        if not len(numbers):
            return []
        totals: dict[str, float] = {}
        for tactic, share in zip(
            self.tactics(numbers, context), self.calibration.shares(similarities).tolist(), strict=True
        ):
            totals[tactic] = totals.get(tactic, 0.0) + share
        log_known = self.calibration.log_known(float(similarities[0]))
        ranked = sorted(totals.items(), key=lambda item: -item[1])  # stable: of equal ones the nearest first
        return not_blank((tactic, log_known + float(np.log(max(share, 1e-300)))) for tactic, share in ranked)

    # -------------------------------------------------------------------------------------------- files

    def save(self, folder: Path, sources: Mapping[str, str]) -> None:
        """Write a new folder, from which `load` and `load_generator` make the generator.

        Args:
            folder: to write
            sources: hashes of what the steps were read from, by name, for who asks where they come from

        Raises:
            ConfigError: if the folder is there and not empty
            DataError: if the system refuses to write
        """
        options: dict[str, Any] = {name: asdict(getattr(self, name)) for name in _GROUPS}
        options["is_ranked"] = self.ranked is not None
        options["is_composed"] = self.ranked is not None and self.ranked.composed is not None
        lemmas = None if self.ranked is None else self.ranked.find_lemmas
        options["lemmas"] = None if lemmas is None else lemmas.source.to_settings(folder)
        made_from = self.steps.digest()
        with writing_folder(folder, f"the lookup to {folder}") as part:
            self.steps.save(part / STEPS_FILE)
            self.index.save(part / INDEX_FILE, made_from)
            if self.ranked is not None:
                self.ranked.save(part, made_from)
            write_settings(part, class_path(type(self)), {**options, "steps": made_from, "sources": dict(sources)})

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        corpus_path: str | Path | None = None,
        num_neighbors: int | None = None,
        adapt_names: bool | None = None,
        only_before: bool | None = None,
    ) -> NearestTacticGenerator:
        """Open what `save` wrote; its arrays are memory-mapped.

        Args:
            path: the folder
            corpus_path: corpus.jsonl, which says what a file imports, and holds the premises that a folder with a
                retriever retrieves; such a folder names one
            num_neighbors: as the folder says, if not given; like the next two, see `LookupOptions`
            adapt_names: see there
            only_before: see there

        Raises:
            ConfigError: if an option is out of range
            DataError: if a file is missing, broken, of another version, or of another folder
        """
        folder = Path(path)
        options = (read_settings(folder) or {}).get("options", {})
        given = {"num_neighbors": num_neighbors, "adapt_names": adapt_names, "only_before": only_before}
        groups = {name: _read_group(kind, options, name, folder) for name, kind in _GROUPS.items()}
        lookup = LookupOptions(
            **asdict(groups["lookup"]) | {name: value for name, value in given.items() if value is not None}
        )
        steps, made_from = Steps.load(folder / STEPS_FILE), str(options.get("steps"))
        if steps.digest() != made_from:
            raise DataError(f"{folder / STEPS_FILE}: is not of this folder, or broken; make the folder again")
        index = NgramIndex.load(folder / INDEX_FILE, made_from)
        corpus = None if corpus_path is None else Corpus(corpus_path)
        text = groups["text"]
        ranked, lemmas = None, options.get("lemmas")  # folders of before do not say the last
        source = None if lemmas is None else LemmaSource.of_settings(lemmas, folder)
        if options.get("is_ranked") is True:
            is_composed = options.get("is_composed") is True  # folders of before do not say it
            finder = None if source is None else LemmaFinder.load(folder, source, corpus)
            ranked = RankedSteps.load(folder, steps, text, index, made_from, is_composed=is_composed, lemmas=finder)
        return cls(steps, index, text, lookup, groups["calibration"], corpus, ranked)


_GROUPS = {"text": StateText, "lookup": LookupOptions, "calibration": Calibration}


def _read_group(kind: type, options: dict[str, Any], name: str, folder: Path) -> Any:
    """One dataclass of options out of nextstep.json.

    Raises:
        DataError: if it is not there, or has other options
    """
    where = f"{folder}: {name} of nextstep.json"
    try:
        check_types(kind, options[name], where)
        return kind(**options[name])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{where}: is not what this program writes ({error}); make the folder again") from error
