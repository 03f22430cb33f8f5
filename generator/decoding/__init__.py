"""Beam search and sampling on the live model, for T5-family and decoder-only models."""

from generator.decoding.encoder_decoder import Decoded, beam_search, sample

__all__ = ["Decoded", "beam_search", "sample"]
