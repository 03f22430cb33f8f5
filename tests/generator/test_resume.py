"""A run that stopped anywhere goes on with what it had not seen: no example is lost, none is trained on twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from common import ConfigError
from retrieval.training.batches import LengthGroupedBatchSampler
from retrieval.training.last_checkpoint import LastCheckpoint
from retrieval.training.resume import ResumePoint
from tests.fakes import quiet_trainer
from tests.generator.data_families import BATCHED, NUM_STEPS, DataFamily, Recorder
from tests.ranks import find_free_port, run_two_ranks

ALL = list(range(NUM_STEPS))
LAST = Path("checkpoints", "last.ckpt")


@pytest.fixture(params=BATCHED, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> DataFamily:
    """Each data module in turn, and one that packs."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def data_path(kind: DataFamily, tmp_path: Path) -> str:
    return str(kind.write(tmp_path / "random"))


class Learner(Recorder):
    """Writes down which examples it sees; its weight is the sum of the steps that counted."""

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        pass

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        self.seen.append(batch["index"])
        return (self.weight * (1 + sum(batch["index"]))).sum()


class StopAt(pl.Callback):
    """Ends training behind some batch, as trainer.max_time does."""

    def __init__(self, num_batches: int) -> None:
        self.num_batches = num_batches

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        trainer.should_stop = trainer.fit_loop.total_batch_idx + 1 == self.num_batches


def fit(
    folder: Path, module: Any, *, ckpt_path: Path | None = None, stop: pl.Callback | None = None, **options: Any
) -> Learner:
    """Train with the callbacks that every run has for its checkpoints."""
    learner = Learner()
    callbacks = [ResumePoint(), *([stop] if stop else []), LastCheckpoint()]
    trainer = quiet_trainer(folder, enable_checkpointing=True, callbacks=callbacks, **options)
    trainer.fit(learner, module, ckpt_path=ckpt_path, weights_only=True)
    return learner


def epochs_of(seen: list[list[int]], num_examples: int = NUM_STEPS) -> list[list[int]]:
    """The examples of each epoch, sorted."""
    flat = sum(seen, [])
    return [sorted(flat[i : i + num_examples]) for i in range(0, len(flat), num_examples)]


WITHOUT_VALIDATION = {"limit_val_batches": 0}
BETWEEN = {"check_val_every_n_epoch": 5}
STOPS: dict[str, Callable[[int], dict[str, Any]]] = {
    "max_steps": lambda n: {"max_steps": n, **BETWEEN},
    "max_steps_without_validation": lambda n: {"max_steps": n, **WITHOUT_VALIDATION},
    "max_steps_behind_validations": lambda n: {"max_steps": n, "val_check_interval": 2},
    "stopped": lambda n: {"stop": StopAt(n), "max_epochs": 9, **BETWEEN},
    "stopped_without_validation": lambda n: {"stop": StopAt(n), "max_epochs": 9, **WITHOUT_VALIDATION},
    "stopped_with_validation": lambda n: {"stop": StopAt(n), "max_epochs": 9},
}


@pytest.mark.parametrize("until", ["max_epochs", "max_steps"])
@pytest.mark.parametrize("share", [0.5, 1.0, 1.4], ids=["within_an_epoch", "at_its_end", "in_the_next"])
@pytest.mark.parametrize("stop", STOPS)
def test_a_run_that_was_stopped_goes_on_where_it_was(tmp_path: Path, stop: str, share: float, until: str) -> None:
    kind = BATCHED[0]
    data_path = str(kind.write(tmp_path / "data"))
    quiet = {key: value for key, value in STOPS[stop](0).items() if key not in ("max_steps", "max_epochs", "stop")}
    whole = fit(tmp_path / "whole", kind.make(data_path), max_epochs=2, **quiet)
    num_batches = len(whole.seen)
    first = fit(tmp_path / "first", kind.make(data_path), **STOPS[stop](round(share * num_batches / 2)))
    end = {"max_epochs": 2} if until == "max_epochs" else {"max_steps": num_batches}
    second = fit(tmp_path / "second", kind.make(data_path), ckpt_path=tmp_path / "first" / LAST, **end, **quiet)
    assert 0 < len(first.seen) < num_batches
    assert first.seen + second.seen == whole.seen
    assert torch.equal(second.weight, whole.weight)
    for trainer in (second.trainer, whole.trainer):
        assert trainer.global_step == trainer.fit_loop.epoch_loop._batches_that_stepped == num_batches


