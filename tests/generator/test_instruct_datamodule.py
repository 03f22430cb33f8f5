"""Batches for decoder-only models: from either kind of data, every example once, the same after a resume."""

import gzip
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from common import ByteTokenizer, ConfigError, DataError
from generator.instruct_convert import main as convert
from generator.instruct_datamodule import InstructDataModule
from generator.prompts.templates import get_template
from tests.fakes import EIGHT, quiet_trainer
from tests.generator.test_datamodule import Recorder, write_splits

LLMSTEP = get_template("llmstep")


def write_instruct(folder: Path, num_steps: int = 37, **files: str) -> Path:
    """Examples of many lengths, for each split under a name of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    names = {"train": "state_train.jsonl", "val": "dev.jsonl.gz", "test": "test.jsonl"} | files
    for split, name in names.items():
        lines = [
            {
                "task": "tactic_prediction",
                "prompt": LLMSTEP.format("⊢ " + "x" * (i * 7 % 90)),
                "prompt_name": "llmstep",
                "completion": f"t{i}" + "y" * (i * 5 % 17),
                "metadata": {"file_path": "T.lean", "full_name": f"{split}.t", "start": [1, 1], "tactic_idx": i},
            }
            for i in range(num_steps)
        ]
        content = "".join(json.dumps(line) + "\n" for line in lines).encode()
        (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return folder


@pytest.fixture
def data_path(tmp_path: Path) -> str:
    return str(write_instruct(tmp_path / "instruct"))


def make(data_path: Any, **options: Any) -> InstructDataModule:
    defaults = {"max_seq_len": 180, "max_completion_len": 40, "batch_size": 4}
    return InstructDataModule(data_path, "google/byt5-small", **(defaults | options))


def epochs(module: InstructDataModule, num_epochs: int = 2) -> list[list[list[int]]]:
    loader = module.train_dataloader()
    seen = []
    for epoch in range(num_epochs):
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        seen.append([batch["index"] for batch in loader])
    return seen


def batches(module: InstructDataModule) -> list[dict[str, Any]]:
    """Two epochs, in plain values."""
    loader = module.train_dataloader()
    seen = []
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        seen += [{k: v.tolist() if torch.is_tensor(v) else v for k, v in batch.items()} for batch in loader]
    return seen


# ------------------------------------------------------------------------------------------------
# Data


def test_splits_are_found_by_the_names_that_data_has(data_path: str) -> None:
    module = make(data_path)
    module.setup()
    assert {role: dataset[0]["full_name"] for role, dataset in module.datasets.items()} == {  # type: ignore[call-overload]
        "train": "train.t",
        "val": "val.t",
        "test": "test.t",
    }


def test_stages_read_what_they_need_once(data_path: str) -> None:
    module = make(data_path, predict_split="val")
    module.setup("fit")
    train = module.datasets["train"]
    assert set(module.datasets) == {"train", "val"}
    module.setup("predict")
    assert module.datasets["train"] is train and module.datasets["predict"][0]["full_name"] == "val.t"  # type: ignore[call-overload]


def test_files_can_be_named_split_by_split(tmp_path: Path) -> None:
    folder = write_instruct(tmp_path, train="a.jsonl", val="b.jsonl", test="c.jsonl")
    module = make({"train": [f"{folder}/a.jsonl", folder / "b.jsonl"], "val": f"{folder}/c*"})
    module.setup("fit")
    assert len(module.datasets["train"]) == 74 and len(module.datasets["val"]) == 37
    with pytest.raises(DataError, match="none of its files is of split test"):
        module.setup("test")


@pytest.mark.parametrize("template", ["ntp-st", "reprover", "internlm2-step"])
def test_leandojo_data_is_converted_on_the_fly_as_by_the_converter(tmp_path: Path, template: str) -> None:
    leandojo = write_splits(tmp_path / "random")
    convert(["--data_path", str(leandojo), "--template", template, "--output_dir", str(tmp_path / "st")])
    seen = []
    for folder in (leandojo, tmp_path / "st"):
        module = make(str(folder), template=template, max_seq_len=600)
        module.setup("fit")
        seen.append(batches(module))
    assert seen[0] == seen[1] and len(seen[0]) == 20


def test_instruct_data_is_rewritten_with_another_template(data_path: str) -> None:
    module = make(data_path, template="bfs-prover")
    module.setup("validate")
    assert module.datasets["val"][1]["state"] == f"⊢ {'x' * 7}:::"  # type: ignore[call-overload]


def test_the_built_in_dataset_is_built_where_it_is_missing(tmp_path: Path) -> None:
    data_path = tmp_path / "propositional" / "random"
    options = {"dataset": "propositional", "num_theorems": 20, "template": "ntp-st", "max_seq_len": 1024}
    module = make(str(data_path), **options)
    module.prepare_data()
    module.setup()
    assert set(module.datasets) == {"train", "val", "test"}
    written = (data_path / "train.json").stat().st_mtime_ns
    module.prepare_data()
    assert (data_path / "train.json").stat().st_mtime_ns == written


def test_what_was_left_out_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_instruct(tmp_path, num_steps=3)
    with (folder / "state_train.jsonl").open("a") as file:
        file.write(json.dumps({"prompt": LLMSTEP.format("p"), "completion": " ", "prompt_name": "llmstep"}) + "\n{\n")
    with pytest.raises(DataError, match="state_train.jsonl:5: broken JSON"):
        make(str(folder)).setup("fit")
    module = make(str(folder), skip_invalid=True)
    module.setup("fit")
    assert "1 examples with an empty completion" in module.datasets["train"].summary()
    assert "1 broken lines" in module.datasets["train"].summary()


# ------------------------------------------------------------------------------------------------
# Batches


@pytest.mark.parametrize("packing", [False, True])
def test_every_example_comes_once_an_epoch_in_new_batches(data_path: str, packing: bool) -> None:
    module = make(data_path, packing=packing)
    module.setup("fit")
    first, second = epochs(module)
    for epoch in (first, second):
        assert sorted(sum(epoch, [])) == list(range(37))
    assert first != second and len(first) == len(second) == len(module.train_dataloader())
    assert (len(first) < 37 / 4) == packing
    assert [b["index"] for b in module.val_dataloader()] == [b["index"] for b in module.val_dataloader()]


@pytest.mark.parametrize("packing", [False, True])
def test_the_number_of_workers_changes_nothing(data_path: str, packing: bool) -> None:
    modules = [make(data_path, packing=packing, num_workers=n) for n in (0, 2)]
    for module in modules:
        module.setup("fit")
    assert batches(modules[0]) == batches(modules[1])


@pytest.mark.parametrize("packing", [False, True])
def test_no_batch_is_over_the_budget(data_path: str, packing: bool) -> None:
    module = make(data_path, batch_size=None, max_tokens_per_batch=400, packing=packing)
    module.setup("fit")
    seen = []
    for batch in module.train_dataloader():
        assert batch["input_ids"].numel() <= 400 and batch["input_ids"].shape[1] <= 180
        seen += batch["index"]
    assert sorted(seen) == list(range(37))


def test_batches_of_eight_where_nothing_is_said(data_path: str) -> None:
    module = make(data_path, batch_size=None)
    module.setup("fit")
    assert max(len(batch["index"]) for batch in module.train_dataloader()) == 8


def test_a_perfect_predictor_is_given_all_that_it_needs(data_path: str) -> None:
    """What stands behind each prompt in an evaluation batch is the tactic, under the template's own parser."""
    module = make(data_path)
    module.setup("test")
    for batch in module.test_dataloader():
        for row, tactic in enumerate(batch["tactic"]):
            labels = batch["labels"][row]
            prompt = batch["input_ids"][row][: int((labels != -100).nonzero()[0])]
            assert ByteTokenizer().decode(prompt) == batch["state"][row]
            written = ByteTokenizer().decode(labels[labels != -100], skip_special_tokens=True)
            assert LLMSTEP.parse(written) == tactic


