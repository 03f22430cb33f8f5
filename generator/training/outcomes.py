"""Where the right tactic stands among the candidates: by its length, by the goals of the state, and how probable."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import torch

from common import Candidate, remove_marks
from generator.training.metrics import rank_of
from retrieval.training.charts import Bins, Chart, calibration, rank_histogram, shares_by_group
from retrieval.training.outcomes import Counts, RankOutcomes

_GROUPINGS = {
    "length": Bins((8, 16, 32, 64, 128, 256)),  # bytes
    "goals": Bins((1, 2, 3, 4)),
}
_PROBABILITIES = (0.0, 1.0)
_NUM_BINS = 10
_GOAL = re.compile(r"^⊢", re.MULTILINE)
_FOUND = "right tactic found"


class TacticOutcomes(RankOutcomes):
    """Counts where right tactics stand among candidates, for figures; sums over ranks (DDP).

    >>> outcomes = TacticOutcomes(k=2)
    >>> outcomes.observe([[("simp", -0.1), ("rfl", -3.0)]], ["rfl"], ["⊢ 1 = 1"])
    >>> outcomes.counts().num_at_rank
    [0, 1, 0]
    """

    def __init__(self, k: int) -> None:
        """Start at zero.

        Args:
            k: candidates of a state
        """
        super().__init__(k, _GROUPINGS, _PROBABILITIES, _NUM_BINS)

    def observe(self, candidates: Sequence[Sequence[Candidate]], tactics: Sequence[str], states: Sequence[str]) -> None:
        """Count a batch.

        Args:
            candidates: for each state, best first
            tactics: that each state's proof goes on with
            states: whose goals are counted where they can be told
        """
        rows = zip(candidates, tactics, strict=True)
        ranks = [rank_of([tactic for tactic, _ in proposed], tactic, self.k) for proposed, tactic in rows]
        scores = [math.exp(proposed[0][1]) if proposed else math.nan for proposed in candidates]
        groups = {
            # the empty tactic is one of the shortest
            "length": torch.tensor([max(1, len(remove_marks(tactic).encode())) for tactic in tactics]),
            "goals": torch.tensor([num_goals(state) for state in states]),
        }
        self.update(torch.tensor(ranks), torch.tensor(scores, dtype=torch.float64), groups)


def num_goals(state: str) -> int:
    """Count the goals of a state as Lean prints it, with retrieved premises or without; 0 if there are none.

    >>> num_goals("case a\\np : Prop\\n⊢ p\\n\\ncase b\\n⊢ True")
    2
    """
    return len(_GOAL.findall(state))


def tactic_charts(counts: Counts) -> dict[str, Chart]:
    """Return the figures of an evaluation by their names; none if nothing was counted."""
    if not counts.num:
        return {}
    num_candidates, what = len(counts.num_at_rank) - 1, "states"
    cutoffs = {f"top-{k}": k for k in sorted({1, num_candidates})}
    charts: dict[str, Chart] = {
        "rank": rank_histogram(
            counts.num_at_rank, title="Rank of the right tactic among the candidates", what=what, xlabel="rank"
        ),
        "accuracy_by_length": shares_by_group(
            counts.by_group["length"],
            _GROUPINGS["length"],
            cutoffs,
            title="Accuracy by length of the right tactic",
            what=what,
            xlabel="length of the right tactic (bytes)",
            ylabel=_FOUND,
        ),
        "accuracy_by_goals": shares_by_group(
            counts.by_group["goals"],
            _GROUPINGS["goals"],
            cutoffs,
            title="Accuracy by number of goals",
            what=what,
            xlabel="goals in the state",
            ylabel=_FOUND,
        ),
        "calibration": calibration(
            counts.num_scored,
            counts.num_right,
            counts.score_sums,
            _PROBABILITIES,
            title="Calibration of the first candidate",
            what=what,
            xlabel="probability of the first candidate",
            ylabel="first candidate right",
            is_probability=True,
        ),
    }
    return {name: chart for name, chart in charts.items() if chart.num}
