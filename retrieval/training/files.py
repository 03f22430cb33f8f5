"""Files and folders that get their name when they are whole: a crash leaves what was there before, or nothing.

Until then they stand beside it under a name of their own that ends in .part, locked by the process that writes: two
processes do not mix what they write, and what a killed one has left is removed by the next that writes there. A loss of
power is not guarded against. Who may read them is up to the umask, as for any file.
"""

from __future__ import annotations

import fcntl
import glob
import json
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO, Any

from safetensors import SafetensorError

from common import ConfigError, DataError, NextstepError

_ADVICE = "check the path, permissions, and room on the disk"


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
    with write_errors(what, advice, target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with own_part(target, Path.touch) as part:
            mode = part.stat().st_mode
            yield part
            _allow(part, mode)
            os.replace(part, target) if replace else _publish(part, target)


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
    with write_errors(what, advice, target):
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise NotEmptyError(f"{what} exists and is not empty; give a new folder, or remove it")
        with own_part(target, partial(Path.mkdir, parents=True)) as part:
            mode = part.stat().st_mode
            yield part
            for inner in part.rglob("*"):
                if not inner.is_symlink():
                    _allow(inner, mode if inner.is_dir() else mode & ~0o111)
            os.replace(part, target)


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


@contextmanager
def own_part(target: Path, make: Callable[[Path], object]) -> Iterator[Path]:
    """Give the block a file or folder beside the target that nothing else uses, and remove it afterwards.

    Those that killed processes have left there are removed first: a process that lives holds a lock on its own, as far
    as the file system has locks.

    Args:
        target: what it is for
        make: makes an empty file or folder, whose own folder may be missing if it makes that too
    """
    remove_abandoned(target.parent.glob(f"{glob.escape(target.name)}.????????.part"))
    while True:
        part = target.with_name(f"{target.name}.{secrets.token_hex(4)}.part")
        make(part)
        try:
            lock = _lock(part)
        except BlockingIOError:
            continue  # another process took it for an abandoned one before it was locked
        if part.exists():
            break
    try:
        yield part
    finally:
        _remove(part)
        if lock is not None:
            os.close(lock)


def remove_abandoned(parts: Iterable[Path]) -> None:
    """Remove those files and folders that no process is writing any more: none holds a lock on them."""
    for part in parts:
        with suppress(BlockingIOError):
            if (lock := _lock(part)) is not None:
                _remove(part)
                os.close(lock)


def lock_rows(file: IO[Any], path: Path) -> None:
    """Lock an open file to which rows are appended, as long as it is open; a file system without locks goes without.

    Raises:
        ConfigError: if another process has it
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ConfigError(
            f"{path}: another process is writing it; wait for its end, or give another output_dir"
        ) from error
    except OSError:  # a file system without locks
        pass


@contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Let no other process into a block for the same path; without locks of the file system, all at once.

    Args:
        path: what the block makes; a lock stands beside it as long as it is held or waited for
    """
    lock_path, lock = path.with_name(f".{path.name}.lock"), None
    while lock is None:
        try:
            lock = os.open(lock_path, os.O_RDWR | os.O_CREAT, 0o666)
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError:  # a folder that cannot be written, a file system without locks
            break
        if not _is_at(lock, lock_path):  # its owner has removed it meanwhile
            os.close(lock)
            lock = None
    try:
        yield
    finally:
        if lock is not None:
            if _is_at(lock, lock_path):
                _remove(lock_path)
            os.close(lock)


def _lock(path: Path) -> int | None:
    """Lock a file or folder until what is returned is closed; None where there are no locks, or it is gone.

    Raises:
        BlockingIOError: if another process holds it
    """
    try:
        lock = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        if isinstance(error, BlockingIOError):
            raise
        return None
    return lock


def _is_at(lock: int, path: Path) -> bool:
    """Whether an open file still has this name."""
    try:
        return os.path.samestat(os.fstat(lock), path.stat())
    except OSError:
        return False


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


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


def _allow(path: Path, mode: int) -> None:
    """Let all read or write it whom a mode lets: libraries (safetensors) write files that only their owner may read."""
    found = path.stat().st_mode
    if found | stat.S_IMODE(mode) != found:
        path.chmod(found | stat.S_IMODE(mode))


def _concerns(name: Path, path: Path) -> bool:
    """Whether a file of this name is the path or its part, a folder above it, or something in it."""
    return (
        any(
            one == path
            or (one.parent == path.parent and one.name.startswith(f"{path.name}.") and one.suffix == ".part")
            for one in (name, *name.parents)
        )
        or name in path.parents
    )
