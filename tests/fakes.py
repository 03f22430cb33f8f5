"""Hand-made data and tiny architectures that tests share."""

import json
from pathlib import Path
from typing import Any

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
