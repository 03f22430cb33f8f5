"""Batches of both families: every example once an epoch, the same for any number of workers, ranks and resumes."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common import ConfigError
from tests.fakes import quiet_trainer
from tests.generator.data_families import BATCHED, DATA_FAMILIES, NUM_STEPS, DataFamily, Recorder, epochs, indices
from tests.ranks import find_free_port, run_two_ranks

ALL = list(range(NUM_STEPS))


@pytest.fixture(params=BATCHED, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> DataFamily:
    """Each data module in turn, and one that packs."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def data_path(kind: DataFamily, tmp_path: Path) -> str:
    return str(kind.write(tmp_path / "random"))


def made(kind: DataFamily, data_path: str, stage: str = "fit", **options: Any) -> Any:
    """A module that has read what a stage needs."""
    module = kind.make(data_path, **options)
    module.setup(stage)
    return module


# ------------------------------------------------------------------------------------------- one epoch


def test_every_example_comes_once_an_epoch_in_new_batches(kind: DataFamily, data_path: str) -> None:
    module = made(kind, data_path)
    first, second = (indices(epoch) for epoch in epochs(module))
    for epoch in (first, second):
        assert sorted(sum(epoch, [])) == ALL
    assert first != second and len(first) == len(second) == len(module.train_dataloader())
    assert (len(first) < NUM_STEPS / 4) == kind.is_packed
    assert [b["index"] for b in module.val_dataloader()] == [b["index"] for b in module.val_dataloader()]


def test_the_number_of_workers_changes_nothing(kind: DataFamily, data_path: str) -> None:
    alone, shared = (epochs(made(kind, data_path, num_workers=n)) for n in (0, 2))
    assert alone == shared


@pytest.mark.parametrize("kind", BATCHED, ids=lambda kind: kind.name)
@settings(max_examples=25, deadline=None)
@given(
    spare=st.integers(0, 760),
    batch_size=st.none() | st.integers(1, 9),
    seed=st.integers(0, 9),
    num_steps=st.integers(1, 40),
)
def test_no_batch_is_over_the_budget(
    tmp_path_factory: pytest.TempPathFactory,
    kind: DataFamily,
    spare: int,
    batch_size: int | None,
    seed: int,
    num_steps: int,
) -> None:
    data_path, max_tokens = str(kind.write(tmp_path_factory.mktemp("budget"), num_steps)), kind.min_budget + spare
    module = made(kind, data_path, batch_size=batch_size, max_tokens_per_batch=max_tokens, seed=seed)
    seen = []
    for batch in module.train_dataloader():
        assert sum(batch[name].numel() for name in kind.tensors) <= max_tokens
        assert batch[kind.tensors[0]].shape[1] <= kind.options.get("max_seq_len", max_tokens)
        assert batch_size is None or len(batch[kind.tensors[0]]) <= batch_size
        assert kind.is_packed or len(batch["index"]) == len(batch[kind.tensors[0]])
        seen += batch["index"]
    assert sorted(seen) == list(range(num_steps))


def test_an_example_over_the_budget_is_refused(kind: DataFamily, data_path: str) -> None:
    module = made(kind, data_path, batch_size=None, max_tokens_per_batch=50)
    with pytest.raises(ConfigError, match="max_tokens_per_batch is 50, but one example takes"):
        module.train_dataloader()


def test_batches_have_eight_rows_where_nothing_is_said(kind: DataFamily, data_path: str) -> None:
    module = made(kind, data_path, batch_size=None)
    num_rows = [len(batch[kind.tensors[0]]) for batch in module.train_dataloader()]
    assert max(num_rows) == min(8, len(module.datasets["train"]))
    assert kind.make(data_path, batch_size=None, max_tokens_per_batch=500).batching.max_examples is None


# --------------------------------------------------------------------------------------- with Lightning


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("share", [0.3, 1.0, 1.3], ids=["within_an_epoch", "at_its_end", "in_the_next"])
def test_a_resumed_run_sees_what_an_uninterrupted_one_sees(
    kind: DataFamily, tmp_path: Path, data_path: str, num_workers: int, share: float
) -> None:
    num_batches = len(made(kind, data_path).train_dataloader())
    stop_at = round(share * num_batches)
    whole, resumed = Recorder(stop_at), Recorder()
    quiet_trainer(tmp_path, max_epochs=2).fit(whole, kind.make(data_path, num_workers=num_workers))
    assert len(whole.seen) == 2 * num_batches > stop_at and sorted(sum(whole.seen, [])) == sorted(ALL + ALL)
    module = kind.make(data_path, num_workers=num_workers)
    quiet_trainer(tmp_path, max_epochs=2).fit(resumed, module, ckpt_path=tmp_path / "middle.ckpt", weights_only=True)
    assert whole.seen[:stop_at] + resumed.seen == whole.seen


