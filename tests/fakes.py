"""Hand-made data, tiny architectures, and what is done with models, for tests of several modules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    import pytorch_lightning as pl

TINY = {
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 64,
    "num_heads": 4,
    "num_layers": 2,
    "num_decoder_layers": 2,
    "dropout_rate": 0.0,
}


def theorem(i: int, steps: list[tuple[str, str]]) -> dict[str, Any]:
    """A theorem in LeanDojo's layout, from (state, tactic) pairs."""
    states = [state for state, _ in steps] + ["no goals"]
    return {
        "url": "https://example.org/repo",
        "commit": "c0ffee",
        "file_path": f"Lib/File{i % 3}.lean",
        "full_name": f"Lib.thm{i}",
        "start": [i + 1, 1],
        "end": [i + 1, 20],
        "traced_tactics": [
            {
                "tactic": tactic,
                "annotated_tactic": [tactic, []],
                "state_before": states[j],
                "state_after": states[j + 1],
            }
            for j, (_, tactic) in enumerate(steps)
        ],
    }


EIGHT = [
    ("p q : Prop\nh : p ∧ q\n⊢ q ∧ p", "exact ⟨h.2, h.1⟩"),
    ("p q : Prop\n⊢ p → p", "intro h"),
    ("p q : Prop\nh : p\n⊢ p", "exact h"),
    ("p q : Prop\nh : p ∨ q\n⊢ q ∨ p", "rcases h with h1 | h1"),
    ("p q : Prop\nh : False\n⊢ q", "contradiction"),
    ("p : Prop\n⊢ True", "trivial"),
    ("p q : Prop\nh : q\n⊢ p ∨ q", "right"),
    ("p q : Prop\nh : p\n⊢ p ∨ q", "left"),
]


def write_splits(folder: Path, steps: list[tuple[str, str]] = EIGHT) -> Path:
    """Write train, val and test files that all hold the same steps, a theorem each."""
    folder.mkdir(parents=True, exist_ok=True)
    theorems = [theorem(i, [step]) for i, step in enumerate(steps)]
    for split in ("train", "val", "test"):
        (folder / f"{split}.json").write_text(json.dumps(theorems), encoding="utf-8")
    return folder


def quiet_trainer(path: Path | str, **options: Any) -> pl.Trainer:
    """A trainer on the CPU that shows, logs and saves only what it is asked to."""
    import pytorch_lightning as pl  # takes two seconds, and most tests train nothing

    torch.set_num_threads(1)  # fixtures of whole modules come before the one that does so for tests
    quiet = {
        "accelerator": "cpu",
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "default_root_dir": str(path),
        "num_sanity_val_steps": 0,
        "log_every_n_steps": 1,
    }
    return pl.Trainer(**{**quiet, **options})


def save_checkpoint(model: pl.LightningModule, path: Path) -> Path:
    """Write the checkpoint of a model that was not trained."""
    trainer = quiet_trainer(path.parent)
    trainer.strategy.connect(model)
    trainer.save_checkpoint(path)
    return path


def save_pretrained(model: Any, folder: Path) -> Path:
    """Write a generator's model and tokenizer as other programs do."""
    model.generator.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    return folder
