"""What a run has shown: shares, times, and the numbers behind its figures."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from common import ConfigError
from generator.environments.base import Theorem
from generator.search.loop import SearchResult
from retrieval.training.charts import Chart, Lines, Series, Share, rank_histogram
from retrieval.training.drawing import check_drawing, draw, to_png
from retrieval.training.durations import words
from retrieval.training.files import writing_file

REFUSED = "its proof was refused when it was checked again"  # begins the reason of such a result
_MAX_REASON = 100  # characters
_NOT_PROVED = "not\nproved"
_MAX_REASONS = 5  # reasons shown
_SUFFIX = ".search"  # of TensorBoard's files, which tells them from a training run's in the same folder


@dataclass(frozen=True)
class Summary:
    """The results of a run, added up.

    Attributes:
        results: of all theorems
        wall_s: seconds that the run took, those of earlier runs that it goes on from left out
    """

    results: Sequence[SearchResult]
    wall_s: float = math.nan

    @property
    def counts(self) -> dict[str, int]:
        """Theorems by what came of them."""
        found = Counter(result.status for result in self.results)
        return {status: found[status] for status in ("proved", "failed", "open", "discarded")}

    @property
    def pass_at_1(self) -> Share:
        """Share of the theorems that are proved, discarded ones left out, as ReProver has it."""
        counts = self.counts
        return Share.of(counts["proved"], len(self.results) - counts["discarded"])

    @property
    def discarded(self) -> dict[str, int]:
        """Theorems that were discarded by the reason, the most frequent one first."""
        reasons = Counter(reason_of(result) for result in self.results if result.status == "discarded")
        return dict(reasons.most_common())

    @property
    def refused(self) -> dict[str, int]:
        """Theorems whose proof did not hold when it was checked again, by the reason; they count as not proved."""
        reasons = Counter(reason_of(result) for result in self.results if result.reason.startswith(REFUSED))
        return dict(reasons.most_common())

    @property
    def proof_lengths(self) -> list[int]:
        """Tactics of each proof."""
        return [len(result.proof) for result in self.results if result.proof is not None]

    @property
    def expansions(self) -> list[int]:
        """States whose tactics were tried until each proof was found."""
        return [result.num_expansions for result in self.results if result.status == "proved"]

    def seconds(self) -> dict[str, float]:
        """Seconds of all searches together: in all, waiting for the model, in the prover."""
        return {
            name: sum(getattr(result, name) for result in self.results)
            for name in ("total_s", "model_s", "environment_s")
        }

    def to_json(self) -> dict[str, Any]:
        """Return the numbers as JSON has them: null for what has no value."""
        share, seconds = self.pass_at_1, self.seconds()
        num_expansions = sum(result.num_expansions for result in self.results)
        hits = sum(result.num_cache_hits for result in self.results)
        errors = Counter[str]()
        for result in self.results:
            errors.update(result.errors)
        numbers = {
            "num_theorems": len(self.results),
            **self.counts,
            "discarded_by_reason": self.discarded,
            "refused_by_reason": self.refused,
            "pass_at_1": share.value,
            "pass_at_1_interval": [share.low, share.high],
            **{name: round(value, 3) for name, value in seconds.items()},
            "model_share": _ratio(seconds["model_s"], seconds["total_s"]),
            "environment_share": _ratio(seconds["environment_s"], seconds["total_s"]),
            "wall_s": round(self.wall_s, 3),
            "num_expansions": num_expansions,
            "num_tactics": sum(result.num_calls for result in self.results),
            "tactic_errors": dict(errors.most_common()),
            "cache_hit_rate": _ratio(hits, num_expansions),
            "proof_lengths": _histogram(self.proof_lengths),
            "expansions_to_proof": _histogram(self.expansions),
        }
        return {name: _finite(value) for name, value in numbers.items()}

    def text(self) -> str:
        """Return what a command prints at its end."""
        counts, share, seconds = self.counts, self.pass_at_1, self.seconds()
        num = len(self.results)
        lines = [f"{num:,} theorem{'s' * (num != 1)}: " + ", ".join(f"{n:,} {name}" for name, n in counts.items())]
        if not math.isnan(share.value):
            interval = f"{100 * share.low:.1f} to {100 * share.high:.1f}"
            without = ", discarded ones left out" if counts["discarded"] else ""
            lines.append(f"Pass@1 {100 * share.value:.1f}% (95% interval {interval}{without})")
        if self.proof_lengths:
            lengths, tried = _range(self.proof_lengths, "tactic"), _range(self.expansions, "state")
            lines.append(f"proofs of {lengths}, found after {tried} tried")
        if seconds["total_s"] > 0:
            model, prover = (seconds[name] / seconds["total_s"] for name in ("model_s", "environment_s"))
            rest = max(0.0, 1 - model - prover)
            each = seconds["total_s"] / max(1, len(self.results))
            lines.append(
                f"{_seconds(seconds['total_s'])} of search, {_seconds(each)} a theorem: model {100 * model:.0f}%, "
                f"prover {100 * prover:.0f}%, search {100 * rest:.0f}%"
            )
        lines += [*_counted("discarded", self.discarded), *_counted("failed", self.refused)]
        return "\n".join(lines)

    def charts(self) -> dict[str, Chart]:
        """Return the figures by the names of their files."""
        num_unproved = self.counts["failed"] + self.counts["open"]
        return {
            "pass_at_1": self._proved_within(),
            "expansions": _histogram_of(
                self.expansions, num_unproved, "States tried until the proof", "states whose tactics were tried"
            ),
            "proof_lengths": _histogram_of(self.proof_lengths, num_unproved, "Length of the proof", "tactics"),
        }

    def _proved_within(self) -> Lines:
        """Share of the theorems that are proved within so many states tried, up to the most that a search tried."""
        searched = [result for result in self.results if result.status != "discarded"]
        most = max((result.num_expansions for result in searched), default=0)
        at = Counter(self.expansions)
        # the curve rises in steps: from the number before to that of the proof
        places = [place for place in sorted({1, most, *at, *(number - 1 for number in at)}) if place]
        shares = [Share.of(sum(at[number] for number in at if number <= place), len(searched)) for place in places]
        series = Series(
            "proved",
            tuple(map(float, places)),
            tuple(share.value for share in shares),
            low=tuple(share.low for share in shares),
            high=tuple(share.high for share in shares),
        )
        num = len(searched) if most > 1 else 0  # one state is no curve
        title, xlabel = "Pass@1 by states tried", "states tried, at most"
        return Lines(title, "theorems", xlabel, "proved", (series,), num, is_share=True, is_log_x=True)


def reason_of(result: SearchResult) -> str:
    """Why a theorem was discarded, without what tells it from others, so that equal reasons are one.

    >>> reason_of(SearchResult(Theorem("A.v", "x"), "discarded", "A.v declares no theorem x"))
    '... declares no theorem ...'
    """
    reason = result.reason.strip().partition("\n")[0]
    if isinstance(result.theorem, Theorem):
        for own in (result.theorem.file_path, result.theorem.full_name):
            reason = re.sub(rf"(?<!\w){re.escape(own)}(?!\w)", "...", reason) if own else reason
    return reason if len(reason) <= _MAX_REASON else f"{reason[:_MAX_REASON]}..."


def write_figures(summary: Summary, folder: Path) -> list[Path]:
    """Draw the figures into a folder and into TensorBoard's file there; nothing where there is nothing to draw.

    Raises:
        ConfigError: if matplotlib is not installed
        DataError: if the system refuses to write
    """
    check_drawing()
    from torch.utils.tensorboard import SummaryWriter  # takes seconds to import

    for old in folder.glob(f"events.out.tfevents.*{_SUFFIX}"):  # of a run that this one went on from
        old.unlink()
    paths = []
    note = f"Pass@1 {100 * summary.pass_at_1.value:.1f}%"
    board: Any = SummaryWriter(str(folder), filename_suffix=_SUFFIX)
    try:
        for name, chart in summary.charts().items():
            if chart.num:
                pixels = draw(chart, note)
                paths.append(folder / "figures" / f"{name}.png")
                with writing_file(paths[-1]) as part:
                    part.write_bytes(to_png(pixels))
                board.add_image(f"search_figures/{name}", pixels, 0, dataformats="HWC")
        for name, value in summary.to_json().items():
            if isinstance(value, int | float):
                board.add_scalar(f"search/{name}", value, 0)
    finally:
        board.close()
    return paths


def can_draw() -> str:
    """Return why there are no figures; empty if there are."""
    try:
        check_drawing()
    except ConfigError as error:
        return f"no figures: {error}"
    return ""


def _histogram_of(numbers: Sequence[int], num_unproved: int, title: str, xlabel: str) -> Chart:
    counts = Counter(numbers)
    at_rank = [counts[number] for number in range(1, max(numbers, default=0) + 1)]
    chart = rank_histogram([*at_rank, num_unproved], title=title, what="theorems", xlabel=xlabel)
    return replace(chart, labels=(*chart.labels[:-1], _NOT_PROVED))


def _counted(what: str, reasons: Mapping[str, int]) -> list[str]:
    """Lines that say how many theorems had each reason, the first few one by one."""
    items = list(reasons.items())
    lines = [f"{what} {count:,}: {reason}" for reason, count in items[:_MAX_REASONS]]
    if left := items[_MAX_REASONS:]:
        lines.append(f"{what} {sum(count for _, count in left):,} for {len(left)} other reasons")
    return lines


def _histogram(numbers: Sequence[int]) -> dict[str, int]:
    return {str(number): count for number, count in sorted(Counter(numbers).items())}


def _range(numbers: Sequence[int], what: str) -> str:
    low, high = min(numbers), max(numbers)
    if low == high:
        return f"{low:,} {what}{'s' * (low != 1)}"
    return f"{low:,} to {high:,} {what}s (median {median(numbers):g})"


def _seconds(seconds: float) -> str:
    return f"{seconds:.2g} s" if seconds < 10 else words(seconds)


def _ratio(part: float, whole: float) -> float:
    return round(part / whole, 4) if whole else math.nan


def _finite(value: Any) -> Any:
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
