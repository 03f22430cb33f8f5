"""Names and groups of cards."""

import re
from pathlib import Path

import pytest
from pytorch_lightning.loggers import CSVLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from retrieval.training.tensorboard import TensorBoard, layout_of, tag_of

OURS = {
    "grad_norm": "optimizer/grad_norm",
    "lr-AdamW": "optimizer/lr-AdamW",
    "lr-MuonAdamW/pg1": "optimizer/lr-MuonAdamW/pg1",
    "useful_bytes_per_s": "throughput/useful_bytes_per_s",
    "useful_tokens_per_s": "throughput/useful_tokens_per_s",
    "model_flops_per_s": "throughput/model_flops_per_s",
    "mfu": "throughput/mfu",
    "padding_share": "throughput/padding_share",
    "data_wait_share": "throughput/data_wait_share",
}
REPROVERS = ("loss_train_step", "loss_train_epoch", "loss_val", "top1_acc_val", "top10_acc_val", "Recall@10_val")


def test_what_tells_of_speed_and_optimizer_is_grouped_and_the_rest_keeps_its_name() -> None:
    assert {name: tag_of(name) for name in OURS} == OURS
    assert [tag_of(name) for name in REPROVERS] == list(REPROVERS)


def test_the_epoch_is_no_card_and_other_loggers_keep_it(tmp_path: Path) -> None:
    board, table = TensorBoard(tmp_path, "run"), CSVLogger(tmp_path, "csv")
    for logger in (board, table):
        logger.log_metrics({"loss_val": 1.5, "grad_norm": 2.0, "epoch": 3}, step=7)
        logger.save()
    events = EventAccumulator(board.log_dir).Reload()
    assert set(events.Tags()["scalars"]) == {"loss_val", "optimizer/grad_norm"}
    assert [(event.step, event.value) for event in events.Scalars("loss_val")] == [(7, 1.5)]
    columns = (Path(table.log_dir) / "metrics.csv").read_text().splitlines()[0].split(",")
    assert set(columns) == {"loss_val", "grad_norm", "epoch", "step"}


@pytest.mark.parametrize("grouped", [True, False], ids=["ours", "lightnings"])
def test_the_layout_names_what_is_logged_with_groups_and_without(grouped: bool) -> None:
    layout = layout_of({"top-k accuracy on val": ["top1_acc_val"]})
    assert list(layout) == ["Loss", "Evaluation", "Throughput", "Optimizer"]
    names = [*REPROVERS, *(OURS.values() if grouped else OURS)]
    for charts in layout.values():
        for kind, patterns in charts.values():
            assert kind == "Multiline"
            for pattern in patterns:
                assert any(re.match(pattern, name) for name in names), pattern


def test_a_model_without_charts_of_its_own_has_no_empty_category() -> None:
    assert "Evaluation" not in layout_of({})
