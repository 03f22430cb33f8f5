"""The premises that were retrieved for the steps of a split, and the bytes they take in a model's input.

Shape legend: N steps, K retrieved premises.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from common import DataError, Premise
from retrieval.corpus import Corpus
from retrieval.leandojo.traces import TracedTactics
from retrieval.predictions.reader_writer import Predictions


class RetrievedPremises:
    """Premises by step; `retrieved[index]` are those of the index-th of the chosen steps, best first."""

    def __init__(
        self,
        corpus: Corpus,
        predictions: Predictions,
        traces: TracedTactics,
        steps: npt.NDArray[np.int64],
        *,
        told: Callable[[Premise], Premise] = lambda premise: premise,
        progress: bool = True,
    ) -> None:
        """Find the predictions of each step.

        Args:
            corpus: where the premises are
            predictions: which premises were retrieved for each step
            traces: steps of proofs
            steps: numbers of those to look up, (N,)
            told: what a premise becomes before it is written
            progress: show progress bars for what takes long

        Raises:
            DataError: if a step has no predictions
        """
        self._corpus, self._predictions, self._told, self._progress = corpus, predictions, told, progress
        self._numbers = predictions.premise_numbers  # read from disk here, before workers fork
        self._rows = np.full(len(steps), -1, dtype=np.int64)
        for index in tqdm(range(len(steps)), desc="match predictions", delay=1, disable=not progress):
            step = traces[int(steps[index])]
            row = predictions.find(step.provenance)
            self._rows[index] = -1 if row is None else row
        missing = np.flatnonzero(self._rows < 0)
        if len(missing):
            step = traces[int(steps[missing[0]])]
            raise DataError(
                f"{traces.path}: {len(missing):,} of {len(steps):,} steps have no predictions, first "
                f"{step.provenance} tactic {step.provenance.tactic_idx}; predict premises for this split, or leave "
                "out preds_path"
            )

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> list[Premise]:
        return [self._told(self._corpus[number]) for number in self._predictions.retrieved(int(self._rows[index]))]

    def num_bytes(self, room: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the bytes that the premises of each step take of its room, at most, (N,).

        Args:
            room: bytes left for premises in each input, (N,)
        """
        taken = np.zeros_like(room)
        num_bytes = np.zeros(len(self._corpus), dtype=np.int64)  # 0: not known yet
        for rank in tqdm(range(self._numbers.shape[1]), desc="measure premises", delay=1, disable=not self._progress):
            column = self._numbers[self._rows, rank]
            rows = np.flatnonzero((taken < room) & (column >= 0))  # most inputs are full after a few premises
            for number in np.unique(column[rows]).tolist():
                if not num_bytes[number]:
                    num_bytes[number] = len(self._told(self._corpus[number]).serialize().encode()) + len("\n\n")
            taken[rows] += num_bytes[column[rows]]
        return np.minimum(taken, room)
