"""What retrievers found for the steps of train, of which training draws negatives that are hard to tell apart.

Shape legend: N steps of a split, F retrievers, R premises that each found for a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from common import DataError
from retrieval.corpus import Corpus
from retrieval.leandojo.traces import TracedTactics
from retrieval.predictions.reader_writer import Predictions


class RetrievedNegatives:
    """Premises by step: those that any of several retrievers found among its best."""

    def __init__(
        self,
        folders: Sequence[str | Path],
        corpus: Corpus,
        traces: TracedTactics,
        positives: Sequence[Sequence[int]],
        max_rank: int,
        *,
        progress: bool = True,
    ) -> None:
        """Find the predictions of each step that cites a premise; others are no examples.

        Args:
            folders: of the predictions, F of them
            corpus: what the numbers refer to
            traces: the steps
            positives: what each of them cites
            max_rank: R, the premises that are taken of each retriever
            progress: show a progress bar for what takes long

        Raises:
            DataError: if predictions are missing or broken, or made for another corpus or other steps
        """
        steps = [number for number, cited in enumerate(positives) if cited]
        self._places = {number: place for place, number in enumerate(steps)}
        found = []
        for folder in folders:
            predictions = Predictions.load(folder, corpus)
            rows = [
                predictions.find(traces[number].provenance)
                for number in tqdm(steps, desc="match hard negatives", delay=1, disable=not progress)
            ]
            known = [row for row in rows if row is not None]
            if len(known) < len(rows):
                raise DataError(
                    f"hard_negatives_path {folder}: has no predictions for {len(rows) - len(known):,} of the "
                    f"{len(rows):,} steps of {traces.path} that cite a premise; predict premises for train, such as by "
                    "python -m retrieval.predict"
                )
            found.append(predictions.premise_numbers[known, :max_rank])
        self._found = np.concatenate(found, axis=1)  # int32 (steps that cite, up to F R), -1 where there is none

    def __getitem__(self, step: int) -> list[int]:
        """Return the premises that were found for a step that cites some, each once, best first for each retriever."""
        numbers: list[int] = self._found[self._places[step]].tolist()
        return [number for number in dict.fromkeys(numbers) if number >= 0]
