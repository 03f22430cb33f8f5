"""The slow way to draw negatives, which the quick one must agree with, draw for draw."""

import numpy as np
import numpy.typing as npt

from retrieval.corpus import Corpus
from retrieval.negatives import Negatives


def by_mask(
    corpus: Corpus,
    place: tuple[str, object],
    target: int,
    positives: list[int],
    wanted: Negatives,
    rng: np.random.Generator,
) -> list[int]:
    """Draw from a list of all candidates, which a mask of all premises tells."""
    candidates: npt.NDArray[np.bool_] = corpus.accessible_mask(*place).numpy().copy()
    candidates[positives] = False
    file = corpus.numbers_in_file(corpus[target].path)
    own = np.flatnonzero(candidates[file.start : file.stop]) + file.start
    in_file = rng.choice(own, min(len(own), wanted.num_in_file_negatives), replace=False)
    candidates[file.start : file.stop] = False
    num_others = wanted.num_negatives - len(in_file)
    others = np.flatnonzero(candidates)
    if len(others) < num_others:
        others = np.concatenate([others, np.setdiff1d(own, in_file)])
    outside = rng.choice(others, min(len(others), num_others), replace=False)
    return [*in_file.tolist(), *outside.tolist()]
