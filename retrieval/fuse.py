"""Several retrievers as one: `python -m retrieval.fuse --parts bm25 A B --data_path ... --output_dir ...`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from common import ConfigError, DataError, check_positive
from retrieval.asking import ask
from retrieval.corpus import Corpus, positive_premises
from retrieval.fused import FusedRetriever, Part, check_numbers, write_fused
from retrieval.fusion import RANK_OFFSET, fit_fusion, fuse
from retrieval.leandojo.traces import TracedTactic, TracedTactics
from retrieval.lexical import BM25Options
from retrieval.load import BM25, load_part
from retrieval.metrics import RetrievalMetrics, pad_numbers
from retrieval.training.commands import parse_arguments, run
from retrieval.training.options import flat_options

_SHOWN = (1, 10, 100)


@flat_options
def fuse_parts(
    parts: Sequence[str],
    data_path: Path,
    corpus_path: Path,
    output_dir: Path,
    weights: Sequence[float] = (),
    rank_offset: float | None = None,
    k: int = 10,
    depth: int = 100,
    split: str = "val",
    num_states: int | None = 1000,
    seed: int = 0,
    index_path: Path | None = None,
    device: str | None = None,
    *,
    bm25: BM25Options = BM25Options(),
) -> None:
    """Find how much each of several retrievers should count, and write a folder that is opened like a checkpoint.

    The parts are found with the folder's weights by --ret_ckpt_path of every command, and by load_retriever.

    Args:
        parts: checkpoints; encoders' folders or hub ids; folders of retrieval.neighbors; or bm25, with options below
        data_path: folder with train.json, val.json, test.json
        corpus_path: corpus.jsonl
        output_dir: folder to write; it names the parts, which stay where they are
        weights: of each part, instead of fitting them
        rank_offset: with weights: what is added to ranks; 60 if not given
        k: of Recall@k, which the fitted weights have the most of
        depth: premises that each part is asked for
        split: whose steps the weights are fitted on
        num_states: so many steps that cite a premise, drawn at random; null for all
        seed: which these are
        index_path: embeddings of the corpus by the part that embeds, from python -m retrieval.index; else they are made
        device: such as cuda; if not given, a GPU if there is one
        bm25: how BM25 weighs what is compared

    Raises:
        ConfigError: if an option is wrong
        DataError: if a file is missing or broken, or output_dir cannot be written
    """
    check_positive(k=k, depth=depth, num_states=num_states)
    kept: list[Part] = [bm25 if part == BM25 else part for part in parts]
    if not kept or (weights and len(weights) != len(kept)):
        raise ConfigError(f"there are {len(kept)} parts and {len(weights)} weights; give one for each, or none")
    if rank_offset is not None and not weights:
        raise ConfigError("rank_offset is fitted with the weights; give weights too, or leave it out")
    found, offset = list(weights), RANK_OFFSET if rank_offset is None else rank_offset
    check_numbers(found, offset, depth)
    corpus = Corpus(corpus_path)
    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    fused = FusedRetriever([load_part(part, place) for part in kept])
    fused.load_corpus(corpus, index_path)
    steps, positives = draw_citing(data_path / f"{split}.json", corpus, num_states, seed)
    rankings = [torch.cat([found for _, _, found in ask(part, steps, depth, part.name)]) for part in fused.parts]
    about: dict[str, object] = {"fit": "given"}
    if not weights:
        found, offset = fit_fusion(rankings, positives, k)
        about = {"fit": f"Recall@{k}", "data_path": str(data_path), "split": split, "num_states": len(steps)}
        about["seed"] = seed
    _print_table(list(parts), found, offset, rankings, positives)
    write_fused(output_dir, kept, found, offset, depth, about)
    shown = ", ".join(f"{weight:.3f} {part}" for part, weight in zip(parts, found, strict=True))
    print(f"wrote {output_dir}: {shown}, offset {offset:g}")


def draw_citing(path: Path, corpus: Corpus, number: int | None, seed: int) -> tuple[list[TracedTactic], Tensor]:
    """Return steps that cite a premise, all or some drawn by seed, in their order; and what they cite, (M, Q).

    Raises:
        DataError: if no step cites a premise of the corpus
    """
    traced = TracedTactics.load(path)
    positives = positive_premises(traced, corpus)
    citing = np.array([index for index, numbers in enumerate(positives) if numbers], dtype=np.int64)
    if not len(citing):
        raise DataError(f"{path}: no step cites a premise of {corpus.path}, so there is nothing to fit to")
    if number is not None and number < len(citing):
        citing = np.sort(np.random.default_rng(seed).choice(citing, number, replace=False))
    return [traced[index] for index in citing.tolist()], pad_numbers([positives[index] for index in citing.tolist()])


def _print_table(
    names: Sequence[str], weights: Sequence[float], offset: float, rankings: Sequence[Tensor], positives: Tensor
) -> None:
    """Print recall of each part and of all together."""
    depth = rankings[0].shape[1]
    rows = dict(zip(names, rankings, strict=True)) | {"fused": fuse(rankings, depth, weights, offset)[1]}
    cutoffs = [k for k in _SHOWN if k <= depth]
    print(f"on {len(positives):,} steps" + "".join(f"  R@{k:<5}" for k in cutoffs) + "  MRR")
    for name, ranking in rows.items():
        metrics = RetrievalMetrics(depth)
        metrics.update(ranking, positives)
        result = metrics.compute()
        shown = "  ".join(f"{result['recall'][k - 1].item():7.1%}" for k in cutoffs)
        print(f"{shown}  {result['mrr'].item():.3f}  {name}")


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line; `args` replaces it in tests."""
    fuse_parts(**parse_arguments(fuse_parts, args))


def cli() -> None:
    """Run the command."""
    run(main)


if __name__ == "__main__":
    cli()
