"""Texts that end a candidate, such as `[/TAC]`.

A tokenizer may write the same text in several ways, and a token may go on behind it, so texts are looked for in
the decoded candidate, not among token ids.

Shapes: B states, R rows a state, T tokens written.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from common import ConfigError


class StopStrings:
    """A `generator.decoding.protocol.StopRule`: a row ends with the token that completes one of the texts."""

    def __init__(self, stop_sequences: Sequence[str], tokenizer: Any) -> None:
        """Checks the texts.

        Args:
            stop_sequences: at least one text.
            tokenizer: what decodes the candidates; special tokens are text here.

        Raises:
            ConfigError: for an empty text, one text instead of a list, or no tokenizer.
        """
        if isinstance(stop_sequences, str) or not all(isinstance(text, str) and text for text in stop_sequences):
            raise ConfigError(f"stop_sequences is {stop_sequences!r}: it must be a list of texts, none of them empty.")
        if tokenizer is None:
            raise ConfigError(
                f"stop_sequences is {list(stop_sequences)} but there is no tokenizer to decode candidates with: "
                "pass tokenizer=, or leave stop_sequences empty."
            )
        self.texts = tuple(stop_sequences)
        self.tokenizer = tokenizer
        self.last_characters = {text[-1] for text in stop_sequences}
        self.may_complete: dict[int, bool] = {}

    def __call__(self, tokens: Tensor, is_writing: Tensor) -> Tensor:
        """Tells which rows have just completed a text.

        Args:
            tokens: (B, R, T), the newest last.
            is_writing: (B, R), rows that may end now.

        Returns:
            (B, R) bool.
        """
        latest, is_writing_list = tokens[..., -1].tolist(), is_writing.tolist()
        is_possible = torch.tensor(
            [
                [writing and self._may_complete(token) for token, writing in zip(*row, strict=True)]
                for row in zip(latest, is_writing_list, strict=True)
            ],
            device=tokens.device,
        )
        ends = torch.zeros_like(is_writing)
        if is_possible.any():
            ends[is_possible] = torch.tensor(
                [self._is_complete(row) for row in tokens[is_possible].tolist()], device=tokens.device
            )
        return ends

    def _is_complete(self, row: list[int]) -> bool:
        text: str = self.tokenizer.decode(row, skip_special_tokens=False)
        return any(stop in text for stop in self.texts)

    def _may_complete(self, token: int) -> bool:
        """Whether a token may bring the last character of a text, which saves decoding most rows.

        Alone, a token may hide what it brings in company: a part of a character, or a space. Those always may.
        """
        if token not in self.may_complete:
            piece: str = self.tokenizer.decode([token], skip_special_tokens=False)
            is_hidden = not piece.strip() or "\ufffd" in piece or any(last.isspace() for last in self.last_characters)
            self.may_complete[token] = is_hidden or not self.last_characters.isdisjoint(piece)
        return self.may_complete[token]
