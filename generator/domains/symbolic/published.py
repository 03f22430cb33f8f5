"""Published shares of held-out problems that models solve, for figures beside one's own.

Sources: Lample & Charton, "Deep learning for symbolic mathematics" (arXiv:1912.01412), table 2 and the table across
generators, 5,000 problems each; Noorbakhsh et al., "Pretrained language models are symbolic mathematics solvers too!"
(arXiv:2110.03501), the figure over training sizes, 5,000 problems each, beam 1. Both count an answer that equals the
reference before they search, and theirs is the mean, not the sum, of log-probabilities; the second accepts no answer
by substitution.
"""

from __future__ import annotations

from collections.abc import Mapping

from generator.domains.base import PublishedCurve

_BEAMS = (1, 10, 50)
_SIZES = (10_000, 100_000, 1_000_000)

_TABLE_2: Mapping[str, tuple[float, ...]] = {
    "prim_fwd": (93.6, 95.6, 96.2),
    "prim_bwd": (98.4, 99.4, 99.7),
    "prim_ibp": (96.8, 99.2, 99.5),
    "ode1": (77.6, 90.5, 94.0),
    "ode2": (43.0, 73.0, 81.2),
}

# tested on, and trained on; what table 2 has is the diagonal
_ACROSS: Mapping[str, Mapping[str, tuple[float, ...]]] = {
    "prim_fwd": {
        "prim_bwd": (18.9, 24.6, 27.5),
        "prim_bwd+prim_ibp": (41.6, 54.9, 56.1),
        "prim_bwd+prim_fwd+prim_ibp": (89.1, 93.4, 94.3),
    },
    "prim_bwd": {"prim_fwd": (10.9, 13.9, 17.2)},
    "prim_ibp": {"prim_fwd": (85.6, 86.8, 88.9), "prim_bwd": (42.9, 54.6, 59.2)},
}

_BY_SIZE: Mapping[str, Mapping[str, tuple[float, ...]]] = {
    "mBART, Noorbakhsh et al.": {
        "prim_fwd": (20.7, 58.0, 87.4),
        "prim_bwd": (62.4, 79.0, 92.2),
        "prim_ibp": (27.5, 65.4, 86.3),
        "ode1": (4.2, 33.9, 62.2),
        "ode2": (0.0, 4.3, 17.9),
    },
    "from scratch, Noorbakhsh et al.": {
        "prim_fwd": (6.8, 53.4, 79.4),
        "prim_bwd": (40.5, 67.1, 83.4),
        "prim_ibp": (21.6, 57.7, 87.4),
        "ode1": (0.1, 14.35, 71.8),
        "ode2": (0.0, 0.91, 40.0),
    },
}


def curves(task: str) -> tuple[PublishedCurve, ...]:
    """Return shares solved by the width of the beam, of models trained on 20 to 40 million problems of the task.

    >>> curves("ode2")[0].points[50]
    0.812
    """
    return (PublishedCurve("model", "Lample & Charton", _shares(_BEAMS, _TABLE_2[task])),)


def across(task: str) -> Mapping[str, Mapping[int, float]]:
    """Return shares of a task solved, by what a model was trained on and by the width of the beam."""
    rows = {task: _TABLE_2[task], **_ACROSS.get(task, {})}
    return {trained_on: _shares(_BEAMS, row) for trained_on, row in rows.items()}


def sizes(task: str) -> tuple[PublishedCurve, ...]:
    """Return shares solved with one proposal by the number of training problems."""
    return tuple(PublishedCurve("model", label, _shares(_SIZES, rows[task])) for label, rows in _BY_SIZE.items())


def _shares(places: tuple[int, ...], percent: tuple[float, ...]) -> Mapping[int, float]:
    return {place: round(value / 100, 4) for place, value in zip(places, percent, strict=True)}