@pytest.mark.parametrize("stop_at", [2, 3], ids=["at_the_end_of_an_epoch", "within_an_epoch"])
def test_a_resumed_run_of_shortened_epochs_starts_each_epoch_at_its_beginning(
    kind: DataFamily, tmp_path: Path, data_path: str, stop_at: int
) -> None:
    options = {"max_epochs": 3, "limit_train_batches": 2}
    whole, resumed = Recorder(stop_at), Recorder()
    quiet_trainer(tmp_path, **options).fit(whole, kind.make(data_path))
    quiet_trainer(tmp_path, **options).fit(resumed, kind.make(data_path), ckpt_path=tmp_path / "middle.ckpt")
    assert len(whole.seen) == 6 and whole.seen[:stop_at] + resumed.seen == whole.seen


def test_a_checkpoint_before_the_first_step_of_a_resumed_run_goes_on_where_that_did(
    kind: DataFamily, tmp_path: Path, data_path: str
) -> None:
    class Interrupted(Recorder):
        def on_train_start(self) -> None:
            self.trainer.save_checkpoint(tmp_path / "again.ckpt")

    whole, resumed = Recorder(stop_at=2), Recorder()
    quiet_trainer(tmp_path, max_epochs=2).fit(whole, kind.make(data_path))
    quiet_trainer(tmp_path, max_steps=3).fit(Interrupted(), kind.make(data_path), ckpt_path=tmp_path / "middle.ckpt")
    quiet_trainer(tmp_path, max_epochs=2).fit(resumed, kind.make(data_path), ckpt_path=tmp_path / "again.ckpt")
    assert whole.seen[:2] + resumed.seen == whole.seen


def test_predict_sees_every_example_and_keeps_the_sampler(kind: DataFamily, tmp_path: Path, data_path: str) -> None:
    predicted = quiet_trainer(tmp_path).predict(Recorder(), kind.make(data_path, eval_batch_size=5))
    assert predicted is not None and len(predicted) == 8
    assert sorted(sum(predicted, [])) == ALL  # type: ignore[arg-type]


def test_overfit_batches_repeats_the_same_whole_batch(kind: DataFamily, tmp_path: Path, data_path: str) -> None:
    recorder = Recorder()
    quiet_trainer(tmp_path, max_epochs=3, overfit_batches=1).fit(recorder, kind.make(data_path))
    assert recorder.seen == [recorder.seen[0]] * 3
    assert kind.is_packed or recorder.seen[0] == [0, 1, 2, 3]


def test_a_batch_moves_through_reduced_precision(kind: DataFamily, tmp_path: Path, data_path: str) -> None:
    """Lightning walks through the whole batch there, and stops at a frozen dataclass."""
    quiet_trainer(tmp_path, max_steps=1, precision="bf16-true").fit(Recorder(), kind.make(data_path))


# ----------------------------------------------------------------------------------------- two ranks


def _run_rank(rank: int, folder: str) -> None:
    options = {"strategy": "ddp", "devices": 2, "max_epochs": 2, "num_sanity_val_steps": 0}
    seen = {}
    for kind in BATCHED:
        data_path, recorder = str(Path(folder, kind.name)), Recorder()
        quiet_trainer(Path(folder), **options).fit(recorder, kind.make(data_path, batch_size=2, num_workers=rank))
        predicted = quiet_trainer(Path(folder), **options).predict(Recorder(), kind.make(data_path, eval_batch_size=5))
        seen[kind.name] = [recorder.seen, predicted]
    Path(folder, f"rank{rank}.json").write_text(json.dumps(seen))


@pytest.fixture(scope="module")
def seen_by_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes has trained on and predicted, by the name of the data module."""
    folder = tmp_path_factory.mktemp("ranks")
    for kind in BATCHED:
        kind.write(folder / kind.name)
    run_two_ranks(_run_rank, find_free_port(), str(folder))
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(2)]


def test_two_ranks_share_every_epoch(kind: DataFamily, seen_by_ranks: list[dict[str, Any]]) -> None:
    (seen0, predicted0), (seen1, predicted1) = (seen[kind.name] for seen in seen_by_ranks)
    assert len(seen0) == len(seen1) > 1 and len(predicted0) == len(predicted1)
    half = len(seen0) // 2
    for part in (slice(0, half), slice(half, None)):
        assert sorted(sum(seen0[part] + seen1[part], [])) == ALL
    assert seen0[:half] != seen0[half:]
    assert sorted(sum(predicted0 + predicted1, [])) == ALL


# --------------------------------------------------------------------------------------------- stages


def test_stages_read_what_they_need_once(kind: DataFamily, data_path: str) -> None:
    module = made(kind, data_path, predict_split="val")
    train = module.datasets["train"]
    assert set(module.datasets) == {"train", "val"}
    module.setup("fit")
    module.setup("test")
    assert module.datasets["train"] is train and set(module.datasets) == {"train", "val", "test"}
    module.setup("predict")
    assert module.datasets["train"] is train and module.datasets["predict"][0]["full_name"] == "val.t"


@pytest.mark.parametrize("kind", DATA_FAMILIES, ids=lambda kind: kind.name)
def test_predictions_for_the_training_split_leave_nothing_out(kind: DataFamily, data_path: str) -> None:
    module = made(kind, data_path, predict_split="train", **kind.short_tactics)
    module.setup("predict")
    assert len(module.datasets["train"]) < NUM_STEPS
    assert sorted(sum((b["index"] for b in module.predict_dataloader()), [])) == ALL
    assert module.datasets["predict"][0]["full_name"] == "train.t"
