"""Premises that a retriever finds are written as proofs write them, tried as candidates, and kept in the folder."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common import Candidate, ConfigError, Context, DataError, Pos, Premise
from generator import load_generator
from generator.nearest import ranked as ranked_module
from generator.nearest.composing import COMPOSED, RETRIEVED, compose, describe_composed, fitting_of, usual_templates
from generator.nearest.features import Uses
from generator.nearest.generator import NearestTacticGenerator
from generator.nearest.lemmas import (
    NUM_RETRIEVED,
    WRITTEN_FILE,
    Lemma,
    LemmaFinder,
    LemmaSource,
    WrittenNames,
    of_lemmas,
    words_in,
    words_of,
)
from generator.nearest.make import nearest
from generator.nearest.statements import stated
from generator.search.tactic_sources import GeneratorOptions, identity
from retrieval.corpus import Corpus
from retrieval.leandojo.traces import TracedTactics
from retrieval.load import load_retriever
from retrieval.training.processes import in_order
from tests.generator.nearest.lookup_fakes import NGRAMS, theorem

WORDS = {"with", "rewrite", "apply", "auto"}
LIBRARY = {
    "Coq.Nat.add_comm": "Lemma add_comm : forall n m, n + m = m + n.",
    "Coq.Nat.Sub.mul_comm": "Lemma mul_comm : forall n m, n * m = m * n.",
    "Coq.Nat.le_refl": "Lemma le_refl : forall n, n <= n.",
}


def premise(number: int) -> dict[str, Any]:
    name, code = list(LIBRARY.items())[number]
    return {"full_name": name, "code": code, "start": [number + 1, 1], "end": [number + 1, 40], "kind": "Lemma"}


def step(state: str, tactic: str, cited: int | None = None, written: str = "") -> dict[str, Any]:
    """A step as LeanDojo's files have it, which may cite a premise of A.v."""
    found: dict[str, Any] = {"tactic": tactic, "annotated_tactic": [tactic, []], "state_before": state}
    if cited is not None:
        place = {"full_name": list(LIBRARY)[cited], "def_path": "A.v", "def_pos": [cited + 1, 7]}
        marked = tactic.replace(written, f"<a>{written}</a>")
        found["annotated_tactic"] = [marked, [place | {"def_end_pos": [cited + 1, 9]}]]
    return found | {"state_after": "no goals"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Splits in random/, and corpus.jsonl: B imports A, whose three lemmas proofs of B cite, but for le_refl."""
    folder = tmp_path_factory.mktemp("library")
    (folder / "random").mkdir()
    proofs = [
        [step("n m : nat\n⊢ n + m = m + n", "rewrite add_comm", 0, "add_comm"), step("⊢ n = n", "auto")],
        [step("a b : nat\n⊢ b + a = a + b", "apply add_comm", 0, "add_comm"), step("⊢ b = b", "auto")],
        [step("n m : nat\n⊢ n * m = m * n", "apply Sub.mul_comm", 1, "Sub.mul_comm"), step("⊢ m = m", "auto")],
        [step("n : nat\n⊢ n <= n + 0", "rewrite Nat.add_comm", 0, "Nat.add_comm"), step("⊢ n <= n", "auto")],
    ]
    theorems = [theorem("C.v" if line == 3 else "B.v", f"t{line}", 10 * line + 10, []) for line in range(4)]
    for each, steps in zip(theorems, proofs, strict=True):
        each["traced_tactics"] = steps
    for split in ("train", "val", "test"):
        (folder / "random" / f"{split}.json").write_text(json.dumps(theorems), encoding="utf-8")
    files = [
        {"path": "A.v", "imports": [], "premises": [premise(number) for number in range(3)]},
        {"path": "B.v", "imports": ["A.v"], "premises": []},
        {"path": "C.v", "imports": ["A.v"], "premises": []},
    ]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(file) + "\n" for file in files), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def folder(data: Path) -> Path:
    made = data / "lookup"
    nearest(
        data / "random",
        made,
        ngrams=NGRAMS,
        num_held_out=4,
        num_ranked=6,
        num_composed=6,
        corpus_path=data / "corpus.jsonl",
        ret_ckpt_path="bm25",
    )
    return made


def names_of(data: Path) -> WrittenNames:
    train = TracedTactics.load(data / "random" / "train.json", progress=False)
    return WrittenNames.of(train, Corpus(data / "corpus.jsonl"))


def lemma(place: int = 0, statement: str = "", conclusion: str = "") -> Lemma:
    return Lemma(place, 0.5, frozenset(statement.split()), frozenset(conclusion.split()))


# ------------------------------------------------------------------------------------------------
# Names


def test_premises_are_written_as_in_the_file_else_as_most_often_else_by_their_last_parts(data: Path) -> None:
    names = names_of(data)
    assert names("B.v", "Coq.Nat.add_comm") == names("New.v", "Coq.Nat.add_comm") == ["add_comm"]
    assert names("C.v", "Coq.Nat.add_comm") == ["Nat.add_comm"]
    assert names("B.v", "Coq.Nat.Sub.mul_comm") == ["Sub.mul_comm"]
    assert names("B.v", "Coq.Nat.le_refl") == ["le_refl", "Nat.le_refl"]  # which no known proof cites
    assert names("B.v", "top") == ["top"]


def test_written_names_are_the_same_when_read_again(data: Path, tmp_path: Path) -> None:
    names = names_of(data)
    names.save(tmp_path / "names.json")
    read = WrittenNames.load(tmp_path / "names.json")
    assert (read.everywhere, read.in_file) == (names.everywhere, names.in_file)
    assert read.in_file == {"C.v": {"Coq.Nat.add_comm": "Nat.add_comm"}}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"everywhere": {"a": 1}, "in_file": {}}', '{"everywhere": {}}'])
def test_broken_names_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "names.json").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"names\.json: does not say how premises are written"):
        WrittenNames.load(tmp_path / "names.json")


# ------------------------------------------------------------------------------------------------
# Candidates and what is known of them


def ranked(*tactics: str) -> list[Candidate]:
    return [(tactic, math.log(0.5 / 2**place)) for place, tactic in enumerate(tactics)]


def test_retrieved_lemmas_are_tried_in_templates_of_candidates_and_in_usual_ones() -> None:
    lemmas = {"Nat.le_refl": lemma()}
    known, fitting = ranked("apply plus_comm; auto"), fitting_of("⊢ a", lemmas)
    found = compose(known, "⊢ a", WORDS.__contains__, lemmas, ["rewrite \0"], fitting=fitting)
    assert found["apply Nat.le_refl; auto"].kind == found["rewrite Nat.le_refl"].kind == "retrieved"
    without = compose(known, "⊢ a", WORDS.__contains__, fitting=fitting_of("⊢ a", None))
    assert without and not [tactic for tactic in without if "le_refl" in tactic]


def test_lemmas_further_down_are_tried_if_they_fit_the_goal() -> None:
    codes = {f"le_{number}": f"Lemma le_{number} : forall n, n <= n + {number}." for number in range(12)}
    codes |= {"refl": "Lemma refl n : n = n.", "mul_1_l": "Lemma mul_1_l n : 1 * n = n."}
    lemmas = {name: Lemma(0, 0.5, frozenset(), frozenset(), stated(code)) for name, code in codes.items()}

    def tried(goal: str) -> set[str]:
        found = compose(ranked("apply plus_comm"), goal, WORDS.__contains__, lemmas, fitting=fitting_of(goal, lemmas))
        return {tactic.removeprefix("apply ") for tactic, origin in found.items() if origin.kind == "retrieved"}

    best = {f"le_{number}" for number in range(8)}
    assert tried("⊢ False") == best
    assert tried("a : nat\n⊢ a + a = a + a") == best | {"refl"}
    assert tried("a : nat\n⊢ 1 * a <= 0 + a") == best | {"mul_1_l"}
    assert tried("a : nat\n⊢ a <= a + 9") == best | {"le_9"}


def test_names_with_modules_are_lemmas_as_a_whole() -> None:
    found = compose(
        ranked("rewrite Nat.add_comm", "apply mult_assoc"), "⊢ a", WORDS.__contains__, fitting=fitting_of("⊢ a", None)
    )
    assert {"apply Nat.add_comm", "rewrite mult_assoc"} <= set(found)
    assert not [tactic for tactic in found if "Nat.mult" in tactic or tactic == "apply add_comm"]


def test_usual_templates_are_those_with_most_uses() -> None:
    uses = {"apply plus_comm": 3, "apply Nat.add_comm": 3, "rewrite plus_comm": 5, "auto": 90}
    assert usual_templates(uses, WORDS.__contains__) == ["apply \0", "rewrite \0"]


def test_a_candidate_is_known_by_the_best_lemma_that_it_names() -> None:
    seen = words_in("⊢ a + b = b + a")
    found = {"add_comm": lemma(3, "n + m =", "+ ="), "Nat.le_refl": lemma(1, "n <=", "<=")}
    place, score, statement, conclusion = of_lemmas("rewrite add_comm", found, seen)
    assert (place, score) == (pytest.approx(math.log(4)), 0.5)
    assert (statement, conclusion) == (pytest.approx(2 / 5), pytest.approx(2 / 3))
    assert of_lemmas("rewrite add_comm, Nat.le_refl", found, seen)[0] == pytest.approx(math.log(2))
    assert of_lemmas("rewrite le_refl", found, seen) == [pytest.approx(math.log1p(NUM_RETRIEVED)), 0.0, 0.0, 0.0]


def test_the_conclusion_is_what_stands_behind_the_last_arrow_or_comma() -> None:
    made = Premise("A.v", "x", Pos(1, 1), Pos(1, 9), "Lemma x : forall n, n > 0 -> n <> 0.")
    statement, conclusion = words_of(made)
    assert conclusion == {"n", "<>", "."} and statement > conclusion


def test_all_candidates_have_the_features_of_lemmas() -> None:
    known, found = ranked("apply plus_comm", "auto"), {"le_refl": lemma()}
    fitting = fitting_of("⊢ a", found)
    composed = compose(known, "⊢ a", WORDS.__contains__, found, fitting=fitting)
    table = describe_composed(known, "⊢ a", Uses({}, {}, {}), composed, WORDS.__contains__, found, fitting=fitting)
    assert table.candidates.shape == (len(table.tactics), len(COMPOSED) + len(RETRIEVED))
    is_filled = table.candidates[:, len(COMPOSED)]
    assert [tactic for tactic, filled in zip(table.tactics, is_filled, strict=True) if filled] == ["apply le_refl"]
    assert np.isfinite(table.candidates).all()


def test_candidates_are_told_apart_by_the_words_that_begin_most_steps() -> None:
    known, words = ranked("apply plus_comm", "auto; now split", "auto"), ["apply", "auto"]
    fitting = fitting_of("⊢ a", None)
    composed = compose(known, "⊢ a", WORDS.__contains__, fitting=fitting)
    table = describe_composed(
        known, "⊢ a", Uses({}, {}, {}), composed, WORDS.__contains__, first_words=words, fitting=fitting
    )
    begins = table.candidates[:, len(COMPOSED) :]
    assert begins[:3].tolist() == [[1, 0], [0, 0], [0, 1]]  # a word ends at a space


# ------------------------------------------------------------------------------------------------
# As part of a lookup


def finder(data: Path) -> LemmaFinder:
    source = LemmaSource("bm25", str(data / "corpus.jsonl"))
    return LemmaFinder(source.open(), names_of(data), source)


def test_lemmas_that_may_be_cited_are_found_best_first(data: Path) -> None:
    context = Context("B.v", "new", Pos(99, 1), "n : nat\n⊢ n <= n")
    found = finder(data)(context)
    assert next(iter(found)) == "le_refl" and found["le_refl"] is found["Nat.le_refl"] and found["le_refl"].place == 0
    retriever = load_retriever("bm25")
    retriever.load_corpus(data / "corpus.jsonl")
    premises, scores = retriever.retrieve(context.state, "B.v", "new", (99, 1), NUM_RETRIEVED)
    assert premises[0].full_name == "Coq.Nat.le_refl" and scores[0] == found["le_refl"].score


@pytest.mark.parametrize(("path", "position"), [("Unknown.v", Pos(1, 1)), ("B.v", None)])
def test_nothing_is_found_where_nobody_knows_what_may_be_cited(data: Path, path: str, position: Pos | None) -> None:
    assert finder(data)(Context(path, "new", position, "⊢ n <= n")) == {}


def test_a_folder_proposes_a_lemma_that_no_known_proof_cites(folder: Path, data: Path) -> None:
    generator = load_generator(str(folder))
    tactics = {tactic for tactic, _ in generator.generate("n : nat\n⊢ n <= n", "B.v", "new", (99, 1), 500)}
    assert "apply le_refl" in tactics
    assert generator.retriever is not None and len(generator.retriever.corpus) == len(LIBRARY)
    unknown = load_generator(str(folder)).generate("n : nat\n⊢ n <= n", "Unknown.v", "new", (99, 1), 500)
    assert unknown and not [tactic for tactic, _ in unknown if "le_refl" in tactic]


def test_a_folder_and_its_corpus_may_be_moved_together(folder: Path, data: Path, tmp_path: Path) -> None:
    state = ("n : nat\n⊢ n <= n", "B.v", "new", (99, 1), 50)
    before = load_generator(str(folder)).generate(*state)
    data.rename(tmp_path / "moved")
    try:
        assert load_generator(str(tmp_path / "moved" / folder.name)).generate(*state) == before
    finally:
        (tmp_path / "moved").rename(data)


def test_another_corpus_makes_it_another_generator_to_who_resumes_a_search(folder: Path, data: Path) -> None:
    def found() -> object:
        return identity(GeneratorOptions(ckpt_path=str(folder)), None)["ckpt_path_hash"]

    corpus = data / "corpus.jsonl"
    before, text = found(), corpus.read_text(encoding="utf-8")
    assert found() == before
    corpus.write_text(text.replace("le_refl", "le_reflexive"), encoding="utf-8")
    try:
        assert found() != before
    finally:
        corpus.write_text(text, encoding="utf-8")


def test_a_corpus_that_is_given_takes_the_place_of_the_folders(folder: Path, data: Path, tmp_path: Path) -> None:
    lines = (data / "corpus.jsonl").read_text(encoding="utf-8").replace("le_refl", "le_reflexive")
    (tmp_path / "other.jsonl").write_text(lines, encoding="utf-8")
    generator = load_generator(str(folder), corpus_path=tmp_path / "other.jsonl")
    assert isinstance(generator, NearestTacticGenerator)
    tactics = {tactic for tactic, _ in generator.generate("n : nat\n⊢ n <= n", "B.v", "new", (99, 1), 500)}
    assert "apply le_reflexive" in tactics and "apply le_refl" not in tactics


def test_broken_folders_are_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "broken")
    (tmp_path / "broken" / WRITTEN_FILE).unlink()
    settings = tmp_path / "broken" / "nextstep.json"
    text = settings.read_text(encoding="utf-8")
    assert "bm25" in text and "../corpus.jsonl" in text
    found = json.loads(text)
    found["options"]["lemmas"]["corpus_path"] = str(folder.parent / "corpus.jsonl")
    settings.write_text(json.dumps(found), encoding="utf-8")
    with pytest.raises(DataError, match=WRITTEN_FILE):
        load_generator(str(tmp_path / "broken"))
    whole = found["options"]["lemmas"]
    for broken in (["bm25"], {}, "bm25", whole | {"corpus_path": None}, whole | {"index_path": 3}, whole | {"more": 1}):
        found["options"]["lemmas"] = broken
        settings.write_text(json.dumps(found), encoding="utf-8")
        with pytest.raises(DataError, match="lemmas of nextstep.json"):
            load_generator(str(tmp_path / "broken"))


def test_one_process_and_several_learn_the_same(
    folder: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranked_module, "_AT_ONCE", 1)
    started = []

    def noted(work: Any, parts: Any, processes: int) -> Any:
        started.append((len(parts), processes))
        return in_order(work, parts, processes)

    monkeypatch.setattr(ranked_module, "in_order", noted)
    monkeypatch.setattr(ranked_module, "num_processes", lambda num_parts: 2)
    options: dict[str, Any] = {"ngrams": NGRAMS, "num_held_out": 4, "num_ranked": 6, "num_composed": 6}
    nearest(data / "random", tmp_path / "made", corpus_path=data / "corpus.jsonl", ret_ckpt_path="bm25", **options)
    assert started == [(6, 2), (6, 2)]
    for name in (ranked_module.RANKING_FILE, ranked_module.COMPOSED_FILE, WRITTEN_FILE):
        assert (tmp_path / "made" / name).read_bytes() == (folder / name).read_bytes()


def test_a_retriever_needs_candidates_that_are_composed_and_a_corpus(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="ret_ckpt_path is bm25"):
        nearest(data / "random", tmp_path / "made", ret_ckpt_path="bm25", corpus_path=data / "corpus.jsonl")
    with pytest.raises(ConfigError, match="ret_ckpt_path is bm25"):
        nearest(data / "random", tmp_path / "made", num_ranked=6, num_composed=6, ret_ckpt_path="bm25")
    with pytest.raises(ConfigError, match="index_path is x"):
        nearest(data / "random", tmp_path / "made", index_path="x")