def test_a_run_that_was_stopped_twice_goes_on_where_it_was(kind: DataFamily, tmp_path: Path, data_path: str) -> None:
    whole = fit(tmp_path / "whole", kind.make(data_path), max_epochs=2, **BETWEEN)
    seen: list[list[int]] = []
    ckpt_path = None
    for num_steps in range(1, len(whole.seen) + 1):
        folder = tmp_path / str(num_steps)
        part = fit(folder, kind.make(data_path), ckpt_path=ckpt_path, max_steps=num_steps, **BETWEEN)
        ckpt_path = folder / LAST
        seen += part.seen
    assert seen == whole.seen


# ---------------------------------------------------------------------------------------- in other batches


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ({"batch_size": 4}, {"batch_size": 3}, "data.batch_size is 3 and was 4"),
        ({"batch_size": 3}, {"batch_size": 7}, "data.batch_size is 7 and was 3"),
        ({"batch_size": 4}, {"batch_size": 40}, "data.batch_size is 40 and was 4"),
        ({"batch_size": 4}, {"batch_size": None, "max_tokens_per_batch": 400}, "data.max_tokens_per_batch is 400 and"),
        ({"batch_size": 4}, {"batch_size": 4, "batches_per_pool": 3}, "data.batches_per_pool is 3 and was 200"),
        ({"batch_size": 4}, {"batch_size": 4, "seed": 5}, "data.seed is 5 and was 3407"),
    ],
    ids=["smaller", "larger", "all_at_once", "budget", "pools", "seed"],
)
def test_a_run_goes_on_in_other_batches_with_what_it_had_not_seen(
    tmp_path: Path, before: dict[str, Any], after: dict[str, Any], message: str, caplog: pytest.LogCaptureFixture
) -> None:
    for kind in BATCHED:
        if kind.is_packed:
            continue
        folder, data_path = tmp_path / kind.name, str(kind.write(tmp_path / kind.name / "data"))
        first = fit(folder / "first", kind.make(data_path, **before), max_steps=5, **BETWEEN)
        caplog.clear()
        last = folder / "first" / LAST
        second = fit(folder / "second", kind.make(data_path, **after), ckpt_path=last, max_epochs=2, **BETWEEN)
        assert epochs_of(first.seen + second.seen) == [ALL, ALL]
        assert sum(message in record.getMessage() for record in caplog.records) == 1
        assert max(map(len, second.seen)) <= (after["batch_size"] or NUM_STEPS)


def test_a_run_that_went_on_in_other_batches_is_resumed_like_any(tmp_path: Path) -> None:
    kind = BATCHED[0]
    data_path = str(kind.write(tmp_path / "data"))
    first = fit(tmp_path / "first", kind.make(data_path), max_steps=3, **BETWEEN)
    others: dict[str, Any] = {"batch_size": 2, "seed": 5}
    last = tmp_path / "first" / LAST
    whole = fit(tmp_path / "whole", kind.make(data_path, **others), ckpt_path=last, max_epochs=2, **BETWEEN)
    second = fit(tmp_path / "second", kind.make(data_path, **others), ckpt_path=last, max_steps=8, **BETWEEN)
    last = tmp_path / "second" / LAST
    third = fit(tmp_path / "third", kind.make(data_path, **others), ckpt_path=last, max_epochs=2, **BETWEEN)
    assert second.seen + third.seen == whole.seen, "in the same batches, as if it had not stopped"
    back = fit(tmp_path / "back", kind.make(data_path), ckpt_path=last, max_epochs=2, **BETWEEN)
    assert epochs_of(first.seen + second.seen + back.seen) == [ALL, ALL]


@pytest.mark.parametrize("share", [0.5, 1.0], ids=["within_an_epoch", "at_its_end"])
def test_limits_on_batches_and_another_budget_go_together(tmp_path: Path, share: float) -> None:
    kind = BATCHED[0]
    data_path = str(kind.write(tmp_path / "data"))
    fit(tmp_path / "first", kind.make(data_path), max_steps=round(6 * share), limit_train_batches=6, **BETWEEN)
    last, options = tmp_path / "first" / LAST, {"max_epochs": 2, "limit_train_batches": 8, **BETWEEN}
    second = fit(tmp_path / "second", kind.make(data_path, batch_size=2), ckpt_path=last, **options)
    assert second.trainer.current_epoch == 2
    assert len(set(sum(second.seen[-8:], []))) == len(sum(second.seen[-8:], []))


