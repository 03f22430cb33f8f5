"""Retrieval by neighbours: `python -m retrieval.neighbors --data_path ... --output_dir ...` makes its folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from common import ConfigError
from retrieval.citations import Citations
from retrieval.leandojo.traces import TracedTactics
from retrieval.neighbor_retriever import NeighborOptions, NeighborRetriever
from retrieval.ngram_index import NgramIndex, NgramOptions
from retrieval.training.commands import parse_arguments, run
from retrieval.training.options import flat_options


@flat_options
def neighbors(
    data_path: Path,
    output_dir: Path,
    splits: Sequence[str] = ("train",),
    *,
    lookup: NeighborOptions = NeighborOptions(),
    ngrams: NgramOptions = NgramOptions(),
) -> None:
    """Make a retriever that finds the premises cited in the most similar states of known proofs, and write its folder.

    Args:
        data_path: folder with train.json, val.json, test.json
        output_dir: folder to write
        splits: whose steps are known
        lookup: how the nearest steps become premises
        ngrams: how states are compared

    Raises:
        ConfigError: if an option is out of range, or no step cites a premise
        DataError: if a file is missing or broken, or output_dir cannot be written
    """
    traced = {split: TracedTactics.load(data_path / f"{split}.json") for split in splits}
    for each in traced.values():
        print(each.summary())
    citations, texts = Citations.of((step for each in traced.values() for step in each), lookup.text)
    if not len(citations):
        raise ConfigError(f"{data_path}: no step of {', '.join(splits) or 'no split'} cites a premise")
    index = NgramIndex.of(texts, ngrams, progress=True)
    sources = {split: each.digest().hex() for split, each in traced.items()}
    NeighborRetriever(citations, index, lookup).save(output_dir, sources)
    print(
        f"wrote {output_dir}: {len(citations):,} steps with {len(texts):,} states, which cite "
        f"{citations.num_places:,} premises"
    )


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line; `args` replaces it in tests."""
    neighbors(**parse_arguments(neighbors, args))


def cli() -> None:
    """Run the command."""
    run(main)


if __name__ == "__main__":
    cli()
