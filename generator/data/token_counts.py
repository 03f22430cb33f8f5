"""How many tokens the states and tactics of a split take, and which of them a tokenizer cannot write.

For a byte tokenizer the bytes tell, and nothing is tokenised. Other tokenizers take minutes for a benchmark, so that
what they found is kept beside the data.

Shape legend: N steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from common import fit_state, remove_marks
from retrieval.leandojo.traces import TracedTactics
from retrieval.training.kept_tokens import Kept, keep_beside, tokenizer_digest
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
        states = (fit_state(step.state, max_bytes) for step in traces)
        tactics = (step.tactic if keep_marks else remove_marks(step.tactic) for step in traces)
        trips = RoundTrip("states"), RoundTrip("tactics")
        num_texts = len(traces)
        arrays = {
            "tactics": _count(tokenizer, tactics, num_texts, trips[1], ends_matter=True, progress=progress),
            "states": _count(tokenizer, states, num_texts, trips[0], ends_matter=False, progress=progress),
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
    tokenizer: Any, texts: Iterator[str], num_texts: int, trip: RoundTrip, *, ends_matter: bool, progress: bool
) -> npt.NDArray[np.int64]:
    """Count the tokens of texts, and read them back, which takes little beside tokenising."""
    lengths = np.zeros(num_texts, dtype=np.int64)
    with tqdm(total=num_texts, desc=f"tokenize {trip.what}", delay=1, disable=not progress) as bar:
        for start in range(0, num_texts, _TOKENIZED_AT_ONCE):
            some = [next(texts) for _ in range(min(_TOKENIZED_AT_ONCE, num_texts - start))]
            rows = tokenizer(some)["input_ids"]
            lengths[start : start + len(rows)] = [len(row) for row in rows]
            trip.add(some, read_back(tokenizer, rows), ends_matter=ends_matter)
            bar.update(len(rows))
    return lengths