@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.parametrize("stop_at", [2, 4])
def test_a_resumed_run_sees_what_an_uninterrupted_one_sees(
    tmp_path: Path, data_path: str, packing: bool, stop_at: int
) -> None:
    options = {"packing": packing, "num_workers": 1}
    whole, resumed = Recorder(stop_at), Recorder()
    quiet_trainer(tmp_path, max_epochs=2).fit(whole, make(data_path, **options))
    quiet_trainer(tmp_path, max_epochs=2).fit(
        resumed, make(data_path, **options), ckpt_path=tmp_path / "middle.ckpt", weights_only=True
    )
    assert len(whole.seen) > stop_at and whole.seen[:stop_at] + resumed.seen == whole.seen


@pytest.mark.parametrize("packing", [False, True])
def test_a_batch_moves_through_reduced_precision(tmp_path: Path, data_path: str, packing: bool) -> None:
    module = make(data_path, packing=packing)
    quiet_trainer(tmp_path, max_steps=1, precision="bf16-true").fit(Recorder(), module)


def test_overfit_batches_repeats_the_same_whole_batch(tmp_path: Path, data_path: str) -> None:
    recorder = Recorder()
    quiet_trainer(tmp_path, max_epochs=2, overfit_batches=1).fit(recorder, make(data_path, packing=True))
    assert len(recorder.seen) == 2 and recorder.seen[0] == recorder.seen[1]


