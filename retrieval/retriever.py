"""What every premise retriever does, however it finds premises: an encoder, BM25, known proofs, several together.

Shape legend: B contexts, N premises of the corpus, k premises asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from common import ConfigError, Context, FilePath, Premise, check_positive
from retrieval.contexts import contexts_of, place_of
from retrieval.corpus import Corpus


class Retriever:
    """Finds the premises that a proof may go on with; a subclass has `rank`.

    Attributes:
        embeds: whether there are embeddings of the premises, which may be read from a folder
        corpus: what is retrieved from; None before `load_corpus`
        name: of the retriever, in tables and files
    """

    embeds: ClassVar[bool] = False
    corpus: Corpus | None = None
    name: str = ""

    def load_corpus(self, corpus: Corpus | str | Path, index_path: str | Path | None = None) -> None:
        """Choose what to retrieve from.

        Args:
            corpus: the premises, or their corpus.jsonl
            index_path: embeddings of it, for who has them; see `PremiseSearch.load_corpus`

        Raises:
            ConfigError: if there is an index, and nothing that reads it
            DataError: if the corpus is broken
        """
        if index_path is not None:
            raise ConfigError(f"index_path {index_path}: {self.name or 'this retriever'} embeds nothing; leave it out")
        loaded = corpus if isinstance(corpus, Corpus) else Corpus(corpus)
        if loaded is not self.corpus:
            self.corpus = loaded
            self.forget()

    def forget(self) -> None:
        """Drop what was made of another corpus."""

    def prepare(self) -> None:
        """Do what takes long now, and not at the first question."""

    def reindex_corpus(self, batch_size: int | None = None) -> Any:
        """What provers call behind `load_corpus`; see `prepare`."""
        self.prepare()

    def to(self, device: Any) -> Self:
        """Go to a device, as far as there is something to go there."""
        return self

    def rank(self, contexts: Sequence[Context], k: int) -> tuple[Tensor, Tensor]:
        """Return the k best premises that may be cited in each context, best first.

        Args:
            contexts: B states, and the theorems in whose proofs they come up
            k: greater than 0

        Returns:
            Scores, float32 (B, k), and premise numbers, int64 (B, k); where fewer are found the tail holds -inf and -1.

        Raises:
            DataError: if the corpus has no such file, or a position is not given
        """
        raise NotImplementedError

    def retrieve(
        self, state: str, file_path: FilePath, theorem_full_name: str, theorem_pos: Any, k: int
    ) -> tuple[list[Premise], list[float]]:
        """Return the k best premises that a theorem may cite in a state, best first, and their scores.

        Args:
            state: as the proof assistant prints it
            file_path: the theorem's source file, as the corpus writes it
            theorem_full_name: the theorem; BM25 compares it with the names of premises, and others do not need it
            theorem_pos: where it starts; whatever `Pos.of` reads
            k: premises to return; fewer where fewer are accessible

        Raises:
            ConfigError: if k is not positive, or there is no corpus
            DataError: if the corpus has no such file
        """
        premises, scores = self.batch_retrieve([state], [file_path], [theorem_full_name], [theorem_pos], k)
        return premises[0], scores[0]

    def batch_retrieve(
        self,
        states: Sequence[str],
        file_paths: Sequence[FilePath],
        theorem_full_names: Sequence[str],
        theorem_positions: Sequence[Any],
        k: int,
    ) -> tuple[list[list[Premise]], list[list[float]]]:
        """Return what `retrieve` returns for each of several states, in their order."""
        contexts = contexts_of(states, file_paths, theorem_full_names, theorem_positions)
        return self.retrieve_contexts(contexts, k)

    @torch.no_grad()
    def retrieve_contexts(self, contexts: Sequence[Context], k: int) -> tuple[list[list[Premise]], list[list[float]]]:
        """Return the k best premises for each context, best first, and their scores; see `retrieve`."""
        check_positive(k=k)
        corpus = self._corpus()
        if not contexts:
            return [], []
        scores, numbers = (tensor.tolist() for tensor in self.rank(contexts, k))
        premises = [[corpus[number] for number in row if number >= 0] for row in numbers]
        return premises, [row[: len(found)] for row, found in zip(scores, premises, strict=True)]

    def _corpus(self) -> Corpus:
        if self.corpus is None:
            raise ConfigError("the retriever has no corpus; call load_corpus, or set corpus_path")
        return self.corpus

    def _accessible(self, contexts: Sequence[Context]) -> Tensor:
        """Which premises each context may cite, bool (B, N)."""
        return self._corpus().accessible_masks([place_of(context) for context in contexts])
