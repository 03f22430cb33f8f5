"""What figures of a generator's evaluation count, on worked examples and in both families."""

import math
import re
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2

from generator.training import next_step_generator
from generator.training.outcomes import TacticOutcomes, num_goals, tactic_charts
from retrieval.training.charts import Calibration, GroupedShares, Histogram
from tests.fakes import quiet_trainer, write_splits
from tests.generator.cli_fakes import config, run
from tests.generator.families import Family

ROOT = Path(__file__).resolve().parents[3]
NAMES = {"rank", "accuracy_by_length", "accuracy_by_goals", "calibration"}
TWO_GOALS = "case left\np q : Prop\n⊢ p\n\ncase right\np q : Prop\n⊢ q"
STATES = ["⊢ p", TWO_GOALS, "h : p\n⊢ p", "no goals", TWO_GOALS]
TACTICS = ["simp", "exact <a>And.intro</a> hp hq", "rfl", "", "omega"]
PROPOSED = [
    [("simp", math.log(0.85)), ("rfl", -4.0)],  # first
    [("simp", math.log(0.55)), ("exact And.intro hp hq", -2.0)],  # second; marks do not count
    [("simp", math.log(0.85)), ("exact h", -3.0), ("rfl", -5.0)],  # third, which is beyond k
    [],  # no candidate
    [("omega", 0.0)],  # first, and sure
]


@pytest.mark.parametrize(
    ("state", "number"),
    [
        ("⊢ p", 1),
        (TWO_GOALS, 2),
        ("theorem <a>x</a> : p ⊢ q\n\nh : a ⊢ b\n⊢ p", 1),  # a premise in front; the sign inside a hypothesis
        ("no goals", 0),
        ("", 0),
    ],
)
def test_goals_are_lines_that_begin_with_a_turnstile(state: str, number: int) -> None:
    assert num_goals(state) == number


def test_figures_of_a_worked_example() -> None:
    outcomes = TacticOutcomes(k=2)
    outcomes.observe(PROPOSED, TACTICS, STATES)
    charts = tactic_charts(outcomes.counts())
    assert set(charts) == NAMES
    rank, lengths = charts["rank"], charts["accuracy_by_length"]
    goals, calibration = charts["accuracy_by_goals"], charts["calibration"]
    assert isinstance(rank, Histogram) and rank.labels == ("1", "2", "not\nfound") and rank.counts == (2, 1, 2)
    assert isinstance(lengths, GroupedShares) and lengths.labels == ("1–8", "9–16", "17–32")
    assert lengths.counts == (4, 0, 1), "in bytes, without marks"
    assert [lengths.shares[name][0].value for name in ("top-1", "top-2")] == [0.5, 0.5]
    assert [lengths.shares[name][2].value for name in ("top-1", "top-2")] == [0.0, 1.0]
    assert isinstance(goals, GroupedShares) and goals.labels == ("1", "2") and goals.counts == (2, 2)
    assert [goals.shares[name][1].value for name in ("top-1", "top-2")] == [0.5, 1.0]
    assert isinstance(calibration, Calibration) and calibration.num == 4, "states without candidates have no first one"
    assert [low for low, _ in calibration.edges] == pytest.approx([0.5, 0.8, 0.9]) and calibration.counts == (1, 2, 1)
    assert calibration.scores == pytest.approx((0.55, 0.85, 1.0), abs=1e-5)
    assert [share.value for share in calibration.shares] == [0.0, 0.5, 1.0]


def test_one_candidate_has_one_curve() -> None:
    outcomes = TacticOutcomes(k=1)
    outcomes.observe(PROPOSED, TACTICS, STATES)
    chart = tactic_charts(outcomes.counts())["accuracy_by_length"]
    assert isinstance(chart, GroupedShares) and list(chart.shares) == ["top-1"]


def test_what_was_not_counted_is_not_drawn() -> None:
    outcomes = TacticOutcomes(k=2)
    assert tactic_charts(outcomes.counts()) == {}
    outcomes.observe([[]], ["simp"], ["a prompt in no format that is known"])
    assert set(tactic_charts(outcomes.counts())) == {"rank", "accuracy_by_length"}


def evaluate(family: Family, folder: Path, size: int) -> Any:
    """The counts of a validation in batches of this size."""
    model, found = family.build(num_beams=3), list[Any]()
    charts_of = next_step_generator.tactic_charts
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(next_step_generator, "tactic_charts", lambda counts: found.append(counts) or charts_of(counts))
        hook = type(model).on_validation_epoch_end

        def ask_and_end(self: Any) -> None:
            self.charts("val")
            hook(self)

        patch.setattr(type(model), "on_validation_epoch_end", ask_and_end)
        trainer = quiet_trainer(folder)
        trainer.validate(model, family.data(write_splits(folder / "data"), eval_batch_size=size), verbose=False)
    assert model.outcomes_val.counts().num == 0, "emptied for the next validation"
    top1 = float(trainer.callback_metrics["top1_acc_val"])
    assert found[0].num_at_rank[0] / 8 == pytest.approx(top1)
    return found[0]


