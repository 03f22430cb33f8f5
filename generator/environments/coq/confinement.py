"""Processes with limits: of memory and files, without a network, in a folder of their own, and that die with us."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import IO

_MAX_FILE = 2**30  # bytes that a process may write into one file; caches of tactics are far smaller
_MAX_SAID = 2**16  # bytes of what a process said at its end


class Confinement:
    """Starts processes, all in one scratch folder; they are killed when it is closed, or when this process dies.

    Linux sends the signal that a parent died when the *thread* ends that started the process. So one thread of our own
    starts them all, and lives until `close`; whoever calls may come from any thread.
    """

    def __init__(self, memory_gb: float) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="nextstep-coq-")
        self._memory = int(memory_gb * 2**30)
        self._thread = ThreadPoolExecutor(1, "starts-coq")
        self._running: list[subprocess.Popen[bytes]] = []
        self._owner = os.getpid()
        self._is_closed = False

    @property
    def folder(self) -> Path:
        """Where the processes run, and may write."""
        self._refuse_strangers()
        return Path(self._folder.name)

    def start(
        self, command: Sequence[str], errors: IO[bytes], folder: Path | None = None, talks: bool = True
    ) -> subprocess.Popen[bytes]:
        """Start a process with a pipe for its input.

        Args:
            command: program and arguments
            errors: where its standard error goes
            folder: where it runs, within the scratch folder
            talks: whether there is a pipe for its output too; else nobody hears it
        """
        self._refuse_strangers()
        whole = [*_without_network(), *_with_limits(self._memory), *command]

        def start() -> subprocess.Popen[bytes]:
            return subprocess.Popen(
                whole,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if talks else subprocess.DEVNULL,
                stderr=errors,
                cwd=folder or self.folder,
                env={**os.environ, "TMPDIR": str(self.folder)},
                start_new_session=True,  # a Ctrl-C in the terminal is not for it
            )

        process = self._thread.submit(start).result()
        self._running = [each for each in self._running if each.poll() is None] + [process]
        return process

    def close(self) -> None:
        """Kill what runs, and remove the folder."""
        self._is_closed = True
        for process in self._running:
            kill(process)
        self._running = []
        self._thread.shutdown()
        self._folder.cleanup()

    def _refuse_strangers(self) -> None:
        if os.getpid() != self._owner:  # the thread is not here, and the folder is not ours
            raise RuntimeError("an environment works only in the process that made it; make one in each worker")
        if self._is_closed:
            raise RuntimeError("the environment is closed; make another one")


def last_words(errors: IO[bytes]) -> str:
    """Return the end of what a process wrote to its standard error."""
    errors.seek(max(0, errors.seek(0, os.SEEK_END) - _MAX_SAID))
    return errors.read().decode("utf-8", errors="replace").strip()


def how_it_ended(process: subprocess.Popen[bytes]) -> str:
    """Return the status of a process that is no more, or the signal that killed it."""
    status = process.returncode
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process, if it still runs, and close its pipes."""
    if process.poll() is None:
        process.send_signal(signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            try:
                pipe.close()
            except OSError:  # what was not written to a dead process
                pass


@lru_cache
def _without_network() -> tuple[str, ...]:
    """Return the beginning of a command that runs the rest without a network, if this user may do so."""
    unshare = shutil.which("unshare")
    for options in (("--net",), ("--map-root-user", "--net")):
        if unshare and subprocess.run([unshare, *options, "true"], capture_output=True).returncode == 0:
            return (unshare, *options)
    return ()


def _with_limits(memory: int) -> list[str]:
    """Return the beginning of a command that dies with us, within `memory` bytes and files of limited size."""
    command: list[str] = []
    if setpriv := shutil.which("setpriv"):
        command += [setpriv, "--pdeathsig", "KILL"]
    if prlimit := shutil.which("prlimit"):
        command += [prlimit, f"--as={memory}", f"--fsize={_MAX_FILE}", "--core=0"]
    return command
