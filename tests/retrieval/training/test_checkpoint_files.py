"""Checkpoints on disk: whole or as before, whatever happens while one is written."""

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from retrieval.training import checkpoint_files
from retrieval.training.checkpoint_files import WholeFileCheckpointIO, remove_leftovers
from retrieval.training.last_checkpoint import LastCheckpoint
from tests.fakes import quiet_trainer
from tests.generator.data_families import Recorder

ROOT = Path(__file__).resolve().parents[3]

WRITE = """
import resource, sys, torch
from retrieval.training.checkpoint_files import WholeFileCheckpointIO
from retrieval.training.commands import run

limit = int(sys.argv[2])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
run(lambda: WholeFileCheckpointIO().save_checkpoint({"new": torch.ones(1_000_000)}, sys.argv[1]))
"""


def write(path: Path, limit: int = 0, **options: Any) -> subprocess.CompletedProcess[str]:
    """Write a checkpoint of 4 MB in a process whose files may have no more than so many bytes."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", WRITE, str(path), str(limit)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, **options)


def test_a_checkpoint_is_written_beside_the_one_it_replaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "last.ckpt"
    seen: list[list[str]] = []
    save = torch.save

    def watched(checkpoint: Any, file: Any) -> None:
        seen.append(sorted(p.name.replace(p.name[-13:-5], "*") for p in path.parent.iterdir() if p != path))
        save(checkpoint, file)

    monkeypatch.setattr(checkpoint_files.torch, "save", watched)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    for number in (1, 2):
        WholeFileCheckpointIO().save_checkpoint({"number": number}, path)
        assert torch.load(path, weights_only=True) == {"number": number}
        assert WholeFileCheckpointIO().load_checkpoint(path, weights_only=True) == {"number": number}
    assert seen == [["last.ckpt.*.part"]] * 2 and list(path.parent.iterdir()) == [path]
    (tmp_path / "plain").touch()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode, "who may read it is up to the umask"


def test_a_full_disk_leaves_the_checkpoint_before_and_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    torch.save({"old": 1}, path)
    done = write(path, limit=2_000_000)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.startswith(f"error: cannot write checkpoint {path}: ") and "was kept" in done.stderr
    assert done.stderr.count("\n") == 1
    assert torch.load(path, weights_only=True) == {"old": 1} and list(tmp_path.iterdir()) == [path]


def test_what_a_killed_run_left_is_removed_by_the_next_and_what_is_being_written_is_not(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for name in ("last.ckpt.0a1b2c3d.part", "step=3.ckpt.00000000.part", "last.ckpt", "notes.part", "x.json.1.part"):
        (folder / name).touch()
    with (folder / "last.ckpt.0a1b2c3d.part").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        remove_leftovers(folder)
        assert {p.name for p in folder.glob("*ckpt*")} == {"last.ckpt.0a1b2c3d.part", "last.ckpt"}
    trainer = quiet_trainer(tmp_path, max_epochs=1, enable_checkpointing=True, callbacks=[LastCheckpoint()])
    batches = DataLoader([0], collate_fn=lambda rows: {"index": rows})
    trainer.fit(Recorder(), batches, batches)
    assert {p.name for p in folder.iterdir()} == {"last.ckpt", "notes.part", "x.json.1.part"}


def test_a_kill_while_writing_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    torch.save({"old": 1}, path)
    code = "import torch, os, signal\nreal = torch.save\ndef save(c, f):\n    real(c, f); f.flush()\n"
    code += f"    os.kill(os.getpid(), {int(signal.SIGKILL)})\ntorch.save = save\n" + WRITE
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code, str(path), "0"], env=environment, timeout=120)
    assert done.returncode == -signal.SIGKILL
    assert torch.load(path, weights_only=True) == {"old": 1}
    assert len(list(tmp_path.iterdir())) == 2
    remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == [path]
