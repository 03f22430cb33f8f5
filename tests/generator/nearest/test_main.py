"""`python -m generator.nearest` makes a folder that every command takes for a model."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from common import ConfigError, DataError
from generator import load_generator, suggest
from generator.export import export
from generator.nearest.__main__ import main
from generator.search import prove as prove_command
from tests.generator.nearest.lookup_fakes import ADD, OR, write_library
from tests.generator.search.prove_fakes import statuses, write_script


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_library(tmp_path_factory.mktemp("library"))


def make(splits: Path, folder: Path, *more: str) -> Path:
    main(["--data_path", str(splits), "--output_dir", str(folder), "--max_share", "1", *more])
    return folder


def test_a_lookup_is_made_from_train_and_says_what_it_holds(
    splits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make(splits, tmp_path / "lookup")
    assert "6 steps, 6 states, 5 tactics" in capsys.readouterr().out
    options = json.loads((folder / "nextstep.json").read_text())["options"]
    assert list(options["sources"]) == ["train"] and options["lookup"]["num_neighbors"] == 200
    found = load_generator(folder).generate(ADD[0][0], "New.v", "t", (1, 1), 8)
    assert {tactic for tactic, _ in found} == {"induction n", "induction m", "auto"}


def test_options_of_the_command_reach_the_lookup(splits: Path, tmp_path: Path) -> None:
    more = ["--unit=words", "--min_n=1", "--weighting=bm25", "--part=goal", "--num_neighbors=3", "--adapt_names=false"]
    options = json.loads((make(splits, tmp_path / "a", *more) / "nextstep.json").read_text())["options"]
    assert options["text"]["part"] == "goal" and not options["lookup"]["adapt_names"]
    index = load_generator(tmp_path / "a").index  # type: ignore[attr-defined]
    assert index.options.unit == "words" and index.options.weighting == "bm25"


def test_the_same_command_makes_the_same_folder(splits: Path, tmp_path: Path) -> None:
    one, two = (make(splits, tmp_path / name, "--num_held_out=4", "--seed=3") for name in ("one", "two"))
    for path in one.iterdir():
        assert path.read_bytes() == (two / path.name).read_bytes()


def test_other_splits_are_looked_up_behind_their_theorems(splits: Path, tmp_path: Path) -> None:
    corpus = str(splits.parent / "corpus.jsonl")
    folder = make(splits, tmp_path / "lookup", "--earlier_splits", "val", "--corpus_path", corpus)
    generator = load_generator(folder, corpus_path=corpus)
    for line, is_there in ((11, True), (10, False)):
        found = generator.generate(OR[1][0], "A.v", "t", (line, 1), 8)
        assert ("right; exact hp" in [tactic for tactic, _ in found]) == is_there


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--earlier_splits", "train"], "stands in splits and in earlier_splits"),
        (["--num_held_out", "0"], "num_held_out"),
        (["--part", "last"], "part"),
    ],
)
def test_what_cannot_be_is_refused(splits: Path, tmp_path: Path, more: list[str], message: str) -> None:
    with pytest.raises((ConfigError, SystemExit)) as raised:
        make(splits, tmp_path / "lookup", *more)
    if isinstance(raised.value, ConfigError):
        assert message in str(raised.value)
    assert not (tmp_path / "lookup").exists()


def test_a_missing_split_and_a_folder_that_is_taken_are_refused(splits: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"other\.json"):
        make(splits, tmp_path / "lookup", "--splits", "other")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    with pytest.raises(ConfigError, match="not empty"):
        make(splits, tmp_path / "taken")


def test_there_is_no_model_in_it_to_export(splits: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no model to export"):
        export(make(splits, tmp_path / "lookup"), tmp_path / "exported")


def test_suggest_and_prove_take_the_folder(
    splits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make(splits, tmp_path / "lookup")
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    suggest.main(["--ckpt_path", str(folder), ADD[0][0]])
    assert "induction n" in capsys.readouterr().out
    script = write_script(
        tmp_path / "s.json",
        {"or": OR[0][0], "or2": OR[0][0]},
        {OR[0][0]: {"split": "p q : Prop\nhp : p\n⊢ q \\/ p"}, OR[1][0]: {"split": "no goals"}},
    )
    given = [f"--data_path={splits / 'val.json'}", "--environment=scripted", f"--environment_options.script={script}"]
    given += [f"--output_dir={tmp_path / 'out'}", "--workers=0", "--figures=false", f"--ckpt_path={folder}"]
    prove_command.main(given)
    assert statuses(tmp_path / "out") == {"or": "proved", "or2": "proved"}
