"""What validation and test say of a program writer: how often what it proposes holds, its loss, and the least possible.

Shape legend: N problems, B budgets 1..B.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_info

from common import ConfigError, check_choice, check_positive
from generator.domains.base import Domain, Problem, Verdict
from generator.domains.fates import training_charts
from generator.domains.model_writer import MAX_BLOCK, PROPOSALS, SampleWriter
from generator.domains.writer_metrics import WriterMetrics, budgets_of
from generator.domains.writers import RankedWriter
from retrieval.training.charts import Chart
from retrieval.training.options import flat_options
from retrieval.training.outcomes import is_distributed

_NUM_OF_SLOW = 100  # problems that a domain whose checks take long judges, unless it is told otherwise


@dataclass(frozen=True)
class Judging:
    """How validation and test judge programs.

    Attributes:
        proposals: "samples" of the model's own distribution, each drawn independently, or "beam", the candidates of a
            beam search as wide as num_proposals, best first
        num_judged: problems of a validation whose programs are drawn and checked, the first of the split; by default
            all, or 100 of a domain whose checks take long
    """

    proposals: str = "samples"
    num_judged: int | None = None

    def __post_init__(self) -> None:
        check_choice("proposals", self.proposals, PROPOSALS)
        check_positive(num_judged=self.num_judged)


class SolvedInTraining(pl.Callback):
    """Lets the model propose programs in validation and test, lets the domain check them, and logs `WriterMetrics`.

    Samples are of the model's own distribution: temperature 1, nothing left out. All programs of a validation are
    checked together at its end; where checks take long, `checking_s_val` says how long. The data module is a
    `DomainDataModule`, which adds this callback by itself; the metrics are named as `solved@1_val`, for checkpoints to
    watch, and `Board` draws its figures.
    """

    @flat_options
    def __init__(self, num_proposals: int = 20, *, judging: Judging = Judging()) -> None:
        """Keep the settings.

        Args:
            num_proposals: programs that are proposed for each problem
            judging: which programs, and of which problems
        """
        check_positive(MAX_BLOCK, num_proposals=num_proposals)
        self.num_proposals, self.judging = num_proposals, judging
        self._metrics = WriterMetrics(num_proposals)
        self._floors: dict[str, float | None] = {}
        self._waiting: list[tuple[Problem, list[str]]] = []  # what was proposed, and is not checked yet
        self._by_group: list[tuple[str, str, float, float]] = []  # kind, group, shares solved with 1 and all proposals
        self._domain: Domain[Any, Any] | None = None
        self._told: set[str] = set()
        self._seconds = 0.0  # that the checker took

    def _start(self, pl_module: pl.LightningModule) -> None:
        is_beam = self.judging.proposals == "beam"
        self._metrics = WriterMetrics(self.num_proposals, is_beam=is_beam).to(pl_module.device)
        self._waiting, self._by_group, self._seconds = [], [], 0.0

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start at zero."""
        self._start(pl_module)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start at zero."""
        self._start(pl_module)

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        """Ask."""
        self._observe(trainer, pl_module, batch, "val")

    def on_test_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        """Ask."""
        self._observe(trainer, pl_module, batch, "test")

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check and log."""
        self._log(pl_module, "val")

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check and log."""
        self._log(pl_module, "test")

    def scalar_charts(self) -> dict[str, list[str]]:
        """See `Charted`."""
        budgets = budgets_of(self.num_proposals)
        fates = ("malformed", "timeout", "error")
        return {
            "problems solved with k proposals on val": [f"solved@{b}_val" for b in budgets],
            "what became of proposals on val": [f"{name}_val" for name in fates],
        }

    def charts(self, split: str) -> dict[str, Chart]:
        """See `Charted`."""
        self._judge()
        return training_charts(self._metrics.totals(), _gathered(self._by_group))

    def _observe(self, trainer: pl.Trainer, pl_module: Any, batch: Any, role: str) -> None:
        dataset: Any = getattr(getattr(trainer, "datamodule", None), "datasets", {}).get(role)
        if not hasattr(dataset, "problem"):
            raise ConfigError("SolvedInTraining checks programs of a domain; it needs a DomainDataModule as data")
        self._domain = domain = dataset.domain
        problems = [dataset.problem(0, index) for index in batch["index"]]
        loss, num_tokens = pl_module.loss_of(batch)
        self._metrics.observe_loss(float(loss), num_tokens, [self._floor(domain, each.spec) for each in problems])
        if pl_module.is_sharded:  # no rank has whole weights to propose with
            return
        num_judged = self._num_judged(domain, len(dataset), role)
        judged = [each for each, index in zip(problems, batch["index"], strict=True) if int(index) < num_judged]
        if judged:
            self._waiting += zip(judged, self._propose(pl_module, [each.spec for each in judged]), strict=True)

    def _num_judged(self, domain: Domain[Any, Any], count: int, role: str) -> int:
        """How many problems of a split are judged, which is said once where it is not all of them."""
        number = self.judging.num_judged or (_NUM_OF_SLOW if domain.is_slow else count)
        if number < count and role not in self._told:
            self._told.add(role)
            rank_zero_info(
                f"programs are proposed and checked for the first {number:,} of {count:,} problems of {role}; "
                "data.num_judged changes that"
            )
        return number

    def _propose(self, pl_module: Any, specs: Sequence[str]) -> list[list[str]]:
        if self.judging.proposals == "beam":
            found = RankedWriter(pl_module, self.num_proposals).propose(specs, 0, self.num_proposals)
        else:
            found = SampleWriter(pl_module, block_size=self.num_proposals).draw_all(specs, block=0)
        return [[program for program, _ in row] for row in found]

    def _judge(self) -> None:
        """Check all that waits, each pair once."""
        waiting, self._waiting = self._waiting, []
        domain = self._domain
        if domain is None or not waiting:
            return
        domain.expect([problem for problem, _ in waiting])
        pairs = list(dict.fromkeys((problem.spec, program) for problem, row in waiting for program in row))
        start = time.perf_counter()
        known: dict[tuple[str, str], Verdict] = dict(zip(pairs, domain.check_all(pairs), strict=True))
        self._seconds += time.perf_counter() - start
        verdicts = [[known[problem.spec, program] for program in row] for problem, row in waiting]
        self._metrics.observe(verdicts, [row for _, row in waiting], [problem.program for problem, _ in waiting])
        for (problem, _), row in zip(waiting, verdicts, strict=True):
            curve = self._metrics.curve_of(row)
            for kind, group in domain.groups(domain.read_spec(problem.spec)).items():
                self._by_group.append((kind, group, float(curve[0]), float(curve[-1])))

    def _floor(self, domain: Domain[Any, Any], spec: str) -> float | None:
        """See `Domain.floor`; validation asks for the same problems each time."""
        if spec not in self._floors:
            self._floors[spec] = domain.floor(spec)
        return self._floors[spec]

    def _log(self, pl_module: pl.LightningModule, role: str) -> None:
        self._judge()
        for name, value in self._metrics.values().items():
            # already reduced over ranks
            pl_module.log(f"{name}_{role}", value, prog_bar=name == "solved@1", rank_zero_only=False)
        if self._domain is not None and self._domain.is_slow:
            pl_module.log(f"checking_s_{role}", self._seconds, rank_zero_only=True)


def _gathered(rows: list[Any]) -> list[Any]:
    """The rows of all ranks, which have to ask together."""
    if not is_distributed():
        return rows
    found: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(found, rows)
    return [row for part in found for row in part]
