"""Beam search and sampling on the live model, for T5-family and decoder-only models.

`decode` takes token ids of any lengths, `beam_search` and `sample` take padded batches. An engine turns texts into ids
and groups them (`generator.engines.engine`); then, in `ragged`, a decoder reads a group (`t5_decoder`,
`causal_decoder`), and its candidates are searched for (`beams`) or drawn (`sampling`) until they end (`stopping`).
"""

from generator.decoding.ragged import Decoded, decode
from generator.decoding.rectangular import beam_search, sample
from generator.decoding.settings import Decoding, Sampling

__all__ = ["Decoded", "Decoding", "Sampling", "beam_search", "decode", "sample"]
