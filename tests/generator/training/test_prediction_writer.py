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
