"""What tokenising found is kept beside the data: never out of date, never in the way."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import transformers

from retrieval.training import kept_tokens
from retrieval.training.kept_tokens import FOLDER, Kept, keep_beside, tokenizer_digest
from tests.loopback import left


class Making:
    """Makes something, and counts how often."""

    def __init__(self) -> None:
        self.num_made = 0

    def __call__(self) -> Kept:
        self.num_made += 1
        return {"ids": np.arange(5, dtype=np.uint16), "bounds": np.array([0, 5])}, {"⊢": ["a", 3]}


def keep(data: Path, make: Making, *key: object, num_bytes: int = 1 << 30) -> Kept:
    return keep_beside(data, num_bytes, lambda: list(key), make)


def assert_whole(kept: Kept) -> None:
    arrays, values = kept
    assert arrays["ids"].dtype == np.uint16 and arrays["ids"].tolist() == list(range(5))
    assert arrays["bounds"].tolist() == [0, 5] and values == {"⊢": ["a", 3]}


def test_the_second_run_reads_what_the_first_made(tmp_path: Path) -> None:
    make = Making()
    for _ in range(3):
        assert_whole(keep(tmp_path / "train.json", make, b"texts", "tokenizer", 7))
    assert make.num_made == 1 and left(tmp_path) == [FOLDER] and len(left(tmp_path / FOLDER)) == 1


@pytest.mark.parametrize("other", [(b"text", "tokenizer", 7), (b"texts", "tokenizers", 7), (b"texts", "tokenizer", 8)])
def test_another_content_tokenizer_or_setting_is_made_anew(tmp_path: Path, other: tuple[object, ...]) -> None:
    make = Making()
    keep(tmp_path / "train.json", make, b"texts", "tokenizer", 7)
    keep(tmp_path / "train.json", make, *other)
    assert make.num_made == 2 and len(left(tmp_path / FOLDER)) == 2


@pytest.mark.parametrize("library", [transformers, tokenizers])
def test_with_another_version_of_a_library_tokens_are_made_anew_and_nothing_else(
    library: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens, others, tokenizer = Making(), Making(), transformers.ByT5Tokenizer()
    for version in (library.__version__, "99", "99"):
        monkeypatch.setattr(library, "__version__", version)
        keep(tmp_path / "train.json", tokens, tokenizer_digest(tokenizer))
        keep(tmp_path / "train.json", others, b"what no tokenizer was asked for")
    assert tokens.num_made == 2 and others.num_made == 1


def test_of_little_text_nothing_is_kept(tmp_path: Path) -> None:
    make = Making()
    for _ in range(2):
        assert_whole(keep(tmp_path / "train.json", make, num_bytes=kept_tokens.MIN_BYTES - 1))
    assert make.num_made == 2 and left(tmp_path) == []


@pytest.mark.parametrize("content", [b"", b"hello", None])
def test_what_cannot_be_read_is_made_anew_and_replaced(tmp_path: Path, content: bytes | None) -> None:
    make = Making()
    keep(tmp_path / "train.json", make)
    (file,) = (tmp_path / FOLDER).iterdir()
    file.write_bytes(file.read_bytes()[:-3] if content is None else content)
    for _ in range(2):
        assert_whole(keep(tmp_path / "train.json", make))
    assert make.num_made == 2 and left(tmp_path / FOLDER) == [file.name]


def test_a_folder_that_cannot_be_written_is_left_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("read-only file system")

    make = Making()
    for name in ("mkdir", "touch"):  # the folder, then the file in a folder that is there
        with monkeypatch.context() as patch:
            patch.setattr(Path, name, refuse)
            assert_whole(keep(tmp_path / "train.json", make))
        (tmp_path / FOLDER).mkdir(exist_ok=True)
    assert make.num_made == 2 and left(tmp_path / FOLDER) == []


def test_the_oldest_files_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_tokens, "MAX_FILES", 3)
    make = Making()
    for number in range(5):
        keep(tmp_path / "train.json", make, number)
        for age, file in enumerate(sorted((tmp_path / FOLDER).iterdir(), key=lambda one: one.stat().st_mtime)):
            os.utime(file, (1000 + age, 1000 + age))
    assert len(left(tmp_path / FOLDER)) == 3 and make.num_made == 5
    keep(tmp_path / "train.json", make, 4)
    keep(tmp_path / "train.json", make, 0)
    assert make.num_made == 6


def test_a_tokenizer_is_known_by_what_it_is_made_of() -> None:
    first, second = transformers.ByT5Tokenizer(), transformers.ByT5Tokenizer()
    assert tokenizer_digest(first) == tokenizer_digest(second)
    second.add_tokens(["<a>"])
    assert tokenizer_digest(first) != tokenizer_digest(second)
