"""The retrieval-augmented tactic generator: premises and a state in, tactics out.

Shape legend: B states, S source length, T target length.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from common import Context, check_positive, format_augmented_state, load_tokenizer
from generator.architectures.encoder_decoder import build_seq2seq, describe
from generator.datamodule import GeneratorBatch
from generator.engines import make_engine
from generator.interface.tactic_generator import AsyncTacticGenerator, TacticGenerator
from generator.training.metrics import TopkAccuracy
from generator.training.next_step_generator import NextStepGenerator, Sampling
from generator.training.premise_source import premise_source
from retrieval.training.optimizers import OptimizerName

__all__ = ["AsyncTacticGenerator", "RetrievalAugmentedGenerator", "TacticGenerator", "TopkAccuracy"]


class RetrievalAugmentedGenerator(NextStepGenerator):
    """An encoder-decoder that writes tactics, trained on states with or without retrieved premises.

    Source: ReProver (arXiv:2306.15626, section 5.2).
    """

    decoding_options: ClassVar[tuple[str, ...]] = (
        "num_beams",
        "length_penalty",
        "max_inp_seq_len",
        "max_oup_seq_len",
    )

    def __init__(
        self,
        model_name: str | dict[str, Any],
        lr: float = 5e-4,
        warmup_steps: int = 2000,
        optimizer: OptimizerName = "adamw",
        lr_decay: float = 0.0,
        num_beams: int = 8,
        length_penalty: float = 0.0,
        sampling: Sampling | None = None,
        engine: str = "native",
        engine_options: dict[str, Any] | None = None,
        max_inp_seq_len: int = 2300,
        max_oup_seq_len: int = 512,
        gradient_checkpointing: bool = False,
        compile: bool = False,
        log_text_every_n_steps: int = 500,
        ret_ckpt_path: str | None = None,
        corpus_path: str | None = None,
        index_path: str | None = None,
        eval_num_retrieved: int = 100,
    ) -> None:
        """Build the model.

        Args:
            model_name: hub id or Hugging Face folder to fine-tune; or, to train from scratch, an architecture:
                a mapping or YAML file with T5Config's keys (ByT5's shape by default)
            lr: learning rate after the warm-up
            warmup_steps: optimizer steps over which the learning rate rises
            optimizer: "adamw" (ReProver's), or "muon", which learns from fewer steps; see retrieval.training.optimizers
            lr_decay: share of all steps, at the end, in which the learning rate falls to 0; 0 keeps it (ReProver)
            num_beams: beams, and so candidates, in validation, test and predict
            length_penalty: candidates rank by log-probability / length ** this; 0 is their probability
            sampling: draw candidates instead of searching for the best ones
            engine: what decodes: "native", "transformers", "ctranslate2"; see generator.engines
            engine_options: what the engine's constructor takes, such as compute_type: int8 of "ctranslate2"
            max_inp_seq_len: tokens of an input, EOS included
            max_oup_seq_len: tokens of a tactic, EOS included
            gradient_checkpointing: recompute activations in the backward pass; less memory, a third slower
            compile: compile the training step with torch.compile
            log_text_every_n_steps: how often an input and its target are logged as text in training
            ret_ckpt_path: retriever that `generate` asks for premises: a checkpoint, or an encoder's folder or
                hub id; training and evaluation read predictions instead (see GeneratorDataModule)
            corpus_path: corpus.jsonl that it retrieves from
            index_path: folder of its embeddings, from `python -m retrieval.index`; without it they are made first
            eval_num_retrieved: premises for each state
        """
        super().__init__()
        self._set_up(
            model_name,
            lr,
            warmup_steps,
            optimizer,
            lr_decay,
            num_beams,
            length_penalty,
            sampling,
            log_text_every_n_steps,
        )
        check_positive(max_inp_seq_len=max_inp_seq_len, max_oup_seq_len=max_oup_seq_len)
        self.premise_source = premise_source(ret_ckpt_path, corpus_path, index_path, eval_num_retrieved)
        self.reads_theorem = self.premise_source is not None
        # decoding settings are no hyper-parameters: evaluation may choose others than training did
        self.save_hyperparameters(
            "model_name", "lr", "warmup_steps", "optimizer", "lr_decay", "gradient_checkpointing", "compile"
        )
        self.max_inp_seq_len, self.max_oup_seq_len = max_inp_seq_len, max_oup_seq_len

        self.tokenizer = load_tokenizer(model_name)
        self.generator = build_seq2seq(model_name)
        if gradient_checkpointing:
            enable = getattr(self.generator, "activation_checkpointing_enable", None)  # transformers 5.20 and later
            (enable or self.generator.gradient_checkpointing_enable)()
        self.engine = make_engine(
            engine, self.generator, self.tokenizer, max_inp_seq_len=max_inp_seq_len, **(engine_options or {})
        )
        self._compiled = [torch.compile(self.generator, dynamic=True)] if compile else []

    def architecture(self) -> dict[str, Any]:
        """See `Restorable`."""
        return describe(self.generator)

    # ------------------------------------------------------------------------------------- training

    def forward(self, state_ids: Tensor, state_mask: Tensor, tactic_ids: Tensor) -> Tensor:
        """Return the mean cross entropy of the target tokens.

        Args:
            state_ids: int64 (B, S)
            state_mask: 1 where state_ids is no padding, (B, S)
            tactic_ids: int64 (B, T), -100 on padding
        """
        model = self._compiled[0] if self._compiled and self.training else self.generator
        loss: Tensor = model(input_ids=state_ids, attention_mask=state_mask, labels=tactic_ids).loss
        return loss

    def _loss(self, batch: GeneratorBatch) -> tuple[Tensor, int]:
        """The loss, and the number of target tokens it is a mean of."""
        loss = self(batch["state_ids"], batch["state_mask"], batch["tactic_ids"])
        return loss, int(batch["tactic_mask"].sum())

    # ------------------------------------------------------------------------------------ inference

    @property
    def _max_new_tokens(self) -> int:
        return self.max_oup_seq_len

    def _format(self, contexts: Sequence[Context]) -> list[str]:
        """The premises retrieved for each state, if there is a retriever, and the state."""
        states = [context.state for context in contexts]
        inputs = [
            format_augmented_state(state, premises, self.max_inp_seq_len)
            for state, premises in zip(states, self._retrieve(contexts), strict=True)
        ]
        self._count_shortened(sum(not text.endswith(state) for text, state in zip(inputs, states, strict=True)))
        return inputs