def test_other_examples_in_the_middle_of_an_epoch_are_refused(tmp_path: Path) -> None:
    for kind in BATCHED:
        folder, data_path = tmp_path / kind.name, str(kind.write(tmp_path / kind.name / "data"))
        fit(folder / "first", kind.make(data_path), max_steps=2, **BETWEEN)
        other = str(kind.write(folder / "more", NUM_STEPS + 20))
        with pytest.raises(
            ConfigError, match="in the middle of epoch 0, of .* examples, but the training data now"
        ) as e:
            fit(folder, kind.make(other), ckpt_path=folder / "first" / LAST, max_epochs=2, **BETWEEN)
        assert "\n" not in str(e.value)


def test_other_examples_behind_an_epoch_are_taken(tmp_path: Path) -> None:
    kind = BATCHED[0]
    data_path, more = str(kind.write(tmp_path / "data")), str(kind.write(tmp_path / "more", 50))
    for options in (BETWEEN, WITHOUT_VALIDATION, {}):
        fit(tmp_path / "first", kind.make(data_path), max_epochs=1, **options)
        last = tmp_path / "first" / LAST
        for end in ({"max_epochs": 2}, {"max_steps": 23}):
            second = fit(tmp_path / "second", kind.make(more), ckpt_path=last, **end, **options)
            assert sorted(sum(second.seen, [])) == list(range(50))


def test_rows_that_are_packed_otherwise_are_refused(tmp_path: Path) -> None:
    kind = BATCHED[2]
    data_path = str(kind.write(tmp_path / "data", 200))
    fit(tmp_path / "first", kind.make(data_path, batch_size=2), max_steps=2, **BETWEEN)
    with pytest.raises(ConfigError, match="packed otherwise \\(data.seed is 5 and was 3407\\); finish the epoch"):
        fit(
            tmp_path,
            kind.make(data_path, batch_size=2, seed=5),
            ckpt_path=tmp_path / "first" / LAST,
            max_epochs=2,
            **BETWEEN,
        )
    second = fit(tmp_path, kind.make(data_path, batch_size=1), ckpt_path=tmp_path / "first" / LAST, max_epochs=1)
    assert len(second.seen) > 1


