"""Who proposes tactics where no model does, and what tells one generator from another."""

import json
import math
from pathlib import Path

import pytest

from common import ConfigError, Context, DataError
from generator.search.tactic_sources import GeneratorOptions, UniformGenerator, identity, make_generator
from retrieval.fused import write_fused
from retrieval.lexical import BM25Options
from tests.generator.search.prove_fakes import write_split

CONTEXTS = [Context("", "", None, state) for state in ("⊢ p", "⊢ q", "⊢ p")]


def proposed(tactics: str, data_path: Path | None = None, number: int = 9, seed: int = 0) -> list[tuple[str, float]]:
    """What a baseline proposes for a state."""
    return make_generator(GeneratorOptions(tactics=tactics), data_path, seed).propose(CONTEXTS[:1], number)[0]


def test_tactics_stand_between_commas_but_not_in_brackets() -> None:
    names = [tactic for tactic, _ in proposed("auto, rcases h with ⟨a, b⟩ ,exact f (x, y), simp [a, b]")]
    assert names == ["auto", "rcases h with ⟨a, b⟩", "exact f (x, y)", "simp [a, b]"]


def test_tactics_of_a_file_may_have_log_probabilities(tmp_path: Path) -> None:
    path = tmp_path / "tactics.txt"
    path.write_text("auto\nrewrite a, b\n\n", encoding="utf-8")
    assert [tactic for tactic, _ in proposed(str(path))] == ["auto", "rewrite a, b"]
    path.write_text("-2.5\tauto\n-1\trewrite a, b\n", encoding="utf-8")
    assert proposed(str(path)) == [("rewrite a, b", -1.0), ("auto", -2.5)]
    for content, message in (
        (b"-1\tauto\nlia\n", "tactics.txt:2: has no log-probability"),
        (b"\n", "is empty"),
        (b"\xff", "is no text"),
        (b"0.5\tauto", "must be at most 0"),
    ):
        path.write_bytes(content)
        with pytest.raises((DataError, ConfigError), match=message):
            proposed(str(path))


def test_majority_proposes_what_is_most_frequent_in_training(tmp_path: Path) -> None:
    write_split(tmp_path / "train.json", [("A", "a"), ("A", "b")], ["simp", "intro h", "simp", "auto"])
    found = proposed("majority", tmp_path / "val.json", number=1)
    assert found == [("simp", pytest.approx(math.log(0.5)))]
    assert len(proposed("majority", tmp_path)) == 3


def test_uniform_draws_by_seed_and_state_each_tactic_equally_often() -> None:
    tactics = [f"t{i}" for i in range(50)]
    first, second, again = UniformGenerator(tactics, seed=1).propose(CONTEXTS, 8)
    assert first == again != second and len({tactic for tactic, _ in first}) == 8
    assert UniformGenerator(tactics, seed=2).propose(CONTEXTS[:1], 8)[0] != first
    assert len(UniformGenerator(tactics).propose(CONTEXTS[:1], 99)[0]) == 50
    states = [Context("", "", None, f"⊢ {i}") for i in range(2000)]
    counts = dict.fromkeys(tactics, 0)
    for candidates in UniformGenerator(tactics).propose(states, 5):
        for tactic, log_prob in candidates:
            counts[tactic] += 1
            assert log_prob == pytest.approx(-math.log(50))
    assert all(140 < count < 260 for count in counts.values())  # 200 are expected


def test_a_training_split_is_needed_and_must_have_tactics(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="need a training split"):
        proposed("uniform", tmp_path / "val.json")
    with pytest.raises(DataError, match="there is no such file; give train.json"):
        make_generator(GeneratorOptions(tactics="majority", train_path=tmp_path / "x.json"), None, 0)
    (tmp_path / "train.json").write_text("[]")
    with pytest.raises(DataError, match="has no tactics"):
        proposed("uniform", tmp_path)


def test_a_generator_is_known_by_its_options_and_what_its_files_hold(tmp_path: Path) -> None:
    checkpoint = tmp_path / "model"
    checkpoint.mkdir()
    (checkpoint / "model.safetensors").write_bytes(b"weights")
    options = GeneratorOptions(ckpt_path=str(checkpoint), generator_options={"length_penalty": 0.5})
    first = identity(options, None)
    assert first["ckpt_path"] == str(checkpoint) and json.dumps(first)
    (checkpoint / "model.safetensors").write_bytes(b"others")
    assert identity(options, None)["ckpt_path_hash"] != first["ckpt_path_hash"]
    on_gpu = GeneratorOptions(ckpt_path=str(checkpoint), generator_options={"length_penalty": 0.5}, device="cuda")
    assert identity(on_gpu, None) == identity(options, None)  # the same model elsewhere
    assert identity(GeneratorOptions(tactics="auto"), None) == {"tactics": "auto"}
    write_split(tmp_path / "train.json", [("A", "a")])
    assert "train_path_hash" in identity(GeneratorOptions(tactics="majority"), tmp_path / "val.json")
    (tmp_path / "t.txt").write_text("auto")
    assert "tactics_hash" in identity(GeneratorOptions(tactics=str(tmp_path / "t.txt")), None)


def test_a_fused_retriever_is_known_by_what_its_parts_hold(tmp_path: Path) -> None:
    (tmp_path / "dense.ckpt").write_bytes(b"weights")
    write_fused(tmp_path / "fused", [BM25Options(), str(tmp_path / "dense.ckpt")], [1.0, 2.0], 1.0, 100, {})
    options = GeneratorOptions(ckpt_path="hub/id", ret_ckpt_path=str(tmp_path / "fused"))
    first = identity(options, None)
    assert identity(options, None) == first
    (tmp_path / "dense.ckpt").write_bytes(b"others")
    assert identity(options, None)["ret_ckpt_path_hash"] != first["ret_ckpt_path_hash"]
