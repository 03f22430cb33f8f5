"""What validation and test say of a program writer: how often its samples hold, its loss, and the least possible.

Shape legend: N problems, B budgets 1..B.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torchmetrics import Metric

from common import ConfigError, check_positive
from generator.domains.base import Domain, Verdict
from generator.domains.model_writer import MAX_BLOCK, SampleWriter
from generator.domains.solved import pass_curve
from retrieval.training.outcomes import is_distributed

BUDGETS = (1, 10, 20)


class WriterMetrics(Metric):
    """Adds up, over batches and ranks, what became of proposals and what the targets cost.

    >>> metrics = WriterMetrics(num_proposals=2)
    >>> verified, malformed = Verdict("verified"), Verdict("malformed")
    >>> metrics.observe([[verified, malformed]], [["[0,1,0,1]", "[9"]])
    >>> metrics.observe_loss(loss=0.5, num_tokens=10, floors=[3.0])
    >>> {name: round(value, 3) for name, value in metrics.values().items()}  # doctest: +NORMALIZE_WHITESPACE
    {'solved@1': 0.5, 'solved@2': 1.0, 'valid_syntax': 0.5, 'distinct': 1.0, 'sequence_nll': 5.0, 'perplexity': 1.649,
     'floor': 0.3, 'above_floor': 0.2}
    """

    full_state_update = False
    solved: Tensor  # float64 (B,), sums of Pass@k over problems
    counts: Tensor  # float64: problems asked, proposals, well-formed, distinct
    costs: Tensor  # float64: examples, tokens, nats, examples with a known floor, nats of their floors

    def __init__(self, num_proposals: int) -> None:
        """Start at zero.

        Args:
            num_proposals: of each problem; fewer count as wrong ones
        """
        super().__init__()
        check_positive(MAX_BLOCK, num_proposals=num_proposals)
        self.num_proposals = num_proposals
        self.add_state("solved", torch.zeros(num_proposals, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("counts", torch.zeros(4, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("costs", torch.zeros(5, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, solved: Tensor, counts: Tensor, costs: Tensor) -> None:
        """Add sums of the same shapes; not in place, as states may be of inference mode."""
        self.solved = self.solved + solved.to(self.solved.device)
        self.counts = self.counts + counts.to(self.counts.device)
        self.costs = self.costs + costs.to(self.costs.device)

    def observe(self, verdicts: Sequence[Sequence[Verdict]], programs: Sequence[Sequence[str]]) -> None:
        """Count what became of the proposals of some problems."""
        n = self.num_proposals
        curves = [pass_curve(n, sum(each.holds for each in row), n) for row in verdicts]
        num_valid = sum(each.kind != "malformed" for row in verdicts for each in row)
        counts = [len(verdicts), sum(map(len, verdicts)), num_valid, sum(len(set(row)) for row in programs)]
        solved = torch.from_numpy(np.sum(curves, axis=0)) if curves else torch.zeros(n, dtype=torch.float64)
        self.update(solved, torch.tensor(counts, dtype=torch.float64), torch.zeros(5, dtype=torch.float64))

    def observe_loss(self, loss: float, num_tokens: int, floors: Sequence[float | None]) -> None:
        """Count what the targets of some problems cost.

        Args:
            loss: nats per target token, EOS included
            num_tokens: target tokens
            floors: of each problem the entropy of its right answers, in nats; None where that is not known
        """
        known = [floor for floor in floors if floor is not None]
        costs = [len(floors), num_tokens, loss * num_tokens, len(known), sum(known)]
        nothing = torch.zeros_like(self.solved), torch.zeros_like(self.counts)
        self.update(*nothing, torch.tensor(costs, dtype=torch.float64))

    def compute(self) -> Tensor:
        """Shares of problems solved within 1..B proposals, float64 (B,)."""
        return self.solved / self.counts[0]

    def values(self) -> dict[str, float]:
        """Return the metrics by name, over all ranks, which have to ask together; those that are known."""
        with self.sync_context(dist_sync_fn=self.dist_sync_fn, distributed_available=is_distributed):
            num_problems, num_proposals, num_valid, num_distinct = self.counts.tolist()
            num_examples, num_tokens, nats, num_known, floor_nats = self.costs.tolist()
            curve = self.compute().tolist()
        found: dict[str, float] = {}
        if num_problems:
            budgets = sorted({b for b in BUDGETS if b < self.num_proposals} | {self.num_proposals})
            found |= {f"solved@{b}": curve[b - 1] for b in budgets}
            found["valid_syntax"] = num_valid / num_proposals if num_proposals else 0.0
            found["distinct"] = num_distinct / num_proposals if num_proposals else 0.0
        if num_examples and num_tokens:
            loss = nats / num_tokens
            found |= {"sequence_nll": nats / num_examples, "perplexity": float(np.exp(min(loss, 700.0)))}
            if num_known == num_examples:
                found |= {"floor": floor_nats / num_tokens, "above_floor": loss - floor_nats / num_tokens}
        return found


class SolvedInTraining(pl.Callback):
    """Draws programs in validation and test, lets the domain check them, and logs what `WriterMetrics` says.

    Samples are of the model's own distribution: temperature 1, nothing left out. The data module is a
    `DomainDataModule`, which adds this callback by itself; the metrics are named as `solved@1_val`, for checkpoints to
    watch.
    """

    def __init__(self, num_proposals: int = 20) -> None:
        """Keep the number.

        Args:
            num_proposals: programs that are drawn for each problem
        """
        check_positive(MAX_BLOCK, num_proposals=num_proposals)
        self.num_proposals = num_proposals
        self._metrics = WriterMetrics(num_proposals)
        self._floors: dict[str, float | None] = {}

    def _start(self, pl_module: pl.LightningModule) -> None:
        self._metrics = WriterMetrics(self.num_proposals).to(pl_module.device)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start at zero."""
        self._start(pl_module)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start at zero."""
        self._start(pl_module)

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        """Ask and check."""
        self._observe(trainer, pl_module, batch, "val")

    def on_test_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        """Ask and check."""
        self._observe(trainer, pl_module, batch, "test")

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log."""
        self._log(pl_module, "val")

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log."""
        self._log(pl_module, "test")

    def _observe(self, trainer: pl.Trainer, pl_module: Any, batch: Any, role: str) -> None:
        dataset: Any = getattr(getattr(trainer, "datamodule", None), "datasets", {}).get(role)
        if not hasattr(dataset, "problem"):
            raise ConfigError("SolvedInTraining checks programs of a domain; it needs a DomainDataModule as data")
        specs = [dataset.problem(0, index).spec for index in batch["index"]]
        loss, num_tokens = pl_module.loss_of(batch)
        self._metrics.observe_loss(float(loss), num_tokens, [self._floor(dataset.domain, spec) for spec in specs])
        if pl_module.is_sharded:  # no rank has whole weights to draw with
            return
        proposed = SampleWriter(pl_module, block_size=self.num_proposals).draw_all(specs, block=0)
        programs = [[program for program, _ in row] for row in proposed]
        pairs = [(spec, program) for spec, row in zip(specs, programs, strict=True) for program in row]
        verdicts = iter(dataset.domain.check_all(pairs))
        self._metrics.observe([[next(verdicts) for _ in row] for row in programs], programs)

    def _floor(self, domain: Domain[Any, Any], spec: str) -> float | None:
        """See `Domain.floor`; validation asks for the same problems each time."""
        if spec not in self._floors:
            self._floors[spec] = domain.floor(spec)
        return self._floors[spec]

    def _log(self, pl_module: pl.LightningModule, role: str) -> None:
        for name, value in self._metrics.values().items():
            # already reduced over ranks
            pl_module.log(f"{name}_{role}", value, prog_bar=name == "solved@1", rank_zero_only=False)
