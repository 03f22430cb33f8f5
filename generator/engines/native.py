"""The engine of this project: its own beam search and sampling, on the live model."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

import generator.decoding.decoder_only as causal_decoding
import generator.decoding.encoder_decoder as t5_decoding
from common import Candidate, ConfigError
from generator.decoding.causal_decoder import check_model as check_causal
from generator.decoding.encoder_decoder import Decoded
from generator.decoding.protocol import NaNLogitsError
from generator.decoding.t5_decoder import check_model as check_t5
from generator.engines.engine import Decoding, Input, TokenEngine, best_first, cut_at_stop, input_seed, pad


class NativeEngine(TokenEngine):
    """Decodes T5-family and decoder-only models; reads the weights, and where they are, at each call.

    The candidates of an input share what was read of it. Samples of an input depend on the seed and its text alone.
    """

    name: ClassVar[str] = "native"
    is_live: ClassVar[bool] = True

    def __init__(self, model: Any, tokenizer: Any, max_inp_seq_len: int) -> None:
        """Keep the model; nothing of it is changed.

        Args:
            model: T5ForConditionalGeneration or a relative, or what AutoModelForCausalLM loads
            tokenizer: its tokenizer
            max_inp_seq_len: tokens of an input, EOS included; a longer one is cut

        Raises:
            ConfigError: for a model that it cannot decode
        """
        super().__init__(tokenizer, max_inp_seq_len)
        self.model = model
        try:
            (check_causal if self.is_decoder_only else check_t5)(getattr(model, "_orig_mod", model))
        except TypeError as error:
            raise ConfigError(
                f"engine 'native' cannot decode this model: {error} Or choose engine 'transformers'"
            ) from None

    @property
    def is_decoder_only(self) -> bool:
        """See `TokenEngine.is_decoder_only`."""
        return not getattr(self.model.config, "is_encoder_decoder", False)

    def _answer(self, inputs: list[Input], num_candidates: int, decoding: Decoding) -> list[list[Candidate]]:
        if decoding.stop and not self.is_decoder_only:
            raise ConfigError("stop is for decoder-only models; an encoder-decoder's candidates end with EOS")
        pad_id = self.tokenizer.pad_token_id
        ids, mask = pad([one.ids for one in inputs], 0 if pad_id is None else pad_id)
        try:
            found = self._decode(ids, mask, inputs[0].text, num_candidates, decoding)
        except NaNLogitsError as error:
            raise self._named(error, inputs, num_candidates, decoding) from None
        candidates = [
            self._candidates(rows, log_probs, decoding)
            for rows, log_probs in zip(found.sequences.tolist(), found.log_probs.tolist(), strict=True)
        ]
        return [best_first(each) for each in candidates] if decoding.method == "sample" else candidates

    def _decode(self, ids: Tensor, mask: Tensor, text: str, num_candidates: int, decoding: Decoding) -> Decoded:
        """Search for a batch, or sample for one text."""
        module: Any = causal_decoding if self.is_decoder_only else t5_decoding
        options: dict[str, Any] = {"max_new_tokens": decoding.max_new_tokens}
        if self.is_decoder_only:
            options |= {"stop_sequences": decoding.stop, "tokenizer": self.tokenizer}
        device = next(self.model.parameters()).device
        ids, mask = ids.to(device), mask.to(device)
        if decoding.method == "beam_search":
            options |= {"num_beams": decoding.beams_for(num_candidates), "num_return_sequences": num_candidates}
            found: Decoded = module.beam_search(
                self.model, ids, mask, length_penalty=decoding.length_penalty, **options
            )
            return found
        options |= {"temperature": decoding.temperature, "top_k": decoding.top_k, "top_p": decoding.top_p}
        seeded = torch.Generator().manual_seed(input_seed(decoding.seed, text))
        found = module.sample(self.model, ids, mask, num_samples=num_candidates, generator=seeded, **options)
        return found

    def _candidates(self, rows: list[list[int]], log_probs: list[float], decoding: Decoding) -> list[Candidate]:
        """The texts of an input's candidates, without those that do not exist."""
        pairs = [(row, log_prob) for row, log_prob in zip(rows, log_probs, strict=True) if log_prob > float("-inf")]
        if decoding.stop:
            return [(cut_at_stop(self.tokenizer, row, decoding.stop)[0], log_prob) for row, log_prob in pairs]
        texts = self.tokenizer.batch_decode([row for row, _ in pairs], skip_special_tokens=True)
        return [(text, log_prob) for text, (_, log_prob) in zip(texts, pairs, strict=True)]

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
