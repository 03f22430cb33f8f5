"""How a problem becomes what a model is trained on: an input and a target, or a prompt and its completion.

Shape legend: B batch, S padded source length, T padded target length, L padded length of a row.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from common import ByteTokenizer, DataError
from generator.causal import CausalGenerator
from generator.data.completion_encoding import CompletionEncoder
from generator.data.dataset import GeneratorExample, InputLimits, collate_steps
from generator.data.instruct_batch import InstructExample, collate_rows
from generator.data.instruct_dataset import PromptFormat
from generator.domains.base import Problem
from generator.prompts.templates import get_template
from retrieval.leandojo.provenance import Provenance

Lengths = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]  # of inputs and of targets


class Encoding(ABC):
    """Makes examples and batches of problems; nothing of them is ever cut."""

    @abstractmethod
    def lengths(self, problems: Sequence[Problem]) -> Lengths:
        """Return the tokens of each input and each target, EOS included.

        Raises:
            DataError: for a problem that is longer than the model's limits
        """

    @abstractmethod
    def example(self, problem: Problem, provenance: Provenance, index: int) -> Any:
        """Return a problem as an example."""

    @abstractmethod
    def collate(self, examples: Sequence[Any]) -> Any:
        """Pad examples to one batch."""


class SourceTarget(Encoding):
    """For encoder-decoders: the specification is read, the program is written."""

    def __init__(self, tokenizer: Any, limits: InputLimits) -> None:
        self.tokenizer, self.limits = tokenizer, limits

    def lengths(self, problems: Sequence[Problem]) -> Lengths:
        """See `Encoding`."""
        sources = self._count([problem.spec for problem in problems])
        targets = self._count([problem.program for problem in problems])
        limits = self.limits
        _check(sources, limits.max_inp_seq_len, "max_inp_seq_len", [problem.spec for problem in problems])
        if not getattr(self.tokenizer, "never_cuts", False):
            self._check_bytes(problems)
        _check(targets, limits.max_oup_seq_len, "max_oup_seq_len", [problem.program for problem in problems])
        return sources, targets

    def _check_bytes(self, problems: Sequence[Problem]) -> None:
        """Inputs of inference are fitted to the limit by their bytes, of which no token has fewer than one."""
        sizes = np.array([len(problem.spec.encode()) + 1 for problem in problems], dtype=np.int64)
        _check(sizes, self.limits.max_inp_seq_len, "max_inp_seq_len", [problem.spec for problem in problems], "bytes")

    def _count(self, texts: Sequence[str]) -> npt.NDArray[np.int64]:
        if isinstance(self.tokenizer, ByteTokenizer):
            return np.array([len(text.encode()) + 1 for text in texts], dtype=np.int64)
        return np.array([len(ids) for ids in self.tokenizer(list(texts))["input_ids"]], dtype=np.int64)

    def example(self, problem: Problem, provenance: Provenance, index: int) -> GeneratorExample:
        """See `Encoding`."""
        return GeneratorExample(state=problem.spec, tactic=problem.program, provenance=provenance, index=index)

    def collate(self, examples: Sequence[Any]) -> Any:
        """See `Encoding`."""
        return collate_steps(examples, self.tokenizer, self.limits.max_inp_seq_len)


class PromptCompletion(Encoding):
    """For decoder-only models: the specification in a prompt, which the program completes; loss falls on that alone."""

    def __init__(self, tokenizer: Any, format: PromptFormat) -> None:
        """Keep the settings.

        Args:
            tokenizer: see `common.load_tokenizer`
            format: with a template
        """
        assert format.template is not None, "the caller chooses by it"
        self.format, self.template = format, get_template(format.template)
        self.encoder = CompletionEncoder(tokenizer)

    def lengths(self, problems: Sequence[Problem]) -> Lengths:
        """See `Encoding`; a row counts as one input."""
        encoded = self._encode(problems)
        rows = np.array([len(each.input_ids) for each in encoded], dtype=np.int64)
        prompts = np.array([each.num_prompt_tokens for each in encoded], dtype=np.int64)
        room = self.format.max_seq_len - self.format.max_completion_len
        _check(prompts, room, "max_seq_len - max_completion_len", [problem.spec for problem in problems])
        programs = [problem.program for problem in problems]
        _check(rows - prompts, self.format.max_completion_len, "max_completion_len", programs)
        return rows, rows - prompts

    def _encode(self, problems: Sequence[Problem]) -> Any:
        prompts = [self.template.format(problem.spec) for problem in problems]
        return self.encoder.encode(prompts, [self.template.complete(problem.program) for problem in problems])

    def example(self, problem: Problem, provenance: Provenance, index: int) -> InstructExample:
        """See `Encoding`."""
        [encoded] = self._encode([problem])
        return InstructExample(
            state=self.template.format(problem.spec),
            tactic=problem.program,
            proof_state=problem.spec,
            input_ids=encoded.input_ids,
            num_prompt_tokens=encoded.num_prompt_tokens,
            provenance=provenance,
            index=index,
        )

    def collate(self, examples: Sequence[Any]) -> Any:
        """See `Encoding`."""
        return collate_rows([[example] for example in examples], self.encoder.pad_id)


def batch_of_one(model: Any, text: str, program: str) -> Any:
    """Return a program as the target of an input that `write_inputs` of the model wrote, for its loss."""
    if hasattr(model, "batch_of"):  # of a model that reads no tokens
        return model.batch_of(text, program)
    place = Provenance()
    if not isinstance(model, CausalGenerator):
        example = GeneratorExample(state=text, tactic=program, provenance=place, index=0)
        return collate_steps([example], model.tokenizer, model.limits.max_inp_seq_len)
    encoder = CompletionEncoder(model.tokenizer)
    completion = program if model.template is None else get_template(model.template).complete(program)
    [encoded] = encoder.encode([text], [completion])
    row = InstructExample(state=text, tactic=program, proof_state="", provenance=place, index=0, **encoded._asdict())
    return collate_rows([[row]], encoder.pad_id)


def _check(lengths: npt.NDArray[np.int64], limit: int, option: str, texts: Sequence[str], unit: str = "tokens") -> None:
    """Raise DataError for a text over the limit: cut, it would be another problem."""
    if len(lengths) and lengths.max() > limit:
        longest = int(lengths.argmax())
        raise DataError(
            f"{option} is {limit}, but {texts[longest][:60]!r} takes {lengths[longest]:,} {unit}; raise it, since a "
            "problem is never cut"
        )