def test_the_size_of_batches_changes_no_figure(family: Family, tmp_path: Path) -> None:
    small, large = (evaluate(family, tmp_path, size) for size in (1, 8))
    assert small.num == 8 and small.by_group == large.by_group and small.num_at_rank == large.num_at_rank
    assert small.num_scored == large.num_scored and small.score_sums == pytest.approx(large.score_sums, abs=1e-3)
    assert sum(map(sum, small.by_group["goals"])) == 8, "each state of the data has a goal"


def test_fit_leaves_figures_and_a_layout_whose_scalars_exist(fit_once: Any, family: Family) -> None:
    version = fit_once(family).version
    events = EventAccumulator(str(version)).Reload()
    tags = events.Tags()
    assert "epoch" not in tags["scalars"]
    for names in layout(events).values():
        for pattern in names:
            assert pattern.endswith("mfu") or any(matches(pattern, tag) for tag in tags["scalars"]), pattern
    assert layout(events)["training and validation"] == ["loss_train_step", "loss_train_epoch", "loss_val"]
    assert layout(events)["top-k accuracy on val"] == ["top1_acc_val", "top2_acc_val"]
    assert {event.step for event in events.Scalars("top1_acc_val")} == {3, 7}, "the best has a name of its own"
    assert [event.step for event in events.Scalars("val_best/top1_acc_val")] == [8]
    shares = [event.value for event in events.Scalars("throughput/data_wait_share")]
    assert len(shares) == 8 and all(0 <= share <= 1 for share in shares)
    pytest.importorskip("matplotlib")
    assert set(tags["images"]) == {f"val_figures/{name}" for name in NAMES}
    assert all([event.step for event in events.Images(tag)] == [4, 8] for tag in tags["images"])
    assert {path.name for path in (version / "figures").iterdir()} == {f"{name}_val.png" for name in NAMES}


def layout(events: EventAccumulator) -> dict[str, list[str]]:
    """The names of scalars in each chart of the tab Custom Scalars."""
    [event] = events.Tensors("custom_scalars__config__")
    found = layout_pb2.Layout.FromString(event.tensor_proto.string_val[0])
    return {chart.title: list(chart.multiline.tag) for category in found.category for chart in category.chart}


def matches(pattern: str, tag: str) -> bool:
    return re.match(pattern, tag) is not None


def test_validate_and_test_leave_figures_too(fit_once: Any, family: Family) -> None:
    pytest.importorskip("matplotlib")
    fitted = fit_once(family)
    for subcommand, split in (("validate", "val"), ("test", "test")):
        cli = run(subcommand, fitted.folder, fitted.values, "--ckpt_path", fitted.best)
        folder = Path(str(cli.trainer.log_dir)) / "figures"
        assert {path.name for path in folder.iterdir()} == {f"{name}_{split}.png" for name in NAMES}


def test_a_resumed_run_goes_on_drawing(fit_once: Any, family: Family, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    fitted = fit_once(family)
    values = config(fitted.folder / "data", tmp_path, family, max_epochs=3)
    cli = run("fit", tmp_path, values, "--ckpt_path", fitted.metrics["last_checkpoint"])
    events = EventAccumulator(str(cli.trainer.log_dir)).Reload()
    assert [event.step for event in events.Images("val_figures/rank")] == [12] and len(layout(events)) > 3


@pytest.mark.parametrize("logger", ["csv", "none", "lightnings"])
def test_figures_do_not_need_our_logger(family: Family, tmp_path: Path, logger: str) -> None:
    values = config(write_splits(tmp_path / "data"), tmp_path, family, max_epochs=1, default_root_dir=str(tmp_path))
    old = values["trainer"]["logger"] | {"class_path": "pytorch_lightning.loggers.TensorBoardLogger"}
    csv = {"class_path": "pytorch_lightning.loggers.CSVLogger", "init_args": {"save_dir": str(tmp_path), "name": "run"}}
    values["trainer"]["logger"] = {"csv": csv, "none": False, "lightnings": old}[logger]
    cli = run("fit", tmp_path, values)
    if logger == "lightnings":
        tags = EventAccumulator(str(cli.trainer.log_dir)).Reload().Tags()
        assert {"epoch", "grad_norm", "loss_val"} <= set(tags["scalars"]), "as its own class writes them"
    if logger == "csv":
        assert "epoch" in (Path(str(cli.trainer.log_dir)) / "metrics.csv").read_text().splitlines()[0].split(",")
    pytest.importorskip("matplotlib")
    assert {path.name for path in tmp_path.rglob("figures/*.png")} == {f"{name}_val.png" for name in NAMES}
