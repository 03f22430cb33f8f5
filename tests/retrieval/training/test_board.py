"""When figures are drawn, where they go, and what happens without matplotlib."""

import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from pytorch_lightning.loggers import CSVLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from retrieval.training import board
from retrieval.training.board import Board
from retrieval.training.charts import Chart, rank_histogram
from retrieval.training.tensorboard import TensorBoard
from tests.fakes import quiet_trainer

MESSAGE = (
    "no figures: drawing figures needs the package matplotlib; pip install -e '.[figures]' in the project's folder"
)


class Module(pl.LightningModule):
    """Something that is trained for a step an epoch, and counts its validations."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.asked: list[str] = []

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        return self.weight.sum()

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        pass

    def test_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        pass

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def scalar_charts(self) -> dict[str, list[str]]:
        return {"accuracy": ["top1_acc_val"]}

    def charts(self, split: str) -> dict[str, Chart]:
        self.asked.append(split)
        return {"rank": rank_histogram([len(self.asked), 1], title="Rank", what="states", xlabel="rank")}


def trainer_of(folder: Path, callback: Board, **options: Any) -> pl.Trainer:
    return quiet_trainer(folder, callbacks=[callback], max_epochs=2, **options)


def fit(folder: Path, **options: Any) -> Module:
    module, data = Module(), [torch.ones(1)]
    trainer_of(folder, Board(), **options).fit(module, data, data)
    return module


@pytest.fixture
def without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("matplotlib")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)


@pytest.fixture
def with_matplotlib() -> None:
    pytest.importorskip("matplotlib")


@pytest.mark.usefixtures("with_matplotlib")
def test_each_validation_is_an_image_in_tensorboard_and_the_last_one_a_file(tmp_path: Path) -> None:
    logger = TensorBoard(tmp_path, "run")
    assert fit(tmp_path, logger=logger, num_sanity_val_steps=1).asked == ["val", "val"]
    events = EventAccumulator(logger.log_dir).Reload()
    assert events.Tags()["images"] == ["val_figures/rank"]
    assert [event.step for event in events.Images("val_figures/rank")] == [1, 2]
    assert [path.name for path in (Path(logger.log_dir) / "figures").iterdir()] == ["rank_val.png"]


@pytest.mark.usefixtures("with_matplotlib")
def test_validate_and_test_draw_too(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, Board(), logger=CSVLogger(tmp_path, "run"))
    trainer.validate(Module(), [torch.ones(1)], verbose=False)
    trainer.test(Module(), [torch.ones(1)], verbose=False)
    names = sorted(path.name for path in (Path(str(trainer.log_dir)) / "figures").iterdir())
    assert names == ["rank_test.png", "rank_val.png"]


@pytest.mark.usefixtures("with_matplotlib")
def test_a_logger_with_a_method_for_images_gets_them(tmp_path: Path) -> None:
    class Images(CSVLogger):
        """As Lightning's logger of Weights & Biases takes images."""

        taken: list[Any]

        def log_image(self, key: str, images: list[Any], step: int | None = None) -> None:
            self.taken.append((key, step, images))

    logger = Images(tmp_path, "run")
    logger.taken = []
    fit(tmp_path, logger=logger)
    assert [(key, step) for key, step, _ in logger.taken] == [("val_figures/rank", 1), ("val_figures/rank", 2)]
    file = np.asarray(Image.open(Path(logger.log_dir) / "figures" / "rank_val.png"))
    assert (logger.taken[-1][2][0] == file).all()


@pytest.mark.usefixtures("with_matplotlib")
def test_no_logger_at_all_leaves_files(tmp_path: Path) -> None:
    fit(tmp_path)
    assert list(tmp_path.rglob("figures/rank_val.png"))


def test_the_layout_is_registered_once_for_a_run(tmp_path: Path) -> None:
    logger, callback, module, data = TensorBoard(tmp_path, "run"), Board(), Module(), [torch.ones(1)]
    trainer = trainer_of(tmp_path, callback, logger=logger)
    trainer.fit(module, data, data)
    trainer.fit_loop.max_epochs = 3
    trainer.fit(module, data, data)
    assert len(EventAccumulator(logger.log_dir).Reload().Tensors("custom_scalars__config__")) == 1


@pytest.mark.usefixtures("without_matplotlib")
def test_without_matplotlib_one_line_says_so_and_the_run_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logger = TensorBoard(tmp_path, "run")
    with caplog.at_level(logging.INFO, "pytorch_lightning.utilities.rank_zero"):
        module = fit(tmp_path, logger=logger)
    assert [record.message for record in caplog.records].count(MESSAGE) == 1
    assert module.global_step == 2 and not (Path(logger.log_dir) / "figures").exists()
    assert "custom_scalars__config__" in EventAccumulator(logger.log_dir).Reload().Tags()["tensors"]


def test_a_figure_that_fails_costs_a_warning_and_not_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise ValueError("no such colour")

    monkeypatch.setattr(board, "check_drawing", lambda: None)
    monkeypatch.setattr(board, "draw", fail)
    with pytest.warns(UserWarning, match="no figure rank_val: ValueError: no such colour; the run goes on"):
        assert fit(tmp_path).global_step == 2
    assert not list(tmp_path.rglob("*.png")) and not list(tmp_path.rglob("*.part"))


@pytest.mark.usefixtures("with_matplotlib")
def test_a_file_is_whole_or_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fit(tmp_path)
    [path] = tmp_path.rglob("rank_val.png")
    before = path.read_bytes()

    def fail(_: Any) -> bytes:
        raise OSError("disk full")

    monkeypatch.setattr(board, "to_png", fail)
    with pytest.warns(UserWarning, match="disk full"):
        fit(tmp_path)
    assert path.read_bytes() == before and [p.name for p in path.parent.iterdir()] == ["rank_val.png"]


def test_a_model_with_nothing_to_draw_is_left_alone(tmp_path: Path) -> None:
    class Plain(pl.LightningModule):
        """Validates, and has no charts."""

        def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
            pass

    trainer_of(tmp_path, Board()).validate(Plain(), [torch.ones(1)], verbose=False)
    assert not list(tmp_path.rglob("figures"))
