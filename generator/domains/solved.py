"""Shares of problems solved within a budget, and how sure they are.

Shape legend: N problems, B budgets 1..B.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from common import check_positive
from generator.domains.synthesize import Outcome, Try

Curves = npt.NDArray[np.float64]

_NUM_RESAMPLES = 1000
_CHUNK = 100  # of the resamples, for memory


@dataclass(frozen=True)
class SolvedCurve:
    """Share of problems solved for each budget, with its 95% bootstrap band over problems.

    Attributes:
        share: for budgets 1..B
        low: end of the band
        high: end of the band
        standard_error: of the share
        num_problems: that it is a mean of
    """

    share: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    standard_error: tuple[float, ...]
    num_problems: int

    @classmethod
    def of(cls, rows: Curves, seed: int = 0) -> SolvedCurve:
        """Return the mean of the curves of problems, (N, B), N above 0."""
        count = len(rows)
        low, high = bootstrap_band(rows, seed)
        error = rows.std(axis=0, ddof=1) / np.sqrt(count) if count > 1 else np.full(rows.shape[1], np.nan)
        share = rows.mean(axis=0)
        return cls(
            _floats(share), _floats(np.minimum(low, share)), _floats(np.maximum(high, share)), _floats(error), count
        )


def pass_at_k(num_samples: int, num_right: int, k: int) -> float:
    """Return the probability that one of k proposals holds, without bias, from n proposals of which c hold.

    >>> round(pass_at_k(num_samples=5, num_right=1, k=2), 3)
    0.4

    Raises:
        ConfigError: if k is not from 1 to num_samples

    Source: Chen et al., arXiv:2107.03374, section 2.1.
    """
    check_positive(num_samples, k=k)
    if num_samples - num_right < k:
        return 1.0
    # prod((n-c-i) / (n-i)), i < k, is C(n-c, k) / C(n, k)
    i = np.arange(k)
    return float(1 - ((num_samples - num_right - i) / (num_samples - i)).prod())


def pass_curve(num_samples: int, num_right: int, budget: int) -> Curves:
    """Return `pass_at_k` for k = 1..budget, (B,), of at most num_samples."""
    i = np.arange(budget)
    missed = np.maximum(0, num_samples - num_right - i) / np.maximum(1, num_samples - i)
    return 1 - missed.cumprod()


def holds(each: Try) -> bool:
    """Whether a proposal was verified."""
    return each.verdict.holds


def first_solved(outcomes: Sequence[Outcome], budget: int, counts: Callable[[Try], bool] = holds) -> Curves:
    """Return whether each problem was solved within each budget, 0 or 1, (N, B); `counts` says by which proposals."""
    firsts = (next((each.num_samples for each in o.tries if counts(each)), budget + 1) for o in outcomes)
    return (np.array(list(firsts))[:, None] <= np.arange(1, budget + 1)).astype(np.float64)


def all_samples(outcomes: Sequence[Outcome], budget: int, counts: Callable[[Try], bool] = holds) -> Curves:
    """Return Pass@k of each problem for k = 1..B, (N, B), from searches that did not stop at the first.

    Each proposal counts alike, so this is for independent ones, and repeats that were charged; a search that ended
    early was short of proposals, which then count as wrong.
    """
    rows = [pass_curve(budget, sum(map(counts, o.tries)), budget) for o in outcomes]
    return np.array(rows).reshape(len(rows), budget)


def within(probabilities: Sequence[float], budget: int) -> Curves:
    """Return the probability to solve each problem within each budget, (N, B), from that of a single proposal."""
    failure = 1 - np.asarray(probabilities, dtype=np.float64)
    rows: Curves = 1 - failure[:, None] ** np.arange(1, budget + 1)
    return rows


def bootstrap_band(rows: Curves, seed: int = 0) -> tuple[Curves, Curves]:
    """Return the ends of the 95% band of the mean, each (B,), by drawing problems anew with replacement."""
    rng, count = np.random.default_rng(seed), len(rows)
    single = rows.astype(np.float32)
    means = np.concatenate([_drawn_anew(rng, count, _CHUNK) @ single / count for _ in range(_NUM_RESAMPLES // _CHUNK)])
    low, high = np.percentile(means, (2.5, 97.5), axis=0)
    return low, high


def _drawn_anew(rng: np.random.Generator, count: int, num: int) -> npt.NDArray[np.float32]:
    """How often each of `count` things is drawn in as many draws, (num, count)."""
    # a fifth of the time of rng.multinomial for 12,000 things (0.16 s of 0.82 s, Intel Xeon)
    drawn = [np.bincount(rng.integers(count, size=count), minlength=count) for _ in range(num)]
    return np.stack(drawn).astype(np.float32)


def _floats(values: Curves) -> tuple[float, ...]:
    return tuple(round(float(value), 6) for value in values)
