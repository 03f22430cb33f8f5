"""What became of proposals in an evaluation of training, added up over batches and ranks.

Shape legend: N problems, B budgets 1..B.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from common import check_positive
from generator.domains.base import Verdict
from generator.domains.model_writer import MAX_BLOCK
from generator.domains.solved import Curves, pass_curve
from retrieval.training.outcomes import is_distributed

_BUDGETS = (1, 10, 20, 50)
_COUNTS = (
    "problems",
    "proposals",
    "distinct",
    "malformed",
    "timeout",
    "error",
    "exact_match",  # problems whose first proposal is their own program
    "told",  # verdicts that say whether a program is general
)


def budgets_of(num_proposals: int) -> list[int]:
    """Return the budgets that are logged.

    >>> budgets_of(50)
    [1, 10, 20, 50]
    """
    return sorted({b for b in _BUDGETS if b < num_proposals} | {num_proposals})


@dataclass(frozen=True)
class Totals:
    """What was counted, over all ranks.

    Attributes:
        counts: by the names of `_COUNTS`
        solved: shares of problems, (B,)
        at_most: the same if everything undecided held, (B,)
        general: shares solved by a program that is general, (B,)
        num_at_rank: problems whose first program that holds stood at ranks 1..B, and, at last, that have none
    """

    counts: dict[str, float]
    solved: list[float]
    at_most: list[float]
    general: list[float]
    num_at_rank: list[int]


class WriterMetrics(Metric):
    """Adds up, over batches and ranks, what became of proposals and what the targets cost.

    >>> metrics = WriterMetrics(num_proposals=2)
    >>> verified, malformed = Verdict("verified"), Verdict("malformed")
    >>> metrics.observe([[verified, malformed]], [["[0,1,0,1]", "[9"]], ["[0,1,0,1]"])
    >>> metrics.observe_loss(loss=0.5, num_tokens=10, floors=[3.0])
    >>> {name: round(value, 3) for name, value in metrics.values().items()}  # doctest: +NORMALIZE_WHITESPACE
    {'solved@1': 0.5, 'solved@2': 1.0, 'solved_at_most@2': 1.0, 'first_verified': 1.0, 'exact_match': 1.0,
     'valid_syntax': 0.5, 'malformed': 0.5, 'timeout': 0.0, 'error': 0.0, 'distinct': 1.0, 'sequence_nll': 5.0,
     'perplexity': 1.649, 'floor': 0.3, 'above_floor': 0.2}
    """

    full_state_update = False
    curves: Tensor  # float64 (3, B), sums over problems: solved, at most solved, solved by a general program
    at_rank: Tensor  # float64 (B + 1,), problems by the place of the first program that holds; the last: none
    counts: Tensor  # float64, see _COUNTS
    costs: Tensor  # float64: examples, tokens, nats, examples with a known floor, nats of their floors

    def __init__(self, num_proposals: int, *, is_beam: bool = False) -> None:
        """Start at zero.

        Args:
            num_proposals: of each problem; fewer count as wrong ones
            is_beam: whether they are ranked, and a budget means the first of them; else each counts alike (Pass@k)
        """
        super().__init__()
        check_positive(MAX_BLOCK, num_proposals=num_proposals)
        self.num_proposals, self.is_beam = num_proposals, is_beam
        for name, shape in self._zeros().items():
            self.add_state(name, shape, dist_reduce_fx="sum")

    def _zeros(self) -> dict[str, Tensor]:
        sizes: dict[str, tuple[int, ...]] = {
            "curves": (3, self.num_proposals),
            "at_rank": (self.num_proposals + 1,),
            "counts": (len(_COUNTS),),
            "costs": (5,),
        }
        return {name: torch.zeros(size, dtype=torch.float64) for name, size in sizes.items()}

    def update(self, **sums: Tensor) -> None:
        """Add sums to states of these names; not in place, as states may be of inference mode."""
        for name, value in sums.items():
            state: Tensor = getattr(self, name)
            setattr(self, name, state + value.to(state.device))

    def observe(
        self, verdicts: Sequence[Sequence[Verdict]], programs: Sequence[Sequence[str]], own: Sequence[str]
    ) -> None:
        """Count what became of the proposals of some problems.

        Args:
            verdicts: of the proposals of each problem
            programs: the proposals
            own: the program that each problem was drawn with
        """
        sums = self._zeros()
        for row in verdicts:
            curves = [self._curve([may(each) for each in row]) for may in (_holds, _may_hold, _is_general)]
            sums["curves"] += torch.from_numpy(np.stack(curves))
            sums["at_rank"][_first([each.holds for each in row], self.num_proposals)] += 1
        flat = [each for row in verdicts for each in row]
        counts = {
            "problems": len(verdicts),
            "proposals": len(flat),
            "distinct": sum(len(set(row)) for row in programs),
            **{kind: sum(each.kind == kind for each in flat) for kind in ("malformed", "timeout", "error")},
            "exact_match": sum(row[:1] == [program] for row, program in zip(map(list, programs), own, strict=True)),
            "told": sum(each.is_general is not None for each in flat),
        }
        sums["counts"] += torch.tensor([counts[name] for name in _COUNTS], dtype=torch.float64)
        self.update(**sums)

    def curve_of(self, verdicts: Sequence[Verdict]) -> Curves:
        """Return the share of one problem that is solved within each budget, (B,)."""
        return self._curve([each.holds for each in verdicts])

    def _curve(self, hits: Sequence[bool]) -> Curves:
        if not self.is_beam:
            return pass_curve(self.num_proposals, sum(hits), self.num_proposals)
        row: Curves = (np.arange(self.num_proposals) >= _first(hits, self.num_proposals)).astype(np.float64)
        return row

    def observe_loss(self, loss: float, num_tokens: int, floors: Sequence[float | None]) -> None:
        """Count what the targets of some problems cost.

        Args:
            loss: nats per target token, EOS included
            num_tokens: target tokens
            floors: of each problem the entropy of its right answers, in nats; None where that is not known
        """
        known = [floor for floor in floors if floor is not None]
        costs = [len(floors), num_tokens, loss * num_tokens, len(known), sum(known)]
        self.update(costs=torch.tensor(costs, dtype=torch.float64))

    def compute(self) -> Tensor:
        """Shares of problems solved within 1..B proposals, float64 (B,)."""
        return self.curves[0] / self.counts[0]

    def totals(self) -> Totals:
        """Return what was counted, over all ranks, which have to ask together."""
        with self.sync_context(dist_sync_fn=self.dist_sync_fn, distributed_available=is_distributed):
            counts = dict(zip(_COUNTS, self.counts.tolist(), strict=True))
            solved, at_most, general = (self.curves / max(1.0, counts["problems"])).tolist()
            return Totals(counts, solved, at_most, general, [round(each) for each in self.at_rank.tolist()])

    def values(self) -> dict[str, float]:
        """Return the metrics by name, over all ranks, which have to ask together; those that are known."""
        totals, found = self.totals(), dict[str, float]()
        with self.sync_context(dist_sync_fn=self.dist_sync_fn, distributed_available=is_distributed):
            num_examples, num_tokens, nats, num_known, floor_nats = self.costs.tolist()
        if totals.counts["problems"]:
            found |= self._of_proposals(totals)
        if num_examples and num_tokens:
            loss = nats / num_tokens
            found |= {"sequence_nll": nats / num_examples, "perplexity": float(np.exp(min(loss, 700.0)))}
            if num_known == num_examples:
                found |= {"floor": floor_nats / num_tokens, "above_floor": loss - floor_nats / num_tokens}
        return found

    def _of_proposals(self, totals: Totals) -> dict[str, float]:
        n, counts, budgets = self.num_proposals, totals.counts, budgets_of(self.num_proposals)
        num, num_solved = max(1.0, counts["proposals"]), sum(totals.num_at_rank[:-1])
        found = {f"solved@{b}": totals.solved[b - 1] for b in budgets}
        found[f"solved_at_most@{n}"] = totals.at_most[n - 1]
        if counts["told"]:
            found |= {f"general@{b}": totals.general[b - 1] for b in budgets}
        if num_solved:
            ranks = enumerate(totals.num_at_rank[:-1], start=1)
            found["first_verified"] = sum(rank * count for rank, count in ranks) / num_solved
        return {
            **found,
            "exact_match": counts["exact_match"] / counts["problems"],
            "valid_syntax": (counts["proposals"] - counts["malformed"]) / num,
            **{kind: counts[kind] / num for kind in ("malformed", "timeout", "error")},
            "distinct": counts["distinct"] / num,
        }


def _holds(verdict: Verdict) -> bool:
    return verdict.holds


def _may_hold(verdict: Verdict) -> bool:
    return verdict.holds or verdict.is_undecided


def _is_general(verdict: Verdict) -> bool:
    return verdict.holds and verdict.is_general is True


def _first(hits: Sequence[bool], otherwise: int) -> int:
    return next((place for place, hit in enumerate(hits) if hit), otherwise)
