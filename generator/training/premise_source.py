"""Where a generator that is asked about a state gets its premises from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from common import ConfigError, Context, Premise, check_positive
from retrieval.model import PremiseRetriever


class PremiseSource:
    """A retriever and its corpus, loaded when they are first needed.

    Its weights are no part of the generator's, and follow the generator from device to device.
    """

    def __init__(self, ret_ckpt_path: str, corpus_path: str, index_path: str | None, num_premises: int) -> None:
        """Keep the options; see `premise_source`."""
        self.ret_ckpt_path, self.corpus_path, self.index_path = ret_ckpt_path, corpus_path, index_path
        self.num_premises = num_premises
        self._retriever: PremiseRetriever | None = None

    def load(self, device: Any) -> PremiseRetriever:
        """Return the retriever on a device, with an index of the corpus."""
        if self._retriever is None:
            retriever = PremiseRetriever.load(self.ret_ckpt_path, device)
            retriever.load_corpus(self.corpus_path, self.index_path)
            if retriever.index is None:
                retriever.reindex_corpus()
            self._retriever = retriever
        return self._retriever.to(device)

    def retrieve(self, contexts: Sequence[Context], device: Any) -> list[list[Premise]]:
        """Return the premises for each context, best first."""
        premises, _ = self.load(device).retrieve_contexts(contexts, self.num_premises)
        return premises


def premise_source(
    ret_ckpt_path: str | None, corpus_path: str | None, index_path: str | None, num_premises: int
) -> PremiseSource | None:
    """Return the source that a generator's options ask for, if they ask for one.

    Args:
        ret_ckpt_path: a retriever's checkpoint, or an encoder's folder or hub id
        corpus_path: corpus.jsonl that it retrieves from
        index_path: folder of its embeddings; without it they are made first
        num_premises: for each state

    Raises:
        ConfigError: if one of the options needs another
    """
    check_positive(eval_num_retrieved=num_premises)
    if (ret_ckpt_path is None) != (corpus_path is None) or (index_path and not ret_ckpt_path):
        raise ConfigError("ret_ckpt_path and corpus_path belong together, and index_path to both; give the others")
    if ret_ckpt_path is None or corpus_path is None:
        return None
    return PremiseSource(ret_ckpt_path, corpus_path, index_path, num_premises)
