"""Multinomial logistic regression on binary features, by torch's L-BFGS: what scikit-learn's default fits.

Shape legend: N examples, F features, C classes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

_MAX_ITERATIONS = 500


class LogisticRegression:
    """P(class | features), with an L2 penalty on weights and none on intercepts.

    It minimises the sum of the examples' negative log-likelihoods and half the squared weights, as scikit-learn's
    `LogisticRegression` does with C = 1.

    Attributes:
        classes: labels that were there in training, rising, (C,); a probability's column is no label
        weights: (F + 1, C), the intercepts last
    """

    def __init__(self, features: npt.NDArray[np.float64], labels: npt.NDArray[np.int64]) -> None:
        """Fit.

        Args:
            features: (N, F)
            labels: whole numbers, (N,)
        """
        self.classes, targets = np.unique(labels, return_inverse=True)
        x, y = torch.from_numpy(_with_one(features)), torch.from_numpy(targets.astype(np.int64))
        weights = torch.zeros(x.shape[1], len(self.classes), dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.LBFGS(
            [weights],
            max_iter=_MAX_ITERATIONS,
            tolerance_grad=5e-3,  # of a sum over the examples: probabilities are exact to 1e-5
            tolerance_change=1e-12,
            line_search_fn="strong_wolfe",
        )

        def objective() -> torch.Tensor:
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(x @ weights, y, reduction="sum")
            loss = loss + 0.5 * weights[:-1].square().sum()
            loss.backward()
            return loss

        with torch.enable_grad():
            optimizer.step(objective)
        self.weights: npt.NDArray[np.float64] = weights.detach().numpy()

    def probabilities(self, features: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return the probability of each class, (N, C), in the order of `classes`."""
        logits = _with_one(features) @ self.weights
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares: npt.NDArray[np.float64] = odds / odds.sum(axis=1, keepdims=True)
        return shares


def _with_one(features: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.concatenate([features, np.ones((len(features), 1))], axis=1)
