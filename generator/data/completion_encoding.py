"""From a prompt and its completion to token ids, with the boundary where inference will have it.

What a model is trained on must begin with the very tokens that it is prompted with; `PromptEncoder` gives both. To
train, prompt and completion are tokenised jointly, as one text, and that is kept wherever its first tokens are those of
the prompt alone. Where they are not, mostly because a token of the joint text reaches over the boundary (the line break
that ends a prompt and the one that begins a completion may make one token), they are tokenised apart: at inference the
prompt is all there is.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from common import ByteTokenizer, ConfigError


class EncodedExample(NamedTuple):
    """Token ids of an example; loss falls on those behind the prompt."""

    input_ids: list[int]  # prompt, completion, EOS
    num_prompt_tokens: int


class PromptEncoder:
    """Encodes prompts for a decoder-only model, in training and in inference."""

    def __init__(self, tokenizer: Any) -> None:
        """Find out which tokens the tokenizer puts in front of a text."""
        self.tokenizer = tokenizer
        # silences the warning "sequence is longer than": texts are counted before they are shortened
        self._quiet: dict[str, Any] = {} if isinstance(tokenizer, ByteTokenizer) else {"verbose": False}
        self._begin = self._special_ids_in_front()

    @property
    def num_begin(self) -> int:
        """Tokens that the tokenizer puts in front of every text."""
        return len(self._begin)

    def prompt_ids(self, prompts: Sequence[str]) -> list[list[int]]:
        """Return the ids of prompts as they are given to the model: BOS if the tokenizer adds it, never EOS."""
        return [self._begin + ids for ids in self._tokenize(prompts)]

    def count(self, prompt: str) -> int:
        """Return the tokens of a prompt."""
        return len(self.prompt_ids([prompt])[0])

    def _tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        ids: list[list[int]] = self.tokenizer(list(texts), add_special_tokens=False, **self._quiet)["input_ids"]
        return ids

    def _special_ids_in_front(self) -> list[int]:
        """What the tokenizer puts in front of any text, such as BOS; what it puts behind is left out."""
        with_special: list[int] = self.tokenizer("a", **self._quiet)["input_ids"]
        (bare,) = self._tokenize(["a"])
        starts = (i for i in range(len(with_special) + 1) if with_special[i : i + len(bare)] == bare)
        return with_special[: next(starts, 0)]


class CompletionEncoder(PromptEncoder):
    """Encodes prompts with their completions, to train a decoder-only model.

    Attributes:
        tokenizer: of the model
        eos_id: ends every completion, and is trained
        pad_id: fills rows; EOS where the tokenizer has no token for it. Masks and labels tell it apart.
    """

    def __init__(self, tokenizer: Any) -> None:
        """See `PromptEncoder`.

        Raises:
            ConfigError: if the tokenizer has no EOS
        """
        super().__init__(tokenizer)
        if tokenizer.eos_token_id is None:
            raise ConfigError(
                "the tokenizer has no EOS token, with which completions end; set one (tokenizer.eos_token = ...) and "
                "save it with the model"
            )
        self.eos_id: int = tokenizer.eos_token_id
        self.pad_id: int = self.eos_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        # fast tokenizers alone can tell which characters a token stands for
        self._has_offsets = bool(getattr(tokenizer, "is_fast", False))

    def encode(self, prompts: Sequence[str], completions: Sequence[str]) -> list[EncodedExample]:
        """Encode examples: the ids of the prompt, which are those of `prompt_ids`, the completion, EOS."""
        alone = self.prompt_ids(prompts)
        joint = self._joint_ids(prompts, completions, [len(ids) for ids in alone])
        encoded = []
        for i, (num_inside, ids) in enumerate(joint):
            if ids[:num_inside] != alone[i]:
                ids = alone[i] + self._tokenize([completions[i]])[0]
            encoded.append(EncodedExample([*ids, self.eos_id], len(alone[i])))
        return encoded

    def _joint_ids(
        self, prompts: Sequence[str], completions: Sequence[str], num_alone: Sequence[int]
    ) -> list[tuple[int, list[int]]]:
        """Tokenise prompt and completion as one text.

        Args:
            prompts: B texts
            completions: as many
            num_alone: tokens of each prompt alone

        Returns:
            For each, how many tokens lie wholly in the prompt, and all tokens.
        """
        texts = [prompt + completion for prompt, completion in zip(prompts, completions, strict=True)]
        if not self._has_offsets:
            # equal tokens are equal text: either the prompt's own tokens come first, or a token spans the boundary
            return [(n, self._begin + ids) for n, ids in zip(num_alone, self._tokenize(texts), strict=True)]
        joint = self.tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True, **self._quiet)
        rows = zip(prompts, joint["input_ids"], joint["offset_mapping"], strict=True)
        return [
            (len(self._begin) + bisect_right(spans, len(prompt), key=itemgetter(1)), self._begin + ids)
            for prompt, ids, spans in rows
        ]
