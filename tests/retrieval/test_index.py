import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch.nn.functional import normalize

from common import ConfigError, DataError
from retrieval.corpus import Corpus
from retrieval.embedding_index import ROWS_AT_A_TIME
from retrieval.index import EmbeddingIndex, StorageDtype, embed, top_k
from tests.retrieval.conftest import LIBRARY, write_corpus

D = 16


def _unit(num: int, seed: int = 0) -> torch.Tensor:
    return normalize(torch.randn(num, D, generator=torch.Generator().manual_seed(seed)), dim=1)


def _brute_force(scores: torch.Tensor, accessible: torch.Tensor, k: int) -> list[list[int]]:
    """Sort all premises of each row by score, then by number; keep the accessible ones."""
    best = []
    for row, allowed in zip(scores.tolist(), accessible.tolist(), strict=True):
        order = sorted(range(len(row)), key=lambda n: (-row[n], n))
        numbers = [n for n in order if allowed[n]][:k]
        best.append(numbers + [-1] * (k - len(numbers)))
    return best


@pytest.mark.parametrize("k", [1, 5, 12, 30])
def test_search_equals_brute_force(library: Corpus, k: int) -> None:
    embeddings, queries = _unit(12), _unit(8, seed=1)
    accessible = torch.rand(8, 12, generator=torch.Generator().manual_seed(2)) < 0.6
    accessible[3] = False
    scores, numbers = EmbeddingIndex(library, embeddings).search(queries, accessible, k)
    assert scores.dtype == torch.float32 and numbers.dtype == torch.int64
    assert numbers.tolist() == _brute_force(queries @ embeddings.T, accessible, k)
    for row in range(8):
        found = numbers[row][numbers[row] >= 0]
        torch.testing.assert_close(scores[row, : len(found)], embeddings[found] @ queries[row])
        assert (scores[row, len(found) :] == -torch.inf).all()


def test_it_ranks_as_reprovers_definition_reads(library: Corpus) -> None:
    """In-file positions and shared names included: the reading walks over Premise objects."""
    rng = random.Random(0)
    embeddings, queries = _unit(12), _unit(200, seed=1)
    contexts = [(rng.choice(list(library.paths)), (rng.randint(1, 10), rng.randint(1, 30))) for _ in range(200)]
    imports = {
        "Basic.lean": "",
        "Or.lean": "Basic.lean",
        "Nat.lean": "Basic.lean",
        "List.lean": "Basic.lean Or.lean Nat.lean",
        "Empty.lean": "Basic.lean Or.lean Nat.lean List.lean",
        "Top.lean": "Basic.lean Or.lean Nat.lean List.lean Empty.lean",
    }
    expected = []
    for (path, pos), row in zip(contexts, (queries @ embeddings.T).tolist(), strict=True):
        found = []
        for number in sorted(range(12), key=lambda n: -row[n]):
            premise = library[number]
            if premise.path in imports[path].split() or (premise.path == path and tuple(premise.end) <= pos):
                found.append(number)
        expected.append((found + [-1] * 5)[:5])
    accessible = library.accessible_masks(contexts)
    assert EmbeddingIndex(library, embeddings).search(queries, accessible, k=5)[1].tolist() == expected


@given(st.lists(st.lists(st.sampled_from([0.0, 0.5, 1.0, -1.0]), min_size=9, max_size=9), min_size=1), st.data())
@settings(max_examples=100, deadline=None)
def test_of_equal_scores_the_first_premise_wins(rows: list[list[float]], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, 11))
    mask = data.draw(st.lists(st.booleans(), min_size=9, max_size=9))
    scores, accessible = torch.tensor(rows), torch.tensor(mask).expand(len(rows), 9)
    values, numbers = top_k(scores.masked_fill(~accessible, -torch.inf), k)
    assert numbers.tolist() == _brute_force(scores, accessible, k)
    assert (values.diff(dim=1).nan_to_num() <= 0).all()


