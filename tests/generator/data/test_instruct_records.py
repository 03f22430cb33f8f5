"""Instruct data: every line is an example, or is counted, or stops the reading with its place."""

import gzip
import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from common import ConfigError, DataError
from generator.data.instruct_records import InstructRecords, find_split_files, foreign_content, split_of

RECORD = {
    "task": "tactic_predition",
    "prompt": "[STATE]\nλ\n[/STATE]\n",
    "prompt_name": "state_tactic",
    "completion": "simp\n[/TAC]",
    "metadata": {"file": "A.lean", "declId": None, "split": "train"},
}


def write(path: Path, *records: Any) -> Path:
    """Write records, or lines that are bytes already."""
    lines = [r if isinstance(r, bytes) else json.dumps(r, ensure_ascii=False).encode() for r in records]
    content = b"".join(line + b"\n" for line in lines)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def load(*paths: Path, skip_invalid: bool = False) -> InstructRecords:
    return InstructRecords.load(paths, skip_invalid=skip_invalid, progress=False)


def test_a_line_is_an_example(tmp_path: Path) -> None:
    (record,) = load(write(tmp_path / "train.jsonl", RECORD))
    assert record.place == f"{tmp_path}/train.jsonl:1"
    fields = ("task", "prompt", "prompt_name", "completion", "metadata")
    assert {name: getattr(record, name) for name in fields} == RECORD


def test_prompt_and_completion_are_enough(tmp_path: Path) -> None:
    (record,) = load(write(tmp_path / "train.jsonl", {"prompt": "a", "completion": "b"}))
    assert (record.task, record.prompt_name, record.metadata) == ("", "", {})


def test_files_follow_each_other_packed_or_not(tmp_path: Path) -> None:
    def example(i: int) -> dict[str, str]:
        return {"prompt": f"p{i}", "completion": f"c{i}", "prompt_name": f"n{i % 2}"}

    first = write(tmp_path / "a.jsonl", example(0), b"", example(1))
    second = write(tmp_path / "b.jsonl.gz", example(2))
    renamed = write(tmp_path / "c.gz", example(3)).rename(tmp_path / "c.jsonl")  # unpacked by name only
    records = load(first, second, renamed)
    assert [(r.prompt, r.completion, r.prompt_name) for r in records] == [
        (f"p{i}", f"c{i}", f"n{i % 2}") for i in range(4)
    ]
    assert [r.place.rpartition("/")[2] for r in records] == ["a.jsonl:1", "a.jsonl:3", "b.jsonl.gz:1", "c.jsonl:1"]
    assert records[-1].prompt == "p3" and [r.prompt for r in records[1:3]] == ["p1", "p2"]
    with pytest.raises(IndexError):
        records[4]


BROKEN = {
    b'{"prompt": "a", "comp': "broken JSON: Unterminated string starting at at character 16",
    b"[1]": "it is '[1]', not an object with prompt and completion",
    b'{"prompt": "a"}': "field 'completion' must be a text, but there are only prompt",
    b'{"prompt": 3, "completion": "b"}': "field 'prompt' must be a text, but is '3'",
    b'{"prompt": "a", "completion": null}': "field 'completion' must be a text, but is 'None'",
    b'{"prompt": "a", "completion": "b", "metadata": [1]}': "field 'metadata' must be an object",
    b'{"prompt": "\xff", "completion": "b"}': "not UTF-8 at byte 12",
    b'{"prompt": "\\ud835", "completion": "b"}': "half a surrogate pair",
    b'{"prompt": "a", "completion": "b", "metadata": {"x": "\\ud835"}}': "half a surrogate pair",
    b"[" * 100_000: "it is nested too deep",
    b"[" * 900 + b"]" * 900: "it is something nested too deep, not an object",
    b'{"prompt": ' + b"[" * 900 + b"]" * 900 + b"}": "field 'prompt' must be a text, but is something nested too deep",
    b'{"metadata": ' + b"[" * 100_000: "it is nested too deep",
    b'{"prompt": "a", "completion": "b", "metadata": {"x": ' + b"[" * 60 + b"]" * 60 + b"}}": "is nested over 50 deep",
    b'{"prompt": "a", "completion": "b", "metadata": {"x": '
    + b"1" * 5000
    + b"}}": "a number in it has too many digits",
}


@pytest.mark.parametrize("line", BROKEN, ids=lambda line: str(line[:20]))
def test_a_broken_line_is_named_or_counted(tmp_path: Path, line: bytes) -> None:
    path = write(tmp_path / "train.jsonl", RECORD, line, RECORD, b"{")
    with pytest.raises(DataError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}:2: ") and BROKEN[line] in str(caught.value)
    assert "set skip_invalid" in str(caught.value)
    records = load(path, skip_invalid=True)
    assert len(records) == 2 and records.left_out == {"broken lines": 2}
    assert f"left out: 2 broken lines (first {path}:2: " in records.summary()


