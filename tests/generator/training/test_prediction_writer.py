"""Predictions on disk survive a crash, a full disk and several ranks."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from common import DataError
from generator.training.prediction_writer import CandidateWriter, read_predictions

MODULE = SimpleNamespace(decoding={"num_beams": 2}, predict_step=lambda batch, batch_idx: [])


def trainer(folder, rank=0, num_ranks=1):
    return SimpleNamespace(
        loggers=[],
        log_dir=str(folder),
        default_root_dir=str(folder),
        global_rank=rank,
        world_size=num_ranks,
        ckpt_path="best.ckpt",
        datamodule=SimpleNamespace(hparams={"data_path": "data", "predict_split": "val"}),
    )


def record(i):
    return {"full_name": f"thm{i}", "candidates": [{"tactic": "exact ⟨h⟩", "log_prob": -0.5}]}


def write(folder, batches, rank=0, num_ranks=1, finish=True):
    writer, of_rank = CandidateWriter(), trainer(folder, rank, num_ranks)
    writer.setup(of_rank, MODULE, "predict")
    writer.on_predict_start(of_rank, MODULE)
    for batch in batches:
        writer.write_on_batch_end(of_rank, MODULE, batch, None, None, 0, 0)
    if finish:
        writer.on_predict_end(of_rank, MODULE)
    return writer, of_rank


def test_ranks_are_read_as_one(tmp_path):
    write(tmp_path, [[record(0), record(1)], [record(2)]], rank=0, num_ranks=2)
    write(tmp_path, [[record(3)]], rank=1, num_ranks=2)
    assert list(read_predictions(tmp_path / "predictions")) == [record(i) for i in range(4)]
    description = json.loads((tmp_path / "predictions" / "rank1.json").read_text())
    assert description["num_ranks"] == 2 and description["split"] == "val" and description["checkpoint"] == "best.ckpt"


def test_a_crash_leaves_whole_lines_and_is_seen(tmp_path):
    writer, of_rank = write(tmp_path, [[record(0)], [record(1)]], finish=False)
    lines = (tmp_path / "predictions" / "rank0.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [record(0), record(1)], "flushed batch by batch"
    writer.on_exception(of_rank, MODULE, RuntimeError())
    with pytest.raises(DataError, match="rank 0 stopped before its end"):
        list(read_predictions(tmp_path / "predictions"))


class FullDisk:
    """A file in which one write succeeds, and no other."""

    def __init__(self, file):
        self.file, self.has_room = file, True

    def write(self, text):
        if not self.has_room:
            raise OSError(28, "No space left on device")
        self.has_room = False
        self.file.write(text)

    def flush(self):
        self.file.flush()

    def close(self):
        self.file.close()


def test_a_full_disk_is_an_error_that_keeps_what_was_written(tmp_path, monkeypatch):
    opened = Path.open

    def on_a_full_disk(path, *mode, **options):
        return FullDisk(opened(path, *mode, **options)) if path.suffix == ".jsonl" else opened(path, *mode, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", on_a_full_disk)
        writer, of_rank = write(tmp_path, [[record(0)]], finish=False)
        with pytest.raises(
            DataError, match=r"rank0\.jsonl: No space left on device after 1 predictions, which are kept"
        ):
            writer.write_on_batch_end(of_rank, MODULE, [record(1)], None, None, 0, 0)
        writer.on_exception(of_rank, MODULE, OSError())
    assert (tmp_path / "predictions" / "rank0.jsonl").read_text(encoding="utf-8").count("\n") == 1


def test_earlier_predictions_are_never_overwritten(tmp_path):
    write(tmp_path, [[record(0)]])
    with pytest.raises(DataError, match="holds earlier predictions"):
        write(tmp_path, [[record(1)]])
    assert list(read_predictions(tmp_path / "predictions")) == [record(0)]


def test_missing_folders_ranks_and_other_versions_are_named(tmp_path):
    with pytest.raises(DataError, match="holds no predictions"):
        list(read_predictions(tmp_path))
    write(tmp_path, [[record(0)]], rank=0, num_ranks=2)
    with pytest.raises(DataError, match="rank 1 of 2 is missing"):
        list(read_predictions(tmp_path / "predictions"))
    path = tmp_path / "predictions" / "rank0.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "num_ranks": 1, "format_version": 99}))
    with pytest.raises(DataError, match="format version 99"):
        list(read_predictions(tmp_path / "predictions"))


def cut(path):
    path.write_text("".join(path.read_text(encoding="utf-8").splitlines(keepends=True)[:-1]), encoding="utf-8")


def change(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


BROKEN = {
    "lost its last line": (lambda f: cut(f / "rank0.jsonl"), "rank0.jsonl: has 2 records of the 3 that were written"),
    "gone": (lambda f: (f / "rank0.jsonl").unlink(), "rank0.jsonl: cannot be read"),
    "a broken line": (lambda f: (f / "rank0.jsonl").write_bytes(b"{}\n{\n"), r"rank0\.jsonl:2: is no record"),
    "no UTF-8": (lambda f: (f / "rank0.jsonl").write_bytes(b'{"a": "\xe9"}\n'), r"rank0\.jsonl:1: is no record"),
    "half a character": (
        lambda f: (f / "rank0.jsonl").write_bytes(b'"\xed\xa0\x80"\n'),
        r"rank0\.jsonl:1: is no record",
    ),
    "no object": (lambda f: (f / "rank0.jsonl").write_bytes(b"[1]\n"), r"rank0\.jsonl:1: is no record, but '\[1\]'"),
    "nested": (lambda f: (f / "rank0.jsonl").write_bytes(b"[" * 100_000), r"rank0\.jsonl:1: is no record"),
    "no description": (lambda f: (f / "rank0.json").write_text("{"), "rank0.json: is no description of predictions"),
    "a list": (lambda f: (f / "rank0.json").write_text("[]"), "rank0.json: is no description of predictions"),
    "a field less": (lambda f: (f / "rank0.json").write_text('{"format_version": 1}'), "there is no 'finished'"),
    "another version": (lambda f: change(f / "rank0.json", format_version=9), "format version 9; this program reads 1"),
    "a text for ranks": (lambda f: change(f / "rank0.json", num_ranks="../x"), "num_ranks is '../x'"),
    "a text for a number": (lambda f: change(f / "rank0.json", num_predictions="3"), "num_predictions is '3'"),
    "more ranks": (lambda f: change(f / "rank0.json", num_ranks=10**9), "rank 1 of 1000000000 is missing"),
}


@pytest.mark.parametrize("broken, message", BROKEN.values(), ids=BROKEN)
def test_what_is_broken_or_lost_is_named(broken, message, tmp_path):
    write(tmp_path, [[record(0), record(1)], [record(2)]])
    broken(tmp_path / "predictions")
    (tmp_path / "predictions" / "rankle.json").touch()  # of someone else
    with pytest.raises(DataError, match=message):
        list(read_predictions(tmp_path / "predictions"))