def test_many_equal_scores_stay_in_order() -> None:
    values, numbers = top_k(torch.zeros(2, 300), 150)
    assert numbers.tolist() == [list(range(150))] * 2 and (values == 0).all()
    mixed = torch.zeros(1, 300).index_fill(1, torch.arange(7, 300, 9), 1.0)
    expected = [*range(7, 300, 9), *(i for i in range(300) if i % 9 != 7)]
    assert top_k(mixed, 200)[1].tolist() == [expected[:200]]


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("bfloat16", 5e-3), ("int8", 2e-2)])
def test_narrow_storage_is_close(
    tmp_path: Path, library: Corpus, dtype: StorageDtype, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ROWS_AT_A_TIME, "cpu", 5)
    embeddings, queries = 3 * _unit(12), _unit(4, seed=1)
    index = EmbeddingIndex(library, embeddings, model="test", dtype=dtype)
    everything = torch.ones(4, 12, dtype=torch.bool)
    scores, numbers = index.search(queries, everything, k=12)
    torch.testing.assert_close(scores, (queries @ embeddings.T).gather(1, numbers), atol=3 * tolerance, rtol=0)
    index.save(tmp_path)
    loaded = EmbeddingIndex.load(tmp_path, library)
    assert (loaded.dtype, loaded.model, loaded.dimension, len(loaded)) == (dtype, "test", D, 12)
    for ours, theirs in zip(loaded.search(queries, everything, k=12), (scores, numbers), strict=True):
        assert torch.equal(ours, theirs)
    size = (tmp_path / "embeddings.safetensors").stat().st_size
    assert size < 12 * D * {"float32": 4, "bfloat16": 2, "int8": 1}[dtype] + 300


def test_moving_keeps_the_index(library: Corpus) -> None:
    index = EmbeddingIndex(library, _unit(12), model="test", dtype="int8").to("cpu")
    assert (index.model, index.dtype, index.device.type, len(index)) == ("test", "int8", "cpu", 12)


# --- embedding -------------------------------------------------------------------------------------


def test_texts_are_embedded_in_batches_of_similar_length() -> None:
    texts = ["é" * (i * 7 % 40) for i in range(50)]
    batches: list[list[int]] = []

    def encode(batch: list[str]) -> torch.Tensor:
        batches.append([len(text.encode()) for text in batch])
        return torch.tensor([[len(text), 1.0] for text in batch], dtype=torch.bfloat16)

    embeddings = embed(texts, encode, max_bytes_per_batch=200, progress=False)
    assert embeddings.dtype == torch.float32
    assert embeddings.tolist() == [[float(len(text)), 1.0] for text in texts]
    lengths = [length for batch in batches for length in batch]
    assert lengths == sorted(lengths, reverse=True) and len(lengths) == 50
    assert all((max(batch) + 1) * len(batch) <= 200 for batch in batches)
    assert len(batches) <= 2 + sum(length + 1 for length in lengths) // 150, "batches are full"


def test_long_texts_count_as_what_is_read_and_always_get_a_batch() -> None:
    sizes = []

    def encode(batch: list[str]) -> torch.Tensor:
        sizes.append(len(batch))
        return torch.zeros(len(batch), 2)

    embed(["x" * 1000] * 6, encode, max_len=9, max_bytes_per_batch=30, progress=False)
    assert sizes == [3, 3]
    embed(["x" * 1000] * 2, encode, max_bytes_per_batch=30, progress=False)
    assert sizes == [3, 3, 1, 1]
    with pytest.raises(ConfigError, match="max_bytes_per_batch is 0"):
        embed(["x"], encode, max_bytes_per_batch=0)


# --- refusals --------------------------------------------------------------------------------------


def test_wrong_arguments_are_refused(library: Corpus) -> None:
    index = EmbeddingIndex(library, _unit(12))
    everything = torch.ones(1, 12, dtype=torch.bool)
    with pytest.raises(ConfigError, match="k is 0"):
        index.search(_unit(1), everything, k=0)
    with pytest.raises(ValueError, match=r"queries \(1, 3\) and accessible \(1, 12\)"):
        index.search(torch.zeros(1, 3), everything, k=1)
    with pytest.raises(ValueError, match=r"accessible \(1, 11\) do not fit"):
        index.search(_unit(1), everything[:, :11], k=1)
    with pytest.raises(DataError, match=r"shape \(11, 16\) for 12 premises"):
        EmbeddingIndex(library, _unit(11))
    with pytest.raises(ConfigError, match="dtype is 'float16'; it must be one of float32, bfloat16, int8"):
        EmbeddingIndex(library, _unit(12), dtype="float16")  # type: ignore[arg-type]


