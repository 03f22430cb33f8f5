"""The retrieval-augmented tactic generator: premises and a state in, tactics out.

Shape legend: B states, S source length, T target length.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor

from common import IGNORE_INDEX, Context
from generator.architectures.encoder_decoder import build_seq2seq, describe
from generator.data.dataset import GeneratorBatch, InputLimits
from generator.data.inputs import HeadingWriter, InputParts, PremiseParts, write_input
from generator.decoding.protocol import SpecialTokens
from generator.interface.tactic_generator import AsyncTacticGenerator, TacticGenerator
from generator.training.flat_batches import flat_steps
from generator.training.metrics import TopkAccuracy
from generator.training.next_step_generator import NextStepGenerator
from generator.training.token_loss import Smoothing, is_one_chunk, mean_loss
from retrieval.training.block_attention import block_mask
from retrieval.training.options import flat, flat_options
from retrieval.training.t5_attention import has_t5_attention, take_block_masks

__all__ = ["AsyncTacticGenerator", "RetrievalAugmentedGenerator", "TacticGenerator", "TopkAccuracy"]


class RetrievalAugmentedGenerator(NextStepGenerator):
    """An encoder-decoder that writes tactics, trained on states with or without retrieved premises.

    Source: ReProver (arXiv:2306.15626, section 5.2).
    """

    target_mask: ClassVar[str] = "tactic_mask"  # of a batch; for the count of FLOPs

    @flat_options
    def __init__(
        self,
        model_name: str | dict[str, Any],
        *,
        limits: InputLimits = InputLimits(),
        parts: InputParts = InputParts(),
        premise_parts: PremiseParts = PremiseParts(),
        **shared: Any,
    ) -> None:
        """Build the model.

        Args:
            model_name: hub id or Hugging Face folder to fine-tune; or, to train from scratch, an architecture:
                a mapping or YAML file with T5Config's keys (ByT5's shape by default), and `tokenizer`
            limits: how long inputs and tactics may be
            parts: what is read beside states and premises
            premise_parts: how premises are told
            **shared: see NextStepGenerator
        """
        super().__init__(model_name, **shared)
        self.limits, self.parts, self.premise_parts = limits, parts, premise_parts
        self.write_headings = HeadingWriter(parts, limits.max_inp_seq_len)
        self.reads_theorem |= parts.reads_theorem
        self.take_network(build_seq2seq(model_name, self.tokenizer), limits.max_inp_seq_len)
        self._special = SpecialTokens.of(self.generator)

    def architecture(self) -> dict[str, Any]:
        """See `Restorable`."""
        return describe(self.generator)

    def kept_options(self) -> dict[str, Any]:
        """See `Restorable`."""
        return super().kept_options() | flat(self.limits, self.parts, self.premise_parts)

    # ------------------------------------------------------------------------------------- training

    def forward(
        self, state_ids: Tensor, state_mask: Tensor, tactic_ids: Tensor, smoothing: Smoothing | None = None
    ) -> Tensor:
        """Return the mean cross entropy of the target tokens.

        Where their logits are many (a vocabulary of 32,000, not one of bytes), they are computed a few at a time.

        Args:
            state_ids: int64 (B, S)
            state_mask: 1 where state_ids is no padding, (B, S)
            tactic_ids: int64 (B, T), -100 on padding
            smoothing: of the targets
        """
        inputs = {"input_ids": state_ids, "attention_mask": state_mask}
        num_classes, is_target = self._halves.num_classes, tactic_ids != IGNORE_INDEX
        if not self.is_sharded and not is_one_chunk(tactic_ids.numel(), num_classes, tactic_ids.device):
            given = self._given(tactic_ids)
            states = self._halves.read(**inputs, decoder_input_ids=given)
            if states is not None:
                targets = tactic_ids[is_target]
                return mean_loss(self._halves.logits, states[is_target], targets, num_classes, smoothing)
        given = self._given(tactic_ids)
        if smoothing is not None:
            logits = self.network(**inputs, decoder_input_ids=given, use_cache=False).logits[is_target]
            return mean_loss(lambda some: some, logits, tactic_ids[is_target], num_classes, smoothing)
        loss: Tensor = self.network(**inputs, decoder_input_ids=given, labels=tactic_ids, use_cache=False).loss
        return loss

    def _given(self, tactic_ids: Tensor) -> Tensor:
        """What the decoder reads: the targets, each a place later, behind the token that decoding starts with.

        mBART by itself would begin with what a target ends with, a language, and decoding begins with another one.
        """
        given = tactic_ids.roll(1, dims=1)
        given[:, 0] = self._special.start
        return given.masked_fill_(given == IGNORE_INDEX, self._special.pad)

    def reason_against_flex(self, network: Any) -> str | None:
        return None if has_t5_attention(network) else f"{type(network).__name__} has other attention than T5's"

    def laid_out(self, batch: GeneratorBatch) -> dict[str, Any]:
        if not self.uses_flex:
            return {**batch, "num_targets": int(batch["tactic_mask"].sum())}
        take_block_masks(self.generator)
        return flat_steps(batch, self._given(batch["tactic_ids"]))

    def loss_of(self, batch: Any, smoothing: Smoothing | None = None) -> tuple[Tensor, int]:
        """The loss, and the number of target tokens it is a mean of."""
        if "state_segments" in batch:
            return self._loss_of_rows(batch, smoothing), batch["num_targets"]
        loss = self(batch["state_ids"], batch["state_mask"], batch["tactic_ids"], smoothing)
        return loss, batch["num_targets"] if "num_targets" in batch else int(batch["tactic_mask"].sum())

    def _loss_of_rows(self, batch: Mapping[str, Any], smoothing: Smoothing | None) -> Tensor:
        """The mean cross entropy of a batch of `flat_steps`."""
        source, target = batch["state_segments"], batch["tactic_segments"]
        states = self._halves.read(
            encoder_outputs=self.generator.get_encoder()(
                input_ids=batch["state_ids"], attention_mask=block_mask(source, source)
            ),
            attention_mask=block_mask(target, source),
            decoder_input_ids=batch["given_ids"],
            decoder_attention_mask=block_mask(target, target, causal=True),
        )
        assert states is not None, "T5 calls its decoder once"
        targets, num_classes = batch["targets"], self._halves.num_classes
        return mean_loss(self._halves.logits, states[0, : len(targets)], targets, num_classes, smoothing)

    # ------------------------------------------------------------------------------------ inference

    @property
    def max_new_tokens(self) -> int:
        return self.limits.max_oup_seq_len

    def write_inputs(self, contexts: Sequence[Context]) -> list[str]:
        """The heading, the premises retrieved for each state, and the state."""
        states = [context.state for context in contexts]
        if getattr(self.tokenizer, "never_cuts", False):  # it refuses what is too long
            return states
        max_len, told, share = self.limits.max_inp_seq_len, self.premise_parts.told, self.premise_parts.premise_share
        parts = zip(self.write_headings(contexts), states, self._retrieve(contexts), strict=True)
        inputs = [
            write_input(heading, state, [*map(told, premises)], max_len, premise_share=share)
            for heading, state, premises in parts
        ]
        self._count_shortened(sum(not text.endswith(state) for text, state in zip(inputs, states, strict=True)))
        return inputs
