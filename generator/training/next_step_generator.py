"""What every generator shares, whatever its model: how it is trained, judged, watched, saved and asked.

A batch holds texts and provenance as lists: `state`, what the model reads, and `tactic`, what it should write.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar

import torch
from pytorch_lightning.strategies import DeepSpeedStrategy, FSDPStrategy
from pytorch_lightning.utilities import rank_zero_info
from torch import Tensor

from common import Candidate, ConfigError, Context, FilePath, Premise, check_positive, format_state, remove_marks
from generator.decoding.settings import Sampling as Sampling  # an option of every model
from generator.engines import Decoding, Engine
from generator.interface.tactic_generator import TacticGenerator, check_request, merge_candidates
from generator.training.metrics import TopkAccuracy
from generator.training.premise_source import PremiseSource
from retrieval.training.checkpoints import Restorable
from retrieval.training.monitoring import as_code, log_text
from retrieval.training.optimizers import OptimizerName, check_optimization, configure


class NextStepGenerator(TacticGenerator, Restorable):
    """A model that writes tactics, as a Lightning module.

    A subclass gives the loss of a batch (`_loss`) and the model's input for a state (`_format`), and sets `engine`,
    which finds candidates, and through `_set_up` what all have.

    Attributes:
        engine: finds candidates in validation, test, prediction and `generate` alike
        premise_source: where `generate` gets premises from, if it does; data brings its own
        num_shortened: states over the limit that `generate` has met; waiting goals or oldest hypotheses were left out
    """

    checkpoint_key: ClassVar[str] = "generator"
    # no hyper-parameters: evaluation may choose others than training did
    decoding_options: ClassVar[tuple[str, ...]]
    engine: Engine
    premise_source: PremiseSource | None

    def _set_up(
        self,
        model_name: str | dict[str, Any],
        lr: float,
        warmup_steps: int,
        optimizer: OptimizerName,
        lr_decay: float,
        num_beams: int,
        length_penalty: float,
        sampling: Sampling | None,
        log_text_every_n_steps: int,
    ) -> None:
        """Check and keep what every generator has."""
        check_positive(lr=lr, num_beams=num_beams, log_text_every_n_steps=log_text_every_n_steps)
        check_optimization(optimizer, warmup_steps, lr_decay)
        self.model_name = model_name
        self.name = model_name if isinstance(model_name, str) else ""
        self.lr, self.warmup_steps, self.optimizer, self.lr_decay = lr, warmup_steps, optimizer, lr_decay
        self.num_beams, self.length_penalty = num_beams, length_penalty
        self.sampling = Sampling(**sampling) if isinstance(sampling, Mapping) else sampling
        self.log_text_every_n_steps = log_text_every_n_steps
        self.num_shortened = 0
        self._tokens_per_batch: float | None = None  # target tokens, over an epoch
        self.topk_val = TopkAccuracy(num_beams)
        self.topk_test = TopkAccuracy(num_beams)

    @abstractmethod
    def _loss(self, batch: Any) -> tuple[Tensor, int]:
        """Return the mean cross entropy of a batch's target tokens, and how many they are."""

    @abstractmethod
    def _format(self, contexts: Sequence[Context]) -> Sequence[str | None]:
        """Return the model's input for each state; None where no input can hold it, for which there are no tactics."""

    @property
    @abstractmethod
    def _max_new_tokens(self) -> int:
        """Tokens of a candidate, EOS included."""

    def _parse(self, text: str) -> str | None:
        """Return the tactic that the model's text holds, None if it holds none."""
        return text

    def _decoding(self) -> Decoding:
        """How the engine is to find candidates."""
        return Decoding(self._max_new_tokens, length_penalty=self.length_penalty, sampling=self.sampling)

    @torch.no_grad()
    def propose(self, inputs: Sequence[str | None], num_candidates: int) -> list[list[Candidate]]:
        """Return at most num_candidates candidates for each input, best first, each once; none for no input.

        Args:
            inputs: whole, as data writes them (`state` of its examples) and `generate` does
            num_candidates: for each
        """
        asked = [text for text in inputs if text]
        found = self.engine.propose(asked, num_candidates, self._decoding()) if asked else []
        parsed = [[(self._parse(text), log_prob) for text, log_prob in texts] for texts in found]
        merged = (merge_candidates((tactic, p) for tactic, p in texts if tactic is not None) for texts in parsed)
        return [next(merged) if text else [] for text in inputs]

    @property
    def decoding(self) -> dict[str, Any]:
        """The settings of formatting and decoding, as plain values."""
        values = {name: getattr(self, name) for name in self.decoding_options}
        return {**values, "sampling": None if self.sampling is None else asdict(self.sampling)}

    def kept_options(self) -> dict[str, Any]:
        """See `Restorable`."""
        return self.decoding

    # ------------------------------------------------------------------------------------- training

    def on_train_start(self) -> None:
        """Learn from the data how many target tokens a batch has on average; of data that does not say, nothing."""
        loader: Any = self.trainer.train_dataloader
        total = getattr(getattr(loader, "dataset", None), "num_target_tokens", None)
        self._tokens_per_batch = None if total is None else total / (len(loader) * self.trainer.world_size)

    def on_fit_start(self) -> None:
        """Refuse engines that would validate with the weights of some earlier step."""
        if not self.engine.is_live:
            raise ConfigError(
                f"engine {self.engine.name} reads a converted copy of the weights, which training would leave behind; "
                "train with engine native or transformers, and choose it for validate, test, predict and generate"
            )

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
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
        return loss * self._weight(num_tokens)

    def _weight(self, num_tokens: int) -> float:
        """What a batch counts for: its target tokens, where batches or ranks together make a step, and else 1.

        Their gradients are averaged; without it, a token would count for less in a batch of many.
        """
        if self._accumulated() * self.trainer.world_size == 1 or self._tokens_per_batch is None:
            return 1.0
        return num_tokens / self._tokens_per_batch

    def _accumulated(self) -> int:
        return int(self.trainer.accumulate_grad_batches)

    def configure_optimizers(self) -> Any:
        """As the options say; the command line's `--optimizer` replaces it."""
        return configure(self, self.optimizer, self.lr, self.warmup_steps, self.lr_decay)

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

    @property
    def _is_sharded(self) -> bool:
        """Whether no rank has whole weights to decode with, and ranks would have to take equally many steps."""
        strategy = self.trainer.strategy
        stage_3 = isinstance(strategy, DeepSpeedStrategy) and strategy.zero_stage_3
        return isinstance(strategy, FSDPStrategy) or stage_3

    def on_validation_start(self) -> None:
        """Say what is missing where weights are sharded."""
        if self._is_sharded:
            rank_zero_info("weights are sharded, so only the loss is validated; `validate` the checkpoint for top-k")

    def on_predict_start(self) -> None:
        """Refuse what cannot be decoded."""
        if self._is_sharded:
            raise ConfigError("predict needs whole weights, and this strategy shards them; use ddp, or one device")

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Loss, and beam search as in inference."""
        self._evaluate("val", self.topk_val, batch, batch_idx)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """As in validation."""
        self._evaluate("test", self.topk_test, batch, batch_idx)

    def _evaluate(self, split: str, topk: TopkAccuracy, batch: Any, batch_idx: int) -> None:
        loss, num_tokens = self._loss(batch)
        self.log(f"loss_{split}", loss, on_epoch=True, prog_bar=True, sync_dist=True, batch_size=num_tokens)
        if self._is_sharded:
            return
        candidates = self.propose(batch["state"], self.num_beams)
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
        if self._is_sharded:
            return
        for k, accuracy in enumerate(topk.curve(), start=1):
            # already reduced over ranks
            self.log(f"top{k}_acc_{split}", accuracy, prog_bar=k in (1, topk.k), rank_zero_only=False)
        topk.reset()

    def predict_step(self, batch: Any, batch_idx: int) -> list[dict[str, Any]]:
        """Return a record for each example: where it is from, its tactic, and the candidates."""
        candidates = self.propose(batch["state"], self.num_beams)
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

    def _log_io_texts(self, split: str, batch: Any, candidates: Sequence[Sequence[Candidate]] = ()) -> None:
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
        if self.premise_source is not None:
            self.premise_source.load(self.device)

    def _retrieve(self, contexts: Sequence[Context]) -> list[list[Premise]]:
        """Premises for each context, best first; none without a retriever."""
        if self.premise_source is None:
            return [[] for _ in contexts]
        return self.premise_source.retrieve(contexts, self.device)

    def _count_shortened(self, num_shortened: int) -> None:
        """Count inputs that lost something to the limit; say so at the first."""
        if num_shortened and not self.num_shortened:
            warnings.warn(
                f"a state is over the limit and was shortened; {self.name or 'the model'}.num_shortened counts",
                stacklevel=4,
            )
        self.num_shortened += num_shortened

    @torch.no_grad()
    def batch_generate(
        self,
        states: Sequence[str],
        file_paths: Sequence[FilePath],
        theorem_full_names: Sequence[str],
        theorem_positions: Sequence[Any],
        num_samples: int,
    ) -> list[list[Candidate]]:
        """Return the tactics of several states, in their order; see `generate`."""
        positions = check_request(states, file_paths, theorem_full_names, theorem_positions, num_samples)
        contexts = [
            Context(str(path), name, position, format_state(state))
            for state, path, name, position in zip(states, file_paths, theorem_full_names, positions, strict=True)
        ]
        return self.propose(self._format(contexts), num_samples)


def beam_table(candidates: Sequence[Candidate], tactic: str) -> str:
    """Return a Markdown table of candidates, best first, with a mark at the right one."""
    right = remove_marks(tactic)
    rows = ["| | log-prob | tactic |", "|---|---:|---|"]
    for proposed, log_prob in candidates:
        text = proposed.replace("|", "\\|").replace("\n", " ⏎ ")
        rows.append(f"| {'✓' if proposed == right else ''} | {log_prob:.2f} | `{text}` |")
    return "\n".join(rows)
