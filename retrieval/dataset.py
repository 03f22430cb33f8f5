"""Examples for a premise retriever: a context, and in training a premise that it cites and some that it does not.

Shape legend: B batch, L padded length of contexts, M padded length of premises, P premises of the batch,
Q positive premises of a context.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from retrieval.corpus import Corpus
from retrieval.encoder import PremiseText, context_text, premise_text, tokenize
from retrieval.leandojo.provenance import ProvenanceLists, StepExample, provenance_lists
from retrieval.leandojo.traces import TracedTactics
from retrieval.metrics import is_positive, pad_numbers
from retrieval.negatives import Negatives
from retrieval.predictions.files import hash_state
from retrieval.retrieved_negatives import RetrievedNegatives
from retrieval.training.batches import KeyedDataset


@dataclass(frozen=True, eq=False, kw_only=True)
class RetrievalExample(StepExample):
    """A state to retrieve premises for; `state` is what the retriever reads of it.

    Attributes:
        state_hash: of the whole state, see `hash_state`
        positives: numbers of all premises that the step cites
        premises: numbers of the premise to find and, behind it, of negatives; none outside training
    """

    state_hash: str
    positives: list[int]
    premises: list[int]


class RetrievalBatch(ProvenanceLists):
    """Contexts as tensors; texts and provenance stay lists of length B."""

    state: list[str]
    state_ids: torch.Tensor  # int64 (B, L)
    state_mask: torch.Tensor  # int64 (B, L), 0 on padding
    state_hash: list[str]
    index: list[int]
    positives: torch.Tensor  # premise numbers, int64 (B, Q), -1 behind the last


class RetrievalTrainingBatch(RetrievalBatch):
    """Contexts, and the premises to find for them with negatives, all in one tensor."""

    premise_numbers: torch.Tensor  # int64 (P,)
    premise_ids: torch.Tensor  # int64 (P, M)
    premise_mask: torch.Tensor  # int64 (P, M), 0 on padding
    targets: torch.Tensor  # which of the P is each context's own, int64 (B,)
    labels: torch.Tensor  # True where premise p is a positive one of context b, bool (B, P)


class RetrievalDataset(KeyedDataset[RetrievalExample]):
    """The contexts of one split as examples; in training, one for each premise that a context cites.

    Attributes:
        traces: the steps of the split
        positives: numbers of the premises that each step cites
        source_lengths: bytes of each context and EOS, int64 (N,)
    """

    def __init__(
        self,
        traces: TracedTactics,
        positives: Sequence[Sequence[int]],
        corpus: Corpus,
        *,
        tokenizer: Any,
        max_seq_len: int,
        is_train: bool,
        only_citing: bool,
        premise_form: PremiseText = "marked",
        negatives: Negatives = Negatives(),
        retrieved: RetrievedNegatives | None = None,
        seed: int = 3407,
    ) -> None:
        """Choose the examples of a split.

        Args:
            traces: its steps
            positives: see `positive_premises`
            corpus: what the numbers refer to
            tokenizer: see `common.load_tokenizer`
            max_seq_len: tokens of a context or premise, EOS included
            is_train: one example for each premise that a context cites, with negatives
            only_citing: leave out contexts that cite no premise, since no metric counts them; training always does
            premise_form: how a premise is written, see `premise_text`
            negatives: premises that training adds to each example
            retrieved: what hard ones are drawn from
            seed: where negatives are drawn from
        """
        self.traces, self.positives, self.corpus = traces, positives, corpus
        self.tokenizer, self.max_seq_len, self.is_train, self.seed = tokenizer, max_seq_len, is_train, seed
        self.premise_form, self.negatives, self._retrieved = premise_form, negatives, retrieved
        num_cited = np.array([len(numbers) for numbers in positives], dtype=np.int64)
        steps = np.arange(len(traces))
        if is_train:
            self._steps = np.repeat(steps, num_cited)
            self._targets = np.array([number for numbers in positives for number in numbers], dtype=np.int64)
        else:
            self._steps = steps[num_cited > 0] if only_citing else steps
        self.source_lengths = np.minimum(traces.state_lengths[self._steps] + 1, max_seq_len)

    def __len__(self) -> int:
        return len(self._steps)

    def example(self, epoch: int, index: int) -> RetrievalExample:
        """See `KeyedDataset`."""
        number = int(self._steps[index])
        step, positives = self.traces[number], list(self.positives[number])
        premises = []
        if self.is_train:
            target = int(self._targets[index])
            rng = np.random.default_rng([self.seed, epoch, index])
            place = step.provenance.place
            retrieved = [] if self._retrieved is None else self._retrieved[number]
            premises = [target, *self.negatives.draw(self.corpus, place, target, positives, rng, retrieved)]
        return RetrievalExample(
            state=context_text(step.state, self.max_seq_len),
            provenance=step.provenance,
            index=index,
            state_hash=hash_state(step.state),
            positives=positives,
            premises=premises,
        )

    def collate(self, examples: Sequence[RetrievalExample]) -> RetrievalBatch:
        """Pad examples to one batch; in training it has premises too, see `RetrievalTrainingBatch`."""
        states = [example.state for example in examples]
        ids, mask = tokenize(self.tokenizer, states, self.max_seq_len)
        batch = RetrievalBatch(
            state=states,
            state_ids=ids,
            state_mask=mask,
            **provenance_lists([example.provenance for example in examples]),
            state_hash=[example.state_hash for example in examples],
            index=[example.index for example in examples],
            positives=pad_numbers([example.positives for example in examples]),
        )
        return self._with_premises(batch, [example.premises for example in examples]) if self.is_train else batch

    def _with_premises(self, batch: RetrievalBatch, premises: Sequence[Sequence[int]]) -> RetrievalTrainingBatch:
        """Add premises and labels: those of the other examples are further negatives, unless cited too."""
        numbers = torch.tensor([number for row in premises for number in row])
        texts = [premise_text(self.corpus[number], self.premise_form) for number in numbers.tolist()]
        ids, mask = tokenize(self.tokenizer, texts, self.max_seq_len)
        return RetrievalTrainingBatch(
            **batch,
            premise_numbers=numbers,
            premise_ids=ids,
            premise_mask=mask,
            targets=torch.tensor([0, *map(len, premises[:-1])]).cumsum(0),
            labels=is_positive(numbers[None], batch["positives"]),
        )
