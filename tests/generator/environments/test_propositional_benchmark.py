"""The built-in dataset: layout, positions, replay, splits, determinism."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from common import ConfigError, DataError
from generator.environments import ProofFinished, ProofState, PropositionalEnvironment, Theorem
from generator.environments import propositional_benchmark as benchmark
from generator.environments.propositional.declarations import parse_signature
from generator.environments.propositional.lemma_files import Library
from generator.environments.propositional.random_theorems import Statement
from generator.environments.propositional.strategy import next_tactic
from generator.environments.propositional_benchmark import build_propositional_benchmark, main

NUM_THEOREMS = 150
SPLITS = ("train", "val", "test")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "propositional"
    build_propositional_benchmark(path, NUM_THEOREMS, seed=1, progress=False)
    return path


def read(folder: Path, kind: str, split: str) -> list[dict[str, Any]]:
    """Return the theorems of a split."""
    theorems: list[dict[str, Any]] = json.loads((folder / kind / f"{split}.json").read_text(encoding="utf-8"))
    return theorems


def all_theorems(folder: Path) -> list[dict[str, Any]]:
    """Return the theorems of the random split."""
    return [theorem for split in SPLITS for theorem in read(folder, "random", split)]


def corpus(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of corpus.jsonl."""
    return [json.loads(line) for line in (folder / "corpus.jsonl").read_text(encoding="utf-8").splitlines()]


def test_layout(folder: Path) -> None:
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    splits = {f"{kind}/{split}.json" for kind in ("random", "novel_premises") for split in SPLITS}
    assert files - {name for name in files if name.startswith("lean/")} == splits | {"corpus.jsonl", "metadata.json"}
    metadata = json.loads((folder / "metadata.json").read_text(encoding="utf-8"))
    assert set(metadata["from_repo"]) == {"url", "commit"} and metadata["num_theorems"] == NUM_THEOREMS
    for theorem in all_theorems(folder):
        assert list(theorem) == ["url", "commit", "file_path", "full_name", "start", "end", "traced_tactics"]
        for tactic in theorem["traced_tactics"]:
            assert list(tactic) == ["tactic", "annotated_tactic", "state_before", "state_after"]


def test_every_split_has_its_share(folder: Path) -> None:
    for kind in ("random", "novel_premises"):
        sizes = {split: len(read(folder, kind, split)) for split in SPLITS}
        assert min(sizes["val"], sizes["test"]) >= 0.05 * NUM_THEOREMS
        assert sizes["train"] >= 0.7 * NUM_THEOREMS
    names = [theorem["full_name"] for theorem in all_theorems(folder)]
    assert len(set(names)) == len(names)
    assert sum(name.startswith("problem_") for name in names) == NUM_THEOREMS
    novel = [theorem["full_name"] for split in SPLITS for theorem in read(folder, "novel_premises", split)]
    assert sorted(novel) == sorted(names)


def test_every_tactic_replays(folder: Path) -> None:
    environment = PropositionalEnvironment(Library.load(folder / "lean"))
    num_tactics = 0
    for theorem in all_theorems(folder):
        state: object = environment.start(Theorem(theorem["file_path"], theorem["full_name"]))
        for tactic in theorem["traced_tactics"]:
            assert isinstance(state, ProofState) and state.pp == tactic["state_before"]
            state = environment.run_tactic(state, tactic["tactic"])
            assert isinstance(state, ProofState | ProofFinished) and state.pp == tactic["state_after"]
            num_tactics += 1
        assert isinstance(state, ProofFinished) or not theorem["traced_tactics"]
    assert num_tactics > 2 * NUM_THEOREMS


def test_the_next_tactic_depends_on_the_first_goal_alone(folder: Path) -> None:
    answers: dict[str, str] = {}
    for theorem in all_theorems(folder):
        if not theorem["full_name"].startswith("problem_"):
            continue
        for tactic in theorem["traced_tactics"]:
            goal = re.sub(r"^case .*\n", "", tactic["state_before"].split("\n\n")[0])
            assert answers.setdefault(goal, tactic["tactic"]) == tactic["tactic"]
    assert next_tactic.__module__.endswith("strategy")


def test_corpus_is_in_import_order_and_imports_do_not_repeat(folder: Path) -> None:
    seen: set[str] = set()
    for file in corpus(folder):
        assert file["path"] not in seen and set(file["imports"]) <= seen
        seen.add(file["path"])
        positions = [premise["start"] for premise in file["premises"]]
        assert positions == sorted(positions)
        for premise in file["premises"]:
            assert list(premise) == ["full_name", "code", "start", "end", "kind"]
            assert premise["code"] and premise["start"] < premise["end"]
    assert {theorem["file_path"] for theorem in all_theorems(folder)} <= seen


