"""Where a generator that is asked about a state gets its premises from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from common import ConfigError, Context, Premise, check_positive
from retrieval.load import load_retriever
from retrieval.retriever import Retriever


@dataclass(frozen=True)
class RetrieverOptions:
    """Which premises a generator retrieves by itself; training and evaluation read predictions instead.

    Attributes:
        ret_ckpt_path: retriever that `generate` asks for premises: a checkpoint, an encoder's folder or hub id, a
            folder of retrieval.fuse or retrieval.neighbors, or bm25
        corpus_path: corpus.jsonl that it retrieves from
        index_path: folder of its embeddings, from `python -m retrieval.index`; without it they are made first
        eval_num_retrieved: premises for each state, of which the input holds as many as fit
    """

    ret_ckpt_path: str | None = None
    corpus_path: str | None = None
    index_path: str | None = None
    eval_num_retrieved: int = 100

    def __post_init__(self) -> None:
        check_positive(eval_num_retrieved=self.eval_num_retrieved)
        if (self.ret_ckpt_path is None) != (self.corpus_path is None) or (self.index_path and not self.ret_ckpt_path):
            raise ConfigError("ret_ckpt_path and corpus_path belong together, and index_path to both; give the others")

    def source(self) -> PremiseSource | None:
        """Return where premises come from, or None where they are not asked for."""
        return None if self.ret_ckpt_path is None else PremiseSource(self)


class PremiseSource:
    """A retriever and its corpus, loaded when they are first needed.

    Its weights are no part of the generator's, and follow the generator from device to device.
    """

    def __init__(self, options: RetrieverOptions) -> None:
        """Keep the options, which must name a retriever and a corpus."""
        self.options = options
        self._retriever: Retriever | None = None

    def retriever(self, device: Any) -> Retriever:
        """Return the retriever on a device, with its corpus, and with embeddings of it if they were saved."""
        if self._retriever is None:
            assert self.options.ret_ckpt_path is not None and self.options.corpus_path is not None
            retriever = load_retriever(self.options.ret_ckpt_path, device)
            retriever.load_corpus(self.options.corpus_path, self.options.index_path)
            self._retriever = retriever
        return self._retriever.to(device)

    def load(self, device: Any) -> Retriever:
        """Return the retriever on a device, with an index of the corpus."""
        retriever = self.retriever(device)
        retriever.prepare()
        return retriever

    def retrieve(self, contexts: Sequence[Context], device: Any) -> list[list[Premise]]:
        """Return the premises for each context, best first."""
        premises, _ = self.load(device).retrieve_contexts(contexts, self.options.eval_num_retrieved)
        return premises
