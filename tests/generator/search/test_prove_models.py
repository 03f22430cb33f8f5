"""The command with trained models of both families."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from generator.search.prove import main
from tests.fakes import EIGHT
from tests.generator.search.prove_fakes import prove, results_of, statuses, write_split

if TYPE_CHECKING:
    from tests.generator.families import Learnt


def test_a_model_proves_a_statement(learnt: Learnt, capsys: pytest.CaptureFixture[str]) -> None:
    main(
        [
            "--statement=(p q : Prop) (h : p ∧ q) : q ∧ p",
            "--environment=propositional",
            f"--ckpt_path={learnt.checkpoint}",
            "--device=cpu",
            "--num_candidates=2",
            "--max_expansions=3",
        ]
    )
    assert capsys.readouterr().out.endswith(": q ∧ p := by\n  exact ⟨h.2, h.1⟩\n")


def test_workers_share_a_model(learnt: Learnt, tmp_path: Path) -> None:
    names = [(f"F{i}.lean", f"t{i}") for i in range(4)]
    split = write_split(tmp_path / "val.json", names)
    script = tmp_path / "script.json"
    tactics = {state: {tactic: "no goals"} for state, tactic in EIGHT}
    starts = {name: EIGHT[i // 2][0] for i, (_, name) in enumerate(names)}  # two theorems begin alike
    script.write_text(json.dumps({"starts": starts, "tactics": tactics}))
    options = [f"--ckpt_path={learnt.checkpoint}", "--device=cpu", "--num_candidates=2", "--max_expansions=2"]
    prove(split, script, tmp_path / "out", "--tactics=null", *options, workers=2)
    assert statuses(tmp_path / "out") == {name: "proved" for _, name in names}
    assert sum(result["num_cache_hits"] for result in results_of(tmp_path / "out")) == 2
    header = json.loads((tmp_path / "out" / "results.jsonl").read_text().splitlines()[0])
    assert header["generator"]["ckpt_path"] == str(learnt.checkpoint) and "ckpt_path_hash" in header["generator"]
