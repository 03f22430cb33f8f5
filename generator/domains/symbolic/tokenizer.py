"""The words as a tokenizer: one id a word, in the order of the published files.

    load_tokenizer({"tokenizer": "symbolic"})

is what every `model_name` takes whose architecture says `tokenizer: symbolic`. A folder that `save_pretrained` or
`generator.export` wrote needs nothing of this project: transformers reads it as a tokenizer of whole words.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import BatchEncoding, PreTrainedTokenizerFast

from common import DataError
from generator.domains.symbolic.vocabulary import BOS, EOS, PAD, WORDS

UNKNOWN_WORD = "<SPECIAL_9>"  # what stands for a word that is none of the 91; no expression has it
LAYOUTS: dict[str, dict[str, str]] = {
    "symbolic": {"eos_token": EOS, "pad_token": PAD, "bos_token": BOS},
    # in the models of Lample & Charton 0, which is the word <s>, begins and ends a text, and 1, </s>, pads
    "symbolic-lc": {"eos_token": BOS, "pad_token": EOS, "bos_token": BOS},
}
_IDS = {word: number for number, word in enumerate(WORDS)}
_USUAL = frozenset(("padding", "truncation", "max_length", "add_special_tokens", "return_tensors", "verbose"))


class SymbolicTokenizer(PreTrainedTokenizerFast):
    """Prefix words, which stand between white space, as ids.

    >>> SymbolicTokenizer()("mul x INT+ 1 2")["input_ids"]
    [54, 12, 71, 82, 83, 1]

    A text ends with EOS, and begins with nothing. A word that is none of the 91 becomes UNKNOWN_WORD, and is read back
    as such: it is not left out as special tokens are, so a checker calls it malformed. Nothing is ever cut, since the
    rest would be another expression.

    What training asks for is looked up word by word, which takes 0.9 ms for 64 texts of 102 words where the library
    that the files are written with takes 13 (one core of an Intel Xeon with AMX). Anything else, such as offsets, is
    left to that.
    """

    never_cuts: ClassVar[bool] = True

    def __init__(self, layout: str = "symbolic") -> None:
        """Make it.

        Args:
            layout: one of LAYOUTS, which differ in the ids that end and pad a text
        """
        self.layout = layout
        super().__init__(  # type: ignore[no-untyped-call]
            tokenizer_object=_backend(layout), name_or_path=layout, **_settings(layout)
        )

    @property
    def is_fast(self) -> bool:
        """Whether it should be asked which characters a token stands for; words tell that themselves."""
        return False

    def __call__(self, text: Any = None, *args: Any, **options: Any) -> Any:
        """Encode a text or several; see transformers.

        Raises:
            DataError: for a text that truncation would cut
        """
        texts = [text] if isinstance(text, str) else text
        if args or not isinstance(texts, list | tuple) or not _USUAL.issuperset(options):
            return super().__call__(text, *args, **options)
        rows = self._rows(texts, options.get("add_special_tokens", True))
        if options.get("truncation"):
            _check(texts, rows, options.get("max_length"))
        kind, padding = options.get("return_tensors"), options.get("padding", False)
        if kind == "pt" and padding in (True, "longest") and any(rows):
            return _padded(rows, self.pad_token_id)
        if kind is None and not padding:
            lists = {"input_ids": rows, "attention_mask": [[1] * len(row) for row in rows]}
            return BatchEncoding({name: each[0] for name, each in lists.items()} if isinstance(text, str) else lists)
        return super().__call__(text, **options)

    def _rows(self, texts: Sequence[str], eos: bool) -> list[list[int]]:
        end = [self.eos_token_id] * eos
        try:
            return [[_IDS[word] for word in text.split()] + end for text in texts]
        except KeyError:  # an unknown word, or several that a special token parts
            found: list[list[int]] = super().__call__(list(texts), add_special_tokens=eos)["input_ids"]
            return found

    def save_pretrained(self, save_directory: Any, *args: Any, **options: Any) -> tuple[str, ...]:
        """Write files that AutoTokenizer reads, whose tokenizer gives the same ids and texts."""
        plain = PreTrainedTokenizerFast(tokenizer_object=_backend(self.layout), **_settings(self.layout))
        plain.init_kwargs["words"] = self.layout
        written: tuple[str, ...] = plain.save_pretrained(str(Path(save_directory)), *args, **options)
        return written


def _settings(layout: str) -> dict[str, Any]:
    sides = {"padding_side": "right", "truncation_side": "right", "clean_up_tokenization_spaces": False}
    return {**sides, **LAYOUTS[layout]}


def _backend(layout: str) -> Any:
    """The same as the library tokenizers does it."""
    end = LAYOUTS[layout]["eos_token"]
    backend: Any = Tokenizer(WordLevel(_IDS, unk_token=UNKNOWN_WORD))
    backend.pre_tokenizer = WhitespaceSplit()
    backend.post_processor = TemplateProcessing(single=f"$A {end}", special_tokens=[(end, _IDS[end])])
    return backend


def _check(texts: Sequence[str], rows: Sequence[Sequence[int]], limit: int | None) -> None:
    for text, row in zip(texts, rows, strict=True):
        if limit is not None and len(row) > limit:
            raise DataError(
                f"{text[:60]!r} takes {len(row):,} tokens, and the limit is {limit:,}; raise max_inp_seq_len, since an "
                "expression is never cut"
            )


def _padded(rows: Sequence[Sequence[int]], pad_id: int) -> BatchEncoding:
    """Ids and mask as tensors, int64 (B, L)."""
    lengths = np.array([len(row) for row in rows])
    mask = np.arange(lengths.max()) < lengths[:, None]
    ids = np.full(mask.shape, pad_id, dtype=np.int64)
    ids[mask] = [token for row in rows for token in row]
    arrays = {"input_ids": ids, "attention_mask": mask.astype(np.int64)}
    return BatchEncoding({name: torch.from_numpy(array) for name, array in arrays.items()})
