"""Child processes of a pool: how one is started, what runs in it, and that none outlives the process that needs it.

Where there is fork, children are forked by a *nursery*, one process that has imported what they need and does nothing
else: it takes a second to start, once for all pools, and a child 24 ms, where to import sympy takes 0.9 s (Xeon,
Sapphire Rapids, busy). The process itself is never forked, whose threads a child would lack, nor is its main module run
again. The nursery and its children share a process group of their own, which Ctrl-C does not reach and which the
nursery kills when its socket closes: that happens however the process ends, and needs no co-operation of a child.
Elsewhere (Windows) children are spawned.
"""

from __future__ import annotations

import atexit
import gc
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from pickle import PicklingError
from typing import Any

CAN_FORK = hasattr(os, "fork") and hasattr(socket, "send_fds") and bool(sys.executable)
_CLEARED_EVERY = 300  # items, after which what sympy remembers is dropped
_ALIVE_S = 1.0  # after which a nursery looks whether its process is still there, if the socket does not say so


class Child:
    """A process that answers items, as its pool sees it.

    Attributes:
        connection: closed on the other side when it has died
        pid: of the process; None until it has said so, which it does first
    """

    def __init__(self, connection: Any, process: Any = None) -> None:
        self.connection, self._process = connection, process
        self.pid: int | None = None

    @classmethod
    def start(cls, function: Callable[[Any], Any], max_memory_mb: int) -> Child:
        """Start a process.

        Args:
            function: answers an item; of a module that can be imported
            max_memory_mb: that it may take, over what it begins with, where the platform has such limits

        Raises:
            OSError: if none can be started
        """
        if CAN_FORK:
            return cls(_Nursery.shared().fork(function, max_memory_mb))
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, function, max_memory_mb), daemon=True)
        process.start()
        theirs.close()
        return cls(ours, process)

    def kill(self) -> None:
        """End it at once, whatever it does."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
        elif self.pid is not None and not self._has_ended():
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        self.connection.close()

    def _has_ended(self) -> bool:
        """Whether nothing will come any more; its number may then be that of another process."""
        try:
            while self.connection.poll():
                self.connection.recv_bytes()
        except (EOFError, OSError):
            return True
        return False


# ------------------------------------------------------------------------------------------------
# In the process that needs children


class _Nursery:
    """The process that forks children, as the one that needs them sees it."""

    _shared: _Nursery | None = None
    _lock = threading.Lock()

    def __init__(self) -> None:
        self.pid = os.getpid()
        ours, theirs = socket.socketpair()
        self.socket, self.orders, self.lock = ours, Connection(os.dup(ours.fileno())), threading.Lock()
        path = json.dumps([folder or os.getcwd() for folder in sys.path])
        self.process = subprocess.Popen(
            [sys.executable, "-P", __file__, path, str(theirs.fileno()), str(self.pid)],  # see the end of this file
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
            # one order of sets, so that sympy gives the same for the same everywhere; and one thread each
            env={**os.environ, "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"},
        )
        theirs.close()
        atexit.register(self.close)

    @classmethod
    def shared(cls) -> _Nursery:
        """Return that of this process, which is started if there is none."""
        with cls._lock:
            if cls._shared is None or cls._shared.pid != os.getpid() or cls._shared.process.poll() is not None:
                cls._shared = cls()
            return cls._shared

    def fork(self, function: Callable[[Any], Any], max_memory_mb: int) -> Connection:
        """Ask for a child, and return the connection to it."""
        ours, theirs = socket.socketpair()
        with self.lock, theirs:
            socket.send_fds(self.socket, [b"+"], [theirs.fileno()])
            self.orders.send((function, max_memory_mb))
        return Connection(ours.detach())

    def close(self) -> None:
        """End it and all its children."""
        if self.pid != os.getpid():
            return
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.orders.close()
        self.socket.close()


# ------------------------------------------------------------------------------------------------
# In the nursery


def _nurse(number: int, parent: int) -> None:
    """Fork children until the process that started this one has gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children leave nothing to be waited for
    with socket.socket(fileno=os.dup(number)) as handles, Connection(number) as orders:
        while True:
            try:
                while not orders.poll(_ALIVE_S):
                    if os.getppid() != parent:
                        raise EOFError
                _, [handle], _, _ = socket.recv_fds(handles, 1, 1)
            except (EOFError, OSError, ValueError):
                os.killpg(0, signal.SIGKILL)
                return
            try:
                function, max_memory_mb = orders.recv()  # imports what the children then share
            except Exception as error:  # at the end of all orders, the next look sees it
                print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
                os.close(handle)
                continue
            gc.freeze()
            if os.fork() == 0:
                orders.close()
                handles.close()
                try:
                    _serve(Connection(handle), function, max_memory_mb)
                finally:
                    os._exit(0)
            os.close(handle)


# ------------------------------------------------------------------------------------------------
# In a child


def _serve(connection: Any, function: Callable[[Any], Any], max_memory_mb: int) -> None:
    """Answer items until there are no more, each with "value" and that or "error" and why, and the seconds it took."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _limit_memory(max_memory_mb)
    with suppress(EOFError, OSError):
        connection.send(os.getpid())
        num_items = 0
        while True:
            try:
                item = connection.recv()
            except (EOFError, OSError):  # nobody asks any more
                return
            except Exception as error:
                kind, content, seconds = "error", f"the item cannot be read: {type(error).__name__}: {error}", 0.0
            else:
                kind, content, seconds = _answer(function, item)
            try:
                connection.send((kind, content, seconds))
            except (TypeError, ValueError, AttributeError, RecursionError, MemoryError, PicklingError) as error:
                connection.send(("error", f"its answer cannot be sent: {type(error).__name__}: {error}", seconds))
            num_items += 1
            if num_items % _CLEARED_EVERY == 0 and "sympy" in sys.modules:
                sys.modules["sympy"].core.cache.clear_cache()


def _answer(function: Callable[[Any], Any], item: Any) -> tuple[str, Any, float]:
    """What became of an item: "value" and that, or "error" and why; and the seconds it took."""
    start = time.perf_counter()
    try:
        return "value", function(item), time.perf_counter() - start
    except BaseException as error:  # SystemExit too: the item is at fault, and the next one may be none
        return "error", f"{type(error).__name__}: {error}", time.perf_counter() - start


def _limit_memory(max_memory_mb: int) -> None:
    """Let allocations fail beyond a limit: Linux alone counts what a process has taken, and not what it has mapped."""
    with suppress(ImportError, OSError, ValueError, IndexError):
        import resource

        begun = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
        limit, hard = begun + (max_memory_mb << 20), resource.getrlimit(resource.RLIMIT_DATA)[1]
        resource.setrlimit(resource.RLIMIT_DATA, (limit if hard < 0 else min(limit, hard), hard))


if __name__ == "__main__":  # a nursery; as a script of the standard library alone it starts in 0.1 s
    sys.path[:] = json.loads(sys.argv[1])
    _nurse(int(sys.argv[2]), int(sys.argv[3]))
