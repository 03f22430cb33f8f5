"""Beam search and sampling on the live model, for T5-family and decoder-only models.

`decode` takes token ids of any lengths, `beam_search` and `sample` take padded batches.
"""

from generator.decoding.ragged import Decoded, decode
from generator.decoding.rectangular import beam_search, sample
from generator.decoding.settings import Decoding, Sampling

__all__ = ["Decoded", "Decoding", "Sampling", "beam_search", "decode", "sample"]
