"""The steps of a split as tokens that keep the limits: made once, and kept beside the data for the next run.

Shape legend: N examples, T tokens of all of them together.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from common import ByteTokenizer
from generator.architectures.traits import num_token_ids
from generator.data.completion_encoding import CompletionEncoder, EncodedExample
from generator.data.prompted_steps import PromptedStep, PromptedSteps, usable
from generator.prompts.fields import PromptTooLongError
from retrieval.training.kept_tokens import Kept, keep_beside, tokenizer_digest
from retrieval.training.processes import in_order, num_processes
from retrieval.training.round_trip import RoundTrip, read_back

LONG_GOALS = "prompts that are too long even with nothing but the goal"
LONG_PROMPTS = "prompts that are too long and of no template that could shorten them"
LONG_COMPLETIONS = "completions longer than max_completion_len"

_ENCODED_AT_ONCE = 512  # examples


@dataclass(frozen=True)
class TokenLimits:
    """How long prompts and completions may be, in tokens; see `InstructDataset`."""

    max_prompt_len: int
    max_completion_len: int
    is_train: bool


@dataclass
class TokenizedSteps:
    """What tokenising a split gives.

    Attributes:
        ids: of all examples, one behind the other, uint16 or int32 (T,)
        bounds: where the ids of each example end, behind a 0, int64 (N + 1,)
        num_prompt_tokens: of each example, int32 (N,)
        numbers: of the steps that became examples, int32 (N,)
        shortened: shortened prompts, by number of the step; "" where no prompt can hold the goal
        left_out: how many examples were left out, or in evaluation kept as misses, by reason
        first_left_out: the first of each reason
        prompts: what the tokenizer cannot write of prompts
        tactics: the same of tactics
    """

    ids: npt.NDArray[Any]
    bounds: npt.NDArray[np.int64]
    num_prompt_tokens: npt.NDArray[np.int32]
    numbers: npt.NDArray[np.int32]
    shortened: dict[int, str] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    first_left_out: dict[str, str] = field(default_factory=dict)
    prompts: RoundTrip = field(default_factory=lambda: RoundTrip("prompts"))
    tactics: RoundTrip = field(default_factory=lambda: RoundTrip("tactics"))

    def kept(self) -> Kept:
        """Return it as arrays and plain values."""
        values = asdict(self)
        return {name: values.pop(name) for name in ("ids", "bounds", "num_prompt_tokens", "numbers")}, values

    @classmethod
    def of(cls, kept: Kept) -> TokenizedSteps:
        """Make it again of what `kept` returned."""
        arrays, values = kept
        shortened = {int(number): prompt for number, prompt in values["shortened"].items()}
        trips = {name: RoundTrip(**values[name]) for name in ("prompts", "tactics")}
        fields: dict[str, Any] = {**arrays, **values, "shortened": shortened, **trips}
        return cls(**fields)


def tokenize_steps(
    steps: PromptedSteps, encoder: CompletionEncoder, limits: TokenLimits, *, progress: bool
) -> TokenizedSteps:
    """Tokenise a split, or read what an earlier run kept of it.

    6,109 steps of 3.0 million tokens, one thread of an Intel Xeon: 18 CPU seconds, and 0.02 where they were kept
    (tests/benchmarks/tokenize_steps.py). The tokenizer of bytes is fast, and nothing is kept. All cores take part: a
    tokenizer's own threads leave what is done in Python to one.
    """

    def make() -> Kept:
        return _tokenized(steps, encoder, limits, progress).kept()

    if isinstance(encoder.tokenizer, ByteTokenizer) or steps.source is None:
        return TokenizedSteps.of(make())
    return TokenizedSteps.of(
        keep_beside(
            steps.source,
            steps.num_bytes,
            lambda: [*steps.content(), tokenizer_digest(encoder.tokenizer), limits],
            make,
        )
    )


def _tokenized(steps: PromptedSteps, encoder: CompletionEncoder, limits: TokenLimits, progress: bool) -> TokenizedSteps:
    size = len(steps)
    parts = [range(start, min(start + _ENCODED_AT_ONCE, size)) for start in range(0, size, _ENCODED_AT_ONCE)]
    processes = 1 if isinstance(encoder.tokenizer, ByteTokenizer) else num_processes(len(parts))
    found = [_Tokenizing(steps, encoder, limits).run(range(0))]

    def work(numbers: range) -> TokenizedSteps:
        return _Tokenizing(steps, encoder, limits).run(numbers)

    with tqdm(total=size, desc="tokenize examples", delay=1, disable=not progress) as bar:
        for part in in_order(work, parts, processes):
            found.append(part)
            bar.update(min(_ENCODED_AT_ONCE, size - bar.n))
    return _joined(found)


def _joined(parts: Sequence[TokenizedSteps]) -> TokenizedSteps:
    """Parts of a split as the whole."""
    lengths = np.concatenate([np.diff(part.bounds) for part in parts])
    whole = TokenizedSteps(
        ids=np.concatenate([part.ids for part in parts]),
        bounds=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        num_prompt_tokens=np.concatenate([part.num_prompt_tokens for part in parts]),
        numbers=np.concatenate([part.numbers for part in parts]),
    )
    for part in parts:
        whole.shortened |= part.shortened
        whole.first_left_out = part.first_left_out | whole.first_left_out
        for reason, count in part.left_out.items():
            whole.left_out[reason] = whole.left_out.get(reason, 0) + count
        whole.prompts.join(part.prompts)
        whole.tactics.join(part.tactics)
    return whole


class _Tokenizing:
    """Steps that are being tokenised."""

    def __init__(self, steps: PromptedSteps, encoder: CompletionEncoder, limits: TokenLimits) -> None:
        self.steps, self.encoder, self.limits = steps, encoder, limits
        self.unusable: dict[str, list[str]] = {}
        self.shortened: dict[int, str] = {}
        self.ids = array("H" if num_token_ids(encoder.tokenizer) <= 1 << 16 else "i")
        self.bounds, self.num_prompt_tokens, self.numbers = array("q", [0]), array("i"), array("i")
        self.prompts, self.tactics = RoundTrip("prompts"), RoundTrip("tactics")

    def run(self, numbers: range) -> TokenizedSteps:
        """Tokenise these steps."""
        self._add(list(usable(self.steps, numbers, self.unusable)))
        return TokenizedSteps(
            ids=np.array(self.ids),
            bounds=np.array(self.bounds, dtype=np.int64),
            num_prompt_tokens=np.array(self.num_prompt_tokens, dtype=np.int32),
            numbers=np.array(self.numbers, dtype=np.int32),
            shortened=self.shortened,
            left_out={reason: len(what) for reason, what in self.unusable.items()},
            first_left_out={reason: what[0] for reason, what in self.unusable.items()},
            prompts=self.prompts,
            tactics=self.tactics,
        )

    def _add(self, steps: list[tuple[int, PromptedStep]]) -> None:
        if not steps:
            return
        encoded = self.encoder.encode([step.prompt for _, step in steps], [step.completion for _, step in steps])
        self._read_back([step for _, step in steps], encoded)
        for (number, step), example in zip(steps, encoded, strict=True):
            fitted = self._fit(number, step, example)
            if fitted is not None:
                self.ids.fromlist(fitted.input_ids)
                self.bounds.append(len(self.ids))
                self.num_prompt_tokens.append(fitted.num_prompt_tokens)
                self.numbers.append(number)

    def _read_back(self, steps: Sequence[PromptedStep], encoded: Sequence[EncodedExample]) -> None:
        """Count what the tokenizer cannot write; reading back takes little beside tokenising."""
        tokenizer, num_begin = self.encoder.tokenizer, self.encoder.num_begin
        if isinstance(tokenizer, ByteTokenizer):
            return
        # special tokens may be part of a template
        prompts = [one.input_ids[num_begin : one.num_prompt_tokens] for one in encoded]
        texts = read_back(tokenizer, prompts, with_special_tokens=True)
        self.prompts.add([step.prompt for step in steps], texts, ends_matter=False)
        completions = [one.input_ids[one.num_prompt_tokens : -1] for one in encoded]
        texts = read_back(tokenizer, completions, with_special_tokens=True)
        parsed = [
            text.strip() if step.template is None else step.template.parse(text) or ""
            for step, text in zip(steps, texts, strict=True)
        ]
        self.tactics.add([step.tactic for step in steps], parsed)

    def _fit(self, number: int, step: PromptedStep, example: EncodedExample) -> EncodedExample | None:
        """Return an example within the limits, shortened if need be, or None if it is left out."""
        prompt = None
        if example.num_prompt_tokens > self.limits.max_prompt_len:
            prompt = self._shorten(step)
            if prompt is None:
                if self.limits.is_train:
                    return None
                self.shortened[number] = ""
                return EncodedExample([self.encoder.eos_id], 1)
            example = self.encoder.encode([prompt], [step.completion])[0]
        if len(example.input_ids) - example.num_prompt_tokens > self.limits.max_completion_len:
            self._leave_out(LONG_COMPLETIONS, repr(step.completion[:80]))
            if self.limits.is_train:
                return None
            example = without_completion(example)
        if prompt is not None:
            self.shortened[number] = prompt
        return example

    def _shorten(self, step: PromptedStep) -> str | None:
        """Write a prompt that fits, or return None."""
        if step.template is None or step.fields is None:
            self._leave_out(LONG_PROMPTS, repr(step.prompt[:80]))
            return None
        try:
            return step.template.fit(step.fields, self.limits.max_prompt_len, self.encoder.count).text
        except PromptTooLongError as error:
            self._leave_out(LONG_GOALS, str(error))
            return None

    def _leave_out(self, reason: str, what: str) -> None:
        self.unusable.setdefault(reason, []).append(what)


def without_completion(example: EncodedExample) -> EncodedExample:
    """Return an example of which nothing is trained."""
    return EncodedExample(example.input_ids[: example.num_prompt_tokens], example.num_prompt_tokens)
