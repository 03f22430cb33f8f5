"""What the cluster's workers use of Ray, in this process: a call is made at once, its error comes with the answer."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any


class RayError(Exception):
    """Of Ray itself, as when a process has died."""


class RayTaskError(RayError):
    """What a call raised."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class FakeRay:
    """Stands in `sys.modules` for the package ray.

    Attributes:
        exceptions: as Ray names them
        num_made: actors that were made, by their class
        num_killed: actors that were killed
        init_error: is raised at the start
        is_running: between start and end
    """

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(self) -> None:
        self.num_made: dict[str, int] = {}
        self.num_killed = 0
        self.init_error: Exception | None = None
        self.is_running = False

    def init(self, **options: Any) -> None:
        """As Ray's, which takes SIGTERM over."""
        self.is_running = True
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))
        if self.init_error is not None:
            raise self.init_error

    def shutdown(self) -> None:
        self.is_running = False

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 2.0}

    def remote(self, **options: Any) -> Callable[[type], Any]:
        """As the decorator of an actor's class."""
        return lambda kind: SimpleNamespace(remote=lambda *args: self._actor(kind, args))

    def get(self, answer: Any) -> Any:
        ((value, error),) = answer
        if error is not None:
            raise error
        return value

    def wait(self, answers: list[Any], timeout: float | None) -> tuple[list[Any], list[Any]]:
        return answers[:1], answers[1:]

    def kill(self, actor: Any) -> None:
        self.num_killed += 1

    def _actor(self, kind: type, args: Any) -> Any:
        self.num_made[kind.__name__] = self.num_made.get(kind.__name__, 0) + 1
        made = kind(*args)
        methods = [name for name in vars(kind) if not name.startswith("_")]
        return SimpleNamespace(**{name: SimpleNamespace(remote=_caller(getattr(made, name))) for name in methods})


def _caller(method: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any) -> list[tuple[Any, Exception | None]]:
        try:
            return [(method(*args), None)]
        except RayError as error:
            return [(None, error)]
        except Exception as error:
            return [(None, RayTaskError(error))]

    return call
