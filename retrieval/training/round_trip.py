"""Texts that a tokenizer cannot write: what comes back from their tokens is another text.

SentencePiece models without byte fallback, such as T5's, drop line breaks and signs that were rare in their own data. A
model cannot read what its tokens do not say, and a target that cannot be written is always a miss.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from common import ByteTokenizer, ConfigError

_EXCERPT = 60  # characters of an example, around the place that differs
_MIN_TEXTS = 8  # of fewer, more than half may be chance


@dataclass
class RoundTrip:
    """Counts texts of one kind.

    Attributes:
        what: they are, in the plural, such as tactics
        num_texts: that were looked at
        num_changed: of which tokens give another text
        first: such a text and what came of it, cut around the place where they part
    """

    what: str
    num_texts: int = 0
    num_changed: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, texts: Sequence[str], read_back: Sequence[str], *, ends_matter: bool = True) -> None:
        """Count texts, and those that came back as others.

        Args:
            texts: as they were
            read_back: decode(encode(text)) of each
            ends_matter: whether white space at the ends does; a model reads nothing in it
        """
        self.num_texts += len(texts)
        for text, back in zip(texts, read_back, strict=True):
            if text != back and (ends_matter or text.strip() != back.strip()):
                self.num_changed += 1
                self.first = self.first or _around_difference(text, back)

    def join(self, others: RoundTrip) -> None:
        """Count what was counted of further texts of the kind."""
        self.num_texts += others.num_texts
        self.num_changed += others.num_changed
        self.first = self.first or others.first

    def note(self) -> str:
        """Say in a few words how many texts the tokenizer cannot write, with an example; "" if there is none."""
        if not self.num_changed:
            return ""
        text, back = self.first
        return (
            f"{self.num_changed:,} of {self.num_texts:,} {self.what} are other texts when their tokens are read back "
            f"({text!r} becomes {back!r})"
        )

    def check(self, where: object, tokenizer: Any) -> None:
        """Raise ConfigError if more than half of the texts cannot be written.

        Args:
            where: they are from
            tokenizer: names the model in the message
        """
        if self.num_texts >= _MIN_TEXTS and 2 * self.num_changed > self.num_texts:
            raise ConfigError(
                f"{where}: {self.note()}: the tokenizer of model_name {getattr(tokenizer, 'name_or_path', '')!r} does "
                "not fit this data. Choose a model that writes any text, such as google/byt5-small or one with "
                "byte-level BPE, or add what is missing to its tokenizer (add_tokens) and train its embeddings"
            )

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, of which `RoundTrip(**values)` makes it again."""
        return asdict(self)


def read_back(tokenizer: Any, rows: Iterable[Sequence[int]], *, with_special_tokens: bool = False) -> list[str]:
    """Return the text of each row of ids, as candidates are decoded."""
    texts: list[str] = tokenizer.batch_decode(list(rows), skip_special_tokens=not with_special_tokens)
    return texts


def check_sample(
    tokenizer: Any, num_texts: int, text_of: Callable[[int], str], what: str, where: object, size: int = 1024
) -> str:
    """Encode and decode some of many texts; return what `RoundTrip.note` says.

    Args:
        tokenizer: that of bytes writes every text, and none is looked at
        num_texts: how many there are, of which evenly spaced ones are taken
        text_of: returns a text by its number
        what: they are, in the plural
        where: they are from
        size: how many are taken, at most

    Raises:
        ConfigError: if more than half cannot be written
    """
    if isinstance(tokenizer, ByteTokenizer) or not num_texts:
        return ""
    step = -(-num_texts // size)
    sample = [text_of(number) for number in range(0, num_texts, step)]
    trip = RoundTrip(f"sampled {what}" if step > 1 else what)
    trip.add(sample, read_back(tokenizer, tokenizer(sample)["input_ids"]), ends_matter=False)
    trip.check(where, tokenizer)
    return trip.note()


def _around_difference(text: str, back: str) -> list[str]:
    place = next((i for i, (a, b) in enumerate(zip(text, back, strict=False)) if a != b), min(len(text), len(back)))
    start = max(0, place - _EXCERPT // 2)
    return [one[start : start + _EXCERPT] for one in (text, back)]
