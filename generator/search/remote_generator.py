"""A generator that answers from another process of the machine, over a local socket."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener, answer_challenge, deliver_challenge
from typing import Any, TypeAlias

from common import Candidate, ConfigError, Context, DataError, NextstepError, Pos
from generator.interface.tactic_generator import TacticGenerator

Answer: TypeAlias = Callable[[Sequence[Context], int], tuple[list[list[Candidate]], int]]


class GeneratorFailedError(NextstepError):
    """A shared generator failed, or is gone."""


_ERRORS: dict[str, type[NextstepError]] = {kind.__name__: kind for kind in (ConfigError, DataError)}


class GeneratorServer:
    """Answers clients, each in a thread of its own, so that one that dies or stands still hinders no other.

    Attributes:
        address: where clients find it
        key: by which they prove that they were told the address
    """

    def __init__(self, answer: Answer) -> None:
        """Listen.

        Args:
            answer: called by several threads at a time; returns candidates for each context, and for how many of them
                they came from memory
        """
        self._answer = answer
        self._listener = Listener(None, backlog=128)
        self.address = self._listener.address
        self.key = os.urandom(32)
        self._is_closed = False
        self._thread = threading.Thread(target=self._listen, name="generator-server", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take no further clients; those that are connected are answered until they leave."""
        if self._is_closed:
            return
        self._is_closed = True
        with suppress(OSError):
            Client(self.address).close()  # wakes the thread
        self._thread.join()
        self._listener.close()

    def _listen(self) -> None:
        while not self._is_closed:
            try:
                connection = self._listener.accept()
            except OSError:
                continue
            threading.Thread(target=self._serve, args=(connection,), name="generator-client", daemon=True).start()

    def _serve(self, connection: Connection) -> None:
        with connection, suppress(EOFError, OSError, AuthenticationError):
            deliver_challenge(connection, self.key)
            answer_challenge(connection, self.key)
            while True:
                connection.send_bytes(self._reply(connection.recv_bytes()))

    def _reply(self, message: bytes) -> bytes:
        try:
            request = json.loads(message)
            contexts = [_context_of(*row) for row in request["contexts"]]
            candidates, num_hits = self._answer(contexts, request["num_candidates"])
            return _packed({"candidates": candidates, "num_hits": num_hits})
        except Exception as error:
            kind = type(error).__name__
            said = str(error) if isinstance(error, NextstepError) else f"{kind}: {error}"
            return _packed({"error": said, "kind": kind})


class GeneratorClient(TacticGenerator):
    """Asks a `GeneratorServer`. It can be pickled, and used by several threads; each has a connection of its own.

    Attributes:
        hits: requests of this client that were answered from memory
    """

    def __init__(self, address: Any, key: bytes, reads_theorem: bool) -> None:
        """Keep where to ask; the connection is made at the first request."""
        self._address, self._key, self.reads_theorem = address, key, reads_theorem
        self.hits = 0
        self._connections = threading.local()

    def __reduce__(self) -> tuple[type[GeneratorClient], tuple[Any, bytes, bool]]:
        return type(self), (self._address, self._key, self.reads_theorem)

    def propose(self, contexts: Sequence[Context], num_candidates: int) -> list[list[Candidate]]:
        """See `TacticGenerator.propose`.

        Raises:
            ConfigError, DataError: as the generator raised them
            GeneratorFailedError: if it failed otherwise, or its process ended
        """
        rows = [(c.path, c.theorem_full_name, c.theorem_pos and tuple(c.theorem_pos), c.state) for c in contexts]
        try:
            connection = self._connection()
            connection.send_bytes(_packed({"contexts": rows, "num_candidates": num_candidates}))
            reply = json.loads(connection.recv_bytes())
        except (EOFError, OSError, AuthenticationError) as error:
            self._connections.__dict__.clear()
            raise GeneratorFailedError("the process that holds the generator has ended") from error
        if "error" in reply:
            raise _ERRORS.get(reply["kind"], GeneratorFailedError)(reply["error"])
        self.hits += reply["num_hits"]
        return [[(tactic, log_prob) for tactic, log_prob in row] for row in reply["candidates"]]

    def _connection(self) -> Connection:
        """This thread's connection; a forked process makes its own."""
        own = self._connections
        if getattr(own, "pid", None) != os.getpid():
            own.connection, own.pid = Client(self._address, authkey=self._key), os.getpid()
        connection: Connection = own.connection
        return connection


def _context_of(path: str, name: str, position: list[int] | None, state: str) -> Context:
    return Context(path, name, None if position is None else Pos(*position), state)


def _packed(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode()
