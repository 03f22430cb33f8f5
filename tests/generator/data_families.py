"""The data modules of both families, the rows of one of them packed or not, for tests of what all promise."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from generator.datamodule import GeneratorDataModule
from generator.instruct_datamodule import InstructDataModule
from generator.prompts.templates import get_template

NUM_STEPS = 37  # of each split, unless a test says otherwise
SPLITS = ("train", "val", "test")
LLMSTEP = get_template("llmstep")


def _steps(num_steps: int) -> list[tuple[str, str]]:
    """States and tactics of many lengths."""
    return [("⊢ " + "x" * (i * 7 % 90), f"t{i}" + "y" * (i * 5 % 17)) for i in range(num_steps)]


def write_leandojo(folder: Path, num_steps: int = NUM_STEPS) -> Path:
    """Splits of one theorem each, as LeanDojo Benchmark has them."""
    folder.mkdir(parents=True, exist_ok=True)
    for split in SPLITS:
        record = {"url": "u", "commit": "c", "file_path": "T.lean", "full_name": f"{split}.t", "start": [1, 1]}
        steps = [{"tactic": t, "state_before": s, "state_after": ""} for s, t in _steps(num_steps)]
        (folder / f"{split}.json").write_text(json.dumps([{**record, "traced_tactics": steps}]), encoding="utf-8")
    return folder


def write_instruct(folder: Path, num_steps: int = NUM_STEPS, **files: str) -> Path:
    """The same steps as prompts and completions, each split under a name of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    names = {"train": "state_train.jsonl", "val": "dev.jsonl.gz", "test": "test.jsonl"} | files
    for split, name in names.items():
        lines = [
            {
                "task": "tactic_prediction",
                "prompt": LLMSTEP.format(state),
                "prompt_name": "llmstep",
                "completion": tactic,
                "metadata": {"file_path": "T.lean", "full_name": f"{split}.t", "start": [1, 1], "tactic_idx": i},
            }
            for i, (state, tactic) in enumerate(_steps(num_steps))
        ]
        content = "".join(json.dumps(line) + "\n" for line in lines).encode()
        (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return folder


@dataclass(frozen=True, eq=False)
class DataFamily:
    """A data module and data for it.

    Attributes:
        name: for the ids of tests
        data_module: the class
        options: which `make` gives it, unless others are given
        write: writes data of 37 steps, or as many as it is told, into a folder
        on_leandojo: options with which it reads LeanDojo's files
        short_tactics: options under which the longest tactics are over the limit
        tensors: the names of those tensors in a batch that count against a budget
        min_budget: tokens that the longest example takes, or a packed row
    """

    name: str
    data_module: type[Any]
    options: Mapping[str, Any]
    write: Callable[..., Path]
    on_leandojo: Mapping[str, Any]
    short_tactics: Mapping[str, int]
    tensors: tuple[str, ...]
    min_budget: int

    @property
    def is_packed(self) -> bool:
        return bool(self.options.get("packing"))

    def make(self, data_path: Any, **options: Any) -> Any:
        return self.data_module(data_path, "google/byt5-small", **{"batch_size": 4, **self.options, **options})

    def on(self, data_path: Any, **options: Any) -> Any:
        """The module, of LeanDojo's files."""
        return self.make(data_path, **{**self.on_leandojo, **options})


ENCODER_DECODER_DATA = DataFamily(
    name="encoder_decoder",
    data_module=GeneratorDataModule,
    options={},
    write=write_leandojo,
    on_leandojo={},
    short_tactics={"max_oup_seq_len": 8},
    tensors=("state_ids", "tactic_ids"),
    min_budget=120,
)

_INSTRUCT = {
    "data_module": InstructDataModule,
    "write": write_instruct,
    "on_leandojo": {"template": "llmstep", "max_seq_len": 600},
    "short_tactics": {"max_completion_len": 8},
    "tensors": ("input_ids",),
}
_LENGTHS = {"max_seq_len": 180, "max_completion_len": 40}

DECODER_ONLY_DATA = DataFamily(name="decoder_only", options=_LENGTHS, min_budget=140, **_INSTRUCT)  # type: ignore[arg-type]
PACKED_DATA = DataFamily(name="packed_rows", options={**_LENGTHS, "packing": True}, min_budget=180, **_INSTRUCT)  # type: ignore[arg-type]

DATA_FAMILIES = [ENCODER_DECODER_DATA, DECODER_ONLY_DATA]
BATCHED = [*DATA_FAMILIES, PACKED_DATA]


class Recorder(pl.LightningModule):
    """Learns nothing; writes down which examples it sees."""

    def __init__(self, stop_at: int | None = None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[list[int]] = []
        self.stop_at = stop_at

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        self.seen.append(batch["index"])
        return self.weight.sum()

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.global_step == self.stop_at:
            self.trainer.save_checkpoint(Path(self.trainer.default_root_dir) / "middle.ckpt")

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        pass

    def predict_step(self, batch: Any, batch_idx: int) -> Any:
        return batch["index"]


def epochs(module: Any, num_epochs: int = 2) -> list[list[dict[str, Any]]]:
    """The training batches of each epoch, in plain values; the module has been set up."""
    loader = module.train_dataloader()
    seen = []
    for epoch in range(num_epochs):
        loader.sampler.set_epoch(epoch)  # as Lightning does
        seen.append([{k: v.tolist() if torch.is_tensor(v) else v for k, v in batch.items()} for batch in loader])
    return seen


def indices(batches: list[dict[str, Any]]) -> list[list[int]]:
    """Which examples are in which batch."""
    return [batch["index"] for batch in batches]