def test_ranks_share_an_epoch_of_packed_rows(data_path: str) -> None:
    """Each reads and packs the data itself, and takes its part."""
    seen = []
    for rank in range(2):
        module = make(data_path, packing=True, batch_size=2)
        strategy = SimpleNamespace(root_device=torch.device("cpu"))
        module.trainer = SimpleNamespace(world_size=2, global_rank=rank, strategy=strategy)  # type: ignore[assignment]
        module.setup("fit")
        seen.append(epochs(module, 1)[0])
    assert len(seen[0]) == len(seen[1]) > 1
    assert sorted(sum(seen[0] + seen[1], [])) == list(range(37))


# ------------------------------------------------------------------------------------------------
# Refusals


def test_leandojo_data_needs_a_template(eight_path: Path) -> None:
    with pytest.raises(ConfigError, match="train.json holds states without prompts; set template to one of reprover,"):
        make(str(eight_path)).setup("fit")
    module = make(str(eight_path), template="llmstep", max_seq_len=300)
    module.setup("fit")
    assert len(module.datasets["train"]) == len(EIGHT)


def test_both_kinds_of_data_in_one_folder_are_refused(eight_path: Path) -> None:
    write_instruct(eight_path)
    with pytest.raises(DataError, match=r"holds both train.json and state_train.jsonl; name the file to read"):
        make(str(eight_path), template="llmstep").setup("fit")


@pytest.mark.parametrize("data_path", ["nowhere", "nowhere.jsonl", ["nowhere.jsonl"], "nowhere/*.jsonl"])
def test_data_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data_path: Any) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="nowhere"):
        make(data_path).setup("fit")


def test_a_split_of_which_nothing_fits_is_refused(data_path: str) -> None:
    with pytest.raises(DataError, match="37 prompts that are too long .* nothing is left to read"):
        make(data_path, max_seq_len=20, max_completion_len=18).setup("fit")


def test_prompts_of_several_templates_need_one_to_be_chosen(tmp_path: Path) -> None:
    folder = write_instruct(tmp_path / "mixed")
    with open(folder / "state_train.jsonl", "a", encoding="utf-8") as file:
        prompt, completion = get_template("ntp-st").format("⊢ p"), get_template("ntp-st").complete("simp")
        file.write(json.dumps({"prompt": prompt, "completion": completion, "prompt_name": "state_tactic"}) + "\n")
    with pytest.raises(ConfigError, match=r"prompts are of several templates \(llmstep, ntp-st\); set template"):
        make(folder).setup("fit")
    rewritten = make(folder, template="llmstep")
    rewritten.setup("fit")
    assert rewritten.found_templates == {"llmstep"} and len(rewritten.datasets["train"]) == 38


def test_options_are_saved_as_plain_values(tmp_path: Path) -> None:
    module = make({"train": [tmp_path / "a.jsonl"], "val": tmp_path}, template="ntp-st")
    assert module.hparams["data_path"] == {"train": [str(tmp_path / "a.jsonl")], "val": str(tmp_path)}
    json.dumps(dict(module.hparams))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"eval_batch_size": -1}, "eval_batch_size is -1"),
        ({"max_tokens_per_batch": 0}, "max_tokens_per_batch is 0"),
        ({"max_completion_len": 180}, "leaves no room for a prompt"),
        ({"num_workers": -1}, "num_workers is -1"),
        ({"template": "ntp"}, "template is 'ntp'; choose one of reprover"),
        ({"dataset": "mathlib"}, "dataset is 'mathlib'; choose one of"),
        ({"predict_split": "all"}, "predict_split is 'all'; choose one of train, val, test"),
        ({"data_path": ["a"], "dataset": "propositional"}, "dataset=propositional is made in one folder"),
    ],
)
def test_an_option_out_of_range_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(**({"data_path": "anywhere"} | options))


def test_it_is_a_data_module_of_lightning() -> None:
    assert issubclass(InstructDataModule, pl.LightningDataModule)
