"""Premises that a retriever finds for a state, as proofs write them, and how they fit what is to be proved.

What similar proofs cite is mostly among the candidates of a lookup already; a retriever also knows what no known step
cites, and says of each lemma how likely it is, whoever proposed it.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import numpy as np

from common import MARK_END, MARK_START, ConfigError, Context, DataError, Premise, split_name
from generator.nearest.statements import Statement, stated
from retrieval.corpus import Corpus
from retrieval.leandojo.traces import TracedTactic
from retrieval.load import BM25, load_retriever
from retrieval.retriever import Retriever
from retrieval.training.checkpoints import read_settings
from retrieval.training.files import write_json
from retrieval.training.options import check_types
from retrieval.training.parts import find_part, path_of_part

WRITTEN_FILE = "written_names.json"
NUM_RETRIEVED = 100  # that are known to a state; few of them are tried where no known step cites them
# features of a candidate that the lemmas which it names say
OF_LEMMAS = ("place of the lemma", "score of the lemma", "statement in the goal", "conclusion in the goal")

# a name with the modules that it stands in, as it is written
QUALIFIED = re.compile(r"(?<![\w.'])([^\W\d][\w']*(?:\.[^\W\d][\w']*)*)(?![\w'])")
_MARKED = re.compile(rf"{MARK_START}(.+?){MARK_END}", re.DOTALL)
_WORD = re.compile(r"[^\W\d][\w']*|[^\w\s]+")
_BEFORE_CONCLUSION = re.compile(r"->|→|,")


@dataclass(frozen=True)
class Lemma:
    """A premise that was found for a state.

    Attributes:
        place: among those found, from 0
        score: the retriever's
        statement: names and symbols of its code
        conclusion: those behind the last arrow or comma
        says: what its code declares, if it is read
    """

    place: int
    score: float
    statement: frozenset[str]
    conclusion: frozenset[str]
    says: Statement | None = None


class WrittenNames:
    """How proofs write premises: a name's last parts, as many as it takes where they stand.

    Attributes:
        everywhere: the most used text for each full name
        in_file: for each file and full name the text that is used there, where it is another one
    """

    def __init__(self, everywhere: Mapping[str, str], in_file: Mapping[str, Mapping[str, str]]) -> None:
        """Take over what was counted or read."""
        self.everywhere, self.in_file = everywhere, in_file

    @classmethod
    def of(cls, steps: Iterable[TracedTactic], corpus: Corpus) -> Self:
        """Count what stands between the marks of known tactics; of equally used texts the first."""
        located: dict[object, str | None] = {}
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        of_file: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        for step in steps:
            for text, place in zip(_MARKED.findall(step.tactic), step.premises, strict=False):
                if place not in located:
                    found = corpus.locate_premise(*place)
                    located[place] = None if found is None else found.full_name
                full_name = located[place]
                if full_name is not None:
                    counts[full_name][text] += 1
                    of_file[step.provenance.file_path, full_name][text] += 1
        everywhere = {name: texts.most_common(1)[0][0] for name, texts in counts.items()}
        in_file: dict[str, dict[str, str]] = {}
        for (path, name), texts in of_file.items():
            if (text := texts.most_common(1)[0][0]) != everywhere[name]:
                in_file.setdefault(path, {})[name] = text
        return cls(everywhere, in_file)

    def __call__(self, path: str, full_name: str) -> list[str]:
        """Return how a premise may be written in a file; of one that no known step cites the last part, and two."""
        known = self.in_file.get(path, {}).get(full_name) or self.everywhere.get(full_name)
        if known is not None:
            return [known]
        parts = split_name(full_name)
        return list(dict.fromkeys((parts[-1], ".".join(parts[-2:]))))

    def save(self, path: Path) -> None:
        """Write a JSON file.

        Raises:
            DataError: if the system refuses to write
        """
        write_json(path, {"everywhere": dict(self.everywhere), "in_file": dict(self.in_file)})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            DataError: if the file is missing or broken
        """
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            everywhere, in_file = found["everywhere"], found["in_file"]
            for texts in (everywhere, *in_file.values()):
                if not all(isinstance(text, str) for text in texts.values()):
                    raise ValueError("a name is no text")
        except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
            raise DataError(
                f"{path}: does not say how premises are written ({error}); make the folder again"
            ) from error
        return cls(everywhere, in_file)


