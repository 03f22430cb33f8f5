"""How a run stands in TensorBoard: which cards there are, in which groups, and which curves share a chart.

TensorBoard groups cards by what stands before the first slash of a name, and sorts by name. The names of losses and
accuracies are ReProver's, and stay as they are; what tells of speed and of the optimizer gets a group of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pytorch_lightning.loggers import TensorBoardLogger

_GROUPS = {
    "optimizer": re.compile(r"lr-|grad_norm$"),
    "throughput": re.compile(r"useful_\w+_per_s$|model_flops_per_s$|mfu$|padding_share$|data_wait_share$"),
}

Layout = dict[str, dict[str, list[Any]]]


class TensorBoard(TensorBoardLogger):
    """Lightning's logger, without its card `epoch`, and with groups; other loggers get every name as it is."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write scalars under their TensorBoard names."""
        shown = {tag_of(name): value for name, value in metrics.items() if name != "epoch"}
        super().log_metrics(shown, step)


def tag_of(name: str) -> str:
    """Return the name of a scalar in TensorBoard.

    >>> tag_of("grad_norm"), tag_of("loss_val")
    ('optimizer/grad_norm', 'loss_val')
    """
    for group, names in _GROUPS.items():
        if names.match(name):
            return f"{group}/{name}"
    return name


def layout_of(charts: Mapping[str, Sequence[str]]) -> Layout:
    """Return the layout of TensorBoard's tab Custom Scalars.

    Args:
        charts: names of scalars that belong together, by the title of their chart; what this model's evaluation logs
    """
    general: dict[str, dict[str, Sequence[str]]] = {
        "Loss": {"training and validation": ["loss_train_step", "loss_train_epoch", "loss_val"]},
        "Evaluation": dict(charts),
        # regular expressions, so that names with and without a group are found, for bytes and for tokens
        "Throughput": {
            "useful bytes or tokens per second": ["(throughput/)?useful_.*_per_s"],
            "shares: waiting for data, padding, of the peak (mfu)": [
                "(throughput/)?data_wait_share",
                "(throughput/)?padding_share",
                "(throughput/)?mfu",
            ],
            "model FLOPs per second": ["(throughput/)?model_flops_per_s"],
        },
        "Optimizer": {"learning rate": ["(optimizer/)?lr-"], "norm of the gradient": ["(optimizer/)?grad_norm"]},
    }
    return {
        category: {title: ["Multiline", list(names)] for title, names in titles.items()}
        for category, titles in general.items()
        if titles
    }