def test_an_index_of_another_corpus_or_a_broken_one_is_refused(tmp_path: Path, library: Corpus) -> None:
    with pytest.raises(DataError, match="holds no index; make one with python -m retrieval.index"):
        EmbeddingIndex.load(tmp_path, library)
    EmbeddingIndex(library, _unit(12)).save(tmp_path)
    other = Corpus(
        write_corpus(tmp_path / "other.jsonl", [*LIBRARY, {"path": "E.lean", "imports": [], "premises": []}])
    )
    with pytest.raises(DataError, match=f"hash {library.content_hash}, but .* has {other.content_hash}"):
        EmbeddingIndex.load(tmp_path, other)

    path, description = tmp_path / "embeddings.safetensors", tmp_path / "index.json"
    whole, text = path.read_bytes(), description.read_text()
    for content in (whole[:-1], whole[:20], b""):
        path.write_bytes(content)
        with pytest.raises(DataError, match="embeddings.safetensors is missing, truncated or broken"):
            EmbeddingIndex.load(tmp_path, library)
    path.unlink()
    with pytest.raises(DataError, match="embeddings.safetensors is missing"):
        EmbeddingIndex.load(tmp_path, library)
    path.write_bytes(whole)
    for broken in ("{", "[]", '{"format_version": 1}'):
        description.write_text(broken)
        with pytest.raises(DataError, match="index.json: not the description of an index"):
            EmbeddingIndex.load(tmp_path, library)
    description.write_text(json.dumps(json.loads(text) | {"format_version": 2}))
    with pytest.raises(DataError, match="format version 2"):
        EmbeddingIndex.load(tmp_path, library)
    description.write_text(json.dumps(json.loads(text) | {"dimension": 8}))
    with pytest.raises(DataError, match=r"broken \(shape \(12, 16\)\)"):
        EmbeddingIndex.load(tmp_path, library)


def test_all_may_read_an_index_who_may_read_other_files(tmp_path: Path, library: Corpus) -> None:
    (tmp_path / "ordinary").touch()
    EmbeddingIndex(library, _unit(12)).save(tmp_path / "index")
    modes = {path.stat().st_mode for path in (tmp_path / "ordinary", *(tmp_path / "index").iterdir())}
    assert len(modes) == 1


def test_a_full_disk_leaves_the_earlier_index(tmp_path: Path, library: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = _unit(12)
    EmbeddingIndex(library, vectors).save(tmp_path)

    def full(*args: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("retrieval.embedding_index.save_file", full)
    with pytest.raises(DataError, match="cannot write the index to .*: .*No space left on device"):
        EmbeddingIndex(library, -vectors).save(tmp_path)
    assert torch.equal(EmbeddingIndex.load(tmp_path, library).vectors(range(12)), vectors)


def test_a_folder_that_cannot_be_written_is_reported(tmp_path: Path, library: Corpus) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write the index to .*file"):
        EmbeddingIndex(library, _unit(12)).save(tmp_path / "file")


@pytest.mark.parametrize(("dtype", "error"), [("float32", 0.0), ("bfloat16", 0.01), ("int8", 0.01)])
def test_stored_vectors_can_be_read_back(library: Corpus, dtype: StorageDtype, error: float) -> None:
    vectors = _unit(12)
    stored = EmbeddingIndex(library, vectors, dtype=dtype)
    assert torch.allclose(stored.vectors([11, 0]), vectors[[11, 0]], atol=error)


@pytest.mark.parametrize("stored", ["float32", "int8"])
@pytest.mark.parametrize(
    "values", [{"dtype": "bfloat16"}, {"dtype": "evil"}, {"dtype": ["float32"]}, {"model": 5}], ids=str
)
def test_an_index_that_says_something_odd_is_refused(
    tmp_path: Path, library: Corpus, stored: StorageDtype, values: dict[str, Any]
) -> None:
    EmbeddingIndex(library, torch.eye(len(library)), dtype=stored).save(tmp_path)
    path = tmp_path / "index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    with pytest.raises(DataError, match="make (it|the index) again"):
        EmbeddingIndex.load(tmp_path, library)


def test_an_index_without_its_scales_is_refused(tmp_path: Path, library: Corpus) -> None:
    EmbeddingIndex(library, torch.eye(len(library)), dtype="int8").save(tmp_path)
    path = tmp_path / "embeddings.safetensors"
    save_file({"embeddings": load_file(path)["embeddings"].clone()}, path)
    with pytest.raises(DataError, match="scales of shape None"):
        EmbeddingIndex.load(tmp_path, library)
