"""How many tokens the states and tactics of a split take, and which of them a tokenizer cannot write.

For a byte tokenizer the bytes tell, and nothing is tokenised. Other tokenizers take minutes for a benchmark, so that
what they found is kept beside the data.

Shape legend: N steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from common import fit_state, remove_marks
from retrieval.leandojo.traces import TracedTactics
from retrieval.training.kept_tokens import Kept, keep_beside, tokenizer_digest
from retrieval.training.processes import in_order, num_processes
from retrieval.training.round_trip import RoundTrip, read_back

_TOKENIZED_AT_ONCE = 1024  # texts


class TokenCounts(NamedTuple):
    """What tokenising the steps of a split tells.

    Attributes:
        states: tokens of each state, cut to the limit, EOS included, int64 (N,)
        tactics: tokens of each tactic, EOS included, int64 (N,)
        states_read_back: which states the tokenizer cannot write
        tactics_read_back: the same of tactics
    """

    states: npt.NDArray[np.int64]
    tactics: npt.NDArray[np.int64]
    states_read_back: RoundTrip
    tactics_read_back: RoundTrip

    def notes(self) -> list[str]:
        """Say what the tokenizer cannot write, if there is something."""
        return [note for trip in (self.tactics_read_back, self.states_read_back) if (note := trip.note())]


def count_tokens(
    traces: TracedTactics, tokenizer: Any, *, max_bytes: int, keep_marks: bool, progress: bool
) -> TokenCounts:
    """Count the tokens of all steps, or read what an earlier run counted.

    Args:
        traces: the steps
        tokenizer: see `common.load_tokenizer`
        max_bytes: to which states are cut
        keep_marks: whether tactics keep their marks
        progress: show a progress bar where it takes more than a second

    Raises:
        ConfigError: if the tokenizer cannot write more than half of the states, or of the tactics
    """

    def make() -> Kept:
        def state(number: int) -> str:
            return fit_state(traces[number].state, max_bytes)

        def tactic(number: int) -> str:
            written = traces[number].tactic
            return written if keep_marks else remove_marks(written)

        trips = RoundTrip("states"), RoundTrip("tactics")
        num_texts = len(traces)
        arrays = {
            "tactics": _count(tokenizer, tactic, num_texts, trips[1], ends_matter=True, progress=progress),
            "states": _count(tokenizer, state, num_texts, trips[0], ends_matter=False, progress=progress),
        }
        return arrays, {trip.what: trip.as_dict() for trip in trips}

    def key() -> list[object]:
        return [traces.digest(), tokenizer_digest(tokenizer), max_bytes, keep_marks]

    arrays, values = keep_beside(traces.path, traces.num_bytes, key, make)
    states, tactics = RoundTrip(**values["states"]), RoundTrip(**values["tactics"])
    for trip in (tactics, states):
        trip.check(traces.path, tokenizer)
    return TokenCounts(arrays["states"], arrays["tactics"], states, tactics)


def _count(
    tokenizer: Any,
    text_of: Callable[[int], str],
    num_texts: int,
    trip: RoundTrip,
    *,
    ends_matter: bool,
    progress: bool,
) -> npt.NDArray[np.int64]:
    """Count the tokens of texts, and read them back, which takes little beside tokenising; on all cores."""

    def work(numbers: range) -> tuple[list[int], RoundTrip]:
        texts, part = [text_of(number) for number in numbers], RoundTrip(trip.what)
        rows = tokenizer(texts)["input_ids"]
        part.add(texts, read_back(tokenizer, rows), ends_matter=ends_matter)
        return [len(row) for row in rows], part

    starts = range(0, num_texts, _TOKENIZED_AT_ONCE)
    parts = [range(start, min(start + _TOKENIZED_AT_ONCE, num_texts)) for start in starts]
    lengths: list[int] = []
    with tqdm(total=num_texts, desc=f"tokenize {trip.what}", delay=1, disable=not progress) as bar:
        for some, read in in_order(work, parts, num_processes(len(parts))):
            lengths += some
            trip.join(read)
            bar.update(len(some))
    return np.array(lengths, dtype=np.int64)
