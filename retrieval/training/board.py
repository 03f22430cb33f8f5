"""What a run shows beside its scalars: which of them share a chart in TensorBoard, and figures of each evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy.typing as npt
import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn

from common import ConfigError
from retrieval.training.charts import Chart
from retrieval.training.drawing import check_drawing, draw, to_png
from retrieval.training.files import writing_file
from retrieval.training.run_folder import run_folder
from retrieval.training.tensorboard import layout_of

FIGURES = "figures"  # the folder of PNG files in a run folder


@runtime_checkable
class Charted(Protocol):
    """A model that has something to draw, or a callback of a run of one."""

    def scalar_charts(self) -> Mapping[str, Sequence[str]]:
        """Names of the scalars of its evaluation that belong together, by the title of their chart."""
        ...

    def charts(self, split: str) -> Mapping[str, Chart]:
        """Figures of the evaluation that ends, by the names of their files; all ranks ask together."""
        ...


class Board(pl.Callback):
    """Lays out TensorBoard's Custom Scalars, and draws figures after each evaluation, into loggers and `figures/`.

    Figures go to loggers that take images: TensorBoard and Weights & Biases. The four of an evaluation take 0.75 s of a
    core (an Intel Xeon of 2023), and 125 kB of TensorBoard's file; the PNG files of the last evaluation replace those
    before. Without matplotlib one line says so, and the run goes on.
    """

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._draws: bool | None = None  # not known yet
        self._has_layout = False

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Learn the folder while all ranks are here, and whether there will be figures."""
        if stage == "predict" or not isinstance(pl_module, Charted):
            return
        self._folder = run_folder(trainer)
        if self._draws is None:
            try:
                check_drawing()
                self._draws = True
            except ConfigError as error:
                self._draws = False
                rank_zero_info(f"no figures: {error}")

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Register the layout, once for each run."""
        if self._has_layout or not trainer.is_global_zero or not isinstance(pl_module, Charted):
            return
        self._has_layout = True
        for logger in trainer.loggers:
            experiment: Any = getattr(logger, "experiment", None)
            if hasattr(experiment, "add_custom_scalars"):
                charts = {
                    title: names
                    for each in _charted(trainer, pl_module)
                    for title, names in each.scalar_charts().items()
                }
                experiment.add_custom_scalars(layout_of(charts))

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw; the model's own hook, which forgets what it counted, comes after the callbacks'."""
        if not trainer.sanity_checking:
            self._draw(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """As after validation."""
        self._draw(trainer, pl_module, "test")

    def _draw(self, trainer: pl.Trainer, pl_module: pl.LightningModule, split: str) -> None:
        if not isinstance(pl_module, Charted):
            return
        # on all ranks, which add up what they counted
        charts = {name: chart for each in _charted(trainer, pl_module) for name, chart in each.charts(split).items()}
        if not trainer.is_global_zero or not self._draws or self._folder is None:
            return
        note = f"{split}, step {trainer.global_step:,}" if trainer.state.fn == "fit" else split
        for name, chart in charts.items():
            try:
                pixels = draw(chart, note)
                with writing_file(self._folder / FIGURES / f"{name}_{split}.png") as part:
                    part.write_bytes(to_png(pixels))
                for logger in trainer.loggers:
                    _log_image(logger, f"{split}_figures/{name}", pixels, trainer.global_step)
            except Exception as error:  # whatever it is, days of training are worth more than a figure
                rank_zero_warn(f"no figure {name}_{split}: {type(error).__name__}: {error}; the run goes on")


def _charted(trainer: pl.Trainer, pl_module: Charted) -> list[Charted]:
    """The model, and callbacks that have something to draw."""
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    return [pl_module, *(each for each in callbacks if isinstance(each, Charted))]


def _log_image(logger: Any, tag: str, pixels: npt.NDArray[Any], step: int) -> None:
    """Give pixels, uint8 (height, width, 3), to a logger that takes images."""
    experiment: Any = getattr(logger, "experiment", None)
    if hasattr(experiment, "add_image"):
        experiment.add_image(tag, pixels, step, dataformats="HWC")
    elif hasattr(logger, "log_image"):
        logger.log_image(key=tag, images=[pixels], step=step)
