"""Texts that end a candidate, such as `[/TAC]`.

A tokenizer may write the same text in several ways, and a token may go on behind it, so texts are looked for in
the decoded candidate, not among token ids.

Shapes: B states, R rows a state, T tokens written.
"""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class StopStrings:
    """Ends a candidate with the token that completes one of the texts, and cuts its own text behind the first."""

    def __init__(self, texts: Sequence[str], tokenizer: Any) -> None:
        """Keeps the texts; with none, nothing ends and nothing is cut.

        Args:
            texts: none of them empty.
            tokenizer: what decodes the candidates; special tokens are text here.
        """
        self.texts, self.tokenizer = tuple(texts), tokenizer
        self.last_characters = {text[-1] for text in texts}
        self.may_complete: dict[int, bool] = {}

    def ends(self, tokens: Tensor, is_writing: Tensor) -> Tensor:
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

    def cut(self, row: Sequence[int]) -> tuple[str, int]:
        """Returns a candidate's text up to the end of the first stop text, and how many tokens that is.

        A stop text may be a special token, which ends a text and is left out of it.
        """
        if not self.texts or not self._is_complete(row):
            return self.tokenizer.decode(row, skip_special_tokens=True), len(row)
        num_tokens = bisect_left(range(len(row)), True, lo=1, key=lambda length: self._is_complete(row[:length]))
        text: str = self.tokenizer.decode(row[:num_tokens], skip_special_tokens=True)
        ends = [text.find(stop) + len(stop) for stop in self.texts if stop in text]
        return text[: min(ends, default=None)], num_tokens

    def _is_complete(self, row: Sequence[int]) -> bool:
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
