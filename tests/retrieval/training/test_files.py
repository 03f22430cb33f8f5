"""Files and folders that get their name when they are whole."""

import errno
import json
import os
import re
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from safetensors import SafetensorError

from common import ConfigError, DataError
from retrieval.training.files import one_at_a_time, write_errors, write_json, writing_file, writing_folder
from tests.loopback import left

Writing = Callable[[Path], AbstractContextManager[Path]]


def fill(part: Path, content: str) -> None:
    """Write what is to be a file, or a file in what is to be a folder."""
    (part / "inner" if part.is_dir() else part).write_text(content)


def content_of(path: Path) -> str:
    return (path / "inner" if path.is_dir() else path).read_text()


def full_disk() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


both = pytest.mark.parametrize("writing", [writing_file, writing_folder])


@both
def test_what_is_whole_gets_its_name_and_only_then(writing: Writing, tmp_path: Path) -> None:
    path = tmp_path / "new" / "name"
    with writing(path) as part:
        fill(part, "whole")
        assert not path.exists() and part.parent == path.parent
    assert content_of(path) == "whole" and left(path.parent) == ["name"]


@both
@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_an_error_in_the_middle_leaves_nothing(writing: Writing, error: type[BaseException], tmp_path: Path) -> None:
    with pytest.raises(error), writing(tmp_path / "name") as part:
        fill(part, "half")
        raise error
    assert left(tmp_path) == []


@both
@pytest.mark.parametrize("error", [full_disk(), SafetensorError("I/O error: No space left on device (os error 28)")])
def test_a_full_disk_is_named_with_advice_and_leaves_nothing(
    writing: Writing, error: Exception, tmp_path: Path
) -> None:
    path = tmp_path / "name"
    message = (
        f"^cannot write {re.escape(str(path))}: .*No space left on device.*; check the path, permissions, and room"
    )
    with pytest.raises(DataError, match=message), writing(path) as part:
        fill(part, "half")
        raise error
    assert left(tmp_path) == []


@both
def test_a_refused_renaming_leaves_nothing(writing: Writing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*paths: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), *map(str, paths))

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(DataError, match="name: Permission denied"), writing(tmp_path / "name") as part:
        fill(part, "whole")
    assert left(tmp_path) == []


