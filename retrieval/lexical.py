"""BM25 over premises: what they share with a state, by the words in their names and statements.

Needs the extra `bm25`, the package bm25s.

Shape legend: B contexts, N premises, k premises asked for.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from common import ConfigError, Context, check_positive, format_state, split_name
from retrieval.corpus import Corpus
from retrieval.embedding_index import top_k
from retrieval.retriever import Retriever
from retrieval.training.extras import import_extra
from retrieval.training.options import flat_options

# Words end at dots, underscores, digits and capitals; a letter that is not ASCII (ℕ, α) and a run of symbols
# (->, ≤) are tokens; brackets and separators, which nearly every text holds, are not
_TOKEN = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_]|[^\s\w()\[\]{}⟨⟩,;.]+")
_TURNSTILE = "⊢"

_Floats = npt.NDArray[np.float32]


def tokenize(text: str) -> list[str]:
    """Split Lean or Coq text into lower-case parts of names, numbers and symbols.

    >>> tokenize("h : Nat.succ_le n ≤ 12")
    ['h', ':', 'nat', 'succ', 'le', 'n', '≤', '12']
    """
    return [token.lower() for token in _TOKEN.findall(text)]


def goal_of(state: str) -> str:
    """Return what is to be proved in the first goal, without its hypotheses."""
    first = state.partition("\n\n")[0]
    return first[max(0, first.rfind(_TURNSTILE)) :]


@dataclass(frozen=True)
class BM25Options:
    """How BM25 weighs what states and premises are made of; R@10 of each part in tests/benchmarks/results/coq.md.

    Attributes:
        k1: how much a token that occurs again in a premise adds, at least 0
        b: how much long premises are marked down, from 0 to 1
        name_weight: of a premise's own name, the last part of the full one, against its code
        goal_weight: what a token of a state counts more if it stands in what is to be proved first
        theorem_weight: of the full name of a premise, compared with that of the theorem
    """

    k1: float = 1.5
    b: float = 0.75
    name_weight: float = 2.0
    goal_weight: float = 2.0
    theorem_weight: float = 1.0

    def __post_init__(self) -> None:
        if not (0 <= self.k1 < math.inf and 0 <= self.b <= 1):
            raise ConfigError(f"k1 is {self.k1} and b is {self.b}; k1 must be at least 0, and b between 0 and 1")
        for name in ("name_weight", "goal_weight", "theorem_weight"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least 0")


class BM25Retriever(Retriever):
    """BM25 scores of all premises, in three fields: code, own name, full name.

    A state counts each of its tokens once, as hypotheses repeat a few names many times, and those of what is to be
    proved again. The last field is compared with the theorem's name, the others with the state.

    Source: Robertson and Zaragoza (2009, section 3.6 on fields), in the variant of Lucene (bm25s, arXiv:2407.03618).
    """

    @flat_options
    def __init__(self, corpus: Corpus | None = None, *, options: BM25Options = BM25Options()) -> None:
        """Index the premises of a corpus, or of one that `load_corpus` gives later.

        Args:
            corpus: N premises
            options: how what is compared is weighed

        Raises:
            ConfigError: if an option is out of range, or bm25s is not installed
        """
        import_extra("bm25s", "bm25", "BM25")
        self.options, self.name = options, "bm25"
        self._fields: tuple[_Field, _Field, _Field] | None = None
        if corpus is not None:
            self.load_corpus(corpus)

    def forget(self) -> None:
        """See `Retriever.forget`."""
        self._fields = None

    def prepare(self) -> None:
        """Index the premises: 3 s for 18,000 of Coq, which then take 2 ms a state (one thread of an Intel Xeon)."""
        corpus = self._corpus()
        if self._fields is None:
            own_names = [(split_name(premise.full_name) or [""])[-1] for premise in corpus]
            texts = [[premise.code for premise in corpus], own_names, [premise.full_name for premise in corpus]]
            code, own, full = (_Field(each, self.options) for each in texts)
            self._fields = code, own, full

    def scores(self, contexts: Sequence[Context]) -> Tensor:
        """Return the scores of all premises, float32 (B, N); 0 where a premise shares no token."""
        self.prepare()
        return torch.from_numpy(np.stack([self._scores(context) for context in contexts]))

    def _scores(self, context: Context) -> _Floats:
        assert self._fields is not None
        (code, own, full), options = self._fields, self.options
        scores = np.zeros(len(self._corpus()), dtype=np.float32)
        state = format_state(context.state)
        for text, weight in ((state, 1.0), (goal_of(state), options.goal_weight)):
            tokens = _distinct(text)
            scores += weight * (code.scores(tokens) + options.name_weight * own.scores(tokens))
        scores += options.theorem_weight * full.scores(_distinct(context.theorem_full_name))
        return scores

    def rank(self, contexts: Sequence[Context], k: int) -> tuple[Tensor, Tensor]:
        """See `Retriever.rank`; of equal ones the first comes first."""
        check_positive(k=k)
        return top_k(self.scores(contexts).masked_fill_(~self._accessible(contexts), -torch.inf), k)


def _distinct(text: str) -> list[str]:
    return sorted(set(tokenize(text)))


class _Field:
    """One text of each premise."""

    def __init__(self, texts: Sequence[str], options: BM25Options) -> None:
        documents = [tokenize(text) for text in texts]
        self._none = np.zeros(len(documents), dtype=np.float32)
        self._bm25: Any = None
        if any(documents):  # bm25s cannot index nothing
            self._bm25 = import_extra("bm25s", "bm25", "BM25").BM25(k1=options.k1, b=options.b)
            self._bm25.index(documents, show_progress=False)

    def scores(self, tokens: list[str]) -> _Floats:
        """Scores of all premises for some tokens, float32 (N,)."""
        scores: _Floats = self._bm25.get_scores(tokens) if tokens and self._bm25 is not None else self._none
        return scores
