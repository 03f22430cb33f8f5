"""The engine of this project: its own beam search and sampling, on the live model."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, ClassVar

import torch

from common import Candidate, ConfigError
from generator.architectures.traits import is_encoder_decoder, unwrapped
from generator.decoding.autocast import weights_cast
from generator.decoding.protocol import NaNLogitsError
from generator.decoding.ragged import check_model, decode
from generator.decoding.settings import Decoding
from generator.decoding.static.store import MAX_SHARE, release, store_of
from generator.decoding.stopping import StopStrings
from generator.engines.engine import Input, TokenEngine, best_first, input_seed

# Of all samples of a call: samples x vocabulary. 100 samples of 40 short inputs take 0.51 s, one input at a time 1.27 s
# (a trained model of a million weights, bytes, one thread of an Intel Xeon with AMX).
MAX_PROBABILITIES = 2**19


class NativeEngine(TokenEngine):
    """Decodes T5-family and decoder-only models; reads the weights, and where they are, at each call.

    The candidates of an input share what was read of it. Samples of an input depend on the seed and its text alone;
    inputs that are sampled in one call add up in another order, which may now and then draw another token.
    """

    name: ClassVar[str] = "native"
    is_live: ClassVar[bool] = True
    copies_inputs: ClassVar[bool] = False
    samples_alone: ClassVar[bool] = False

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        max_inp_seq_len: int,
        *,
        cuda_graphs: bool = True,
        max_graph_share: float = MAX_SHARE,
    ) -> None:
        """Keep the model; nothing of it is changed.

        Args:
            model: T5ForConditionalGeneration or a relative, or what AutoModelForCausalLM loads
            tokenizer: its tokenizer
            max_inp_seq_len: tokens of an input, EOS included; a longer one is cut
            cuda_graphs: on a GPU, replay the steps of decoding as CUDA graphs, which keep buffers there between calls
            max_graph_share: of the GPU's memory that graphs and their buffers may hold, above 0 and at most 1; the
                less, the fewer inputs are decoded at once, and the more often graphs of their shapes are made anew

        Raises:
            ConfigError: for a model that it cannot decode, or a setting that is none
        """
        if not isinstance(cuda_graphs, bool):
            raise ConfigError(f"cuda_graphs is {cuda_graphs!r}; it must be true or false")
        is_number = isinstance(max_graph_share, int | float) and not isinstance(max_graph_share, bool)
        if not is_number or not 0 < max_graph_share <= 1:
            raise ConfigError(
                f"max_graph_share is {max_graph_share!r}; it must be a number above 0 and at most 1, {MAX_SHARE} if "
                "not given; cuda_graphs: false keeps no graphs"
            )
        super().__init__(tokenizer, max_inp_seq_len, is_decoder_only=not is_encoder_decoder(model))
        self.model, self.cuda_graphs, self.max_graph_share = model, cuda_graphs, max_graph_share
        try:
            check_model(model)
        except TypeError as error:
            raise ConfigError(
                f"engine 'native' cannot decode this model: {error} Or choose engine 'transformers'"
            ) from None

    def _ready(self) -> contextlib.AbstractContextManager[None]:
        keeps = self.cuda_graphs and self.model.device.type == "cuda"
        return weights_cast(self.model, store_of(unwrapped(self.model)).casts if keeps else None)

    def release(self) -> None:
        """See `Engine.release`."""
        release(unwrapped(self.model))

    def _groups(self, lengths: Sequence[int], num_candidates: int, decoding: Decoding) -> list[list[int]]:
        """Samples of several inputs are drawn together, as many as the tables of their probabilities stay small."""
        groups = super()._groups(lengths, num_candidates, decoding)
        if decoding.sampling is None:
            return groups
        num_classes = self.model.get_output_embeddings().weight.shape[0]
        count = max(1, MAX_PROBABILITIES // (num_classes * num_candidates))
        return [group[start : start + count] for group in groups for start in range(0, len(group), count)]

    def _answer(self, inputs: list[Input], num_candidates: int, decoding: Decoding) -> list[list[Candidate]]:
        if decoding.stop and not self.is_decoder_only:
            raise ConfigError("stop is for decoder-only models; an encoder-decoder's candidates end with EOS")
        generator = None
        if decoding.sampling is not None:
            seeds = [input_seed(decoding.sampling.seed, one.text) for one in inputs]
            generator = [torch.Generator().manual_seed(seed) for seed in seeds]
        states = [one.ids for one in inputs]
        try:
            found = decode(
                self.model,
                states,
                num_candidates,
                decoding,
                tokenizer=self.tokenizer,
                generator=generator,
                cuda_graphs=self.cuda_graphs,
                max_graph_share=self.max_graph_share,
            )
        except NaNLogitsError as error:
            raise self._named(error, inputs, num_candidates, decoding) from None
        stop, candidates = StopStrings(decoding.stop, self.tokenizer), list[list[Candidate]]()
        for rows, log_probs in zip(found.sequences.tolist(), found.log_probs.tolist(), strict=True):
            pairs = zip(rows, log_probs, strict=True)
            candidates.append([(stop.cut(row)[0], log_prob) for row, log_prob in pairs if log_prob > -torch.inf])
        return candidates if decoding.sampling is None else [best_first(each) for each in candidates]

    def _named(
        self, error: NaNLogitsError, inputs: list[Input], num_candidates: int, decoding: Decoding
    ) -> NaNLogitsError:
        """The same error with the input's text; of several, the first that fails alone is the one."""
        if len(inputs) > 1:
            try:
                for one in inputs:
                    self._answer([one], num_candidates, decoding)
            except NaNLogitsError as named:
                return named
            return error
        return NaNLogitsError(error.state, error.step, inputs[0].text[:200])
