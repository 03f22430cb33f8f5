"""Coq's programs on this machine: where they are, and whether we speak their protocol."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from common import ConfigError

# Protocol 20220205 of Coq 8.16 up to 20240517 of Rocq 9: the same calls in the same form; only how a failure tells its
# place differs, which is not read. Before 8.16 `Add` took no offsets.
_OLDEST, _BEYOND = (8, 16), (10, 0)
_NAMES = ("coqidetop.opt", "rocqidetop.opt", "coqidetop", "rocqidetop")
INSTALL = "install Coq 8.16 to Rocq 9, such as by `apt-get install coq libcoq-stdlib` or `opam install coqide-server`"


@dataclass(frozen=True)
class Programs:
    """What an installation offers.

    Attributes:
        coqidetop: speaks the XML protocol of Coq's editor
        coqtop: command that runs a file sentence by sentence
        version: such as "8.16.1"
        standard_library: its root, what `coqc -where` prints
    """

    coqidetop: str
    coqtop: tuple[str, ...]
    version: str
    standard_library: Path


def find_programs(coqidetop: str | None = None) -> Programs:
    """Return the programs beside coqidetop, which is looked for on PATH if it is not given.

    Raises:
        ConfigError: if it is not installed, or of a version that we do not speak with
    """
    names = _NAMES if coqidetop is None else (coqidetop,)
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        where = "coqidetop is not on PATH" if coqidetop is None else f"coqidetop is {coqidetop!r}, which is no program"
        raise ConfigError(f"{where}; {INSTALL}, or give its path as the option coqidetop")
    return _programs(str(Path(found).absolute()))


@lru_cache
def _programs(coqidetop: str) -> Programs:
    said = _output_of([coqidetop, "--version"])
    version = re.search(r"version (\d+)\.(\d+)(\S*)", said)
    if version is None:
        raise ConfigError(f"{coqidetop} --version prints no version of Coq but {said[:80]!r}; {INSTALL}")
    if not _OLDEST <= (int(version[1]), int(version[2])) < _BEYOND:
        raise ConfigError(f"{coqidetop} is of version {version[1]}.{version[2]}{version[3]}; {INSTALL}")
    library = _output_of([coqidetop, "-where"]).strip()
    return Programs(coqidetop, _coqtop(coqidetop), "".join(version[0].split()[1:]), Path(library))


def _coqtop(coqidetop: str) -> tuple[str, ...]:
    folder = str(Path(coqidetop).parent)
    for path in (folder, None):  # beside it, else on PATH
        for command in (("coqtop",), ("coqtop.opt",), ("rocq", "repl")):
            if program := shutil.which(command[0], path=path):
                return (program, *command[1:])
    raise ConfigError(f"there is {coqidetop}, but no coqtop beside it or on PATH; {INSTALL}")


def _output_of(command: list[str]) -> str:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", errors="replace", timeout=60
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"{' '.join(command)} does not run: {error}; {INSTALL}") from error
    return done.stdout
