"""Several retrievers as one: their rankings are joined by weighted reciprocal ranks. And the folder that names them.

Shape legend: B contexts, P parts, k premises asked for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from common import ConfigError, Context, DataError
from retrieval.corpus import Corpus
from retrieval.fusion import RANK_OFFSET, fuse
from retrieval.lexical import BM25Options
from retrieval.retriever import Retriever
from retrieval.training.checkpoints import SETTINGS_FILE, class_path, read_settings, write_settings
from retrieval.training.files import writing_folder
from retrieval.training.options import check_types
from retrieval.training.parts import find_part, path_of_part

Part = str | BM25Options  # a checkpoint, folder or hub id; or BM25, which is made of the corpus alone


class FusedRetriever(Retriever):
    """Ranks premises by the sum of weight / (offset + rank) over the parts that found them; see `fuse`.

    Attributes:
        parts: P retrievers
        weights: of each
        rank_offset: the greater, the less the first ranks stand out
        depth: premises that each part is asked for at least
    """

    def __init__(
        self,
        parts: Sequence[Retriever],
        weights: Sequence[float] | None = None,
        rank_offset: float = RANK_OFFSET,
        depth: int = 100,
    ) -> None:
        """Join retrievers.

        Args:
            parts: at least one
            weights: of each; the same for all if not given
            rank_offset: at least 0
            depth: premises that each part is asked for, or more where more are asked for

        Raises:
            ConfigError: if there is no part, or a number is out of range
        """
        self.parts = list(parts)
        self.weights = [1.0] * len(self.parts) if weights is None else list(weights)
        if not self.parts or len(self.weights) != len(self.parts):
            raise ConfigError(f"there are {len(self.parts)} parts and {len(self.weights)} weights; give one for each")
        check_numbers(self.weights, rank_offset, depth)
        self.rank_offset, self.depth = rank_offset, depth
        self.name = f"fused({', '.join(part.name for part in self.parts)})"

    def load_corpus(self, corpus: Corpus | str | Path, index_path: str | Path | None = None) -> None:
        """See `Retriever.load_corpus`; the embeddings are for the part that embeds.

        Raises:
            ConfigError: if there are embeddings, and no part or more than one that embeds
        """
        embedding = [part for part in self.parts if part.embeds]
        if index_path is not None and len(embedding) != 1:
            raise ConfigError(
                f"index_path {index_path}: {len(embedding)} parts of {self.name} embed, and not one; leave it out"
            )
        super().load_corpus(corpus)
        for part in self.parts:
            part.load_corpus(self._corpus(), index_path if part in embedding else None)

    def prepare(self) -> None:
        """See `Retriever.prepare`."""
        for part in self.parts:
            part.prepare()

    def to(self, device: Any) -> FusedRetriever:
        """See `Retriever.to`."""
        self.parts = [part.to(device) for part in self.parts]
        return self

    def rank(self, contexts: Sequence[Context], k: int) -> tuple[Tensor, Tensor]:
        """See `Retriever.rank`."""
        rankings = [part.rank(contexts, max(k, self.depth))[1] for part in self.parts]
        return fuse(rankings, k, self.weights, self.rank_offset)


def check_numbers(weights: Sequence[float], rank_offset: float, depth: int) -> None:
    """Raise ConfigError for a number that a fusion cannot have."""
    for weight in weights:
        if not 0 < weight < math.inf:
            raise ConfigError(f"a weight is {weight}; it must be greater than 0")
    if not 0 <= rank_offset < math.inf:
        raise ConfigError(f"rank_offset is {rank_offset}; it must be at least 0")
    if depth < 1:
        raise ConfigError(f"depth is {depth}; it must be at least 1")


# ------------------------------------------------------------------------------------------------
# The folder


def write_fused(
    folder: Path,
    parts: Sequence[Part],
    weights: Sequence[float],
    rank_offset: float,
    depth: int,
    about: Mapping[str, Any],
) -> None:
    """Write a new folder, which `load_retriever` opens.

    Args:
        folder: to write
        parts: local ones are written as paths from this folder, so that all may be moved together
        weights: of each
        rank_offset: see `FusedRetriever`
        depth: see there
        about: how the weights came about, for who reads the file

    Raises:
        ConfigError: if the folder is there and not empty
        DataError: if the system refuses to write
    """
    named = [
        {"bm25": asdict(part)} if isinstance(part, BM25Options) else {"path": path_of_part(part, folder)}
        for part in parts
    ]
    numbers = {"weights": list(weights), "rank_offset": rank_offset, "depth": depth}
    with writing_folder(folder, f"the retriever to {folder}") as place:
        write_settings(place, class_path(FusedRetriever), {"parts": named, **numbers, "about": dict(about)})


def read_fused(folder: str | Path) -> tuple[list[Part], list[float], float, int]:
    """Return parts, weights, offset and depth.

    Raises:
        DataError: if nextstep.json is not what `write_fused` writes
    """
    options = (read_settings(folder) or {}).get("options", {})
    where = Path(folder) / SETTINGS_FILE
    try:
        parts = [_read_part(part, Path(folder)) for part in options["parts"]]
        weights, depth = [float(weight) for weight in options["weights"]], options["depth"]
        rank_offset = float(options["rank_offset"])
        if len(weights) != len(parts) or not parts or type(depth) is not int:
            raise ValueError(f"{len(parts)} parts with weights {str(weights)[:60]} and depth {str(depth)[:60]}")
        check_numbers(weights, rank_offset, depth)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        what = f"there is no {error}" if isinstance(error, KeyError) else str(error)
        raise DataError(f"{where}: is not what retrieval.fuse writes ({what}); make the folder again") from error
    return parts, weights, rank_offset, depth


def local_parts(folder: Path) -> list[Path]:
    """Return the files and folders that a fused retriever is made of; none of another folder."""
    if (read_settings(folder) or {}).get("class") != class_path(FusedRetriever):
        return []
    named = (Path(part) for part in read_fused(folder)[0] if isinstance(part, str))
    return [path for path in named if path.exists()]


def _read_part(part: Any, folder: Path) -> Part:
    if "bm25" in part:
        check_types(BM25Options, part["bm25"], "bm25")
        return BM25Options(**part["bm25"])
    return find_part(part["path"], folder)
