"""LeanInteract's server: started when it is needed, and again when it has died."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common import ConfigError
from generator.environments.base import ErrorKind
from retrieval.training.extras import import_extra

_INSTALL = (
    "install Lean by elan (https://leanprover-community.github.io/get_started.html), so that `lake` is on PATH, and "
    "let LeanInteract fetch its REPL once, or name a built copy as repl_path"
)


class LeanDied(Exception):
    """The REPL gave no answer, and is gone with all it knew."""

    def __init__(self, message: str, kind: ErrorKind) -> None:
        """Keep why."""
        super().__init__(message)
        self.kind: ErrorKind = kind


class ReplSession:
    """Requests to one REPL.

    Args:
        project: folder of a Lake project, whose toolchain and libraries are used; None for Lean alone
        lean_version: toolchain where there is no project, such as "v4.19.0"; None for the newest that the REPL knows
        memory_limit_mb: address space of the process; None for no limit
        repl_path: folder of a built REPL, instead of the one that LeanInteract fetches and builds
        lake_path: the command `lake`
        build: build the project first
    """

    def __init__(
        self,
        project: str | None,
        lean_version: str | None,
        memory_limit_mb: int | None,
        repl_path: str | None,
        lake_path: str,
        build: bool,
    ) -> None:
        """Import LeanInteract and set up its REPL, which the first request starts.

        Raises:
            ConfigError: if LeanInteract, Lean or the project is not there
        """
        self.lean = import_extra("lean_interact", "lean", "the environment lean")
        self.lean_error = import_extra("lean_interact.interface", "lean", "the environment lean").LeanError
        if project is not None and not Path(project).is_dir():
            raise ConfigError(f"project {project} is no folder; give the folder of a Lake project, or leave it out")
        if project is not None and lean_version is not None:
            raise ConfigError(f"lean_version {lean_version} with a project; a project names its own in lean-toolchain")
        try:
            local = project and self.lean.LocalProject(directory=project, lake_path=lake_path, auto_build=build)
            self._config = self.lean.LeanREPLConfig(
                project=local or None,
                lean_version=lean_version,
                memory_hard_limit_mb=memory_limit_mb,
                lake_path=lake_path,
                **({} if repl_path is None else {"local_repl_path": repl_path, "build_repl": False}),
            )
        except Exception as error:  # of git, of lake, of elan: whatever is missing
            raise ConfigError(f"Lean cannot be set up: {error}; {_INSTALL}") from error
        self._server: Any = None

    @property
    def is_running(self) -> bool:
        """Whether there is a REPL; a request that finds none waits for its start too."""
        return self._server is not None

    def run(self, request: Any, timeout_s: float) -> Any:
        """Return the answer to a Command or ProofStep.

        Raises:
            LeanDied: if none came; the next call starts another REPL, which knows nothing
        """
        try:
            if self._server is None:
                self._server = self.lean.LeanServer(self._config)
            return self._server.run(request, timeout=timeout_s)
        except TimeoutError as error:
            self.stop()
            raise LeanDied(f"no answer within {timeout_s:g} s", "timeout") from error
        # a closed pipe, a process that does not start, and answers that are not JSON or lack what they must have
        except (OSError, ValueError) as error:
            self.stop()
            kind: ErrorKind = "memory" if "out of memory" in str(error).lower() else "crash"
            raise LeanDied(f"Lean died: {str(error).strip()}", kind) from error

    def stop(self) -> None:
        """End the process, if there is one."""
        server, self._server = self._server, None
        if server is not None:
            server.kill()
