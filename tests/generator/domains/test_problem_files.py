"""Problems on disk: whole, resumable, the same for any number of workers, and of one domain."""

import json

import pytest

from common import ConfigError, DataError
from generator.domains import make_domain, problem_files
from generator.domains.problem_files import CARD, read_split, write_problem_files

DOMAIN = make_domain("rectangle")
SIZES = {"train": 70, "val": 20, "test": 30}


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(problem_files, "_MAX_SHARD", 32)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_what_is_written_is_read_and_is_what_the_domain_gives(tmp_path):
    card = write_problem_files(DOMAIN, tmp_path / "d", SIZES, seed=3)
    for split, size in SIZES.items():
        assert read_split(tmp_path / "d", split, DOMAIN) == DOMAIN.problems(3, split, size)
    assert card["leaks"] == {split: {"same_text": 0.0, "same_meaning": 0.0} for split in ("val", "test")}
    assert sorted(contents(tmp_path / "d")) == [CARD, "test.jsonl", "train.jsonl", "val.jsonl"]
    assert not (tmp_path / "d" / "shards").exists()


def test_workers_change_nothing(tmp_path):
    write_problem_files(DOMAIN, tmp_path / "one", SIZES, seed=3)
    write_problem_files(DOMAIN, tmp_path / "two", SIZES, seed=3, num_workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_what_was_interrupted_goes_on_and_does_nothing_twice(tmp_path, monkeypatch):
    write_problem_files(DOMAIN, tmp_path / "whole", SIZES, seed=3)
    made, real = [], problem_files._make_shard

    def until_the_third(task):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(task[3:5])
        real(task)

    monkeypatch.setattr(problem_files, "_make_shard", until_the_third)
    with pytest.raises(KeyboardInterrupt):
        write_problem_files(DOMAIN, tmp_path / "d", SIZES, seed=3)
    with pytest.raises(DataError, match="is not finished"):
        read_split(tmp_path / "d", "train", DOMAIN)
    monkeypatch.setattr(problem_files, "_make_shard", lambda task: (made.append(task[3:5]), real(task)))
    write_problem_files(DOMAIN, tmp_path / "d", SIZES, seed=3)
    assert contents(tmp_path / "d") == contents(tmp_path / "whole") and len(made) == len(set(made))
    num_made = len(made)
    write_problem_files(DOMAIN, tmp_path / "d", SIZES, seed=3)
    assert len(made) == num_made  # it is whole


def test_a_folder_of_other_settings_is_not_touched(tmp_path):
    write_problem_files(DOMAIN, tmp_path / "d", SIZES, seed=3)
    before = contents(tmp_path / "d")
    with pytest.raises(ConfigError, match="was made with seed 3, and now seed is 4"):
        write_problem_files(DOMAIN, tmp_path / "d", SIZES, seed=4)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").touch()
    with pytest.raises(ConfigError, match="holds something else"):
        write_problem_files(DOMAIN, tmp_path / "other", SIZES, seed=3)
    assert contents(tmp_path / "d") == before


@pytest.mark.parametrize("sizes", [{"train": 0}, {"train": -5}])
def test_sizes_are_positive(tmp_path, sizes):
    with pytest.raises(ConfigError, match="num_train is"):
        write_problem_files(DOMAIN, tmp_path / "d", sizes, seed=3)


def test_problems_of_another_domain_are_refused(tmp_path):
    write_problem_files(DOMAIN, tmp_path / "d", SIZES, seed=3)
    with pytest.raises(DataError, match="is of domain rectangle, not regex"):
        read_split(tmp_path / "d", "test", make_domain("regex"))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "test.jsonl:2: is no JSON"),
        ("[]", "test.jsonl:2: is no object"),
        ('{"spec": "[11+]"}', "test.jsonl:2: give an object with the texts"),
        ('{"spec": "[77+]", "program": "x"}', "test.jsonl:2: the spec has the cell 77"),
        ("[" * 100_000, "test.jsonl:2: is no JSON"),
    ],
)
def test_a_broken_line_is_named(tmp_path, line, reason):
    write_problem_files(DOMAIN, tmp_path / "d", SIZES, seed=3)
    path = tmp_path / "d" / "test.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], line, *lines[2:]]))
    with pytest.raises(DataError, match=reason):
        read_split(tmp_path / "d", "test", DOMAIN)


@pytest.mark.parametrize(
    "card", ["", "{}", "[]", '{"domain": 3}', json.dumps({"domain": "rectangle", "complete": True})]
)
def test_a_broken_card_is_refused(tmp_path, card):
    (tmp_path / CARD).write_text(card)
    with pytest.raises(DataError, match=CARD):
        read_split(tmp_path, "test", DOMAIN)


def test_lost_lines_are_noticed(tmp_path):
    write_problem_files(DOMAIN, tmp_path / "d", SIZES, seed=3)
    path = tmp_path / "d" / "val.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(DataError, match="val.jsonl has 19 problems, and domain.json says 20"):
        read_split(tmp_path / "d", "val", DOMAIN)


def test_missing_files_are_said(tmp_path):
    with pytest.raises(DataError, match="no domain.json"):
        read_split(tmp_path, "test", DOMAIN)
    write_problem_files(DOMAIN, tmp_path / "d", SIZES, seed=3)
    (tmp_path / "d" / "test.jsonl").unlink()
    with pytest.raises(DataError, match="test.jsonl: No such file"):
        read_split(tmp_path / "d", "test", DOMAIN)
