"""Predictions on disk: one JSON line an example, one file a rank, whole up to the last batch."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import pytorch_lightning as pl
from pytorch_lightning.callbacks import BasePredictionWriter

from common import DataError
from retrieval.training.checkpoints import Restorable
from retrieval.training.files import write_json, writing_file
from retrieval.training.run_folder import run_folder

FORMAT_VERSION = 1


class CandidateWriter(BasePredictionWriter):
    """Writes what `predict_step` returns to `<run folder>/predictions/`.

    `rank<r>.jsonl` grows by whole lines, batch by batch, so a crash costs the batch it met and ranks never
    share a file. `rank<r>.json` beside it holds the format version, what was predicted with what, and
    whether the rank came to its end.
    """

    def __init__(self) -> None:
        super().__init__(write_interval="batch")
        self._file: TextIO | None = None
        self._num_written = 0
        self._path = Path()

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Learn the folder while all ranks are here."""
        super().setup(trainer, pl_module, stage)
        self._path = run_folder(trainer) / "predictions" / f"rank{trainer.global_rank}.jsonl"

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open this rank's file; one from an earlier run in the same folder is never overwritten."""
        path = self._path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._num_written = 0
        try:
            self._file = path.open("x", encoding="utf-8")
        except FileExistsError as error:
            raise DataError(f"{path}: holds earlier predictions; move them or choose another run folder") from error
        self._describe(trainer, pl_module, finished=False)

    def write_on_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        prediction: Any,
        batch_indices: Sequence[int] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Append a batch.

        Raises:
            DataError: if the disk is full; what was written before stays
        """
        assert self._file is not None
        lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in prediction)
        try:
            self._file.write(lines)
            self._file.flush()
        except OSError as error:
            raise DataError(
                f"{self._path}: {error.strerror} after {self._num_written} predictions, which are "
                "kept; make room and predict again"
            ) from error
        self._num_written += len(prediction)

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Mark this rank's file as complete."""
        self._close()
        self._describe(trainer, pl_module, finished=True)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Close the file; its description goes on saying that it is not complete."""
        self._close()

    def _close(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            try:
                file.close()
            except OSError:  # a full disk, already reported
                return

    def _describe(self, trainer: pl.Trainer, pl_module: pl.LightningModule, finished: bool) -> None:
        datamodule = getattr(trainer, "datamodule", None)
        options = getattr(datamodule, "hparams", {})
        description = {
            "format_version": FORMAT_VERSION,
            "finished": finished,
            "num_predictions": self._num_written,
            "num_ranks": trainer.world_size,
            "checkpoint": str(trainer.ckpt_path or ""),
            "data_path": str(options.get("data_path", "")),
            "split": str(options.get("predict_split", "")),
            "decoding": pl_module.kept_options() if isinstance(pl_module, Restorable) else {},
        }
        write_json(self._path.with_suffix(".json"), description)


def write_candidates(folder: Path, records: Sequence[Mapping[str, Any]], about: Mapping[str, Any]) -> None:
    """Write the records of a generator that is no module of Lightning, for `read_predictions`.

    Args:
        folder: must hold no predictions
        records: as `predict_step` returns them
        about: what else the description says, such as data_path and split

    Raises:
        DataError: if there are predictions, or the system refuses to write
    """
    path = folder / "rank0.jsonl"
    if path.exists():
        raise DataError(f"{path}: holds earlier predictions; move them or choose another folder")
    with writing_file(path, replace=False) as part:
        lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        part.write_text("".join(lines), encoding="utf-8")
    known = {"format_version": FORMAT_VERSION, "finished": True, "num_predictions": len(records), "num_ranks": 1}
    write_json(path.with_suffix(".json"), {**known, **about})


def read_predictions(folder: str | Path) -> Iterator[dict[str, Any]]:
    """Yield the records of all ranks.

    Raises:
        DataError: if a rank is missing or stopped before its end, a description or a record is broken, or there are not
            as many records as were written
    """
    folder = Path(folder)
    descriptions = {
        int(match[1]): _read_description(path)
        for path in folder.glob("rank*.json")
        if (match := re.fullmatch(r"rank(\d{1,9})\.json", path.name))
    }
    if not descriptions:
        raise DataError(f"{folder}: holds no predictions; `predict` writes them to predictions/ of its run folder")
    num_ranks = descriptions[min(descriptions)]["num_ranks"]
    for rank in range(num_ranks):
        if rank not in descriptions:
            raise DataError(f"{folder}: rank {rank} of {num_ranks} is missing; predict again")
        if not descriptions[rank]["finished"]:
            raise DataError(f"{folder}: rank {rank} stopped before its end; predict again")
    for rank in range(num_ranks):
        yield from _read_records(folder / f"rank{rank}.jsonl", descriptions[rank]["num_predictions"])


def _read_description(path: Path) -> dict[str, Any]:
    """What a rank says of its records."""
    try:
        description: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if description["format_version"] != FORMAT_VERSION:
            raise ValueError(f"format version {description['format_version']}; this program reads {FORMAT_VERSION}")
        for name, kind in (("finished", bool), ("num_predictions", int), ("num_ranks", int)):
            if type(description[name]) is not kind or description[name] < 0:
                raise ValueError(f"{name} is {str(description[name])[:60]!r}")
    except (AttributeError, KeyError, OSError, RecursionError, TypeError, ValueError) as error:
        what = f"there is no {error}" if isinstance(error, KeyError) else str(error)
        raise DataError(f"{path}: is no description of predictions ({what}); predict again") from error
    return description


def _read_records(path: Path, number: int) -> Iterator[dict[str, Any]]:
    """The records of one rank, which must be so many."""
    found = 0
    try:
        with path.open("rb") as file:
            for found, line in enumerate(file, start=1):
                try:
                    record = json.loads(line.decode())
                except (RecursionError, ValueError) as error:
                    raise DataError(f"{path}:{found}: is no record ({error}); predict again") from error
                if not isinstance(record, dict):
                    raise DataError(f"{path}:{found}: is no record, but {str(record)[:60]!r}; predict again")
                yield record
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); predict again") from error
    if found != number:
        raise DataError(f"{path}: has {found} records of the {number} that were written; predict again")
