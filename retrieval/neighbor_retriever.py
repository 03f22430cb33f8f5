"""Premises that the steps of the most similar known states cite: retrieval by neighbours.

Shape legend: B contexts, N premises, S known steps, K nearest ones of a state, k premises asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from common import ConfigError, Context, DataError, check_positive, format_state
from retrieval.citations import Citations
from retrieval.embedding_index import top_k
from retrieval.ngram_index import NgramIndex, largest, shares
from retrieval.retriever import Retriever
from retrieval.training.checkpoints import class_path, read_settings, write_settings
from retrieval.training.files import writing_folder
from retrieval.training.options import check_types

CITATIONS_FILE, INDEX_FILE = "citations.safetensors", "ngrams.safetensors"

_Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class NeighborOptions:
    """How the nearest steps become premises.

    Attributes:
        num_neighbors: K, steps whose premises are retrieved
        max_characters: of the first goal of a state the last, which are compared
        temperature: how much more a step counts by its similarity, from 0 to 1: exp(similarity / temperature)
        decay: how much less a step counts for every one before it: 1 / rank ** decay
        only_before: look up only what stands before the theorem, in its file or in one that it imports
    """

    num_neighbors: int = 200
    max_characters: int = 1200
    temperature: float = 0.2
    decay: float = 0.75
    only_before: bool = False

    def __post_init__(self) -> None:
        check_positive(num_neighbors=self.num_neighbors, max_characters=self.max_characters)
        check_positive(temperature=self.temperature)
        if not 0 <= self.decay <= 100:
            raise ConfigError(f"decay is {self.decay}; it must be from 0 to 100")

    def text(self, state: str) -> str:
        """Cut out of a state what is compared."""
        return format_state(state).partition("\n\n")[0][-self.max_characters :]


class NeighborRetriever(Retriever):
    """Gives each premise the weight of the K nearest known steps that cite it, of all K together.

    Steps of the theorem itself are never looked up. What no known step cites is not found.

    Attributes:
        citations: the known steps
        index: of their states
        options: how the nearest steps become premises
    """

    def __init__(self, citations: Citations, index: NgramIndex, options: NeighborOptions = NeighborOptions()) -> None:
        """Join the parts; see the class.

        Raises:
            DataError: if the index is not of the steps' states
        """
        if len(index) != citations.num_texts:
            raise DataError(f"the index holds {len(index)} texts, and the steps {citations.num_texts}; make both again")
        self.citations, self.index, self.options = citations, index, options
        self.name = "neighbors"
        self._located: npt.NDArray[np.int64] | None = None

    def forget(self) -> None:
        """See `Retriever.forget`."""
        self._located = None

    def prepare(self) -> None:
        """Find the premises that are cited in the corpus; those that it lacks are not retrieved."""
        corpus = self._corpus()
        if self._located is None:
            self._located = self.citations.located(corpus)
            if len(self._located) and (self._located < 0).all():
                raise DataError(
                    f"{self.name}: none of the {len(self._located):,} premises that it knows is in {corpus.path}; "
                    "give the corpus that belongs to the data it was made from"
                )

    def rank(self, contexts: Sequence[Context], k: int) -> tuple[Tensor, Tensor]:
        """See `Retriever.rank`; of equal ones the first comes first."""
        check_positive(k=k)
        self.prepare()
        scores = torch.from_numpy(np.stack([self._scores(context) for context in contexts]))
        return top_k(scores.masked_fill_(~self._accessible(contexts) | (scores == 0), -torch.inf), k)

    def neighbors(self, context: Context) -> tuple[npt.NDArray[np.int64], _Floats]:
        """Return the nearest steps of a state, numbers and similarities, greatest first; of equal ones the first.

        There are at most K of them, and none that shares nothing with the state.
        """
        similarities = self.index.scores(self.options.text(context.state))[self.citations.text_of]
        imported = self._corpus().imported_by(context.path) if self.options.only_before else None
        similarities *= self.citations.may_look_up(context, imported)
        numbers = largest(similarities, self.options.num_neighbors)
        return numbers, similarities[numbers]

    def _scores(self, context: Context) -> _Floats:
        """The share of each premise in what the nearest steps have together, float32 (N,)."""
        assert self._located is not None
        steps, similarities = self.neighbors(context)
        weights = shares(similarities, self.options.temperature, self.options.decay)
        places, counts = self.citations.cited_by(steps)
        numbers, weights = self._located[places], np.repeat(weights, counts)
        is_known = numbers >= 0
        scores = np.bincount(numbers[is_known], weights[is_known], minlength=len(self._corpus()))
        return scores.astype(np.float32)

    # -------------------------------------------------------------------------------------------- files

    def save(self, folder: Path, sources: Mapping[str, str]) -> None:
        """Write a new folder, which `load` and `load_retriever` open.

        Args:
            folder: to write
            sources: hashes of what the steps were read from, by name, for who asks where they come from

        Raises:
            ConfigError: if the folder is there and not empty
            DataError: if the system refuses to write
        """
        made_from = self.citations.digest()
        about = {"neighbors": asdict(self.options), "citations": made_from, "sources": dict(sources)}
        with writing_folder(folder, f"the retriever to {folder}") as part:
            self.citations.save(part / CITATIONS_FILE)
            self.index.save(part / INDEX_FILE, made_from)
            write_settings(part, class_path(type(self)), about)

    @classmethod
    def load(cls, path: str | Path) -> NeighborRetriever:
        """Open what `save` wrote; its arrays are memory-mapped.

        Raises:
            DataError: if a file is missing, broken, of another version, or of another folder
        """
        folder = Path(path)
        settings = (read_settings(folder) or {}).get("options", {})
        where = f"{folder}: neighbors of nextstep.json"
        try:
            check_types(NeighborOptions, settings["neighbors"], where)
            options = NeighborOptions(**settings["neighbors"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise DataError(f"{where}: is not what this program writes ({error}); make the folder again") from error
        citations, made_from = Citations.load(folder / CITATIONS_FILE), str(settings.get("citations"))
        if citations.digest() != made_from:
            raise DataError(f"{folder / CITATIONS_FILE}: is not of this folder, or broken; make the folder again")
        retriever = cls(citations, NgramIndex.load(folder / INDEX_FILE, made_from), options)
        retriever.name = str(folder)
        return retriever
