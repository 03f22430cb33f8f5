import importlib
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from common import ConfigError, Pos
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


def test_wrong_parameters_are_refused(library: Corpus) -> None:
    for parameters in ({"k1": -1.0}, {"b": 1.5}):
        with pytest.raises(ConfigError, match="k1 must be at least 0, and b between 0 and 1"):
            BM25Retriever(library, **parameters)


def test_scores_are_those_of_the_formula(library: Corpus) -> None:
    pytest.importorskip("bm25s")
    documents = [tokenize(premise.full_name.split(".")[-1].strip("«»") + " " + premise.code) for premise in library]
    mean_length = sum(map(len, documents)) / len(documents)
    tokens = ["symm", "symm", "or", "unknown", "∧"]
    expected = []
    for document in documents:
        score = 0.0
        for token in set(tokens):
            num_with = sum(token in other for other in documents)
            idf = math.log(1 + (len(documents) - num_with + 0.5) / (num_with + 0.5))
            count = document.count(token)
            score += idf * count / (count + 1.2 * (0.25 + 0.75 * len(document) / mean_length))
        expected.append(score)
    scores = BM25Retriever(library, k1=1.2, b=0.75).scores([" ".join(tokens), "", "unknown"])
    torch.testing.assert_close(scores[0], torch.tensor(expected))
    assert scores[0].max() > 0.5 and (scores[1:] == 0).all()


def test_search_keeps_to_accessible_premises(library: Corpus) -> None:
    pytest.importorskip("bm25s")
    accessible = torch.stack([library.accessible_mask("Nat.lean", [8, 20]), torch.zeros(12, dtype=torch.bool)])
    scores, numbers = BM25Retriever(library).search(["⊢ helper", "⊢ helper"], accessible, k=6)
    assert numbers[0].tolist() == [6, 0, 1, 4, 5, -1], "equal scores in the order of premises"
    assert scores[0, 0] > scores[0, 1] and scores[0, 5] == -torch.inf
    assert numbers[1].tolist() == [-1] * 6
    with pytest.raises(ConfigError, match="k is 0"):
        BM25Retriever(library).search(["x"], accessible[:1], k=0)


def test_a_corpus_without_a_token_scores_nothing(tmp_path: Path) -> None:
    pytest.importorskip("bm25s")
    path = tmp_path / "corpus.jsonl"
    path.write_text('{"path": "A", "imports": [], "premises": []}\n')
    assert BM25Retriever(Corpus(path)).scores(["a", "b"]).shape == (2, 0)


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