@both
def test_a_folder_that_cannot_be_made_is_named(writing: Writing, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    path = tmp_path / "file" / "below" / "name"
    with pytest.raises(DataError, match=f"^cannot write {re.escape(str(path))}: Not a directory"), writing(path):
        raise AssertionError("the block is not entered")
    assert content_of(tmp_path / "file") == "mine"


@both
def test_an_error_about_another_file_passes_as_it_is(writing: Writing, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="missing.txt"), writing(tmp_path / "name"):
        (tmp_path / "missing.txt").read_text()
    with pytest.raises(DataError, match="cannot write .*name: No"), writing(tmp_path / "name") as part:
        (part / "no folder" / "file").write_text("")
    assert left(tmp_path) == []


@both
def test_two_at_once_do_not_mix_what_they_write(writing: Writing, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    with writing(tmp_path / "name") as one:
        with pytest.raises(ZeroDivisionError), writing(tmp_path / "name") as other:
            fill(one, "one")
            fill(other, "other")
            assert one != other
            raise ZeroDivisionError
        assert content_of(one) == "one"
    assert content_of(tmp_path / "name") == "one" and left(tmp_path) == ["elsewhere", "name"]


@both
def test_modes_are_those_of_ordinary_files_and_folders(writing: Writing, tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        with writing(tmp_path / "name") as part:
            fill(part, "")
            if writing is writing_folder:
                (part / "below").mkdir(mode=0o700)
                fill(part / "below", "")
            for inner in (part, *part.rglob("*")):
                if inner.is_file():
                    inner.chmod(0o600)  # as safetensors and mkstemp have it
        (tmp_path / "file").touch()
        (tmp_path / "folder").mkdir()
    finally:
        os.umask(old)
    for made in (tmp_path / "name", *(tmp_path / "name").rglob("*")):
        ordinary = tmp_path / ("folder" if made.is_dir() else "file")
        assert stat.S_IMODE(made.stat().st_mode) == stat.S_IMODE(ordinary.stat().st_mode), made


@both
def test_a_message_names_what_is_written_and_what_to_do(writing: Callable[..., object], tmp_path: Path) -> None:
    with (
        pytest.raises(DataError, match="^cannot write the index: No space left on device; buy a disk$"),
        writing(tmp_path / "name", "the index", "buy a disk") as part,  # type: ignore[attr-defined]
    ):
        fill(part, "half")
        raise full_disk()


# ------------------------------------------------------------------------------------------------
# Files


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(DataError), writing_file(path) as part:
        part.write_text("ne")
        raise full_disk()
    assert path.read_text() == "old"
    with writing_file(path) as part:
        part.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new" and left(tmp_path) == ["file"]


def test_a_link_goes_on_leading_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "file")
    for content in ("first", "second"):
        with writing_file(tmp_path / "link") as part:
            part.write_text(content)
        assert (tmp_path / "disk" / "file").read_text() == content and (tmp_path / "link").is_symlink()
    assert left(tmp_path / "disk") == ["file"]


def test_a_pipe_is_written_and_stays(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDWR | os.O_NONBLOCK)
    try:
        with writing_file(tmp_path / "pipe") as part:
            part.write_text("content")
        assert os.read(reader, 100) == b"content" and (tmp_path / "pipe").is_fifo()
    finally:
        os.close(reader)


def test_a_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"cannot write {re.escape(str(tmp_path))}: Is a directory"):
        write_json(tmp_path, {})


def test_json_is_indented_and_legible(tmp_path: Path) -> None:
    write_json(tmp_path / "a" / "b.json", {"state": "⊢ p", "n": 1})
    text = (tmp_path / "a" / "b.json").read_text(encoding="utf-8")
    assert text == '{\n  "state": "⊢ p",\n  "n": 1\n}\n' and json.loads(text)["n"] == 1


def test_what_json_cannot_say_leaves_the_old_file(tmp_path: Path) -> None:
    write_json(tmp_path / "b.json", 1)
    with pytest.raises(TypeError):
        write_json(tmp_path / "b.json", {"a": object()})
    assert (tmp_path / "b.json").read_text() == "1\n" and left(tmp_path) == ["b.json"]


# ------------------------------------------------------------------------------------------------
# Folders


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with writing_folder(tmp_path / "folder") as part:
        fill(part, "whole")
    assert left(tmp_path / "folder") == ["inner"] and left(tmp_path) == ["folder"]


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_holds_something_is_refused_before_the_block_and_kept(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "name"
    if kind == "folder":
        path.mkdir()
    fill(path, "mine")
    for expected in (ConfigError, FileExistsError):
        with pytest.raises(expected, match="output_dir exists and is not empty; give a new folder, or remove it"):
            with writing_folder(path, "output_dir"):
                raise AssertionError("the block is not entered")
    assert content_of(path) == "mine" and left(tmp_path) == ["name"]


def test_what_a_link_in_a_folder_leads_to_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").touch(mode=0o600)
    with writing_folder(tmp_path / "folder") as part:
        (part / "link").symlink_to(tmp_path / "mine")
    assert stat.S_IMODE((tmp_path / "folder" / "link").stat().st_mode) == 0o600


def test_a_folder_that_another_process_fills_meanwhile_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "name"
    with pytest.raises(DataError, match="cannot write .*name: Directory not empty"), writing_folder(path) as part:
        fill(part, "mine")
        path.mkdir()
        fill(path, "theirs")
    assert content_of(path) == "theirs" and left(tmp_path) == ["name"]


# ------------------------------------------------------------------------------------------------


def test_errors_of_our_own_pass_the_naming(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="^k is 0$"), write_errors("the index"):
        raise ConfigError("k is 0")


# ------------------------------------------------------------------------------------------------
# Several processes, and those that were killed

KILLED = """
import os, signal, sys
from pathlib import Path
from retrieval.training.files import writing_file, writing_folder

with {writing}(Path(sys.argv[1])) as part:
    (part / "inner" if part.is_dir() else part).write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@both
def test_what_a_killed_process_left_is_removed_by_the_next(writing: Writing, tmp_path: Path) -> None:
    path = tmp_path / "name"
    subprocess.run([sys.executable, "-c", KILLED.format(writing=writing.__name__), path], cwd=Path(__file__).parents[3])
    assert re.fullmatch(r"name\.[0-9a-f]{8}\.part", *left(tmp_path))
    (tmp_path / "name.mine.part").touch()
    (tmp_path / "other.0123abcd.part").touch()
    with writing(path) as part:
        fill(part, "whole")
    assert left(tmp_path) == ["name", "name.mine.part", "other.0123abcd.part"], "no other's is touched"


@both
def test_what_another_process_writes_stays(writing: Writing, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), writing(tmp_path / "name") as first:
        with pytest.raises(ZeroDivisionError), writing(tmp_path / "name") as second:
            assert first.exists() and second.exists() and first != second
            raise ZeroDivisionError
        assert left(tmp_path) == [first.name]
        raise ZeroDivisionError
    assert left(tmp_path) == []


def test_one_at_a_time_is_let_in_and_no_lock_stays(tmp_path: Path) -> None:
    inside, most = 0, 0

    def enter(_: int) -> None:
        nonlocal inside, most
        with one_at_a_time(tmp_path / "name"):
            inside += 1
            most = max(most, inside)
            time.sleep(0.001)
            inside -= 1

    (tmp_path / ".name.lock").touch()  # of a process that was killed
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(enter, range(40)))
    assert most == 1 and left(tmp_path) == []


def test_without_locks_all_are_let_in(tmp_path: Path) -> None:
    with one_at_a_time(tmp_path / "nowhere" / "name"), one_at_a_time(tmp_path / "nowhere" / "name"):
        assert left(tmp_path) == []


def test_a_file_that_appeared_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "name"
    with pytest.raises(DataError, match="name is there by now, and is not replaced"):
        with writing_file(path, replace=False) as part:
            part.write_text("ours")
            path.write_text("theirs")
    assert path.read_text() == "theirs" and left(tmp_path) == ["name"]
    with writing_file(tmp_path / "new", replace=False) as part:
        part.write_text("ours")
    assert left(tmp_path) == ["name", "new"]