def test_positions_point_at_the_source(folder: Path) -> None:
    def text(path: str, start: list[int], end: list[int]) -> str:
        lines = (folder / "lean" / path).read_text(encoding="utf-8").splitlines()[start[0] - 1 : end[0]]
        lines[-1] = lines[-1][: end[1] - 1]
        return "\n".join([lines[0][start[1] - 1 :], *lines[1:]])

    for theorem in all_theorems(folder):
        source = text(theorem["file_path"], theorem["start"], theorem["end"])
        assert source.startswith(f"theorem {theorem['full_name']} ")
        for tactic in theorem["traced_tactics"]:
            assert f"\n  {tactic['tactic']}" in source
            annotated, premises = tactic["annotated_tactic"]
            assert re.sub(r"</?a>", "", annotated) == tactic["tactic"]
            assert re.findall(r"<a>(.*?)</a>", annotated) == [premise["full_name"] for premise in premises]
            for premise in premises:
                name = text(premise["def_path"], premise["def_pos"], premise["def_end_pos"])
                assert name == premise["full_name"] or premise["full_name"].endswith(f".{name}")


def test_every_premise_is_accessible_and_in_the_corpus(folder: Path) -> None:
    files = {file["path"]: file for file in corpus(folder)}
    closures: dict[str, set[str]] = {}
    for path, file in files.items():
        closures[path] = set(file["imports"]).union(*(closures[other] for other in file["imports"]))
    num_premises = 0
    for theorem in all_theorems(folder):
        for tactic in theorem["traced_tactics"]:
            for premise in tactic["annotated_tactic"][1]:
                num_premises += 1
                path = premise["def_path"]
                places = [
                    p
                    for p in files[path]["premises"]
                    if p["start"] <= premise["def_pos"] <= premise["def_end_pos"] <= p["end"]
                ]
                assert [place["full_name"] for place in places] == [premise["full_name"]]
                is_above = path == theorem["file_path"] and places[0]["end"] <= theorem["start"]
                assert path in closures[theorem["file_path"]] or is_above
    assert num_premises > NUM_THEOREMS / 2


def test_no_theorem_is_in_two_splits_under_other_names(folder: Path) -> None:
    library = Library.load(folder / "lean")
    for kind in ("random", "novel_premises"):
        owners: dict[object, str] = {}
        for split in SPLITS:
            for theorem in read(folder, kind, split):
                place = library.find(theorem["full_name"])
                assert place is not None and place[1].statement is not None
                declaration = place[1].statement
                key = Statement(tuple(f for _, f in declaration.hypotheses), declaration.conclusion).key()
                assert owners.setdefault(key, split) == split


def test_a_statement_keeps_its_key_under_renaming() -> None:
    def key(signature: str) -> object:
        declaration = parse_signature("x", signature)
        return Statement(tuple(f for _, f in declaration.hypotheses), declaration.conclusion).key()

    assert key("(p q : Prop) (h : p → q) : ¬q → ¬p") == key("(s a : Prop) (h : a → s) (h1 : ¬s) : ¬a")
    assert key("(p q : Prop) (h : p → q) : ¬q → ¬p") != key("(p q : Prop) (h : p → p) : ¬q → ¬p")


def test_held_out_theorems_use_premises_that_train_does_not(folder: Path) -> None:
    def premises(theorem: dict[str, Any]) -> set[str]:
        return {p["full_name"] for t in theorem["traced_tactics"] for p in t["annotated_tactic"][1]}

    known = set().union(*map(premises, read(folder, "novel_premises", "train")))
    for split in ("val", "test"):
        assert all(premises(theorem) - known for theorem in read(folder, "novel_premises", split))


def test_equal_arguments_give_equal_bytes(folder: Path, tmp_path: Path) -> None:
    build_propositional_benchmark(tmp_path / "again", NUM_THEOREMS, seed=1, progress=False)
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert files == sorted(
        path.relative_to(tmp_path / "again") for path in (tmp_path / "again").rglob("*") if path.is_file()
    )
    for file in files:
        assert (folder / file).read_bytes() == (tmp_path / "again" / file).read_bytes(), file


def test_another_seed_gives_other_theorems(folder: Path, tmp_path: Path) -> None:
    build_propositional_benchmark(tmp_path / "other", 20, seed=2, progress=False)
    first, second = (
        (path / "lean/Problems/Part001.lean").read_text(encoding="utf-8") for path in (folder, tmp_path / "other")
    )
    assert first.split("theorem ")[1] != second.split("theorem ")[1]


def test_there_is_variety(folder: Path, tmp_path: Path) -> None:
    heads = Counter(
        tactic["tactic"].split()[0] for theorem in all_theorems(folder) for tactic in theorem["traced_tactics"]
    )
    assert {"intro", "exact", "apply", "constructor", "refine", "left", "right", "rcases", "have"} <= set(heads)
    premises = {
        p["full_name"] for th in all_theorems(folder) for t in th["traced_tactics"] for p in t["annotated_tactic"][1]
    }
    assert len(premises) > 24


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="not empty"):
        build_propositional_benchmark(tmp_path, 20, progress=False)
    with pytest.raises(ConfigError, match="num_theorems is 3"):
        build_propositional_benchmark(tmp_path / "new", 3, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


def test_a_crash_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(benchmark, "split_by_novel_premises", fail)
    with pytest.raises(DataError, match="cannot write .*new: disk full"):
        build_propositional_benchmark(tmp_path / "new", 10, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_command_line(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()  # empty, so it may be used
    main(["--output_dir", str(tmp_path / "data"), "--num_theorems", "10", "--seed", "5"])
    assert (tmp_path / "data" / "corpus.jsonl").exists()
    with pytest.raises(ConfigError, match="data exists and is not empty; give a new folder, or remove it"):
        main(["--output_dir", str(tmp_path / "data")])
