"""Files and folders that get their name when they are whole: a crash leaves what was there before, or nothing.

Until then they stand beside it under a name of their own that ends in .part, and are locked: two processes do not mix
what they write, and what a killed one left is removed by the next that writes the same. A loss of power is not guarded
against. Who may read them is up to the umask, as for any file.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from common import ConfigError, DataError, NextstepError

_ADVICE = "check the path, permissions, and room on the disk"
_OLD_S = 60  # a younger .part may be about to be locked by who has just made it


class NotEmptyError(ConfigError, FileExistsError):
    """What is to be a new folder is there already, and holds something."""


@contextmanager
def writing_file(path: str | Path, what: str = "", advice: str = _ADVICE, *, replace: bool = True) -> Iterator[Path]:
    """Give the block an empty file to write, which becomes `path` when the block ends well, and else is removed.

    Missing folders are made. A symbolic link goes on leading to the file. A device or pipe such as /dev/stdout is
    written as it is.

    Args:
        path: of the file to make or replace
        what: is written, for messages; `path` by default
        advice: the end of messages, what the user can do
        replace: False never replaces a file, one that appears while the block writes included

    Raises:
        DataError: if the system refuses to write, for example on a full disk, or the file is there and must stay
    """
    path, what = Path(path), what or str(path)
    if path.exists() and not path.is_file():
        with write_errors(what, advice):
            yield path
        return
    target = path.resolve()
    part = _part_of(target)
    with write_errors(what, advice, part):
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(target)
        try:
            part.touch(exist_ok=False)
            mode = part.stat().st_mode
            with _locked(part):
                yield part
                _allow(part, mode)
                os.replace(part, target) if replace else _publish(part, target)
        finally:
            with suppress(OSError):
                part.unlink()


@contextmanager
def writing_folder(path: str | Path, what: str = "", advice: str = _ADVICE) -> Iterator[Path]:
    """Give the block an empty folder to fill, which becomes `path` when the block ends well, and else is removed.

    Args:
        path: of the folder to make; an empty one may be there
        what: is written, for messages; `path` by default
        advice: the end of messages, what the user can do

    Raises:
        NotEmptyError: if `path` is no folder, or holds something
        DataError: if the system refuses to write, for example on a full disk
    """
    what = what or str(path)
    target = Path(path).resolve()
    part = _part_of(target)
    with write_errors(what, advice, part):
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise NotEmptyError(f"{what} exists and is not empty; give a new folder, or remove it")
        _remove_leftovers(target)
        part.mkdir(parents=True)
        mode = part.stat().st_mode
        try:
            with _locked(part):
                yield part
                for inner in part.rglob("*"):
                    if not inner.is_symlink():
                        _allow(inner, mode if inner.is_dir() else mode & ~0o111)
                os.replace(part, target)
        finally:
            shutil.rmtree(part, ignore_errors=True)


@contextmanager
def write_errors(what: str, advice: str = _ADVICE, path: Path | None = None) -> Iterator[None]:
    """Raise DataError for what the system refuses in the block.

    Args:
        what: is written
        advice: the end of the message, what the user can do
        path: where; errors that name a file elsewhere are not about writing, and pass as they are
    """
    try:
        yield
    except NextstepError:
        raise
    except (OSError, SafetensorError) as error:
        name = getattr(error, "filename", None)
        if path is not None and name is not None and not _concerns(Path(str(name)), path):
            raise
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"cannot write {what}: {reason}; {advice}") from error


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON, all of it or nothing; see `writing_file`."""
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    with writing_file(path) as part:
        part.write_text(text, encoding="utf-8")


def _part_of(target: Path) -> Path:
    """A name beside the target that nothing else has."""
    return target.with_name(f"{target.name}.{secrets.token_hex(4)}.part")


def _publish(part: Path, target: Path) -> None:
    """Give a file its name unless something has that name already."""
    try:
        os.link(part, target)
    except OSError as error:
        if target.exists():
            raise DataError(
                f"{target} is there by now, and is not replaced; remove it or choose another place"
            ) from error
        os.replace(part, target)  # a file system without links


@contextmanager
def _locked(part: Path) -> Iterator[None]:
    """Show others, while the block runs, that this process writes it; where the file system has locks."""
    handle = os.open(part, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)  # which unlocks it


def _remove_leftovers(target: Path) -> None:
    """Remove what killed processes left of the same file or folder: what no process holds locked."""
    pattern = re.compile(re.escape(target.name) + r"\.[0-9a-f]{8}\.part")
    with suppress(OSError):
        for path in target.parent.iterdir():
            if pattern.fullmatch(path.name) and not path.is_symlink():
                with suppress(OSError):
                    _remove_if_unlocked(path)


def _remove_if_unlocked(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # OSError where another process holds it
        if time.time() - os.fstat(handle).st_mtime > _OLD_S:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    finally:
        os.close(handle)


def _allow(path: Path, mode: int) -> None:
    """Let all read or write it whom a mode lets: libraries (safetensors) write files that only their owner may read."""
    found = path.stat().st_mode
    if found | stat.S_IMODE(mode) != found:
        path.chmod(found | stat.S_IMODE(mode))


def _concerns(name: Path, path: Path) -> bool:
    """Whether a file of this name is the path, a folder above it, or something in it."""
    return name == path or name in path.parents or path in name.parents
