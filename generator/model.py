"""The retrieval-augmented tactic generator: premises and a state in, tactics out.

Shape legend: B states, S source length, T target length.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import FSDPStrategy
from torch import Tensor

from common import (
    ConfigError,
    Context,
    Premise,
    adamw_with_warmup,
    check_positive,
    format_augmented_state,
    format_state,
    load_tokenizer,
)
from generator.architecture import build_seq2seq, describe
from generator.datamodule import GeneratorBatch
from generator.decoding import beam_search
from generator.metrics import TopkAccuracy
from generator.monitoring import beam_table
from generator.tactic_generator import (
    AsyncTacticGenerator,
    Candidate,
    FilePath,
    TacticGenerator,
    check_request,
    merge_candidates,
)
from retrieval.checkpoints import check_class, read_checkpoint
from retrieval.model import PremiseRetriever
from retrieval.monitoring import as_code, log_text

__all__ = ["AsyncTacticGenerator", "RetrievalAugmentedGenerator", "TacticGenerator", "TopkAccuracy"]

_MAX_TOKENS_PER_CALL = 65_536  # padded input of one decoding call; more states are taken in turns


class RetrievalAugmentedGenerator(TacticGenerator, pl.LightningModule):
    """An encoder-decoder that writes tactics, trained on states with or without retrieved premises.

    Source: ReProver (arXiv:2306.15626, section 5.2).
    """

    def __init__(
        self,
        model_name: str | dict[str, Any],
        lr: float = 5e-4,
        warmup_steps: int = 2000,
        num_beams: int = 8,
        length_penalty: float = 0.0,
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
            num_beams: beams, and so candidates, in validation, test and predict
            length_penalty: candidates rank by log-probability / length ** this; 0 is their probability
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
        check_positive(
            lr=lr,
            num_beams=num_beams,
            max_inp_seq_len=max_inp_seq_len,
            max_oup_seq_len=max_oup_seq_len,
            log_text_every_n_steps=log_text_every_n_steps,
            eval_num_retrieved=eval_num_retrieved,
        )
        if (ret_ckpt_path is None) != (corpus_path is None) or (index_path and not ret_ckpt_path):
            raise ConfigError("ret_ckpt_path and corpus_path belong together, and index_path to both; give the others")
        if warmup_steps < 0:
            raise ConfigError(f"warmup_steps is {warmup_steps}; it must be at least 0")
        # decoding settings are no hyper-parameters: evaluation may choose others than training did
        self.save_hyperparameters("model_name", "lr", "warmup_steps", "gradient_checkpointing", "compile")
        self.lr, self.warmup_steps = lr, warmup_steps
        self.num_beams, self.length_penalty = num_beams, length_penalty
        self.max_inp_seq_len, self.max_oup_seq_len = max_inp_seq_len, max_oup_seq_len
        self.log_text_every_n_steps = log_text_every_n_steps
        self.ret_ckpt_path, self.corpus_path, self.index_path = ret_ckpt_path, corpus_path, index_path
        self.eval_num_retrieved = eval_num_retrieved
        self._retriever: list[PremiseRetriever] = []  # in a list: its weights are not this module's

        self.model_name = model_name
        self.tokenizer = load_tokenizer(model_name)
        self.generator = build_seq2seq(model_name)
        if gradient_checkpointing:
            enable = getattr(self.generator, "activation_checkpointing_enable", None)  # transformers 5.20 and later
            (enable or self.generator.gradient_checkpointing_enable)()
        self._compiled = [torch.compile(self.generator, dynamic=True)] if compile else []
        self.topk_val = TopkAccuracy(num_beams)
        self.topk_test = TopkAccuracy(num_beams)

    # ---------------------------------------------------------------------------------- checkpoints

    @classmethod
    def load(cls, ckpt_path: str | Path, device: Any = "cpu", freeze: bool = True, **overrides: Any) -> Self:
        """Return the generator of a checkpoint, ready to use; nothing is fetched from a hub.

        Args:
            ckpt_path: a Lightning checkpoint of this class
            device: where to put it
            freeze: evaluation mode, no gradients
            overrides: constructor arguments to change, such as num_beams

        Raises:
            DataError: if the file is missing, broken, or of another class
        """
        checkpoint = read_checkpoint(ckpt_path)
        check_class(checkpoint, cls, ckpt_path, key="generator")
        saved = checkpoint["generator"]
        options = {**checkpoint["hyper_parameters"], **saved["decoding"], **overrides}
        model = cls(**{**options, "model_name": saved["architecture"]})
        model.load_state_dict(checkpoint["state_dict"])
        if freeze:
            model.eval().requires_grad_(False)
        return model.to(device)

    @property
    def decoding(self) -> dict[str, Any]:
        """The settings of formatting and beam search."""
        names = ("num_beams", "length_penalty", "max_inp_seq_len", "max_oup_seq_len")
        return {name: getattr(self, name) for name in names}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store what `load` needs to rebuild the model without its hub or folder."""
        tokenizer = self.model_name
        if isinstance(tokenizer, Mapping):
            tokenizer = tokenizer.get("tokenizer", "bytes")
        elif tokenizer.endswith((".yaml", ".yml")) or hasattr(self.tokenizer, "extra_ids"):
            tokenizer = "bytes"
        checkpoint["generator"] = {
            "class": f"{type(self).__module__}.{type(self).__qualname__}",
            "architecture": {**describe(self.generator), "tokenizer": tokenizer},
            "decoding": self.decoding,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another class before its weights fail to fit."""
        check_class(checkpoint, type(self), "the checkpoint", key="generator")

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

    def training_step(self, batch: GeneratorBatch, batch_idx: int) -> Tensor:
        """One step; the loss is averaged over an epoch by target tokens."""
        loss, num_tokens = self._loss(batch)
        self.log(
            "loss_train",
            loss,
            on_step=True,
            on_epoch=True,
            prog_bar=True,
            sync_dist=True,
            batch_size=num_tokens,
        )
        if self.global_step % self.log_text_every_n_steps == 0 and batch_idx % self._accumulated() == 0:
            self._log_io_texts("train", batch)
        return loss

    def _accumulated(self) -> int:
        return int(self.trainer.accumulate_grad_batches)

    def configure_optimizers(self) -> Any:
        """AdamW with warm-up; the command line's `--optimizer` replaces it."""
        return adamw_with_warmup(self.parameters(), self.lr, self.warmup_steps)

    def configure_gradient_clipping(
        self,
        optimizer: Any,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip as the trainer says; under FSDP by the norm over all shards, which Lightning leaves to the module."""
        if isinstance(self.trainer.strategy, FSDPStrategy) and gradient_clip_val and gradient_clip_algorithm != "value":
            self.trainer.model.clip_grad_norm_(gradient_clip_val)  # type: ignore[union-attr, operator]
            return
        self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    # ----------------------------------------------------------------------------------- evaluation

    def validation_step(self, batch: GeneratorBatch, batch_idx: int) -> None:
        """Loss, and beam search as in inference."""
        self._evaluate("val", self.topk_val, batch, batch_idx)

    def test_step(self, batch: GeneratorBatch, batch_idx: int) -> None:
        """As in validation."""
        self._evaluate("test", self.topk_test, batch, batch_idx)

    def _evaluate(self, split: str, topk: TopkAccuracy, batch: GeneratorBatch, batch_idx: int) -> None:
        loss, num_tokens = self._loss(batch)
        self.log(f"loss_{split}", loss, on_epoch=True, prog_bar=True, sync_dist=True, batch_size=num_tokens)
        candidates = self._decode(batch["state_ids"], batch["state_mask"], self.num_beams)
        topk.update([[tactic for tactic, _ in proposed] for proposed in candidates], batch["tactic"])
        if batch_idx == 0:
            self._log_io_texts(split, batch, candidates)

    def on_validation_epoch_end(self) -> None:
        """Log top-k accuracy for every k."""
        self._log_topk("val", self.topk_val)

    def on_test_epoch_end(self) -> None:
        """Log top-k accuracy for every k."""
        self._log_topk("test", self.topk_test)

    def _log_topk(self, split: str, topk: TopkAccuracy) -> None:
        for k, accuracy in enumerate(topk.curve(), start=1):
            # already reduced over ranks
            self.log(f"top{k}_acc_{split}", accuracy, prog_bar=k in (1, topk.k), rank_zero_only=False)
        topk.reset()

    def predict_step(self, batch: GeneratorBatch, batch_idx: int) -> list[dict[str, Any]]:
        """Return a record for each example: where it is from, its tactic, and the candidates."""
        candidates = self._decode(batch["state_ids"], batch["state_mask"], self.num_beams)
        return [
            {
                "file_path": batch["file_path"][i],
                "full_name": batch["full_name"][i],
                "start": list(batch["start"][i]),
                "tactic_idx": batch["tactic_idx"][i],
                "state": batch["state"][i],
                "tactic": batch["tactic"][i],
                "candidates": [{"tactic": t, "log_prob": log_prob} for t, log_prob in proposed],
            }
            for i, proposed in enumerate(candidates)
        ]

    def _log_io_texts(self, split: str, batch: GeneratorBatch, candidates: Sequence[Sequence[Candidate]] = ()) -> None:
        """Log inputs and targets as text, and, where there are any, the candidates with the right one marked."""
        for i in range(min(3, len(batch["state"]))) if candidates else (0,):
            suffix = f"/{i}" if candidates else ""
            log_text(self, f"{split}_state{suffix}", as_code(batch["state"][i]))
            log_text(self, f"{split}_tactic{suffix}", as_code(batch["tactic"][i]))
            if candidates:
                log_text(self, f"preds_{split}{suffix}", beam_table(candidates[i], batch["tactic"][i]))

    # ------------------------------------------------------------------------------------ inference

    def initialize(self) -> None:
        """Load the retriever, if there is one, and its index; else the first `generate` does."""
        if self.ret_ckpt_path is None or self.corpus_path is None:
            return
        if not self._retriever:
            retriever = PremiseRetriever.load(self.ret_ckpt_path, self.device)
            retriever.load_corpus(self.corpus_path, self.index_path)
            if retriever.index is None:
                retriever.reindex_corpus()
            self._retriever.append(retriever)

    def generate(
        self,
        state: str,
        file_path: FilePath,
        theorem_full_name: str,
        theorem_pos: Any,
        num_samples: int,
    ) -> list[Candidate]:
        """Return at most num_samples tactics for one state, with log-probabilities, best first."""
        return self.batch_generate([state], [file_path], [theorem_full_name], [theorem_pos], num_samples)[0]

    @torch.inference_mode()
    def batch_generate(
        self,
        states: Sequence[str],
        file_paths: Sequence[FilePath],
        theorem_full_names: Sequence[str],
        theorem_positions: Sequence[Any],
        num_samples: int,
    ) -> list[list[Candidate]]:
        """Return the tactics of several states, in their order; see `generate`.

        States of similar length are decoded together, so a mixed batch costs little padding.
        """
        positions = check_request(states, file_paths, theorem_full_names, theorem_positions, num_samples)
        contexts = [
            Context(str(path), name, position, format_state(state))
            for state, path, name, position in zip(states, file_paths, theorem_full_names, positions, strict=True)
        ]
        inputs = [
            format_augmented_state(context.state, premises, self.max_inp_seq_len)
            for context, premises in zip(contexts, self._retrieve(contexts), strict=True)
        ]
        results: list[list[Candidate]] = [[] for _ in inputs]
        for rows in _similar_lengths([len(text.encode()) + 1 for text in inputs]):
            batch = self.tokenizer(
                [inputs[i] for i in rows],
                padding=True,
                truncation=True,
                max_length=self.max_inp_seq_len,
                return_tensors="pt",
            ).to(self.device)
            candidates = self._decode(batch["input_ids"], batch["attention_mask"], num_samples)
            for i, proposed in zip(rows, candidates, strict=True):
                results[i] = proposed
        return results

    def _retrieve(self, contexts: Sequence[Context]) -> list[list[Premise]]:
        """Premises for each context, best first; none without a retriever."""
        self.initialize()
        if not self._retriever:
            return [[] for _ in contexts]
        retriever = self._retriever[0].to(self.device)
        premises, _ = retriever.batch_retrieve(
            states=[context.state for context in contexts],
            file_paths=[context.path for context in contexts],
            theorem_full_names=[context.theorem_full_name for context in contexts],
            theorem_positions=[context.theorem_pos for context in contexts],
            k=self.eval_num_retrieved,
        )
        return premises

    def _decode(self, state_ids: Tensor, state_mask: Tensor, num_candidates: int) -> list[list[Candidate]]:
        """Beam search as validation, prediction and provers see it; at most num_candidates a state."""
        found = beam_search(
            self.generator,
            state_ids,
            state_mask,
            num_beams=num_candidates,
            num_return_sequences=num_candidates,
            max_new_tokens=self.max_oup_seq_len,
            length_penalty=self.length_penalty,
        )
        num_states, num_found, _ = found.sequences.shape
        texts = self.tokenizer.batch_decode(found.sequences.flatten(0, 1), skip_special_tokens=True)
        log_probs = found.log_probs.flatten().tolist()
        exists = torch.isfinite(found.log_probs).flatten().tolist()
        pairs = list(zip(texts, log_probs, exists, strict=True))
        return [
            merge_candidates((t, p) for t, p, e in pairs[i * num_found : (i + 1) * num_found] if e)
            for i in range(num_states)
        ]


def _similar_lengths(lengths: Sequence[int]) -> list[list[int]]:
    """Group numbers of inputs, longest first, so that a group's padding and size stay small."""
    groups: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        group = groups[-1] if groups else []
        widest = lengths[group[0]] if group else 0
        fits = (len(group) + 1) * widest <= _MAX_TOKENS_PER_CALL and lengths[i] >= 0.7 * widest
        if group and fits:
            group.append(i)
        else:
            groups.append([i])
    return groups
