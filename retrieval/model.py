"""PremiseRetriever: a state in, the premises that its proof may go on with out.

Shape legend: B contexts, P premises of a batch, L padded length, D dimension, N premises of the corpus,
K premises retrieved for a context.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

from torch import Tensor

from common import check_choice, check_positive
from retrieval.datamodule import RetrievalDataModule
from retrieval.dataset import RetrievalBatch, RetrievalTrainingBatch
from retrieval.losses import info_nce, similarity_mse
from retrieval.metrics import RetrievalMetrics
from retrieval.premise_search import PremiseSearch
from retrieval.reports import PremiseOutcomes, log_curve, log_projector, log_retrieved, premise_charts
from retrieval.training.charts import Chart
from retrieval.training.flat_rows import flat_rows, pinned
from retrieval.training.optimizers import Optimization, configure
from retrieval.training.options import flat, flat_options, save_options

Loss = Literal["mse", "info_nce"]
_CUTOFFS = (1, 10, 100)  # of Recall@k in the log


class PremiseRetriever(PremiseSearch):
    """Learns to embed states near the premises that their proofs go on with; retrieves as PremiseSearch does.

    Source: LeanDojo (arXiv:2306.15626, section 5).
    """

    @flat_options
    def __init__(
        self,
        model_name: str | dict[str, Any],
        *,
        optimization: Optimization = Optimization(lr=1e-4),
        num_retrieved: int = 100,
        loss: Loss = "mse",
        temperature: float = 0.05,
        log_projector: bool = False,
        **shared: Any,
    ) -> None:
        """Build the model.

        Args:
            model_name: hub id or Hugging Face folder to fine-tune (of an encoder-decoder, the encoder is
                taken); or, to train from scratch, an architecture: a mapping or YAML file with T5Config's keys
                (ByT5's shape by default)
            optimization: how it is trained
            num_retrieved: premises for each context in validation, test and predict
            loss: "mse" of all similarities of a batch (ReProver), or "info_nce", for large batches
            temperature: what InfoNCE divides similarities by
            log_projector: show the premises as points in TensorBoard's Projector when training ends
            **shared: see PremiseSearch
        """
        check_positive(num_retrieved=num_retrieved, temperature=temperature)
        check_choice("loss", loss, get_args(Loss))
        super().__init__(model_name, **shared)
        # how many are retrieved is no hyper-parameter: evaluation may choose otherwise than training did
        options = flat(optimization, self.acceleration, model_name=model_name, loss=loss, temperature=temperature)
        save_options(self, options)
        self.optimization, self.num_retrieved = optimization, num_retrieved
        self.loss, self.temperature = loss, temperature
        self.log_projector = log_projector
        self.metrics_val = RetrievalMetrics(num_retrieved)
        self.metrics_test = RetrievalMetrics(num_retrieved)
        self.outcomes_val = PremiseOutcomes(num_retrieved)
        self.outcomes_test = PremiseOutcomes(num_retrieved)

    # ------------------------------------------------------------------------------------- training

    def training_step(self, batch: RetrievalTrainingBatch, batch_idx: int) -> Tensor:
        """One step: one pass of the encoder over all contexts, and one over all premises."""
        contexts, premises = self._encoded(batch)
        if self.loss == "mse":
            loss = similarity_mse(contexts, premises, batch["labels"])
        else:
            loss = info_nce(contexts, premises, batch["targets"], batch["labels"], self.temperature)
        num_contexts = len(contexts)
        self.log(
            "loss_train", loss, on_step=True, on_epoch=True, prog_bar=True, sync_dist=True, batch_size=num_contexts
        )
        return loss

    def _encoded(self, batch: Any) -> tuple[Tensor, Tensor]:
        """The unit vectors of contexts (B, D) and premises (P, D)."""
        if "rows" not in batch:
            return self(batch["state_ids"], batch["state_mask"]), self(batch["premise_ids"], batch["premise_mask"])
        vectors, num_contexts = self.encode_rows(batch["rows"]), len(batch["state"])
        return vectors[:num_contexts], vectors[num_contexts:]

    def prepare_batch(self, batch: Any) -> Any:
        """Put the contexts and premises of a training batch behind one another, where flex is used; on the CPU."""
        if "premise_ids" not in batch or not self.uses_flex:
            return batch
        pairs = [(batch[f"{name}_ids"], batch[f"{name}_mask"]) for name in ("state", "premise")]
        left_out = {f"{name}_{what}" for name in ("state", "premise") for what in ("ids", "mask")}
        kept = {name: value for name, value in batch.items() if name not in left_out}
        # which tokens are of which text, over all rows; for what counts them
        numbers = flat_rows(pairs)[0].segments
        return pinned({**kept, "rows": self.rows_of(pairs), "text_segments": numbers}, self.device)

    def on_train_start(self) -> None:
        """Compile the encoder, where that is asked for or wins time."""
        self._compile()

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Remember that the index no longer belongs to the weights."""
        self._is_stale = True

    def on_train_end(self) -> None:
        """Show the premises as the last validation embedded them."""
        if self.log_projector and self.index is not None:
            log_projector(self, self.index)

    def configure_optimizers(self) -> Any:
        """As the options say; the command line's `--optimizer` replaces it."""
        return configure(self, self.optimization)

    # ----------------------------------------------------------------------------------- evaluation

    def _prepare_evaluation(self) -> None:
        """Embed the premises again if the weights have changed, on all ranks together."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if isinstance(data, RetrievalDataModule):
            self.load_corpus(data.corpus)
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
        self._evaluate("val", self.metrics_val, self.outcomes_val, batch, batch_idx)

    def test_step(self, batch: RetrievalBatch, batch_idx: int) -> None:
        """As in validation."""
        self._evaluate("test", self.metrics_test, self.outcomes_test, batch, batch_idx)

    def _evaluate(
        self, split: str, metrics: RetrievalMetrics, outcomes: PremiseOutcomes, batch: RetrievalBatch, batch_idx: int
    ) -> None:
        scores, numbers = self._search_batch(batch)
        metrics.update(numbers, batch["positives"])
        outcomes.observe(numbers, scores, batch["positives"])
        if batch_idx == 0:
            log_retrieved(self, split, batch, self._corpus(), numbers, scores)

    def on_validation_epoch_end(self) -> None:
        """Log recall and MRR."""
        self._log_metrics("val", self.metrics_val)
        self.outcomes_val.reset()

    def on_test_epoch_end(self) -> None:
        """Log recall and MRR."""
        self._log_metrics("test", self.metrics_test)
        self.outcomes_test.reset()

    def scalar_charts(self) -> dict[str, list[str]]:
        """See `Charted`."""
        recall = [f"Recall@{k}_val" for k in _CUTOFFS if k <= self.num_retrieved]
        return {"Recall@k on val": recall, "MRR on val": ["MRR_val"]}

    def charts(self, split: str) -> dict[str, Chart]:
        """See `Charted`."""
        is_val = split == "val"
        metrics, outcomes = (self.metrics_val, self.outcomes_val) if is_val else (self.metrics_test, self.outcomes_test)
        return premise_charts(outcomes.counts(), metrics.compute()["recall"])

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
