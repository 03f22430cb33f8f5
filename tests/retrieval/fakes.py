"""Eight contexts that cite premises of a small library, for tests that train."""

import json
from pathlib import Path
from typing import Any

from tests.fakes import TINY

ENCODER = {key: value for key, value in TINY.items() if key != "num_decoder_layers"}
NAMES = ("And.symm", "Or.symm", "Iff.refl", "Nat.succ_pos", "List.map_id", "Set.mem_univ", "Not.elim", "Eq.trans")
# what each context cites; the last two share a premise
CITED = (0, 1, 2, 3, 4, 5, 6, 6)
STATES = (
    "a b : Prop\n⊢ a ∧ b → b ∧ a",
    "a b : Prop\nh : a ∨ b\n⊢ b ∨ a",
    "⊢ q ↔ q",
    "n : ℕ\n⊢ 0 < n + 1",
    "xs : List α\n⊢ xs.map id = xs",
    "x : α\n⊢ x ∈ univ",
    "h : ¬p\nk : p\n⊢ q",
    "h : ¬r\nk : r\n⊢ False",
)


def _premise(name: str, line_nb: int) -> dict[str, Any]:
    code = f"theorem {name.split('.')[1]} : statement about {name.split('.')[0]}"
    return {"full_name": name, "code": code, "start": [line_nb, 1], "end": [line_nb, 60], "kind": "theorem"}


def _step(state: str, tactic: str, cited: list[tuple[str, str, list[int]]]) -> dict[str, Any]:
    premises = [{"full_name": name, "def_path": path, "def_pos": pos, "def_end_pos": pos} for name, path, pos in cited]
    annotated = " ".join([tactic, *(f"<a>{name}</a>" for name, _, _ in cited)])
    written = annotated.replace("<a>", "").replace("</a>", "")
    return {"tactic": written, "annotated_tactic": [annotated, premises], "state_before": state, "state_after": ""}


def place(number: int) -> tuple[str, list[int]]:
    """File and position of a premise of the library: four in each of two files."""
    return ("First.lean", "Second.lean")[number // 4], [number % 4 * 10 + 1, 1]


def write_library(folder: Path) -> Path:
    """Write corpus.jsonl and data/{train,val,test}.json, which are the same; return the folder data.

    Main.lean, where the theorems are, imports both files of the library and has a premise of its own, behind
    them all. One step more cites nothing, one starts from no goals, and one cites what the corpus lacks.
    """
    data = folder / "data"
    data.mkdir(parents=True)
    premises = [_premise(name, place(number)[1][0]) for number, name in enumerate(NAMES)]
    files = [
        {"path": "First.lean", "imports": [], "premises": premises[:4]},
        {"path": "Second.lean", "imports": ["First.lean"], "premises": premises[4:]},
        {"path": "Main.lean", "imports": ["Second.lean"], "premises": [_premise("Main.late", 900)]},
    ]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(file) + "\n" for file in files), encoding="utf-8")
    steps = [
        _step(state, "apply", [(NAMES[number], *place(number))]) for state, number in zip(STATES, CITED, strict=True)
    ]
    steps.append(_step("⊢ nothing is cited", "simp", []))
    steps.append(_step("no goals", "done", []))
    steps.append(_step("⊢ what is cited is gone", "apply", [("Gone.away", "Gone.lean", [1, 1])]))
    theorems = [
        {
            "url": "u",
            "commit": "c",
            "file_path": "Main.lean",
            "full_name": f"Main.thm{i}",
            "start": [10 * i + 1, 1],
            "end": [10 * i + 9, 1],
            "traced_tactics": [step],
        }
        for i, step in enumerate(steps)
    ]
    for split in ("train", "val", "test"):
        named = [theorem | {"full_name": f"{theorem['full_name']}.{split}"} for theorem in theorems]
        (data / f"{split}.json").write_text(json.dumps(named), encoding="utf-8")
    return data