@dataclass(frozen=True)
class LemmaSource:
    """Where lemmas come from.

    Attributes:
        ret_ckpt_path: the retriever, see `retrieval.load.load_retriever`
        corpus_path: corpus.jsonl that it retrieves from
        index_path: folder of its embeddings, if it needs any
    """

    ret_ckpt_path: str
    corpus_path: str
    index_path: str | None = None

    def open(self, corpus: Corpus | None = None) -> Retriever:
        """Return the retriever, ready to be asked; of another corpus than its own, if one is given."""
        retriever = load_retriever(self.ret_ckpt_path)
        retriever.load_corpus(corpus or self.corpus_path, self.index_path)
        retriever.prepare()
        return retriever

    def to_settings(self, folder: Path) -> dict[str, Any]:
        """Return how the settings of a folder name it: local paths as seen from there."""
        named = {name: path_of_part(value, folder) for name, value in asdict(self).items() if value not in (None, BM25)}
        return asdict(self) | named

    @classmethod
    def of_settings(cls, settings: Any, folder: Path) -> Self:
        """Read what `to_settings` returned.

        Raises:
            DataError: if it is something else
        """
        where = f"{folder}: lemmas of nextstep.json"
        try:
            check_types(cls, settings, where)
            named = {name: value for name, value in settings.items() if value not in (None, BM25)}
            return cls(**settings | {name: find_part(value, folder) for name, value in named.items()})
        except (AttributeError, ConfigError, TypeError, ValueError) as error:
            raise DataError(f"{where}: is not what this program writes ({error}); make the folder again") from error


def local_parts(folder: Path) -> list[Path]:
    """Return the files and folders that a lookup's lemmas come from; none of another folder."""
    lemmas = ((read_settings(folder) or {}).get("options") or {}).get("lemmas")
    if lemmas is None:
        return []
    named = (Path(value) for value in asdict(LemmaSource.of_settings(lemmas, folder)).values() if value is not None)
    return [path for path in named if path.exists()]


class LemmaFinder:
    """Finds what a state's proof may cite, by the names that it is written with.

    Attributes:
        retriever: with its corpus
        names: how proofs write premises
        source: where the retriever comes from
    """

    def __init__(self, retriever: Retriever, names: WrittenNames, source: LemmaSource) -> None:
        """Join the parts."""
        self.retriever, self.names, self.source = retriever, names, source

    def save(self, folder: Path) -> None:
        """Write a file into the folder of a lookup; see `WrittenNames.save`."""
        self.names.save(folder / WRITTEN_FILE)

    @classmethod
    def load(cls, folder: Path, source: LemmaSource, corpus: Corpus | None = None) -> Self:
        """Open what `save` wrote, and the retriever; see `LemmaSource.open`.

        Raises:
            ConfigError, DataError: if a file is missing or broken, or there is no such retriever
        """
        return cls(source.open(corpus), WrittenNames.load(folder / WRITTEN_FILE), source)

    def __call__(self, context: Context) -> dict[str, Lemma]:
        """Return the premises by the names that they may be written with, the best first.

        None in a file that the corpus does not know, or where nobody says where the theorem stands.
        """
        corpus = self.retriever.corpus
        if corpus is None or context.theorem_pos is None or not corpus.knows(context.path):
            return {}
        (premises,), (scores,) = self.retriever.retrieve_contexts([context], NUM_RETRIEVED)
        found: dict[str, Lemma] = {}
        for place, (premise, score) in enumerate(zip(premises, scores, strict=True)):
            lemma = Lemma(place, score, *words_of(premise), stated(premise.code))
            for name in self.names(context.path, premise.full_name):
                found.setdefault(name, lemma)
        return found


def of_lemmas(tactic: str, lemmas: Mapping[str, Lemma], target: frozenset[str]) -> list[float]:
    """The features `OF_LEMMAS` of a tactic; of several lemmas those of the best.

    Args:
        tactic: a candidate
        lemmas: that were found, by the names that they are written with
        target: names and symbols of what is to be proved
    """
    named = [lemmas[name] for name in QUALIFIED.findall(tactic) if name in lemmas]
    if not named:
        return [float(np.log1p(NUM_RETRIEVED)), 0.0, 0.0, 0.0]
    best = min(named, key=lambda lemma: lemma.place)
    return [float(np.log1p(best.place)), best.score, _share(best.statement, target), _share(best.conclusion, target)]


def _share(words: frozenset[str], target: frozenset[str]) -> float:
    return len(words & target) / (len(words) + 1)


@lru_cache(maxsize=50_000)
def words_of(premise: Premise) -> tuple[frozenset[str], frozenset[str]]:
    """Names and symbols of a premise's code, and those of its conclusion."""
    return words_in(premise.code), words_in(_BEFORE_CONCLUSION.split(premise.code)[-1])


def words_in(text: str) -> frozenset[str]:
    """Names and symbols of a text."""
    return frozenset(_WORD.findall(text))
