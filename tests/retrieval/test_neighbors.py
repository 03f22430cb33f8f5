"""Retrieval by neighbours finds what similar steps cite, never looks at the theorem's own, and is one folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from common import ConfigError, Context, DataError, Pos
from retrieval.citations import Citations
from retrieval.corpus import Corpus
from retrieval.load import load_retriever
from retrieval.neighbor_retriever import CITATIONS_FILE, INDEX_FILE, NeighborOptions, NeighborRetriever
from retrieval.neighbors import main
from retrieval.ngram_index import NgramIndex, NgramOptions
from tests.retrieval.fakes import CITED, NAMES, STATES

NGRAMS = NgramOptions(max_share=1.0)


@pytest.fixture(scope="module")
def folder(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("made") / "neighbors"
    main([f"--data_path={data}", f"--output_dir={made}", "--max_share=1", "--num_neighbors=3"])
    return made


def opened(folder: Path, corpus: Corpus, **options: Any) -> NeighborRetriever:
    retriever = NeighborRetriever.load(folder)
    retriever.options = NeighborOptions(**{"num_neighbors": 3, **options})
    retriever.load_corpus(corpus)
    return retriever


def stranger(state: str, path: str = "Main.lean", line: int = 800) -> Context:
    return Context(path, "stranger", Pos(line, 1), state)


def test_what_the_nearest_step_cites_comes_first(folder: Path, corpus: Corpus) -> None:
    retriever = load_retriever(folder)
    retriever.load_corpus(corpus)
    for state, cited in zip(STATES, CITED, strict=True):
        premises, scores = retriever.retrieve(state, "Main.lean", "stranger", (800, 1), k=9)
        assert premises[0].full_name == NAMES[cited]
        assert scores == sorted(scores, reverse=True)
        assert 0.9 < sum(scores) < 1.000001, "a step that cites what the corpus lacks has its share"
        assert len(premises) <= 3, "those of three steps, and nothing that no step cites"


def test_a_premise_has_the_weight_of_all_steps_that_cite_it(folder: Path, corpus: Corpus) -> None:
    retriever = opened(folder, corpus, temperature=0.3, decay=1.0)
    context = stranger(STATES[6])  # of which the last is the nearest but itself, and cites the same premise
    steps, similarities = retriever.neighbors(context)
    assert steps.tolist()[:2] == [6, 7] and similarities[0] == pytest.approx(1)
    assert retriever.neighbors(stranger(f"2 goals\n{STATES[6]}\n\n⊢ another"))[1].tolist() == similarities.tolist()
    by_hand = {number: 0.0 for number in CITED}
    weights = [np.exp((s - similarities[0]) / 0.3) / rank for rank, s in enumerate(similarities, start=1)]
    for step, weight in zip(steps.tolist(), weights, strict=True):
        by_hand[CITED[step]] += weight / sum(weights)
    scores, numbers = retriever.rank([context], k=3)
    found = {n: s for n, s in zip(numbers[0].tolist(), scores[0].tolist(), strict=True) if n >= 0}
    assert found == pytest.approx({n: s for n, s in by_hand.items() if s})


def test_steps_of_the_theorem_itself_are_never_looked_up(folder: Path, corpus: Corpus) -> None:
    retriever = opened(folder, corpus)
    own = Context("Main.lean", "Main.thm2", Pos(21, 1), STATES[2])
    assert 2 not in retriever.neighbors(own)[0] and 2 in retriever.neighbors(stranger(STATES[2]))[0]
    assert CITED[2] not in retriever.rank([own], 9)[1][0].tolist()


def test_only_what_stands_before_is_looked_up_where_that_is_asked_for(folder: Path, corpus: Corpus) -> None:
    retriever = opened(folder, corpus, num_neighbors=20, only_before=True)
    found = [set(retriever.neighbors(stranger(STATES[0], line=line))[0].tolist()) for line in (1, 35, 900)]
    assert found[0] == set() and found[1] <= {0, 1, 2, 3} and len(found[2]) > len(found[1]) > 0
    assert not retriever.neighbors(stranger(STATES[0], path="First.lean"))[0].size, "which Main.lean is not imported by"
    assert retriever.rank([stranger(STATES[0], line=1)], 4)[1].tolist() == [[-1] * 4]


def test_only_accessible_premises_are_found(folder: Path, corpus: Corpus) -> None:
    retriever = opened(folder, corpus, num_neighbors=20)
    _, numbers = retriever.rank([stranger(state, path="Second.lean", line=1) for state in STATES], k=9)
    assert set(numbers.flatten().tolist()) - {-1} <= {0, 1, 2, 3}


def test_any_corpus_that_holds_the_premises_will_do(folder: Path, corpus: Corpus, tmp_path: Path) -> None:
    first, *others = (json.loads(line) for line in corpus.path.read_text().splitlines())
    added = {"path": "New.lean", "imports": [], "premises": first["premises"][:2]}
    path = tmp_path / "grown.jsonl"
    path.write_text("".join(json.dumps(file) + "\n" for file in (added, first, *others)))
    before, after = opened(folder, corpus), opened(folder, Corpus(path))
    contexts = [stranger(state) for state in STATES]
    ours, theirs = before.rank(contexts, 3)[1], after.rank(contexts, 3)[1]
    assert torch.where(ours >= 0, ours + 2, -1).tolist() == theirs.tolist()
    foreign = tmp_path / "foreign.jsonl"
    foreign.write_text(json.dumps({**added, "path": "Main.lean"}) + "\n")
    with pytest.raises(DataError, match=r"none of the 8 premises that it knows is in .*foreign.jsonl"):
        opened(folder, Corpus(foreign)).rank(contexts[:1], 1)


def test_the_folder_holds_what_was_made(folder: Path, corpus: Corpus, tmp_path: Path) -> None:
    loaded = NeighborRetriever.load(folder)
    assert loaded.options == NeighborOptions(num_neighbors=3) and loaded.name == str(folder)
    loaded.save(tmp_path / "again", {})
    again = NeighborRetriever.load(tmp_path / "again")
    assert again.citations.digest() == loaded.citations.digest() and again.citations.num_places == 8
    with pytest.raises(ConfigError, match="exists and is not empty"):
        loaded.save(folder, {})


def test_broken_folders_are_refused(folder: Path, tmp_path: Path) -> None:
    def copied(name: str) -> Path:
        copy = tmp_path / name
        copy.mkdir()
        for file in folder.iterdir():
            (copy / file.name).write_bytes(file.read_bytes())
        return copy

    settings = json.loads((folder / "nextstep.json").read_text())
    for name, change in (("options", {"neighbors": {"num_neighbors": 0}}), ("none", {"neighbors": None})):
        broken = copied(name)
        settings_of = {**settings, "options": {**settings["options"], **change}}
        (broken / "nextstep.json").write_text(json.dumps(settings_of))
        with pytest.raises(DataError, match=r"neighbors of nextstep.json"):
            NeighborRetriever.load(broken)
    (missing := copied("missing")).joinpath(CITATIONS_FILE).unlink()
    with pytest.raises(DataError, match="holds no citations"):
        NeighborRetriever.load(missing)
    other = copied("other")
    citations, texts = Citations.of([], NeighborOptions().text)
    citations.save(other / CITATIONS_FILE)
    with pytest.raises(DataError, match="is not of this folder"):
        NeighborRetriever.load(other)
    NgramIndex.of([*texts, "a"], NGRAMS).save(copied("index") / INDEX_FILE, "other")
    with pytest.raises(DataError, match="made from texts with hash other"):
        NeighborRetriever.load(tmp_path / "index")
    with pytest.raises(DataError, match="the index holds 1 texts, and the steps 0"):
        NeighborRetriever(citations, NgramIndex.of(["a"], NGRAMS))


def test_data_without_citations_makes_no_folder(data: Path, tmp_path: Path) -> None:
    theorems = json.loads((data / "train.json").read_text())
    (tmp_path / "train.json").write_text(json.dumps(theorems[8:10]))
    with pytest.raises(ConfigError, match="no step of train cites a premise"):
        main([f"--data_path={tmp_path}", f"--output_dir={tmp_path / 'made'}"])
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("options", [{"num_neighbors": 0}, {"temperature": 0.0}, {"decay": -1.0}])
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        NeighborOptions(**options)
