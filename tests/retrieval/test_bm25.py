import importlib
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from common import ConfigError, Context, Pos
from retrieval.bm25 import BM25Retriever, main, tokenize
from retrieval.corpus import Corpus
from retrieval.leandojo.provenance import Provenance
from retrieval.predictions.reader_writer import Predictions


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Nat.succ_le_iff", ["nat", "succ", "le", "iff"]),
        ("isPrimePow", ["is", "prime", "pow"]),
        ("HTTPServer IsROrC", ["http", "server", "is", "r", "or", "c"]),
        ("h₁ : x2 ≤ ℕ", ["h", "₁", ":", "x", "2", "≤", "ℕ"]),
        ("(a ∧ b) → ⟨b, a⟩", ["a", "∧", "b", "→", "b", "a"]),
        ("forall x, P x -> ~ Q x.", ["forall", "x", "p", "x", "->", "~", "q", "x"]),
        ("mul_comm'", ["mul", "comm", "'"]),
        ("«α β»\n\tγ", ["«", "α", "β", "»", "γ"]),
        ("  ", []),
    ],
)
def test_tokens_are_parts_of_names_numbers_and_symbols(text: str, tokens: list[str]) -> None:
    assert tokenize(text) == tokens


def test_a_missing_package_is_named(library: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ConfigError, match=r"pip install -e '\.\[bm25\]'"):
        BM25Retriever(library)


def context(state: str, name: str = "", path: str = "Nat.lean", pos: tuple[int, int] = (8, 20)) -> Context:
    return Context(path, name, Pos.of(pos), state)


def test_wrong_parameters_are_refused(library: Corpus) -> None:
    for parameters in ({"k1": -1.0}, {"b": 1.5}, {"k1": math.nan}):
        with pytest.raises(ConfigError, match="k1 must be at least 0, and b between 0 and 1"):
            BM25Retriever(library, **parameters)
    for name in ("name_weight", "goal_weight", "theorem_weight"):
        with pytest.raises(ConfigError, match=f"{name} is -0.5; it must be at least 0"):
            BM25Retriever(library, **{name: -0.5})


def _by_hand(texts: list[str], query: str, k1: float, b: float) -> torch.Tensor:
    """BM25 of each text, as Lucene computes it."""
    documents = [tokenize(text) for text in texts]
    mean_length = sum(map(len, documents)) / len(documents)
    scores = []
    for document in documents:
        score = 0.0
        for token in set(tokenize(query)):
            num_with = sum(token in other for other in documents)
            idf = math.log(1 + (len(documents) - num_with + 0.5) / (num_with + 0.5))
            count = document.count(token)
            score += idf * count / (count + k1 * (1 - b + b * len(document) / mean_length))
        scores.append(score)
    return torch.tensor(scores)


def test_scores_are_those_of_the_formula(library: Corpus) -> None:
    pytest.importorskip("bm25s")
    codes = [premise.code for premise in library]
    own, full = (
        [name(premise.full_name) for premise in library] for name in (lambda n: n.split(".")[-1].strip("«»"), str)
    )
    state, goal, theorem = "h : symm symm\nk : unknown\n⊢ ∧ or\n\n⊢ nat", "⊢ ∧ or", "Nat.Prime.pos"
    retriever = BM25Retriever(library, k1=1.2, b=0.6, name_weight=0.5, goal_weight=3.0, theorem_weight=0.25)
    expected = sum(
        weight * (_by_hand(codes, text, 1.2, 0.6) + 0.5 * _by_hand(own, text, 1.2, 0.6))
        for text, weight in ((state, 1.0), (goal, 3.0))
    ) + 0.25 * _by_hand(full, theorem, 1.2, 0.6)
    scores = retriever.scores([context(state, theorem), context(""), context("unknown")])
    torch.testing.assert_close(scores[0], expected)
    assert scores[0].max() > 0.5 and (scores[1:] == 0).all()
    assert torch.equal(retriever.scores([context(f"2 goals\n{state}", theorem)])[0], scores[0])


def test_names_goals_and_theorems_count_as_much_as_is_said(library: Corpus) -> None:
    pytest.importorskip("bm25s")
    asked = [context("h : helper\n⊢ prime", "Nat.succ_lt")]

    def change(**weights: float) -> list[int]:
        nothing = {"name_weight": 0.0, "goal_weight": 0.0, "theorem_weight": 0.0}
        before, after = (BM25Retriever(library, **each).scores(asked)[0] for each in (nothing, nothing | weights))
        found: list[int] = (after - before > 0).nonzero().flatten().tolist()
        return found

    assert change(name_weight=1.0) == [3, 4, 6], "helper, Prime and helper by their own names"
    assert change(goal_weight=1.0) == [4, 5], "what has prime in its code, and not what the hypothesis names"
    assert change(theorem_weight=1.0) == [4, 5, 7], "what stands in Nat or has succ in its name"


def test_search_keeps_to_accessible_premises(library: Corpus) -> None:
    pytest.importorskip("bm25s")
    retriever = BM25Retriever(library)
    scores, numbers = retriever.rank([context("⊢ helper"), context("⊢ helper", path="Basic.lean", pos=(1, 1))], k=6)
    assert numbers[0].tolist() == [6, 0, 1, 4, 5, -1], "equal scores in the order of premises"
    assert scores[0, 0] > scores[0, 1] and scores[0, 5] == -torch.inf
    assert numbers[1].tolist() == [-1] * 6
    with pytest.raises(ConfigError, match="k is 0"):
        retriever.rank([context("x")], k=0)


def test_another_corpus_is_indexed_anew(tmp_path: Path, library: Corpus) -> None:
    pytest.importorskip("bm25s")
    path = tmp_path / "small.jsonl"
    premise = {"full_name": "A.b", "code": "Lemma b : c", "start": [1, 1], "end": [1, 9], "kind": "Lemma"}
    path.write_text(json.dumps({"path": "A.v", "imports": [], "premises": [premise]}) + "\n")
    retriever = BM25Retriever(library)
    assert retriever.scores([context("c")]).shape == (1, 12)
    retriever.load_corpus(path)
    assert retriever.scores([context("c")]).shape == (1, 1) and retriever.scores([context("c")]).item() > 0
    with pytest.raises(ConfigError, match="bm25 embeds nothing"):
        retriever.load_corpus(path, tmp_path)


def test_a_corpus_without_a_token_scores_nothing(tmp_path: Path) -> None:
    pytest.importorskip("bm25s")
    path = tmp_path / "corpus.jsonl"
    path.write_text('{"path": "A", "imports": [], "premises": []}\n')
    assert BM25Retriever(Corpus(path)).scores([context("a"), context("b")]).shape == (2, 0)


def test_command_line_writes_predictions(tmp_path: Path, library: Corpus, data_path: Path) -> None:
    pytest.importorskip("bm25s")
    output = tmp_path / "predictions"
    main(
        [f"--data_path={data_path}", f"--corpus_path={library.path}", f"--output_dir={output}"]
        + ["--splits", "val", "test", "--k", "3"]
    )
    predictions = Predictions.load(output, library)
    assert (predictions.retriever, predictions.k, predictions.splits) == ("bm25", 3, ["test", "val"])
    row = predictions.find(Provenance("", "", "Nat.lean", "Nat.succ_pred", Pos(9, 1), 2))
    assert row is not None and predictions.retrieved(row)[0] == 6
    row = predictions.find(Provenance("", "", "Top.lean", "«top-most»", Pos(2, 1)))
    assert row is not None and predictions.retrieved(row)[0] == 1
