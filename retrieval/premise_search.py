"""A text encoder and the premises it has embedded: what retrieves, without how it is trained.

Shape legend: B texts, L padded length, D dimension, N premises of the corpus, k premises asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, ClassVar, get_args

import pytorch_lightning as pl
import torch
from torch import Tensor

from common import (
    MAX_LENGTH,
    Context,
    DataError,
    check_choice,
    check_positive,
    load_tokenizer,
)
from retrieval.contexts import place_of
from retrieval.corpus import Corpus
from retrieval.embedding_index import EmbeddingIndex, embed
from retrieval.encoder import (
    PremiseText,
    build_encoder,
    context_text,
    encode_in_chunks,
    encode_rows,
    encode_tokens,
    premise_text,
    tokenize,
)
from retrieval.retriever import Retriever
from retrieval.training.acceleration import Acceleration, compile_layers
from retrieval.training.architectures import checkpoint_activations, describe
from retrieval.training.checkpoints import Restorable
from retrieval.training.flat_rows import FlatRow, flat_rows
from retrieval.training.options import flat_options
from retrieval.training.t5_attention import has_t5_attention, take_block_masks

_SAME = 0.99  # cosine of a premise with itself in an index, under any storage and precision; other weights give less


class PremiseSearch(Restorable, Retriever):
    """Embeds states and premises with one encoder, and finds the premises nearest to a state.

    Attributes:
        encoder: of transformers
        corpus: what is retrieved from; None before `load_corpus` and before a run
        index: its embeddings; None before they are first needed
        name: of the retriever, in tables and files
    """

    checkpoint_key: ClassVar[str] = "retriever"
    embeds: ClassVar[bool] = True
    corpus: Corpus | None = None
    index: EmbeddingIndex | None = None
    _is_stale = False  # whether the weights have changed since the index was made

    @flat_options
    def __init__(
        self,
        model_name: str | dict[str, Any],
        *,
        acceleration: Acceleration = Acceleration(),
        max_seq_len: int = 1024,
        premise_form: PremiseText = "marked",
        gradient_checkpointing: bool = False,
        chunk_size: int | None = None,
        index_batch_size: int = 64,
    ) -> None:
        """Build the encoder.

        Args:
            model_name: hub id or Hugging Face folder to fine-tune (of an encoder-decoder, the encoder is
                taken); or, to train from scratch, an architecture: a mapping or YAML file with T5Config's keys
                (ByT5's shape by default)
            acceleration: how training uses a GPU
            max_seq_len: tokens of a context or a premise, EOS included
            premise_form: how a premise is written, as the data module says
            gradient_checkpointing: recompute activations layer by layer; less memory, a third slower
            chunk_size: texts whose activations are in memory at a time in training (gradient caching), for
                batches that do not fit; the same gradients, a third slower. None takes all at once
            index_batch_size: premises of full length that are embedded at a time for the index
        """
        super().__init__()
        check_positive(MAX_LENGTH, max_seq_len=max_seq_len)
        check_positive(chunk_size=chunk_size, index_batch_size=index_batch_size)
        check_choice("premise_form", premise_form, get_args(PremiseText))
        self.max_seq_len, self.chunk_size, self.index_batch_size = max_seq_len, chunk_size, index_batch_size
        self.premise_form = premise_form
        self.model_name = model_name
        self.name = "" if isinstance(model_name, Mapping) else str(model_name)
        self.tokenizer = load_tokenizer(model_name)
        # transformers loads in evaluation mode, and Lightning trains in what it finds
        self.encoder: Any = build_encoder(model_name).train()
        self._checkpoints_activations = gradient_checkpointing
        if gradient_checkpointing:
            checkpoint_activations(self.encoder)
        self.acceleration = acceleration
        acceleration.choose_attention(self.encoder)
        name = type(self.encoder).__name__
        self._against_flex = None if has_t5_attention(self.encoder) else f"{name} has other attention than T5's"
        acceleration.check(self._against_flex)
        self._compiled: list[Any] = []  # the compiled encoder; in a list, as its weights count once

    def architecture(self) -> dict[str, Any]:
        """See `Restorable`."""
        return describe(self.encoder)

    def kept_options(self) -> dict[str, Any]:
        """See `Restorable`."""
        return {"max_seq_len": self.max_seq_len, "premise_form": self.premise_form}

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the unit vectors of tokenized texts.

        Args:
            input_ids: int64 (B, L)
            attention_mask: 1 where input_ids is no padding, (B, L)

        Returns:
            float32 (B, D)
        """
        if self.uses_flex:
            return self.encode_rows(self.rows_of([(input_ids, attention_mask)]))
        if self.chunk_size and torch.is_grad_enabled():
            return encode_in_chunks(self._running, input_ids, attention_mask, self.chunk_size)
        return encode_tokens(self._running, input_ids, attention_mask)

    @property
    def uses_flex(self) -> bool:
        """Whether texts are encoded behind one another in a row now, see `Acceleration`."""
        return self.acceleration.uses_flex(self, self._against_flex, self.max_seq_len)

    def rows_of(self, texts: Sequence[tuple[Tensor, Tensor]]) -> list[FlatRow]:
        """Return texts in one row, in training in rows of chunk_size; see `flat_rows`."""
        return flat_rows(texts, self.chunk_size if self.training else None)

    def encode_rows(self, rows: Sequence[FlatRow]) -> Tensor:
        """Return the unit vectors of the texts of rows, float32 (B, D)."""
        take_block_masks(self.encoder)
        return encode_rows(self._running, rows)

    @property
    def _running(self) -> Any:
        """The encoder; in training the compiled one, if there is one."""
        return self._compiled[0] if self._compiled and self.training else self.encoder

    def _compile(self) -> None:
        """Compile the encoder, where the run that begins asks for it or wins by it."""
        uses_flex = self.uses_flex
        if not self.acceleration.compiles(self.trainer, uses_flex and not self._checkpoints_activations):
            return
        if uses_flex:
            compile_layers(self.encoder)
        elif self.device.type == "cpu":  # a C++ compiler takes minutes for a whole network
            compile_layers(self.encoder, dynamic=True)
        else:
            self._compiled = [torch.compile(self.encoder, dynamic=True)]

    # ---------------------------------------------------------------------------------------- index

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Load weights; the index no longer belongs to them."""
        self._is_stale = True
        return super().load_state_dict(*args, **kwargs)

    def forget(self) -> None:
        """See `Retriever.forget`."""
        self.index = None

    def load_corpus(self, corpus: Corpus | str | Path, index_path: str | Path | None = None) -> None:
        """Choose what to retrieve from.

        Args:
            corpus: the premises, or their corpus.jsonl
            index_path: folder of embeddings that `python -m retrieval.index` made with this retriever; without
                it `reindex_corpus` makes them, when they are first needed

        Raises:
            DataError: if the corpus is broken, or the index made for another corpus or by other weights
        """
        super().load_corpus(corpus)
        if index_path is not None:
            self.index = EmbeddingIndex.load(index_path, self._corpus()).to(self.device)
            self._check_index(self.index, index_path)
            self._is_stale = False

    def _check_index(self, index: EmbeddingIndex, index_path: str | Path) -> None:
        """Raise DataError unless the index holds what this encoder makes of some premises."""
        numbers = sorted({0, len(index) // 2, len(index) - 1}) if len(index) else []
        vectors = self.encode([premise_text(index.corpus[number], self.premise_form) for number in numbers])
        if numbers and vectors.shape[1] == index.dimension:
            only = torch.zeros(len(numbers), len(index), dtype=torch.bool)
            only[range(len(numbers)), numbers] = True
            cosines = index.search(vectors, only, 1)[0]
            if bool((cosines > _SAME).all()):
                return
        if numbers:
            raise DataError(
                f"{index_path}: the index was made by another retriever ({index.model or 'without a name'}); "
                "make it again with python -m retrieval.index"
            )

    def reindex_corpus(self, batch_size: int | None = None) -> EmbeddingIndex:
        """Embed all premises of the corpus with the present weights.

        Args:
            batch_size: premises of full length at a time, shorter ones in larger batches
        """
        return self._reindex(batch_size or self.index_batch_size)

    @torch.no_grad()
    def _reindex(self, batch_size: int, rank: int = 0, num_ranks: int = 1) -> EmbeddingIndex:
        """Embed the premises; each of several ranks takes its share and gives it to the others."""
        corpus = self._corpus()
        numbers = range(rank, len(corpus), num_ranks)
        embeddings = embed(
            [premise_text(corpus[number], self.premise_form) for number in numbers],
            self.encode,
            max_len=self.max_seq_len,
            max_bytes_per_batch=batch_size * self.max_seq_len,
            progress=rank == 0 and len(corpus) > 1000,
        )
        if num_ranks > 1:
            embeddings = self._gather(embeddings, len(corpus), num_ranks)
        self.index = EmbeddingIndex(corpus, embeddings, model=self.name).to(self.device)
        self._is_stale = False
        return self.index

    def _gather(self, embeddings: Tensor, num_premises: int, num_ranks: int) -> Tensor:
        """Join the embeddings of premises r, r + R, r + 2R ... of each rank r of R."""
        size = int(self.encoder.config.hidden_size)
        share = torch.zeros(-(-num_premises // num_ranks), size, device=self.device)
        if len(embeddings):
            share[: len(embeddings)] = embeddings.to(self.device)
        gathered: Any = self.all_gather(share)  # (R, n, D)
        joined: Tensor = gathered.transpose(0, 1).flatten(0, 1)[:num_premises]
        return joined

    def _search(self, contexts: Tensor, places: Sequence[tuple[str | Path, object]], k: int) -> tuple[Tensor, Tensor]:
        assert self.index is not None
        if self.index.device != contexts.device:
            self.index = self.index.to(contexts.device)
        return self.index.search(contexts, self._corpus().accessible_masks(places), k)

    # ------------------------------------------------------------------------------------ inference

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> Tensor:
        """Return the unit vectors of texts, float32 (B, D), without dropout."""
        was_training = self.training
        self.eval()
        ids, mask = tokenize(self.tokenizer, texts, self.max_seq_len)
        with self._precision():
            vectors: Tensor = self(ids.to(self.device), mask.to(self.device))
        self.train(was_training)
        return vectors

    def _precision(self) -> AbstractContextManager[Any]:
        """What the trainer's precision says, where there is a trainer: hooks run without it."""
        trainer: pl.Trainer | None = getattr(self, "_trainer", None)
        return nullcontext() if trainer is None else trainer.precision_plugin.forward_context()

    def prepare(self) -> None:
        """Embed the premises, unless they are embedded already."""
        if self.index is None or self._is_stale:
            self.reindex_corpus()

    @torch.no_grad()
    def rank(self, contexts: Sequence[Context], k: int) -> tuple[Tensor, Tensor]:
        """See `Retriever.rank`; scores are cosines."""
        self.prepare()
        vectors = self.encode([context_text(context.state, self.max_seq_len) for context in contexts])
        scores, numbers = self._search(vectors, [place_of(context) for context in contexts], k)
        return scores.cpu(), numbers.cpu()
