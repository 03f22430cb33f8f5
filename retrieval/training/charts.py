"""What figures show, as plain numbers: counts go in, a chart comes out, and `drawing` draws it.

Shape legend: G groups, K ranks.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

_Z = 1.96  # a normal variable is within this of its mean 95% of the time
_RANKS = (1, 2, 3, 4, 5, 10, 20, 50, 100, 200, 500, 1000)  # where many ranks are grouped: the last of each group
_MAX_SINGLE_RANKS = 12
NOT_FOUND = "not\nfound"


@dataclass(frozen=True)
class Bins:
    """Groups of whole numbers from 1; the last has no end.

    >>> Bins((1, 2, 4)).labels
    ('1', '2', '3–4', '≥ 5')

    Attributes:
        upper: the largest number of each group but the last, rising
    """

    upper: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.upper) + 1

    def index(self, number: int) -> int:
        """Return the group of a number."""
        return bisect_left(self.upper, number)

    @property
    def labels(self) -> tuple[str, ...]:
        """How groups are called."""
        first = [1, *(upper + 1 for upper in self.upper)]
        closed = [f"{low}" if low == high else f"{low}–{high}" for low, high in zip(first, self.upper, strict=False)]
        return (*closed, f"≥ {first[-1]}")


@dataclass(frozen=True)
class Share:
    """A share of things with its 95% interval (Wilson), which is wide where they are few.

    Attributes:
        value: from 0 to 1; NaN of none
        low: end of the interval
        high: end of the interval
    """

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, part: float, whole: int) -> Share:
        """Return the share of a part in a whole; the part may be a sum of chances, which are surer than counts.

        Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference" (1927).
        """
        if whole == 0:
            return cls(math.nan, math.nan, math.nan)
        share, spread = part / whole, _Z * _Z / whole
        center = (share + spread / 2) / (1 + spread)
        width = math.sqrt(spread * (share * (1 - share) + spread / 4)) / (1 + spread)
        # rounding must not put an end of the interval on the wrong side of the share
        return cls(share, max(0.0, min(share, center - width)), min(1.0, max(share, center + width)))


@dataclass(frozen=True)
class _Titled:
    """What every chart says of itself.

    Attributes:
        title: what is shown
        what: things are counted, in the plural
        xlabel: what the horizontal axis is
    """

    title: str
    what: str
    xlabel: str


class _Counted:
    """A chart that counts things, in parts."""

    counts: tuple[int, ...]

    @property
    def num(self) -> int:
        """Things counted."""
        return sum(self.counts)


@dataclass(frozen=True)
class Histogram(_Titled, _Counted):
    """How things are distributed over groups.

    Attributes:
        labels: of the groups
        counts: things in each group
    """

    labels: tuple[str, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True)
class GroupedShares(_Titled, _Counted):
    """Shares in each group of things, of several kinds.

    Attributes:
        ylabel: what the shares are
        labels: of the groups
        counts: things in each group
        shares: for each kind by its name, one for each group
    """

    ylabel: str
    labels: tuple[str, ...]
    counts: tuple[int, ...]
    shares: dict[str, tuple[Share, ...]]


@dataclass(frozen=True)
class Calibration(_Titled, _Counted):
    """A score of each thing against how often things with that score are right; empty bins are left out.

    Attributes:
        ylabel: what the shares are
        limits: the least and the greatest score
        edges: where the bins begin and end, in pairs
        scores: mean in each bin
        shares: of the right ones in each bin
        counts: things in each bin
        is_probability: whether the score should equal the share
    """

    ylabel: str
    limits: tuple[float, float]
    edges: tuple[tuple[float, float], ...]
    scores: tuple[float, ...]
    shares: tuple[Share, ...]
    counts: tuple[int, ...]
    is_probability: bool

    @property
    def error(self) -> float:
        """Expected calibration error: how far share and score are apart, on average over things.

        Source: Guo et al., arXiv:1706.04599, section 2.
        """
        rows = zip(self.scores, self.shares, self.counts, strict=True)
        return sum(count * abs(score - share.value) for score, share, count in rows) / max(1, self.num)


@dataclass(frozen=True)
class Curve(_Titled):
    """One number against another, on a logarithmic axis.

    Attributes:
        ylabel: what the shares are
        x: rising
        y: shares, from 0 to 1
        num: things counted
    """

    ylabel: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    num: int


@dataclass(frozen=True)
class Series:
    """A line of a chart, or dots.

    Attributes:
        name: for the legend; "" for none
        x: rising
        y: as many
        low: lower end of a band around y; () for none
        high: upper end
        is_dots: whether points are drawn, and no line
        is_filled: whether points are; hollow ones are of others
        dashes: "" for a whole line; "dashed" or "dotted" for one that belongs to another, such as a bound
        like: name of the series whose colour it has; "" for one of its own
    """

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    is_dots: bool = False
    like: str = ""
    is_filled: bool = False
    dashes: Literal["", "dashed", "dotted"] = ""


@dataclass(frozen=True)
class Lines(_Titled):
    """Several series in one chart, of the width of a column of a paper.

    Attributes:
        ylabel: what y is
        series: from the back to the front
        num: things counted
        is_share: whether y goes from 0 to 1, and is shown in percent
        is_log_x: whether the horizontal axis is logarithmic
        is_log_y: whether the vertical one is
        labels: of x = 0, 1, 2, ...; () where x is a number
        levels: horizontal lines by their names
        has_diagonal: whether y = x is drawn
        top: upper end of the vertical axis where y is a share
    """

    ylabel: str
    series: tuple[Series, ...]
    num: int
    is_share: bool = False
    is_log_x: bool = False
    is_log_y: bool = False
    labels: tuple[str, ...] = ()
    levels: tuple[tuple[str, float], ...] = ()
    has_diagonal: bool = False
    top: float = 1.0


@dataclass(frozen=True)
class Parts(_Titled):
    """Of what parts each of several wholes is made, a bar for each whole.

    Attributes:
        labels: of the wholes, from the top on
        notes: stand below the labels
        parts: shares by the names of the parts, one for each whole
        num: things counted
    """

    labels: tuple[str, ...]
    notes: tuple[str, ...]
    parts: dict[str, tuple[float, ...]]
    num: int


@dataclass(frozen=True)
class Matrix(_Titled):
    """Shares by two things, as colours and numbers.

    Attributes:
        ylabel: what the rows are
        rows: their labels, from the top on
        columns: their labels
        values: shares, a row for each row; None where there is none
        others: shares of someone else, in parentheses below; () for none
        num: things counted in a cell, at most
    """

    ylabel: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: tuple[tuple[float | None, ...], ...]
    others: tuple[tuple[float | None, ...], ...]
    num: int


@dataclass(frozen=True)
class Heatmap(_Titled):
    """Numbers from 0 on in rows and columns, the greater the darker; rows begin above, both count from 0.

    Attributes:
        ylabel: what the rows are
        values: by row and column
    """

    ylabel: str
    values: tuple[tuple[float, ...], ...]

    @property
    def num(self) -> int:
        """Rows."""
        return len(self.values)


Chart: TypeAlias = Histogram | GroupedShares | Calibration | Curve | Lines | Parts | Matrix | Heatmap


def rank_histogram(num_at_rank: Sequence[int], *, title: str, what: str, xlabel: str) -> Histogram:
    """Return how many things were found at each rank, high ranks together where there are many.

    >>> rank_histogram([5, 2, 1, 4], title="", what="states", xlabel="rank").counts
    (5, 2, 1, 4)

    Args:
        num_at_rank: at ranks 1..K, and, at last, not found
        title: of the chart
        what: things are counted
        xlabel: what the ranks are
    """
    *found, not_found = num_at_rank
    num_ranks = len(found)
    last = range(1, num_ranks + 1) if num_ranks <= _MAX_SINGLE_RANKS else [*(r for r in _RANKS if r < num_ranks)]
    bins = Bins(tuple(last) if num_ranks <= _MAX_SINGLE_RANKS else (*last, num_ranks))
    counts = [0] * (len(bins) - 1)
    for rank, count in enumerate(found, start=1):
        counts[bins.index(rank)] += count
    return Histogram(title, what, xlabel, (*bins.labels[:-1], NOT_FOUND), (*counts, not_found))


def shares_by_group(
    num_at_rank: Sequence[Sequence[int]],
    bins: Bins,
    cutoffs: dict[str, int],
    *,
    title: str,
    what: str,
    xlabel: str,
    ylabel: str,
) -> GroupedShares:
    """Return the share found among the first ranks in each group, without empty groups at the ends.

    Args:
        num_at_rank: for each group, at ranks 1..K, and, at last, not found, (G, K + 1)
        bins: the G groups
        cutoffs: how many ranks, by the name of the kind of share
        title: of the chart
        what: things are counted
        xlabel: what the groups are
        ylabel: what the shares are
    """
    counts = [sum(row) for row in num_at_rank]
    filled = [i for i, count in enumerate(counts) if count]
    groups = range(filled[0], filled[-1] + 1) if filled else range(0)
    shares = {
        name: tuple(Share.of(sum(num_at_rank[i][:cutoff]), counts[i]) for i in groups)
        for name, cutoff in cutoffs.items()
    }
    labels, kept = tuple(bins.labels[i] for i in groups), tuple(counts[i] for i in groups)
    return GroupedShares(title, what, xlabel, ylabel, labels, kept, shares)


def calibration(
    counts: Sequence[int],
    num_right: Sequence[int],
    sums: Sequence[float],
    limits: tuple[float, float],
    *,
    title: str,
    what: str,
    xlabel: str,
    ylabel: str,
    is_probability: bool,
) -> Calibration:
    """Return scores against shares of right ones.

    Args:
        counts: things in each bin; bins are equally wide
        num_right: how many of them are right
        sums: of their scores
        limits: where the first bin begins, and the last ends
        title: of the chart
        what: things are counted
        xlabel: what the score is
        ylabel: what the shares are
        is_probability: whether the score should equal the share
    """
    low, width = limits[0], (limits[1] - limits[0]) / len(counts)
    filled = [i for i, count in enumerate(counts) if count]
    return Calibration(
        title,
        what,
        xlabel,
        ylabel,
        limits,
        edges=tuple((low + i * width, low + (i + 1) * width) for i in filled),
        scores=tuple(sums[i] / counts[i] for i in filled),
        shares=tuple(Share.of(num_right[i], counts[i]) for i in filled),
        counts=tuple(counts[i] for i in filled),
        is_probability=is_probability,
    )
