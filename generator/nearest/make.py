"""Making a lookup from the splits of a dataset."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from common import ConfigError, check_positive, remove_marks
from generator.nearest.calibration import Calibration, fit
from generator.nearest.generator import LookupOptions, NearestTacticGenerator
from generator.nearest.lemmas import LemmaFinder, LemmaSource, WrittenNames
from generator.nearest.ranked import learn_composed, learn_ranking
from generator.nearest.steps import StateText, Steps
from retrieval.corpus import Corpus
from retrieval.leandojo.tactic_text import TacticText
from retrieval.leandojo.traces import TracedTactic, TracedTactics
from retrieval.ngram_index import NgramIndex, NgramOptions
from retrieval.training.options import flat, flat_options


@flat_options
def nearest(
    data_path: Path,
    output_dir: Path,
    splits: Sequence[str] = ("train",),
    earlier_splits: Sequence[str] = (),
    corpus_path: Path | None = None,
    num_held_out: int = 1000,
    num_ranked: int = 0,
    num_composed: int = 0,
    ret_ckpt_path: str | None = None,
    index_path: str | None = None,
    seed: int = 0,
    *,
    text: StateText = StateText(),
    ngrams: NgramOptions = NgramOptions(),
    lookup: LookupOptions = LookupOptions(),
    tactic_text: TacticText = TacticText(),
) -> None:
    """Make a generator that proposes the tactics of the most similar states of known proofs, and write its folder.

    It is opened like a model: --ckpt_path of generator.suggest, generator.search.prove and generator.rank takes the
    folder.

    Args:
        data_path: folder with train.json, val.json, test.json
        output_dir: folder to write
        splits: whose steps may be looked up
        earlier_splits: whose steps may be looked up only for theorems behind theirs, in the same file or in one that
            imports it; only who opens the folder with corpus_path has imports
        corpus_path: corpus.jsonl, for the imports of held-out steps, where only what stands before them counts, and for
            the retriever
        num_held_out: steps on which the probabilities are fitted; none is looked up for the proof that it is in
        num_ranked: so many held-out steps, from which the order of candidates is learnt, see
            `generator.nearest.ranking`; 0: they come by votes. 20,000 take some 10 minutes of one core
        num_composed: so many held-out steps more, from which the order of candidates is learnt that no known step has,
            see `generator.nearest.composing`; it needs num_ranked. 0: none are composed. 5,000 take some 20 minutes
            of one core
        ret_ckpt_path: retriever of premises, which composed candidates cite too, as `load_generator` takes it; it needs
            num_composed and corpus_path. The folder names retriever and corpus, which stay where they are
        index_path: folder of its embeddings, if it needs any
        seed: which these are
        text: what of a state is compared
        ngrams: how
        lookup: how the nearest steps become candidates
        tactic_text: how tactics are written
    """
    check_positive(num_held_out=num_held_out)
    if num_ranked < 0:
        raise ConfigError(f"num_ranked is {num_ranked}; give 0 for no learnt order, or the number of held-out steps")
    if num_composed < 0:
        raise ConfigError(f"num_composed is {num_composed}; give 0 to compose none, or the number of held-out steps")
    if num_composed and not num_ranked:
        raise ConfigError(
            f"num_composed is {num_composed} and num_ranked 0; composed candidates need a learnt order: give num_ranked"
        )
    source = None
    if ret_ckpt_path is not None:
        if not num_composed or corpus_path is None:
            raise ConfigError(
                f"ret_ckpt_path is {ret_ckpt_path}, whose premises candidates are composed of; give num_composed and "
                "corpus_path too"
            )
        source = LemmaSource(ret_ckpt_path, str(corpus_path), index_path)
    elif index_path is not None:
        raise ConfigError(f"index_path is {index_path}, and there is no retriever to read it; give ret_ckpt_path")
    if both := sorted(set(splits) & set(earlier_splits)):
        raise ConfigError(f"split {both[0]} stands in splits and in earlier_splits; give it in one of them")
    traced = {name: TracedTactics.load(data_path / f"{name}.json", **flat(tactic_text)) for name in splits}
    earlier = {name: TracedTactics.load(data_path / f"{name}.json", **flat(tactic_text)) for name in earlier_splits}
    for each in (*traced.values(), *earlier.values()):
        print(each.summary())
    corpus = None if corpus_path is None else Corpus(corpus_path)
    steps = Steps.of(_all([*traced.values()], [*earlier.values()]), text)
    if not len(steps):
        raise ConfigError(
            f"{data_path} has no step to look up in {', '.join([*splits, *earlier_splits]) or 'no split'}"
        )
    index = NgramIndex.of([steps.text(number) for number in range(steps.num_texts)], ngrams, progress=True)
    generator = NearestTacticGenerator(steps, index, text, lookup, corpus=corpus)
    everything = [*traced.values()] or [*earlier.values()]
    generator.calibration = calibrate(generator, draw_held_out(everything, num_held_out, seed))
    if num_ranked:
        held_out = draw_held_out(everything, num_ranked, seed + 1)
        generator.ranked = learn_ranking(
            steps, text, index, held_out, generator.visible, adapt_names=lookup.adapt_names, seed=seed
        )
        if source is not None:
            assert corpus is not None
            names = WrittenNames.of(_every([*traced.values(), *earlier.values()]), corpus)
            generator.ranked.find_lemmas = LemmaFinder(source.open(corpus), names, source)
        if num_composed:
            held_out = draw_held_out(everything, num_composed, seed + 2)
            generator.ranked.composed = learn_composed(
                generator.ranked, held_out, generator.visible, adapt_names=lookup.adapt_names, seed=seed
            )
    read = traced | earlier
    generator.save(output_dir, {name: each.digest().hex() for name, each in read.items()})
    print(f"wrote {output_dir}: {len(steps):,} steps, {steps.num_texts:,} states, {steps.num_tactics:,} tactics")


def calibrate(generator: NearestTacticGenerator, steps: Sequence[TracedTactic]) -> Calibration:
    """Fit the probabilities to steps whose proofs are not looked up; see `generator.nearest.calibration`."""
    similarities, is_right = [], []
    for step in tqdm(steps, desc="calibrate", unit="state", delay=1):
        context = step.context
        numbers, found = generator.neighbors(context)
        right = remove_marks(step.tactic)
        similarities.append(found)
        is_right.append(np.array([tactic == right for tactic in generator.tactics(numbers, context)], dtype=np.bool_))
    return fit(similarities, is_right)


def _all(free: Sequence[TracedTactics], earlier: Sequence[TracedTactics]) -> Iterator[tuple[TracedTactic, bool]]:
    for traces, is_free in ((free, True), (earlier, False)):
        for traced in traces:
            for number in range(len(traced)):
                yield traced[number], is_free


def _every(traces: Sequence[TracedTactics]) -> Iterator[TracedTactic]:
    for traced in traces:
        yield from traced


def draw_held_out(traces: Sequence[TracedTactics], number: int, seed: int) -> list[TracedTactic]:
    """Some of all steps, each at most once, in their order."""
    ends = np.cumsum([len(traced) for traced in traces])
    total = int(ends[-1]) if len(ends) else 0
    chosen = np.random.default_rng(seed).choice(total, min(number, total), replace=False)
    places = [(int(np.searchsorted(ends, place, side="right")), int(place)) for place in np.sort(chosen)]
    return [traces[of][place - (int(ends[of - 1]) if of else 0)] for of, place in places]
