"""From similarities to probabilities: how sure the nearest states make one of a tactic.

With similarities s_1 >= s_2 >= ... of the K nearest steps and their tactics t_i,

    p(t) = sigmoid(slope s_1 + offset)  *  sum of w_i over t_i = t  /  sum of all w_i,  w_i = exp(s_i / T) / i ** decay

The first factor is the probability that the right tactic is among the K at all; what is left to 1 is that of all
others. So the numbers are a proper distribution, and a mixture with another generator gives that one more where nothing
similar is known. T and decay have the greatest likelihood on held-out steps whose tactic is among the K, slope
and offset on all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from common import ConfigError, check_positive
from retrieval.ngram_index import shares

_TEMPERATURES = tuple(float(t) for t in np.geomspace(0.005, 1.0, 24))
_DECAYS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
_LIMIT = 10_000
_PRIOR = 1e-3  # precision of slope and offset, without which separable examples have none

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Calibration:
    """The formula above.

    Attributes:
        temperature: T, in units of similarity
        decay: how much less a step counts for every one before it
        slope: of the probability that the tactic is known, by the greatest similarity
        offset: of it
    """

    temperature: float = 0.1
    decay: float = 0.5
    slope: float = 4.0
    offset: float = -2.0

    def __post_init__(self) -> None:
        check_positive(temperature=self.temperature)
        if not 0 <= self.decay <= _LIMIT:
            raise ConfigError(f"decay is {self.decay}; it must be from 0 to {_LIMIT:,}")
        for name in ("slope", "offset"):
            if not abs(getattr(self, name)) <= _LIMIT:  # what is no number is not either
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be from -{_LIMIT:,} to {_LIMIT:,}")

    def shares(self, similarities: npt.NDArray[np.floating[Any]]) -> _Floats:
        """Return the share of each step in what the K steps have together, float64 (..., K).

        Args:
            similarities: greatest first, float (..., K)
        """
        return shares(similarities, self.temperature, self.decay)

    def log_known(self, similarity: float) -> float:
        """Return the logarithm of the probability that the right tactic is among those of the K steps."""
        return -float(np.logaddexp(0.0, -(self.slope * similarity + self.offset)))


def fit(
    similarities: Sequence[npt.NDArray[np.floating[Any]]], is_right: Sequence[npt.NDArray[np.bool_]]
) -> Calibration:
    """Return the calibration of the greatest likelihood on held-out steps.

    Args:
        similarities: of each held-out step's nearest steps, greatest first, float (K,); it may have fewer
        is_right: whether the tactic of each is the right one, bool (K,)

    Raises:
        ConfigError: if there is nothing to fit to
    """
    rows = [(s, r) for s, r in zip(similarities, is_right, strict=True) if len(s)]
    if not rows:
        raise ConfigError("there is nothing to fit probabilities to; give more theorems, or more held-out steps")
    known = np.array([bool(right.any()) for _, right in rows])
    slope, offset = _logistic(np.array([float(found[0]) for found, _ in rows]), known)
    found = [row for row, is_known in zip(rows, known, strict=True) if is_known]
    settings = [(temperature, decay) for temperature in _TEMPERATURES for decay in _DECAYS]
    width = max((len(similar) for similar, _ in found), default=1)
    table = np.full((len(found), width), -np.inf)
    right = np.zeros((len(found), width), dtype=np.bool_)
    for row, (similar, is_it) in enumerate(found):
        table[row, : len(similar)], right[row, : len(similar)] = similar, is_it
    costs = [_cost(Calibration(*setting), table, right) for setting in settings]
    best = settings[int(np.argmin(costs))] if found else (Calibration().temperature, Calibration().decay)
    return Calibration(*best, slope=slope, offset=offset)


def _cost(calibration: Calibration, similarities: _Floats, is_right: npt.NDArray[np.bool_]) -> float:
    """Nats that the right tactic costs."""
    shares = np.where(is_right, calibration.shares(similarities), 0).sum(axis=1)
    return -float(np.log(np.maximum(shares, 1e-300)).sum())


def _logistic(x: _Floats, is_true: npt.NDArray[np.bool_], steps: int = 50) -> tuple[float, float]:
    """Slope and offset of a logistic regression, by Newton's method."""
    design = np.stack([x, np.ones_like(x)], axis=1)
    weights = np.zeros(2)
    for _ in range(steps):
        p = 1 / (1 + np.exp(-np.clip(design @ weights, -30, 30)))
        gradient = design.T @ (p - is_true) + _PRIOR * weights
        hessian = (design * (p * (1 - p))[:, None]).T @ design + _PRIOR * np.eye(2)
        change = np.linalg.solve(hessian, gradient)
        weights -= change * min(1.0, 5.0 / max(float(np.abs(change).max()), 1e-12))  # no step leaves what is plausible
    return float(weights[0]), float(weights[1])