def test_empty_completions_and_prompts_are_counted(tmp_path: Path) -> None:
    path = write(
        tmp_path / "t.jsonl",
        RECORD | {"completion": ""},
        RECORD,
        RECORD | {"completion": " \n"},
        RECORD | {"prompt": ""},
    )
    records = load(path)
    assert len(records) == 1 and records[0].place.endswith(":2")
    assert records.left_out == {"examples with an empty completion": 2, "examples with an empty prompt": 1}
    assert f"2 examples with an empty completion (first {path}:1)" in records.summary()


@pytest.mark.parametrize("skip_invalid", [True, False])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\n\n <!DOCTYPE html>\n<html>", "it is an HTML page, not the data.* /resolve/"),
        (b"<html><body>Sign in</body></html>", "it is an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid x\n", "it is a Git LFS pointer"),
        (b'[{"prompt": "a", "completion": "b"}]\n', "it is one JSON list"),
    ],
)
def test_another_kind_of_file_is_recognised_whatever_is_skipped(
    tmp_path: Path, content: bytes, message: str, skip_invalid: bool
) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"train.jsonl: {message}"):
        load(path, skip_invalid=skip_invalid)


def test_a_line_that_begins_like_a_page_is_only_judged_at_the_beginning() -> None:
    assert foreign_content(b'{"prompt": "<a>"}') is None
    assert foreign_content("\ufeff<html>".encode()) is not None


def test_a_byte_order_mark_is_no_error(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", "\ufeff".encode() + json.dumps(RECORD).encode())
    assert len(load(path)) == 1


def test_a_packed_file_that_was_cut_off_says_where(tmp_path: Path) -> None:
    path = write(tmp_path / "train.jsonl.gz", *[RECORD | {"prompt": f"{i * 7919}"} for i in range(500)])
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"train.jsonl.gz: cannot be read behind line \d+: .*download it again"):
        load(path, skip_invalid=True)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no.jsonl: there is no such file"):
        load(tmp_path / "no.jsonl")


def test_memory_is_near_the_size_of_the_texts(tmp_path: Path) -> None:
    path = write(tmp_path / "train.jsonl", *[RECORD | {"prompt": "x" * 1000} for _ in range(200)])
    assert len(pickle.dumps(load(path))) < path.stat().st_size


# ------------------------------------------------------------------------------------------------
# Files of a split


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train.jsonl", "train"),
        ("state_tactic_train.jsonl.gz", "train"),
        ("state_tactic_dev.jsonl", "val"),
        ("valid-00001-of-2.jsonl", "val"),
        ("val.jsonl", "val"),
        ("Validation.JSONL", "val"),
        ("test.jsonl", "test"),
        ("corpus.jsonl", None),
        ("contest.jsonl", None),
        ("train.json", None),
    ],
)
def test_the_file_name_tells_the_split(name: str, split: str | None) -> None:
    assert split_of(name) == split


def test_a_split_has_the_files_of_a_folder_a_list_a_glob_or_a_mapping(tmp_path: Path) -> None:
    names = ["a_train.jsonl", "b_train.jsonl.gz", "dev.jsonl", "x.jsonl", "notes.txt"]
    a, b, dev, x, _ = (write(tmp_path / name, RECORD) for name in names)
    folder = str(tmp_path)
    assert find_split_files(folder, "train") == [a, b]
    assert find_split_files(folder, "val") == [dev]
    assert find_split_files(folder, "test") == []
    assert find_split_files(f"{folder}/*_train*", "train") == [a, b]
    assert find_split_files([str(b), f"{folder}/d*.jsonl"], "train") == [b]
    assert find_split_files({"train": [str(x), str(a)], "dev": f"{folder}/b*"}, "train") == [x, a]
    assert find_split_files({"train": str(x), "dev": f"{folder}/b*"}, "val") == [b]


def test_the_same_file_twice_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", RECORD)
    write(tmp_path / "train.jsonl.gz", RECORD)
    with pytest.raises(DataError, match="are the same file, packed and unpacked; remove one"):
        find_split_files(str(tmp_path), "train")


def test_a_wrong_path_or_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="data_path nowhere: there is no such file or folder"):
        find_split_files("nowhere", "train")
    with pytest.raises(ConfigError, match="data_path has the key 'training_set'; its keys are train, val, test"):
        find_split_files({"training_set": "x"}, "train")
