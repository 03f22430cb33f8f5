"""Examples for a tactic generator: a state, with retrieved premises if there are any, and its tactic.

Shape legend: B batch, S padded source length, T padded target length, N examples, K retrieved premises.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from common import (
    IGNORE_INDEX,
    MAX_LENGTH,
    ByteTokenizer,
    ConfigError,
    check_positive,
    check_probability,
    fit_state,
    remove_marks,
)
from generator.data.inputs import HeadingWriter, InputParts, PremiseParts, write_input
from generator.data.token_counts import count_tokens
from retrieval.corpus import Corpus
from retrieval.leandojo.provenance import ProvenanceLists, StepExample, provenance_lists
from retrieval.leandojo.tactic_text import TacticNames
from retrieval.leandojo.traces import TracedTactics
from retrieval.predictions.reader_writer import Predictions
from retrieval.predictions.retrieved import RetrievedPremises
from retrieval.training.batches import KeyedDataset


@dataclass(frozen=True)
class InputLimits:
    """How long the inputs and tactics of an encoder-decoder may be.

    Attributes:
        max_inp_seq_len: tokens of an input, EOS included
        max_oup_seq_len: tokens of a tactic, EOS included; longer ones are left out of training
    """

    max_inp_seq_len: int = 2300
    max_oup_seq_len: int = 512

    def __post_init__(self) -> None:
        check_positive(MAX_LENGTH, max_inp_seq_len=self.max_inp_seq_len, max_oup_seq_len=self.max_oup_seq_len)


@dataclass(frozen=True, eq=False, kw_only=True)
class GeneratorExample(StepExample):
    """What a model reads (`state`: retrieved premises and the state) and writes for one step of a proof.

    Attributes:
        tactic: the target
    """

    tactic: str


class GeneratorBatch(ProvenanceLists):
    """Examples as tensors; texts and provenance stay lists of length B."""

    state: list[str]
    state_ids: torch.Tensor  # int64 (B, S)
    state_mask: torch.Tensor  # int64 (B, S), 0 on padding
    tactic: list[str]
    tactic_ids: torch.Tensor  # int64 (B, T), -100 on padding
    tactic_mask: torch.Tensor  # int64 (B, T), 0 on padding
    index: list[int]


class GeneratorDataset(KeyedDataset[GeneratorExample]):
    """The steps of one split as examples.

    Attributes:
        traces: the steps of the file
        source_lengths: tokens of each input, EOS included, int64 (N,). Bytes for a byte tokenizer: exact
            without premises, else what the input takes if no premise is dropped. For other tokenizers the
            states are counted and the premises estimated.
        target_lengths: tokens of each target, EOS included, int64 (N,)
        num_long_targets: targets over the limit; they are left out of training and stay in evaluation,
            where the model can only fail on them
        num_long_states: states over the limit, of which the input holds the end
    """

    def __init__(
        self,
        data_path: str | Path,
        *,
        tokenizer: Any,
        max_inp_seq_len: int,
        max_oup_seq_len: int,
        parts: InputParts = InputParts(),
        premise_parts: PremiseParts = PremiseParts(),
        keep_marks: bool = False,
        tactic_names: TacticNames = "written",
        normalize_tactics: bool = False,
        p_drop: float = 0.5,
        is_train: bool,
        corpus: Corpus | None = None,
        predictions: Predictions | None = None,
        seed: int = 3407,
        progress: bool = True,
    ) -> None:
        """Read a split.

        Args:
            data_path: the file, such as random/train.json
            tokenizer: see `common.load_tokenizer`
            max_inp_seq_len: tokens of an input, EOS included; texts are fitted to it by their bytes, of
                which no token has fewer than one
            max_oup_seq_len: tokens of a target, EOS included
            parts: what is read beside states and premises
            premise_parts: how premises are told
            keep_marks: leave the marks around premise names in the targets
            tactic_names: "written" or "full"; see `TacticText`
            normalize_tactics: leave out white space that no prover reads; see `TacticText`
            p_drop: probability of leaving out each retrieved premise, in training
            is_train: drop premises, and leave out what is too long to learn
            corpus: where the retrieved premises are
            predictions: which premises were retrieved for each step
            seed: of premise dropout
            progress: show progress bars for what takes long

        Raises:
            ConfigError: if a limit is not positive, p_drop is no probability, only one of corpus and predictions
                is given, or the tokenizer cannot write more than half of the texts
            DataError: if the file is broken, or a step has no predictions
        """
        check_positive(MAX_LENGTH, max_inp_seq_len=max_inp_seq_len, max_oup_seq_len=max_oup_seq_len)
        check_probability(p_drop=p_drop)
        if (corpus is None) != (predictions is None):
            raise ConfigError("retrieved premises need both a corpus and predictions; give both or neither")
        self.tokenizer = tokenizer
        self.max_inp_seq_len, self.max_oup_seq_len = max_inp_seq_len, max_oup_seq_len
        self.keep_marks, self.is_train, self.seed = keep_marks, is_train, seed
        self.p_drop = p_drop if is_train else 0.0
        self.premise_share = premise_parts.premise_share
        self.traces = TracedTactics.load(
            data_path, tactic_names=tactic_names, normalize_tactics=normalize_tactics, progress=progress
        )
        self._progress = progress
        self._counts = None
        if not isinstance(tokenizer, ByteTokenizer):
            self._counts = count_tokens(
                self.traces, tokenizer, max_bytes=max_inp_seq_len - 1, keep_marks=keep_marks, progress=progress
            )
        targets = self._count_target_tokens()
        is_long = targets > max_oup_seq_len
        self.num_long_targets = int(is_long.sum())
        self._steps = np.flatnonzero(~is_long) if is_train else np.arange(len(targets))
        self.target_lengths = targets[self._steps]
        self.num_long_states = 0
        self._headings = None
        if parts.reads_theorem:
            self._headings = HeadingWriter(parts, max_inp_seq_len).all_of(self.traces, progress=progress)
        self._retrieved = None
        if corpus is not None and predictions is not None:
            self._retrieved = RetrievedPremises(
                corpus, predictions, self.traces, self._steps, told=premise_parts.told, progress=progress
            )
        self.source_lengths = self._count_source_tokens()

    def __len__(self) -> int:
        return len(self._steps)

    @property
    def num_target_tokens(self) -> int:
        """Tokens of all targets together."""
        return int(self.target_lengths.sum())

    def example(self, epoch: int, index: int) -> GeneratorExample:
        """See `KeyedDataset`."""
        step = self.traces[int(self._steps[index])]
        state = write_input(
            "" if self._headings is None else self._headings[int(self._steps[index])],
            step.state,
            [] if self._retrieved is None else self._retrieved[index],
            self.max_inp_seq_len,
            self.p_drop,
            random.Random(f"{self.seed} {epoch} {index}") if self.p_drop else None,
            self.premise_share,
        )
        return GeneratorExample(
            state=state,
            tactic=step.tactic if self.keep_marks else remove_marks(step.tactic),
            provenance=step.provenance,
            index=index,
        )

    def collate(self, examples: Sequence[GeneratorExample]) -> GeneratorBatch:
        """Pad examples to one batch; no target is cut."""
        return collate_steps(examples, self.tokenizer, self.max_inp_seq_len)

    def summary(self) -> str:
        """Say in one line what was read, what was left out, and what is cut."""
        notes = [self.traces.summary()]
        if len(self):
            means = self.source_lengths.mean(), self.target_lengths.mean()
            notes.append("{:,.0f} tokens in and {:,.0f} out on average".format(*means))
        if self.num_long_targets:
            outcome = "left out of training" if self.is_train else "kept; the model cannot write them"
            notes.append(f"{self.num_long_targets:,} tactics longer than max_oup_seq_len ({outcome})")
        notes += [] if self._counts is None else self._counts.notes()
        if self.keep_marks and self.traces.num_unmarked:
            notes.append(
                f"{self.traces.num_unmarked:,} tactics without marks (their annotated_tactic has another text)"
            )
        if self.num_long_states:
            notes.append(f"{self.num_long_states:,} states longer than max_inp_seq_len (cut to their last part)")
        return "; ".join(notes)

    # ----------------------------------------------------------------------------------------------
    # Lengths

    def _count_target_tokens(self) -> npt.NDArray[np.int64]:
        """Tokens of the tactics of all steps, EOS included."""
        if self._counts is not None:
            return self._counts.tactics
        return (self.traces.marked_tactic_lengths if self.keep_marks else self.traces.tactic_lengths) + 1

    def _count_source_tokens(self) -> npt.NDArray[np.int64]:
        """Tokens of the inputs of all examples, EOS included."""
        heading_bytes = np.zeros(len(self._steps), dtype=np.int64)
        if self._headings is not None:
            heading_bytes = self._headings.lengths[self._steps]
        left = self.max_inp_seq_len - 1 - heading_bytes
        num_bytes = self._fitted_lengths(left)
        other_bytes = heading_bytes
        if self._retrieved is not None:
            reserved = (left.clip(0) * self.premise_share).astype(np.int64)
            premise_bytes = self._retrieved.num_bytes(np.maximum(left - num_bytes, reserved))
            num_bytes = np.minimum(num_bytes, left - premise_bytes)
            other_bytes = heading_bytes + premise_bytes
        if self._counts is None:
            return num_bytes + other_bytes + 1
        num_tokens = self._counts.states[self._steps]
        tokens_per_byte = num_tokens.sum() / max(1, num_bytes.sum())
        num_tokens += np.ceil(other_bytes * tokens_per_byte).astype(np.int64)
        np.minimum(num_tokens, self.max_inp_seq_len, out=num_tokens)
        return num_tokens

    def _fitted_lengths(self, max_bytes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Bytes of the states of all examples, each cut to its limit."""
        num_bytes = self.traces.state_lengths[self._steps]
        is_long = np.flatnonzero(num_bytes > max_bytes)
        self.num_long_states = len(is_long)
        for index in tqdm(is_long.tolist(), desc="fit states", delay=1, disable=not self._progress):
            state = self.traces[int(self._steps[index])].state
            num_bytes[index] = len(fit_state(state, int(max_bytes[index])).encode())
        return num_bytes


