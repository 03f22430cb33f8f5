"""The engine "transformers": `model.generate`, for any model that has it.

Slower than the native engine, which shares what was read of an input between its candidates; here it is copied.

Shapes: R rows (candidates), S input tokens, T tokens written, V vocabulary.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList
from transformers.modeling_outputs import BaseModelOutput

from common import Candidate, ConfigError
from generator.architectures.traits import is_encoder_decoder, token_ids
from generator.decoding.autocast import weights_cast
from generator.decoding.ragged import evaluation_mode
from generator.decoding.settings import Decoding
from generator.decoding.stopping import StopStrings
from generator.engines.engine import Input, TokenEngine, best_first, input_seed

_MAX_LOGITS = 2**27  # of one scoring pass: half a gigabyte of float32


class TransformersEngine(TokenEngine):
    """Decodes encoder-decoders and decoder-only models; reads the live weights at each call.

    Candidates are scored by a forward pass of their own: `generate` would return scores after temperature and
    filters, and keep them for the whole vocabulary at every step. Samples of an input depend on the seed and its text
    alone.
    """

    name: ClassVar[str] = "transformers"
    is_live: ClassVar[bool] = True
    copies_inputs: ClassVar[bool] = True

    def __init__(self, model: Any, tokenizer: Any, max_inp_seq_len: int) -> None:
        """Keep the model; nothing of it is changed.

        Args:
            model: what AutoModelForSeq2SeqLM or AutoModelForCausalLM loads
            tokenizer: its tokenizer
            max_inp_seq_len: tokens of an input, EOS included; a longer one is cut

        Raises:
            ConfigError: for a model without a language-modelling head
        """
        super().__init__(tokenizer, max_inp_seq_len, is_decoder_only=not is_encoder_decoder(model))
        if not (hasattr(model, "can_generate") and model.can_generate()):
            raise ConfigError(
                f"engine 'transformers' cannot decode {type(model).__name__}: it has no language-modelling head; load "
                "it with AutoModelForSeq2SeqLM or AutoModelForCausalLM"
            )
        self.model = getattr(model, "_orig_mod", model)  # a model wrapped by torch.compile
        self.ends, self.pad_id = _end_tokens(self.model, tokenizer), tokenizer.pad_token_id
        if self.pad_id is None:
            self.pad_id = self.ends[0] if self.ends else 0

    def _ready(self) -> contextlib.AbstractContextManager[None]:
        return weights_cast(self.model)

    def _answer(self, inputs: list[Input], num_candidates: int, decoding: Decoding) -> list[list[Candidate]]:
        device = next(self.model.parameters()).device
        ids, mask = pad([one.ids for one in inputs], self.pad_id, "left" if self.is_decoder_only else "right")
        prompt_length = ids.shape[1] if self.is_decoder_only else 0
        # no_grad and not inference_mode: a model may keep tensors of a call, which training then uses
        with torch.no_grad(), evaluation_mode(self.model), self._neutral_settings():
            written = self._generate(ids.to(device), mask.to(device), inputs[0].text, num_candidates, decoding)
            rows = written[:, prompt_length:].tolist()
            per_input = len(rows) // len(inputs)
            return [
                self._candidates(one, rows[i * per_input : (i + 1) * per_input], decoding)
                for i, one in enumerate(inputs)
            ]

    def _generate(self, ids: Tensor, mask: Tensor, text: str, num_candidates: int, decoding: Decoding) -> Tensor:
        """Return the rows of all inputs, (R, T); behind the prompts in a decoder-only model."""
        options: dict[str, Any] = {"max_new_tokens": decoding.max_new_tokens, "num_return_sequences": num_candidates}
        if decoding.sampling is None:
            num_beams = decoding.rows_for(num_candidates)
            # beams that cannot all exist come back as copies of those that do
            exist = self._num_sequences(decoding.max_new_tokens, num_beams)
            options |= {"num_beams": min(num_beams, exist), "num_return_sequences": min(num_candidates, exist)}
            if options["num_beams"] > 1:
                options |= {"length_penalty": decoding.length_penalty, "early_stopping": False}
        else:
            options |= {"do_sample": True, "temperature": decoding.sampling.temperature}
            options |= {"top_k": decoding.sampling.top_k, "top_p": decoding.sampling.top_p}
        if decoding.stop:
            stop, num_given = StopStrings(decoding.stop, self.tokenizer), ids.shape[1] if self.is_decoder_only else 1
            options["stopping_criteria"] = StoppingCriteriaList([_Stopping(stop, num_given)])
        devices = [ids.device] if ids.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            if decoding.sampling is not None:
                torch.manual_seed(input_seed(decoding.sampling.seed, text))
            try:
                found: Tensor = self.model.generate(input_ids=ids, attention_mask=mask, **options)
            except ValueError as error:  # a few models keep what beams cannot share
                if "cannot use beam search" not in str(error):
                    raise
                raise ConfigError(
                    f"engine 'transformers': {error}; take samples as candidates (model.sampling.temperature: 1.0), or "
                    "one beam"
                ) from error
        return found

    def _num_sequences(self, max_new_tokens: int, enough: int) -> int:
        """How many candidates there are, counted up to `enough`."""
        num_ends = len(self.ends)
        num_going = self.model.get_output_embeddings().weight.shape[0] - num_ends
        total, unfinished = 0, 1
        for _ in range(max_new_tokens):
            total, unfinished = total + unfinished * num_ends, unfinished * num_going
            if total + unfinished >= enough:
                return enough
        return total + unfinished

    @contextlib.contextmanager
    def _neutral_settings(self) -> Iterator[None]:
        """Special tokens and nothing else of the model's own settings, whose penalties would change the ranking."""
        own, config = self.model.generation_config, self.model.config
        self.model.generation_config = GenerationConfig(
            eos_token_id=list(self.ends) or None,
            pad_token_id=self.pad_id,
            bos_token_id=own.bos_token_id if own.bos_token_id is not None else getattr(config, "bos_token_id", None),
            decoder_start_token_id=_first(own.decoder_start_token_id, getattr(config, "decoder_start_token_id", None)),
            forced_bos_token_id=own.forced_bos_token_id,
        )
        try:
            yield
        finally:
            self.model.generation_config = own

    # -------------------------------------------------------------------------------------- scoring

    def _candidates(self, one: Input, rows: list[list[int]], decoding: Decoding) -> list[Candidate]:
        """The texts and log-probabilities of an input's rows."""
        start = 0 if self.is_decoder_only else 1  # an encoder-decoder's rows begin with its start token
        stop = StopStrings(decoding.stop, self.tokenizer)
        texts: list[str] = []
        candidates: list[list[int]] = []
        for row in rows:
            ends = [i for i, token in enumerate(row) if token in self.ends and i >= start]
            row = row[: ends[0] + 1] if ends else row
            text, num_tokens = stop.cut(row[start:])
            row = row[: start + num_tokens]
            if row not in candidates or decoding.sampling is not None:
                texts.append(text)
                candidates.append(row)
        if self.is_decoder_only:
            prompt = one.ids.tolist()
            log_probs = self._log_probs([prompt + row for row in candidates], len(prompt), None)
        else:
            log_probs = self._log_probs(candidates, 1, one.ids)
        pairs = list(zip(texts, log_probs, strict=True))
        return pairs if decoding.sampling is None else best_first(pairs)

    def _log_probs(self, rows: list[list[int]], start: int, source: Tensor | None) -> list[float]:
        """Return for each row the sum of the log-probabilities of its tokens from `start` on.

        Args:
            rows: what a decoder reads and writes
            start: how many tokens are read only
            source: ids of what an encoder reads, (S,); None without one
        """
        device = next(self.model.parameters()).device
        encoded = None if source is None else self._encode(source[None].to(device))
        num_logits = max(len(row) for row in rows) * self.model.get_output_embeddings().weight.shape[0]
        size = max(1, _MAX_LOGITS // num_logits)
        sums: list[float] = []
        for first in range(0, len(rows), size):
            some = [torch.tensor(row) for row in rows[first : first + size]]
            ids, mask = (tensor.to(device) for tensor in pad(some, self.pad_id))
            if encoded is None:
                logits = self.model(input_ids=ids, attention_mask=mask, use_cache=False).logits
            else:
                state = BaseModelOutput(last_hidden_state=encoded.expand(len(ids), -1, -1))
                logits = self.model(encoder_outputs=state, decoder_input_ids=ids, use_cache=False).logits
            gained = logits[:, :-1].float().log_softmax(-1).gather(-1, ids[:, 1:, None]).squeeze(-1)
            sums += gained.where(mask[:, 1:].bool(), 0.0)[:, start - 1 :].sum(-1).tolist()
        return sums

    def _encode(self, ids: Tensor) -> Tensor:
        encoded: Tensor = self.model.get_encoder()(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
        return encoded


class _Stopping(StoppingCriteria):
    """Ends the rows that have just written a stop string behind what they were given."""

    def __init__(self, stop: StopStrings, num_given: int) -> None:
        self.stop, self.num_given = stop, num_given

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Any:
        written = input_ids[None, :, self.num_given :]
        return self.stop.ends(written, torch.ones_like(written[..., 0], dtype=torch.bool))[0]


def pad(rows: Sequence[Tensor], pad_id: int, side: Literal["left", "right"] = "right") -> tuple[Tensor, Tensor]:
    """Return token ids and mask of rows (L,), both int64 (B, longest L)."""
    ids = pad_sequence(list(rows), batch_first=True, padding_value=pad_id, padding_side=side)
    mask = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True, padding_side=side)
    return ids, mask


def _end_tokens(model: Any, tokenizer: Any) -> tuple[int, ...]:
    """Token ids that end a candidate: an encoder-decoder's own; a decoder-only model's in either of its settings."""
    if model.config.is_encoder_decoder:
        found = _first(model.config.eos_token_id, model.generation_config.eos_token_id)
    else:
        found = token_ids(model, "eos_token_id") or None
    found = _first(found, tokenizer.eos_token_id)
    return () if found is None else tuple(found) if isinstance(found, list | tuple) else (int(found),)


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)
