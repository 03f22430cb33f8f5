"""Batches: every example once an epoch, the same for any number of workers, ranks and resumes."""

import json
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from common import ConfigError, DataError
from generator.data.dataset import GeneratorBatch
from generator.datamodule import GeneratorDataModule
from generator.environments.propositional_benchmark import build_propositional_benchmark
from generator.instruct_datamodule import InstructDataModule
from retrieval.training.commands import parse_arguments
from retrieval.training.options import options_of
from tests.fakes import quiet_trainer
from tests.ranks import run_two_ranks


def write_splits(folder: Path, num_steps: int = 37) -> Path:
    """Splits whose states and tactics have many lengths."""
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "val", "test"):
        record = {"url": "u", "commit": "c", "file_path": "T.lean", "full_name": f"{split}.t", "start": [1, 1]}
        steps = [
            {"tactic": f"t{i}" + "y" * (i * 5 % 17), "state_before": "⊢ " + "x" * (i * 7 % 90), "state_after": ""}
            for i in range(num_steps)
        ]
        (folder / f"{split}.json").write_text(json.dumps([{**record, "traced_tactics": steps}]), encoding="utf-8")
    return folder


@pytest.fixture
def data_path(tmp_path: Path) -> str:
    return str(write_splits(tmp_path / "random"))


def make(data_path: str, **options: Any) -> GeneratorDataModule:
    return GeneratorDataModule(data_path, "google/byt5-small", **({"batch_size": 4} | options))


