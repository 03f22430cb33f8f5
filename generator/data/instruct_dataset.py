"""Examples for a decoder-only generator: the steps of a split as tokens that keep the limits.

Shape legend: N examples.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from common import MAX_LENGTH, ConfigError, check_positive, check_probability, drop_premises
from generator.data.completion_encoding import CompletionEncoder, EncodedExample
from generator.data.instruct_batch import InstructBatch, InstructExample, collate_rows
from generator.data.prompted_steps import Background, PromptedStep, PromptedSteps
from generator.data.tokenized_steps import (
    LONG_COMPLETIONS,
    LONG_GOALS,
    LONG_PROMPTS,
    TokenLimits,
    tokenize_steps,
    without_completion,
)
from retrieval.training.batches import KeyedDataset

_IN_EVALUATION = {
    LONG_GOALS: "kept as misses",
    LONG_PROMPTS: "kept as misses",
    LONG_COMPLETIONS: "kept without labels",
}
_NUM_SAMPLED = 512  # prompts of which the tokens per byte are taken


@dataclass(frozen=True)
class PromptFormat:
    """How a state becomes a prompt and a tactic a completion, and how long they may be.

    Attributes:
        template: how both are written, see generator.prompts. Data without one leaves the prompts of instruct data as
            they are (LeanDojo data needs one); a model without one takes that of its training data
        max_seq_len: tokens of prompt, completion and EOS together
        max_completion_len: tokens of a completion, EOS included, of which longer ones are left out of training; prompts
            have the rest
    """

    template: str | None = None
    max_seq_len: int = 2048
    max_completion_len: int = 256

    def __post_init__(self) -> None:
        check_positive(MAX_LENGTH, max_seq_len=self.max_seq_len, max_completion_len=self.max_completion_len)
        if self.max_completion_len >= self.max_seq_len:
            raise ConfigError(
                f"max_completion_len is {self.max_completion_len}, which leaves no room for a prompt in max_seq_len "
                f"{self.max_seq_len}; lower it"
            )

    @property
    def max_prompt_len(self) -> int:
        """Tokens that a prompt may take."""
        return self.max_seq_len - self.max_completion_len


class InstructDataset(KeyedDataset[InstructExample]):
    """The steps of one split as examples.

    A prompt takes at most max_seq_len - max_completion_len tokens, however short its completion is: inference, which
    does not know the completion, shortens it to the same text. Epochs differ only where premises are dropped.

    Attributes:
        max_prompt_len: tokens that a prompt may take
        source_lengths: tokens of each example, int64 (N,); with premises or file context, the most it can take under a
            byte tokenizer, and an estimate under others
        left_out: how many examples were left out, or in evaluation kept as misses, by reason
    """

    def __init__(
        self,
        steps: PromptedSteps,
        *,
        tokenizer: Any,
        max_seq_len: int,
        max_completion_len: int,
        is_train: bool,
        p_drop: float = 0.0,
        seed: int = 3407,
        progress: bool = True,
    ) -> None:
        """Tokenise a split.

        Examples with premises or file context, which would fill the memory, are tokenised again whenever they are read.

        Args:
            steps: its prompts and completions
            tokenizer: see `common.load_tokenizer`
            max_seq_len: tokens of prompt, completion and EOS together
            max_completion_len: tokens of a completion, EOS included. None is ever cut: an example with a longer one is
                left out of training, and stays in evaluation, without labels, as one that the model cannot answer. So
                is one whose goal fits no prompt; its prompt in evaluation is "".
            is_train: leave out what is too long to learn
            p_drop: probability of leaving out each retrieved premise, in training
            seed: where premise dropout draws from
            progress: show a progress bar where it takes more than a second

        Raises:
            ConfigError: if the limits leave no room, p_drop is no probability, the tokenizer has no EOS, or it cannot
                write more than half of the texts
        """
        self.max_prompt_len = PromptFormat(None, max_seq_len, max_completion_len).max_prompt_len  # checks them
        check_probability(p_drop=p_drop)
        self.p_drop, self.seed = p_drop if is_train else 0.0, seed
        self.steps, self.is_train = steps, is_train
        self.max_seq_len, self.max_completion_len = max_seq_len, max_completion_len
        self.encoder = CompletionEncoder(tokenizer)
        limits = TokenLimits(self.max_prompt_len, max_completion_len, is_train)
        self._tokens = tokens = tokenize_steps(steps, self.encoder, limits, progress=progress)
        for trip in (tokens.prompts, tokens.tactics):
            trip.check(steps.source, tokenizer)
        self._shortened, self._numbers = tokens.shortened, tokens.numbers
        self.left_out = tokens.left_out
        self.source_lengths: npt.NDArray[np.int64] = np.diff(tokens.bounds)
        if steps.background is not None and len(self):
            self.source_lengths = self.source_lengths + self._count_background_tokens(steps.background)

    @property
    def num_shortened(self) -> int:
        """Prompts that their template shortened."""
        return sum(prompt != "" for prompt in self._shortened.values())

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def num_target_tokens(self) -> int:
        """Tokens of all completions together, each with its EOS."""
        return len(self._tokens.ids) - int(self._tokens.num_prompt_tokens.sum())

    def example(self, epoch: int, index: int) -> InstructExample:
        """See `KeyedDataset`."""
        number = int(self._numbers[index])
        step = self.steps[number]
        prompt, example = self._shortened.get(number, step.prompt), self._encoded(index)
        if self.steps.background is not None and prompt:
            prompt, example = self._with_background(step, example, self.steps.background, epoch, index)
        return InstructExample(
            state=prompt,
            tactic=step.tactic,
            proof_state="" if step.fields is None else step.fields.state,
            input_ids=example.input_ids,
            num_prompt_tokens=example.num_prompt_tokens,
            provenance=step.provenance,
            index=index,
        )

    def _encoded(self, index: int) -> EncodedExample:
        """Return an example as it was tokenised at the beginning, without premises and file context."""
        tokens = self._tokens
        ids = tokens.ids[tokens.bounds[index] : tokens.bounds[index + 1]]
        return EncodedExample(ids.tolist(), int(tokens.num_prompt_tokens[index]))

    def _with_background(
        self, step: PromptedStep, without: EncodedExample, background: Background, epoch: int, index: int
    ) -> tuple[str, EncodedExample]:
        """Return the prompt and the tokens of a step with as many of its premises and as much file context as fit.

        Args:
            step: of the example
            without: its tokens without either
            background: has both
            epoch: decides which premises are dropped
            index: of the example
        """
        assert step.template is not None and step.fields is not None, "only templates have places for a background"
        fields = background.add(step.fields, int(self._numbers[index]), self.max_prompt_len)
        if self.p_drop:
            rng = random.Random(f"{self.seed} {epoch} {index}")
            fields = replace(fields, premises=drop_premises(fields.premises, self.p_drop, rng))
        prompt = step.template.fit(fields, self.max_prompt_len, self.encoder.count).text
        example = self.encoder.encode([prompt], [step.completion])[0]
        is_labelled = len(without.input_ids) > without.num_prompt_tokens
        return prompt, example if is_labelled else without_completion(example)

    def _count_background_tokens(self, background: Background) -> npt.NDArray[np.int64]:
        """Return the most tokens that premises and file context add to each example.

        For tokenizers other than bytes it is an estimate, from their bytes and the tokens per byte of some prompts.
        """
        numbers = self._numbers
        num_prompt_tokens = self._tokens.num_prompt_tokens.astype(np.int64)
        sample = np.linspace(0, len(self) - 1, min(len(self), _NUM_SAMPLED)).astype(np.int64).tolist()
        prompts = [self._shortened.get(numbers[i], self.steps[int(numbers[i])].prompt) for i in sample]
        tokens_per_byte = num_prompt_tokens[sample].sum() / max(1, sum(len(prompt.encode()) for prompt in prompts))
        room = np.zeros(len(self.steps), dtype=np.int64)
        room[numbers] = np.ceil((self.max_prompt_len - num_prompt_tokens) / tokens_per_byte)
        room[[number for number, prompt in self._shortened.items() if not prompt]] = (
            0  # the model is not asked about these
        )
        taken = np.ceil(background.num_bytes(room, self.max_prompt_len)[numbers] * tokens_per_byte).astype(np.int64)
        num_tokens: npt.NDArray[np.int64] = np.minimum(taken, self.max_prompt_len - num_prompt_tokens)
        return num_tokens

    def collate(self, examples: Sequence[InstructExample]) -> InstructBatch:
        """Pad examples to one batch, a row each."""
        return collate_rows([[example] for example in examples], self.encoder.pad_id)

    def summary(self) -> str:
        """Say in one line what was read, what was left out, and what is cut."""
        notes = [self.steps.summary()]
        if len(self):
            notes.append(f"{self.source_lengths.mean():,.0f} tokens an example on average")
        for reason, number in self.left_out.items():
            outcome = "left out" if self.is_train else _IN_EVALUATION.get(reason, "left out")
            notes.append(f"{outcome}: {number:,} {reason} (first {self._tokens.first_left_out[reason]})")
        notes += filter(None, (self._tokens.prompts.note(), self._tokens.tactics.note()))
        if self.num_shortened:
            notes.append(f"{self.num_shortened:,} prompts shortened to {self.max_prompt_len:,} tokens")
        return "; ".join(notes)
