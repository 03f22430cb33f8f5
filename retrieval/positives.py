"""Which premises the traced tactics cite."""

from __future__ import annotations

import logging

from retrieval.corpus import Corpus
from retrieval.traces import TracedTactics

_LOG = logging.getLogger(__name__)


def positive_premises(traced: TracedTactics, corpus: Corpus) -> list[list[int]]:
    """Return the numbers of the distinct premises that each step cites, in the order of its text.

    As in ReProver the place of a definition decides which premise it is, and not its name. Those that the
    corpus lacks are left out, counted and reported once.
    """
    positives, num_cited, num_lost = [], 0, 0
    for step in traced:
        numbers = [corpus.locate(path, pos) for path, pos in step.premises]
        positives.append(list(dict.fromkeys(number for number in numbers if number is not None)))
        num_cited += len(numbers)
        num_lost += numbers.count(None)
    if num_lost:
        _LOG.warning("%s: %d of %d cited premises are not in the corpus", traced.path, num_lost, num_cited)
    return positives
