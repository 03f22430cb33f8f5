"""A coqidetop that dies, hangs or speaks otherwise is an exception that names the theorem, in limited time."""

import os
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from common import ConfigError
from generator.environments.base import (
    BrokenEnvironmentError,
    CannotStartError,
    Statement,
    TacticError,
)
from generator.environments.coq import CoqEnvironment
from generator.environments.coq.confinement import Confinement, kill, last_words

SOURCE = Path(__file__).with_name("fake_coqidetop.py").read_text(encoding="utf-8")
TRUE = Statement("True", name="broken_theorem")


def fake(folder: Path, behaviour: str) -> str:
    """Write a coqidetop that behaves so, with a coqtop beside it."""
    for name in (behaviour, "coqtop"):
        path = folder / name
        path.write_text(f"#!{sys.executable} -IS\n{SOURCE}", encoding="utf-8")
        path.chmod(0o755)
    return str(folder / behaviour)


@pytest.mark.parametrize("behaviour", ["crashes", "babbles", "other_protocol"])
def test_one_that_never_works_is_told_with_the_theorem(tmp_path: Path, behaviour: str) -> None:
    with CoqEnvironment(coqidetop=fake(tmp_path, behaviour)) as environment:
        for _ in range(2):  # another call may work, so it is tried again
            with pytest.raises(BrokenEnvironmentError, match="broken_theorem: "):
                environment.start(TRUE)
        assert environment.pids == []


def test_one_that_does_not_read_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("generator.environments.coq.document._HOUSEKEEPING_S", 0.2)
    monkeypatch.setattr("generator.environments.coq.channel._GRACE_S", 0.2)
    with CoqEnvironment(coqidetop=fake(tmp_path, "deaf")) as environment:
        with pytest.raises(BrokenEnvironmentError, match="no answer to an interrupt"):
            environment.start(TRUE)


@pytest.mark.parametrize(
    ("behaviour", "kind", "message"),
    [
        ("crashes_later", "crash", "signal SIGSEGV: Fatal error: exception Not_found"),
        ("out_of_memory", "memory", "out of memory"),
        ("hangs", "timeout", "no answer to an interrupt"),
    ],
)
def test_a_tactic_that_kills_it_is_an_error_of_its_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, behaviour: str, kind: str, message: str
) -> None:
    monkeypatch.setattr("generator.environments.coq.channel._GRACE_S", 0.2)
    with CoqEnvironment(coqidetop=fake(tmp_path, behaviour), timeout_s=0.5) as environment:
        state = environment.start(TRUE)
        assert state.pp == "⊢ P"
        for _ in range(2):  # the state stays usable, in a new process
            result = environment.run_tactic(state, "auto")
            assert isinstance(result, TacticError) and result.kind == kind and message in result.message
        refused = environment.run_tactic(state, "Abort.")
        assert isinstance(refused, TacticError) and refused.kind == "refused"


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        ("old", "is of version 8.9.1; install Coq 8.16 to Rocq 9, such as by `apt-get install coq libcoq-stdlib`"),
        ("mute", "prints no version of Coq but 'hm"),
    ],
)
def test_another_version_is_told_in_one_line(tmp_path: Path, behaviour: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as told:
        CoqEnvironment(coqidetop=fake(tmp_path, behaviour))
    assert "\n" not in str(told.value)


def test_rocq_9_is_accepted(tmp_path: Path) -> None:
    with CoqEnvironment(coqidetop=fake(tmp_path, "new")) as environment:
        assert environment.programs.version == "9.1.0"


def test_what_is_not_installed_is_told_with_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="coqidetop is not on PATH; install Coq .*apt-get install coq libcoq-stdlib"):
        CoqEnvironment()
    with pytest.raises(ConfigError, match="coqidetop is 'nowhere', which is no program"):
        CoqEnvironment(coqidetop="nowhere")


@pytest.mark.parametrize("option", ["timeout_s", "start_timeout_s", "memory_gb", "max_nodes", "max_processes"])
def test_limits_are_positive(option: str) -> None:
    with pytest.raises(ConfigError, match=f"{option} is 0"):
        CoqEnvironment(**{option: 0})  # type: ignore[arg-type]


def test_it_may_be_closed_twice_and_leaves_nothing(tmp_path: Path) -> None:
    environment = CoqEnvironment(coqidetop=fake(tmp_path, "well"))
    environment.start(TRUE)
    (pid,) = environment.pids
    folder = environment._confinement.folder
    environment.close()
    environment.close()
    assert not folder.exists() and not Path(f"/proc/{pid}").exists()


def test_one_that_is_closed_says_so(tmp_path: Path) -> None:
    with CoqEnvironment(coqidetop=fake(tmp_path, "well")) as environment:
        state = environment.start(TRUE)
    for use in (
        lambda: environment.start(TRUE),
        lambda: environment.run_tactic(state, "auto"),
        lambda: environment.check(TRUE, ["auto"]),
    ):
        with pytest.raises(RuntimeError, match="the environment is closed"):
            use()
    assert environment.pids == []


@pytest.mark.skipif(shutil.which("prlimit") is None, reason="needs prlimit")
def test_no_file_grows_beyond_all_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("generator.environments.coq.confinement._MAX_FILE", 2**16)
    confinement = Confinement(memory_gb=1)
    with tempfile.TemporaryFile() as errors:
        process = confinement.start(["head", "-c", "1000000", "/dev/zero"], errors, talks=False)
        assert process.stdout is None and process.wait() == 0  # nobody hears it: no file
        copy = ["dd", "if=/dev/zero", f"of={confinement.folder}/large", "bs=1000", "count=1000"]
        assert confinement.start(copy, errors, talks=False).wait() != 0
        assert (confinement.folder / "large").stat().st_size <= 2**16
        confinement.start(["sh", "-c", "yes long >&2"], errors, talks=False).wait()
        assert len(last_words(errors)) <= 2**16
    confinement.close()


def test_a_statement_that_is_refused_is_told_before_anything_starts(tmp_path: Path) -> None:
    with CoqEnvironment(coqidetop=fake(tmp_path, "well")) as environment:
        with pytest.raises(CannotStartError, match="more than one sentence"):
            environment.start(Statement("True. Axiom x : False"))
        assert environment.pids == []


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
def test_a_process_outlives_the_thread_that_asked_for_it_and_not_the_environment() -> None:
    """The signal of a parent's death comes when the thread ends that started the process."""
    confinement = Confinement(memory_gb=1)
    started = []

    def start() -> None:
        with open(os.devnull, "wb") as errors:
            started.append(confinement.start(["sleep", "60"], errors))

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    time.sleep(0.1)
    assert started[0].poll() is None
    confinement.close()
    assert started[0].poll() is not None
    kill(started[0])