def collate_steps(examples: Sequence[GeneratorExample], tokenizer: Any, max_inp_seq_len: int) -> GeneratorBatch:
    """Pad examples to one batch; no target is cut.

    Args:
        examples: B of them
        tokenizer: see `common.load_tokenizer`
        max_inp_seq_len: tokens of an input, EOS included
    """
    states = [example.state for example in examples]
    tactics = [example.tactic for example in examples]
    # texts fit already, unless a tokenizer makes several tokens of a byte
    source = tokenizer(states, padding="longest", max_length=max_inp_seq_len, truncation=True, return_tensors="pt")
    target = tokenizer(tactics, padding="longest", return_tensors="pt")
    mask = target["attention_mask"]
    if not isinstance(tokenizer, ByteTokenizer):  # mBART's writes a language behind EOS, which nothing decodes
        ends = (target["input_ids"] == tokenizer.eos_token_id) & (mask != 0)
        mask = mask.masked_fill(ends.cumsum(1) - ends.long() > 0, 0)
    return GeneratorBatch(
        state=states,
        state_ids=source["input_ids"],
        state_mask=source["attention_mask"],
        tactic=tactics,
        tactic_ids=target["input_ids"].masked_fill(mask == 0, IGNORE_INDEX),
        tactic_mask=mask,
        **provenance_lists([example.provenance for example in examples]),
        index=[example.index for example in examples],
    )
