"""PremiseRetriever: a state in, the premises that its proof may go on with out.

Shape legend: B contexts, P premises of a batch, L padded length, D dimension, N premises of the corpus,
K premises retrieved for a context.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, get_args

from torch import Tensor

from common import check_choice, check_positive, load_tokenizer
from retrieval.dataset import RetrievalBatch, RetrievalTrainingBatch
from retrieval.encoder import build_encoder
from retrieval.losses import info_nce, similarity_mse
from retrieval.metrics import RetrievalMetrics
from retrieval.premise_search import PremiseSearch
from retrieval.reports import log_curve, log_projector, log_retrieved
from retrieval.training.architectures import checkpoint_activations, describe
from retrieval.training.checkpoints import Restorable
from retrieval.training.optimizers import OptimizerName, check_optimization, configure

Loss = Literal["mse", "info_nce"]
_CUTOFFS = (1, 10, 100)  # of Recall@k in the log


class PremiseRetriever(Restorable, PremiseSearch):
    """Embeds states and premises with one encoder; the best premises are those nearest to the state.

    Source: LeanDojo (arXiv:2306.15626, section 5).
    """

    checkpoint_key: ClassVar[str] = "retriever"

    def __init__(
        self,
        model_name: str | dict[str, Any],
        lr: float = 1e-4,
        warmup_steps: int = 2000,
        optimizer: OptimizerName = "adamw",
        lr_decay: float = 0.0,
        num_retrieved: int = 100,
        max_seq_len: int = 1024,
        loss: Loss = "mse",
        temperature: float = 0.05,
        gradient_checkpointing: bool = False,
        chunk_size: int | None = None,
        index_batch_size: int = 64,
        log_projector: bool = False,
    ) -> None:
        """Build the model.

        Args:
            model_name: hub id or Hugging Face folder to fine-tune (of an encoder-decoder, the encoder is
                taken); or, to train from scratch, an architecture: a mapping or YAML file with T5Config's keys
                (ByT5's shape by default)
            lr: learning rate after the warm-up
            warmup_steps: optimizer steps over which the learning rate rises
            optimizer: "adamw" (ReProver's), or "muon", which learns from fewer steps; see retrieval.training.optimizers
            lr_decay: share of all steps, at the end, in which the learning rate falls to 0; 0 keeps it (ReProver)
            num_retrieved: premises for each context in validation, test and predict
            max_seq_len: tokens of a context or a premise, EOS included
            loss: "mse" of all similarities of a batch (ReProver), or "info_nce", for large batches
            temperature: what InfoNCE divides similarities by
            gradient_checkpointing: recompute activations layer by layer; less memory, a third slower
            chunk_size: texts whose activations are in memory at a time in training (gradient caching), for
                batches that do not fit; the same gradients, a third slower. None takes all at once
            index_batch_size: premises of full length that are embedded at a time for the index
            log_projector: show the premises as points in TensorBoard's Projector when training ends
        """
        super().__init__()
        check_positive(
            lr=lr,
            num_retrieved=num_retrieved,
            max_seq_len=max_seq_len,
            temperature=temperature,
            chunk_size=chunk_size,
            index_batch_size=index_batch_size,
        )
        check_choice("loss", loss, get_args(Loss))
        check_optimization(optimizer, warmup_steps, lr_decay)
        # how many are retrieved is no hyper-parameter: evaluation may choose otherwise than training did
        self.save_hyperparameters("model_name", "lr", "warmup_steps", "optimizer", "lr_decay", "loss", "temperature")
        self.lr, self.warmup_steps, self.optimizer, self.lr_decay = lr, warmup_steps, optimizer, lr_decay
        self.num_retrieved, self.max_seq_len = num_retrieved, max_seq_len
        self.loss, self.temperature = loss, temperature
        self.chunk_size, self.index_batch_size = chunk_size, index_batch_size
        self.log_projector = log_projector

        self.model_name = model_name
        self.name = "" if isinstance(model_name, Mapping) else str(model_name)  # in tables and files
        self.tokenizer = load_tokenizer(model_name)
        self.encoder = build_encoder(model_name)
        if gradient_checkpointing:
            checkpoint_activations(self.encoder)
        self.metrics_val = RetrievalMetrics(num_retrieved)
        self.metrics_test = RetrievalMetrics(num_retrieved)

    # ---------------------------------------------------------------------------------- checkpoints

    def architecture(self) -> dict[str, Any]:
        """See `Restorable`."""
        return describe(self.encoder)

    def kept_options(self) -> dict[str, Any]:
        """See `Restorable`."""
        return {"max_seq_len": self.max_seq_len}

    # ------------------------------------------------------------------------------------- training

    def training_step(self, batch: RetrievalTrainingBatch, batch_idx: int) -> Tensor:
        """One step: one pass of the encoder over all contexts, and one over all premises."""
        contexts = self(batch["state_ids"], batch["state_mask"])  # (B, D)
        premises = self(batch["premise_ids"], batch["premise_mask"])  # (P, D)
        if self.loss == "mse":
            loss = similarity_mse(contexts, premises, batch["labels"])
        else:
            loss = info_nce(contexts, premises, batch["targets"], batch["labels"], self.temperature)
        num_contexts = len(contexts)
        self.log(
            "loss_train", loss, on_step=True, on_epoch=True, prog_bar=True, sync_dist=True, batch_size=num_contexts
        )
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Remember that the index no longer belongs to the weights."""
        self._is_stale = True

    def on_train_end(self) -> None:
        """Show the premises as the last validation embedded them."""
        if self.log_projector and self.index is not None:
            log_projector(self, self.index)

    def configure_optimizers(self) -> Any:
        """As the options say; the command line's `--optimizer` replaces it."""
        return configure(self, self.optimizer, self.lr, self.warmup_steps, self.lr_decay)

    # ----------------------------------------------------------------------------------- evaluation

    def _prepare_evaluation(self) -> None:
        """Embed the premises again if the weights have changed, on all ranks together."""
        datamodule = self.trainer.datamodule  # type: ignore[attr-defined]
        if datamodule is not None:
            self.load_corpus(datamodule.corpus)
        if self.index is None or self._is_stale:
            self._reindex(self.index_batch_size, self.global_rank, self.trainer.world_size)

    def on_validation_start(self) -> None:
        """Embed the premises if need be."""
        self._prepare_evaluation()

    def on_test_start(self) -> None:
        """Embed the premises if need be."""
        self._prepare_evaluation()

    def on_predict_start(self) -> None:
        """Embed the premises if need be."""
        self._prepare_evaluation()

    def validation_step(self, batch: RetrievalBatch, batch_idx: int) -> None:
        """Retrieve as in inference, and score."""
        self._evaluate("val", self.metrics_val, batch, batch_idx)

    def test_step(self, batch: RetrievalBatch, batch_idx: int) -> None:
        """As in validation."""
        self._evaluate("test", self.metrics_test, batch, batch_idx)

    def _evaluate(self, split: str, metrics: RetrievalMetrics, batch: RetrievalBatch, batch_idx: int) -> None:
        scores, numbers = self._search_batch(batch)
        metrics.update(numbers, batch["positives"])
        if batch_idx == 0:
            log_retrieved(self, split, batch, self._corpus(), numbers, scores)

    def on_validation_epoch_end(self) -> None:
        """Log recall and MRR."""
        self._log_metrics("val", self.metrics_val)

    def on_test_epoch_end(self) -> None:
        """Log recall and MRR."""
        self._log_metrics("test", self.metrics_test)

    def _log_metrics(self, split: str, metrics: RetrievalMetrics) -> None:
        result = metrics.compute()  # over all ranks
        for k in _CUTOFFS:
            if k <= self.num_retrieved:
                self.log(f"Recall@{k}_{split}", result["recall"][k - 1], prog_bar=k == 10, rank_zero_only=False)
        self.log(f"MRR_{split}", result["mrr"], prog_bar=True, rank_zero_only=False)
        if not self.trainer.sanity_checking:
            log_curve(self, split, result["recall"])
        metrics.reset()

    def predict_step(self, batch: RetrievalBatch, batch_idx: int, dataloader_idx: int = 0) -> tuple[Tensor, Tensor]:
        """Return scores and premise numbers of a batch, both (B, K) on the CPU."""
        scores, numbers = self._search_batch(batch)
        return scores.cpu(), numbers.cpu()

    def _search_batch(self, batch: RetrievalBatch) -> tuple[Tensor, Tensor]:
        places = list(zip(batch["file_path"], batch["start"], strict=True))
        contexts = self(batch["state_ids"], batch["state_mask"])
        return self._search(contexts, places, self.num_retrieved)
