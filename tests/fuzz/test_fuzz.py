"""Whatever is in a file, it is read, or refused in a line: no traceback, no hang, nothing lost in silence, no code run.

    pytest tests/fuzz --fuzz 5000 --fuzz-seed 7 -s      # more mutations, and a table of what became of them

Each mutation follows from the seed, the kind of file and its number, which a failure names; `--fuzz-only 'KIND:NUMBER'`
repeats one.
"""

from __future__ import annotations

import faulthandler
import random
import shutil
import signal
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from common import NextstepError
from tests.fuzz.kinds import KINDS, Kind
from tests.fuzz.mutations import break_file

TIMEOUT_S = 20
CODE = "import pathlib\npathlib.Path(__file__).with_name('ran').touch()\nclass C: pass\n"


class HangError(BaseException):
    """Reading took too long."""


@contextmanager
def time_limit() -> Iterator[None]:
    """Raise HangError after a while, and end the process with a traceback of all threads where even that hangs."""

    def expire(number: int, frame: Any) -> None:
        raise HangError(f"over {TIMEOUT_S} s")

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, TIMEOUT_S)
    faulthandler.dump_traceback_later(5 * TIMEOUT_S, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def outcome(kind: Kind, sound: Path, folder: Path, seed: int, number: int) -> tuple[str, str]:
    """Break the files of a kind and read them; return what became of it, and more about a fault."""
    rng = random.Random(f"{seed} {kind.name} {number}")
    shutil.copytree(sound, folder)
    marker = folder.parent / "ran"
    (folder / "evil.py").write_text(CODE)
    files = sorted(path for path in folder.glob(kind.broken) if path.is_file() and path.name != "evil.py")
    break_file(rng, rng.choice(files), marker)
    said = StringIO()
    try:
        with time_limit(), redirect_stderr(said), redirect_stdout(said), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            counts = kind.read(folder, rng)
        if counts is not None and counts[0] != counts[1]:
            return "fault", f"{counts[0]} were there, {counts[1]} were read or said to be left out"
        result = "accepted", ""
    except NextstepError as error:
        result = ("error", "") if str(error) and "\n" not in str(error) else ("fault", f"not one line: {error!r}")
    except SystemExit as ended:
        lines = [line for line in said.getvalue().splitlines() if line.startswith("error: ")]
        is_clear = ended.code == 2 and len(lines) == 1 or ended.code in (0, None)
        result = ("error" if ended.code else "accepted", "") if is_clear else ("fault", f"exit {ended.code}: {lines}")
    except HangError as error:
        result = "fault", f"hang, {error}: {traceback.format_exc(limit=-3)}"
    except BaseException:
        result = "fault", traceback.format_exc(limit=-4)
    if marker.exists() or list(folder.rglob("ran")):
        return "fault", "code of a file was run"
    return result


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_broken_file_is_read_or_refused_in_a_line(
    kind: Kind, tmp_path: Path, request: pytest.FixtureRequest, record_property: Any
) -> None:
    total, seed = request.config.getoption("--fuzz"), request.config.getoption("--fuzz-seed")
    only = request.config.getoption("--fuzz-only")
    count = round(total * kind.share / sum(each.share for each in KINDS))
    if only is not None and only.rpartition(":")[0] != kind.name:
        pytest.skip("another kind is asked for")
    numbers = range(count) if only is None else [int(only.rpartition(":")[2])]
    sound = tmp_path / "sound"
    sound.mkdir()
    kind.make(sound)
    counted, faults = Counter[str](), dict[str, str]()
    for number in numbers:
        folder = tmp_path / f"case{number}"
        what, detail = outcome(kind, sound, folder, seed, number)
        counted[what] += 1
        if what == "fault":
            last = detail.strip().splitlines()[-1]
            faults.setdefault(last, f"--fuzz-seed {seed} --fuzz-only '{kind.name}:{number}'\n{detail}")
        if only is None:
            shutil.rmtree(folder)
    numbers_of = " | ".join(str(counted[what]) for what in ("error", "accepted", "fault"))
    print(f"\n| {kind.name} | {counted.total()} | {numbers_of} |")
    assert not faults, f"{counted['fault']} of {count} mutations:\n\n" + "\n\n".join(faults.values())


def _hang(folder: Path, rng: random.Random) -> None:
    while True:
        pass


def _traceback(folder: Path, rng: random.Random) -> None:
    raise KeyError("x")


def _two_lines(folder: Path, rng: random.Random) -> None:
    raise NextstepError("a\nb")


def _status_1(folder: Path, rng: random.Random) -> None:
    raise SystemExit(1)


def _runs_code(folder: Path, rng: random.Random) -> None:
    exec(compile((folder / "evil.py").read_text(), str(folder / "evil.py"), "exec"), {"__file__": folder / "evil.py"})


def _clear(folder: Path, rng: random.Random) -> None:
    raise NextstepError("file: is broken")


SEEN = {
    "a hang": (_hang, "fault", "hang"),
    "a traceback": (_traceback, "fault", "KeyError"),
    "two lines": (_two_lines, "fault", "not one line"),
    "another status": (_status_1, "fault", "exit 1"),
    "code that runs": (_runs_code, "fault", "code of a file was run"),
    "a record that is lost": (lambda folder, rng: (3, 2), "fault", "3 were there, 2 were read"),
    "a clear error": (_clear, "error", ""),
    "a sound answer": (lambda folder, rng: (3, 3), "accepted", ""),
}


@pytest.mark.parametrize("read, what, detail", SEEN.values(), ids=SEEN)
def test_what_is_looked_for_is_seen(
    read: Any, what: str, detail: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "TIMEOUT_S", 0.5)
    (tmp_path / "sound").mkdir()
    (tmp_path / "sound" / "x.json").write_text("{}")
    kind = Kind("x", lambda folder: None, "x.json", read)
    found = outcome(kind, tmp_path / "sound", tmp_path / "case", seed=1, number=0)
    assert found[0] == what and detail in found[1]