@pytest.mark.parametrize("batch_size", [4, 3])
def test_checkpoints_of_before_go_on_too(tmp_path: Path, batch_size: int) -> None:
    """They say that an epoch was over which was stopped, and count progress in batches alone."""
    kind = BATCHED[0]
    data_path = str(kind.write(tmp_path / "data"))
    first = fit(tmp_path / "first", kind.make(data_path), max_steps=4, **BETWEEN)
    checkpoint = torch.load(tmp_path / "first" / LAST, weights_only=True)
    loops = checkpoint["loops"]["fit_loop"]
    for counts in (loops["epoch_progress"]["current"], loops["epoch_progress"]["total"]):
        counts |= dict.fromkeys(counts, 1)
    for counts in (loops["epoch_loop.batch_progress"]["current"], loops["epoch_loop.batch_progress"]["total"]):
        counts |= dict.fromkeys(counts, 4)
    loops["epoch_loop.state_dict"]["_batches_that_stepped"] = 4
    loops["state_dict"]["combined_loader"] = [{"epoch": 0, "num_batches": 4}]
    torch.save(checkpoint, tmp_path / "old.ckpt")
    for end in ({"max_epochs": 1}, {"max_steps": 4 + -(-21 // batch_size)}):
        module = kind.make(data_path, batch_size=batch_size)
        second = fit(tmp_path / "second", module, ckpt_path=tmp_path / "old.ckpt", **end, **BETWEEN)
        assert sorted(sum(first.seen + second.seen, [])) == ALL


# ------------------------------------------------------------------------------------------- accumulation


class Every(pl.Callback):
    """Saves behind each batch, as the ten-minute checkpoint may at any."""

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        trainer.save_checkpoint(Path(trainer.default_root_dir) / f"{trainer.fit_loop.total_batch_idx + 1}.ckpt")


@pytest.mark.parametrize("options", [BETWEEN, {"val_check_interval": 2}], ids=["between", "validations"])
def test_batches_that_made_no_step_yet_are_trained_on_again(tmp_path: Path, options: dict[str, Any]) -> None:
    kind = BATCHED[0]
    data_path = str(kind.write(tmp_path / "data"))
    every = {"max_epochs": 2, "accumulate_grad_batches": 3, **options}
    whole = fit(tmp_path / "whole", kind.make(data_path), stop=Every(), **every)
    steps = [0, *(end for start in (0, 10) for end in (start + 3, start + 6, start + 9, start + 10))]
    for num_batches in (1, 2, 3, 4, 7, 9, 10, 11, 12, 13, 19):
        saved = tmp_path / "whole" / f"{num_batches}.ckpt"
        resumed = fit(tmp_path / "resumed", kind.make(data_path), ckpt_path=saved, **every)
        last_step = max(step for step in steps if step <= num_batches)
        assert resumed.seen == whole.seen[last_step:], num_batches
        assert torch.equal(resumed.weight, whole.weight)
        assert resumed.trainer.global_step == resumed.trainer.fit_loop.epoch_loop._batches_that_stepped == 8


def test_another_accumulation_loses_nothing(tmp_path: Path) -> None:
    kind = BATCHED[0]
    data_path = str(kind.write(tmp_path / "data"))
    options = {"accumulate_grad_batches": 3, **BETWEEN}
    whole = fit(tmp_path / "whole", kind.make(data_path), stop=Every(), max_epochs=1, **options)
    for num_batches in (4, 9):
        saved = tmp_path / "whole" / f"{num_batches}.ckpt"
        options = {"accumulate_grad_batches": 4, "max_epochs": 1, **BETWEEN}
        resumed = fit(tmp_path / "resumed", kind.make(data_path), ckpt_path=saved, **options)
        assert resumed.seen == whole.seen[num_batches - num_batches % 3 :]


def test_the_end_of_a_run_before_its_checkpoint_is_refused_in_a_line(tmp_path: Path) -> None:
    kind = BATCHED[0]
    data_path = str(kind.write(tmp_path / "data"))
    fit(tmp_path / "first", kind.make(data_path), max_epochs=2)
    with pytest.raises(ConfigError, match="trainer.max_epochs is 1, but the checkpoint has .* epochs behind it"):
        fit(tmp_path, kind.make(data_path), ckpt_path=tmp_path / "first" / LAST, max_epochs=1)


# ------------------------------------------------------------------------------------------------ ranks


def _run_rank(rank: int, folder: str) -> None:
    kind, data_path, last = BATCHED[0], str(Path(folder, "data")), Path(folder, "one", LAST)
    ddp = {"strategy": "ddp", "devices": 2, **BETWEEN}
    resumed = fit(Path(folder, "resumed"), kind.make(data_path), ckpt_path=last, max_epochs=2, **ddp)
    first = fit(Path(folder, "two"), kind.make(data_path), max_steps=3, **ddp)
    Path(folder, f"rank{rank}.json").write_text(json.dumps([resumed.seen, first.seen]))


def test_a_run_goes_on_with_more_ranks_and_with_fewer(tmp_path: Path) -> None:
    kind = BATCHED[0]
    data_path = str(kind.write(tmp_path / "data"))
    one = fit(tmp_path / "one", kind.make(data_path), max_steps=4, **BETWEEN)
    run_two_ranks(_run_rank, find_free_port(), str(tmp_path))
    (resumed0, first0), (resumed1, first1) = (
        json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in range(2)
    )
    num_left = 3  # batches of each rank
    assert sorted(sum(one.seen + resumed0[:num_left] + resumed1[:num_left], [])) == ALL
    assert sorted(sum(resumed0[num_left:] + resumed1[num_left:], [])) == ALL
    alone = fit(tmp_path / "alone", kind.make(data_path), ckpt_path=tmp_path / "two" / LAST, max_epochs=1, **BETWEEN)
    assert len(first0) == len(first1) == 3 and sorted(sum(first0 + first1 + alone.seen, [])) == ALL


def test_fewer_examples_than_ranks_are_refused_in_a_line() -> None:
    sampler = LengthGroupedBatchSampler([5] * 9, batch_size=2, num_replicas=3)
    taken = np.arange(9) < 7
    with pytest.raises(ConfigError, match="2 examples are left of epoch 4, which 3 ranks cannot share; go on with"):
        sampler.batches(4, taken)