class Recorder(pl.LightningModule):
    """Learns nothing; writes down which examples it sees."""

    def __init__(self, stop_at: int | None = None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[list[int]] = []
        self.stop_at = stop_at

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def training_step(self, batch: GeneratorBatch, batch_idx: int) -> torch.Tensor:
        self.seen.append(batch["index"])
        return self.weight.sum()

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.global_step == self.stop_at:
            self.trainer.save_checkpoint(Path(self.trainer.default_root_dir) / "middle.ckpt")

    def validation_step(self, batch: GeneratorBatch, batch_idx: int) -> None:
        pass

    def predict_step(self, batch: GeneratorBatch, batch_idx: int) -> list[int]:
        return batch["index"]


def epochs(module: GeneratorDataModule, num_epochs: int = 2) -> list[list[list[int]]]:
    loader = module.train_dataloader()
    seen = []
    for epoch in range(num_epochs):
        loader.sampler.set_epoch(epoch)  # as Lightning does
        seen.append([batch["index"] for batch in loader])
    return seen


def test_every_example_comes_once_an_epoch_in_new_batches(data_path: str) -> None:
    module = make(data_path)
    module.setup("fit")
    first, second = epochs(module)
    for epoch in (first, second):
        assert sorted(sum(epoch, [])) == list(range(37))
    assert first != second and len(first) == len(second) == len(module.train_dataloader())
    assert [b["index"] for b in module.val_dataloader()] == [b["index"] for b in module.val_dataloader()]


def test_the_number_of_workers_changes_nothing(data_path: str) -> None:
    seen = []
    for num_workers in (0, 2):
        module = make(data_path, num_workers=num_workers)
        module.setup("fit")
        loader = module.train_dataloader()
        seen.append([])
        for epoch in range(2):
            loader.sampler.set_epoch(epoch)
            seen[-1] += [(b["index"], b["state_ids"].tolist(), b["tactic_ids"].tolist()) for b in loader]
    assert seen[0] == seen[1]


@settings(max_examples=25, deadline=None)
@given(
    max_tokens=st.integers(120, 900),
    batch_size=st.none() | st.integers(1, 9),
    seed=st.integers(0, 9),
    num_steps=st.integers(1, 40),
)
def test_no_batch_is_over_the_budget(
    tmp_path_factory: pytest.TempPathFactory, max_tokens: int, batch_size: int | None, seed: int, num_steps: int
) -> None:
    data_path = str(write_splits(tmp_path_factory.mktemp("budget"), num_steps))
    module = make(data_path, batch_size=batch_size, max_tokens_per_batch=max_tokens, seed=seed)
    module.setup("fit")
    seen = []
    for batch in module.train_dataloader():
        assert batch["state_ids"].numel() + batch["tactic_ids"].numel() <= max_tokens
        assert batch_size is None or len(batch["index"]) <= batch_size
        seen += batch["index"]
    assert sorted(seen) == list(range(num_steps))


def test_batches_of_eight_where_nothing_is_said(data_path: str) -> None:
    module = make(data_path, batch_size=None)
    module.setup("fit")
    assert max(len(batch["index"]) for batch in module.train_dataloader()) == 8
    assert make(data_path, batch_size=None, max_tokens_per_batch=500).batching.max_examples is None


def test_stages_read_what_they_need_once(data_path: str) -> None:
    module = make(data_path)
    module.setup("fit")
    train = module.datasets["train"]
    assert set(module.datasets) == {"train", "val"}
    module.setup("fit")
    module.setup("test")
    assert module.datasets["train"] is train and set(module.datasets) == {"train", "val", "test"}


def test_predictions_for_the_training_split_leave_nothing_out(tmp_path: Path) -> None:
    data_path = str(write_splits(tmp_path / "random"))
    module = make(data_path, predict_split="train", max_oup_seq_len=8)
    module.setup("fit")
    module.setup("predict")
    assert len(module.datasets["train"]) < 37
    assert sorted(sum((b["index"] for b in module.predict_dataloader()), [])) == list(range(37))
    assert module.datasets["predict"][0]["full_name"] == "train.t"


# ------------------------------------------------------------------------------------------------
# With Lightning


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("stop_at", [3, 10, 13])
def test_a_resumed_run_sees_what_an_uninterrupted_one_sees(
    tmp_path: Path, data_path: str, num_workers: int, stop_at: int
) -> None:
    whole = Recorder(stop_at)
    quiet_trainer(tmp_path, max_epochs=2).fit(whole, make(data_path, num_workers=num_workers))
    assert len(whole.seen) == 20  # ten batches an epoch; stop_at is in both, and at the end of one
    resumed = Recorder()
    quiet_trainer(tmp_path, max_epochs=2).fit(
        resumed, make(data_path, num_workers=num_workers), ckpt_path=tmp_path / "middle.ckpt", weights_only=True
    )
    assert whole.seen[:stop_at] + resumed.seen == whole.seen


@pytest.mark.parametrize("stop_at", [4, 6])
def test_a_resumed_run_of_shortened_epochs_starts_each_epoch_at_its_beginning(
    tmp_path: Path, data_path: str, stop_at: int
) -> None:
    options = {"max_epochs": 3, "limit_train_batches": 4}
    whole, resumed = Recorder(stop_at), Recorder()
    quiet_trainer(tmp_path, **options).fit(whole, make(data_path))
    quiet_trainer(tmp_path, **options).fit(resumed, make(data_path), ckpt_path=tmp_path / "middle.ckpt")
    assert len(whole.seen) == 12 and whole.seen[:stop_at] + resumed.seen == whole.seen


def test_a_checkpoint_before_the_first_step_of_a_resumed_run_goes_on_where_that_did(
    tmp_path: Path, data_path: str
) -> None:
    class Interrupted(Recorder):
        def on_train_start(self) -> None:
            self.trainer.save_checkpoint(tmp_path / "again.ckpt")

    whole, resumed = Recorder(stop_at=3), Recorder()
    quiet_trainer(tmp_path, max_epochs=2).fit(whole, make(data_path))
    quiet_trainer(tmp_path, max_steps=4).fit(Interrupted(), make(data_path), ckpt_path=tmp_path / "middle.ckpt")
    quiet_trainer(tmp_path, max_epochs=2).fit(resumed, make(data_path), ckpt_path=tmp_path / "again.ckpt")
    assert whole.seen[:3] + resumed.seen == whole.seen


def test_predict_sees_every_example_and_keeps_the_sampler(tmp_path: Path, data_path: str) -> None:
    predicted = quiet_trainer(tmp_path).predict(Recorder(), make(data_path, eval_batch_size=5))
    assert predicted is not None and len(predicted) == 8
    assert sorted(sum(predicted, [])) == list(range(37))  # type: ignore[arg-type]


def test_overfit_batches_repeats_the_same_whole_batch(tmp_path: Path, data_path: str) -> None:
    recorder = Recorder()
    quiet_trainer(tmp_path, max_epochs=3, overfit_batches=1).fit(recorder, make(data_path))
    assert recorder.seen == [[0, 1, 2, 3]] * 3


def test_a_batch_moves_through_reduced_precision(tmp_path: Path, data_path: str) -> None:
    """Lightning walks through the whole batch there, and stops at a frozen dataclass."""
    quiet_trainer(tmp_path, max_steps=1, precision="bf16-true").fit(Recorder(), make(data_path))


def _run_rank(rank: int, data_path: str, folder: str) -> None:
    options = {"strategy": "ddp", "devices": 2, "max_epochs": 2, "num_sanity_val_steps": 0}
    recorder = Recorder()
    quiet_trainer(Path(folder), **options).fit(recorder, make(data_path, num_workers=rank))
    predicted = quiet_trainer(Path(folder), **options).predict(Recorder(), make(data_path, eval_batch_size=5))
    Path(folder, f"rank{rank}.json").write_text(json.dumps([recorder.seen, predicted]))


def test_two_ranks_share_every_epoch(tmp_path: Path, data_path: str, free_port: int) -> None:
    run_two_ranks(_run_rank, free_port, data_path, str(tmp_path))
    (seen0, predicted0), (seen1, predicted1) = (
        json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in range(2)
    )
    assert len(seen0) == len(seen1) and len(predicted0) == len(predicted1)
    half = len(seen0) // 2
    for part in (slice(0, half), slice(half, None)):
        assert sorted(sum(seen0[part] + seen1[part], [])) == list(range(37))
    assert seen0[:half] != seen0[half:]
    assert sorted(sum(predicted0 + predicted1, [])) == list(range(37))


# ------------------------------------------------------------------------------------------------
# Getting the data


def test_the_built_in_dataset_is_built_where_it_is_missing(tmp_path: Path) -> None:
    data_path = tmp_path / "propositional" / "random"
    module = make(str(data_path), dataset="propositional", num_theorems=20)
    module.prepare_data()
    module.setup()
    assert set(module.datasets) == {"train", "val", "test"}
    written = (data_path / "train.json").stat().st_mtime_ns
    module.prepare_data()
    assert (data_path / "train.json").stat().st_mtime_ns == written


def test_a_built_in_dataset_of_another_size_or_seed_is_refused(tmp_path: Path) -> None:
    data_path = str(tmp_path / "propositional" / "random")
    make(data_path, dataset="propositional", num_theorems=20, seed=1).prepare_data()
    with pytest.raises(
        ConfigError, match=r"num_theorems is 30, but .*/propositional was made with num_theorems 20\. "
    ) as e:
        make(data_path, dataset="propositional", num_theorems=30, seed=1).prepare_data()
    assert "Remove" in str(e.value) and "give --data.num_theorems 20;" in str(e.value)
    with pytest.raises(ConfigError, match=r"and seed is 2, but .* with num_theorems 20 and seed 1\."):
        make(data_path, dataset="propositional", num_theorems=30, seed=2).prepare_data()
    make(data_path, num_theorems=30, seed=2).prepare_data()  # without `dataset`, whatever is there


@pytest.mark.parametrize("metadata", [None, "{", "[]", '{"from_repo": {}}'])
def test_data_that_does_not_tell_how_it_was_made_is_taken(data_path: str, metadata: str | None) -> None:
    if metadata is not None:
        Path(data_path).with_name("metadata.json").write_text(metadata)
    make(data_path, dataset="propositional", num_theorems=30).prepare_data()


def test_every_way_to_the_built_in_dataset_makes_the_quickstarts() -> None:
    config = Path(__file__).resolve().parents[2] / "configs" / "quickstart.yaml"
    expected = yaml.safe_load(config.read_text(encoding="utf-8"))["data"]["num_theorems"]
    ways = [options_of(kind) for kind in (GeneratorDataModule, InstructDataModule)]
    command = parse_arguments(build_propositional_benchmark, ["--output_dir", "x"])
    assert {way["num_theorems"].default for way in ways} | {command["num_theorems"]} == {expected}
    assert {way["seed"].default for way in ways} == {command["seed"]}


def test_a_dataset_is_not_built_among_other_files(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="has no splits, and .* not empty"):
        make(str(tmp_path / "random"), dataset="propositional", num_theorems=20).prepare_data()
    with pytest.raises(ConfigError, match="one of random, novel_premises"):
        make(str(tmp_path / "new" / "elsewhere"), dataset="leandojo_benchmark_4").prepare_data()


def test_the_benchmark_is_downloaded_beside_its_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr("generator.data.known_datasets.download_leandojo_benchmark_4", asked.append)
    make(str(tmp_path / "lean" / "novel_premises"), dataset="leandojo_benchmark_4").prepare_data()
    assert asked == [tmp_path / "lean"]


def test_a_folder_without_splits_says_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no train.json, val.json; there is no such folder"):
        make(str(tmp_path / "nowhere")).setup("fit")
    write_splits(tmp_path / "data" / "random")
    (tmp_path / "data" / "corpus.jsonl").touch()
    with pytest.raises(DataError, match=r"no test.json; it holds corpus.jsonl, random/. Set data_path to .*/random"):
        make(str(tmp_path / "data")).setup("test")


def test_an_empty_split_is_refused(tmp_path: Path, data_path: str) -> None:
    Path(data_path, "train.json").write_text("[]")
    with pytest.raises(DataError, match="0 steps; nothing is left to read"):
        make(data_path).setup("fit")


# ------------------------------------------------------------------------------------------------
# Options


def test_options_are_saved_as_plain_values(tmp_path: Path) -> None:
    module = make(tmp_path / "random", corpus_path=tmp_path / "c", preds_path=tmp_path / "p")  # type: ignore[arg-type]
    plain = (str, int, float, bool, dict, type(None))
    assert all(isinstance(value, plain) for value in module.hparams.values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"eval_batch_size": -1}, "eval_batch_size is -1"),
        ({"max_tokens_per_batch": 0}, "max_tokens_per_batch is 0"),
        ({"max_inp_seq_len": 0}, "max_inp_seq_len is 0"),
        ({"max_oup_seq_len": 0}, "max_oup_seq_len is 0"),
        ({"p_drop": -0.1}, "p_drop is -0.1"),
        ({"num_workers": -1}, "num_workers is -1"),
        ({"num_theorems": 3}, "num_theorems is 3; it must be at least 10"),
        ({"dataset": "mathlib"}, "dataset is 'mathlib'; choose one of None, propositional, leandojo_benchmark_4"),
        ({"predict_split": "all"}, "predict_split is 'all'; choose one of train, val, test"),
        ({"corpus_path": "corpus.jsonl"}, "give both or neither"),
    ],
)
def test_an_option_out_of_range_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make("anywhere", **options)


def test_an_example_over_the_budget_is_refused(data_path: str) -> None:
    module = make(data_path, batch_size=None, max_tokens_per_batch=50)
    module.setup("fit")
    with pytest.raises(ConfigError, match="max_tokens_per_batch is 50, but one example takes"):
        module.train_dataloader()
