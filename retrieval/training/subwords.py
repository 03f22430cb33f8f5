"""A tokenizer of pieces of words, made from texts: it writes any text, in less than half of the tokens of bytes.

Byte-level BPE (Sennrich et al. 2016, arXiv:1508.07909), with one difference from GPT-2's: what stands between names
(blanks, operators, brackets) is cut off them, so that `H0` is the same pieces in `(H0)`, in `apply H0` and where a line
begins. A model that learns to copy names out of states has one form of each to copy.
"""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from common import ConfigError

_SPECIAL = ("<pad>", "</s>", "<unk>")  # as in T5, ids 0, 1 and 2
_NAMES = Regex(r"[\p{L}\p{M}\p{N}_']+|[^\p{L}\p{M}\p{N}_']+")
MIN_VOCAB_SIZE = len(_SPECIAL) + 256  # every byte


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Return a tokenizer with the most frequent pieces of texts; each text ends with EOS, and there is no BOS.

    The same texts give the same tokenizer, in whatever order they come.

    Args:
        texts: to learn from; a text that comes twice counts twice
        vocab_size: pieces, with special tokens and single bytes; fewer if the texts have fewer

    Raises:
        ConfigError: if vocab_size has no room for every byte
    """
    if vocab_size < MIN_VOCAB_SIZE:
        raise ConfigError(f"vocab_size is {vocab_size}; every byte needs a piece, so give at least {MIN_VOCAB_SIZE}")
    tokenizer = Tokenizer(models.BPE())
    names, as_bytes = pre_tokenizers.Split(_NAMES, "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([names, as_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(_SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    pad, eos, unk = _SPECIAL
    ends = processors.TemplateProcessing(single=f"$A {eos}", special_tokens=[(eos, _SPECIAL.index(eos))])
    tokenizer.post_processor = ends
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=pad, eos_token=eos, unk_token=unk, clean_up_tokenization_spaces=False
    )
