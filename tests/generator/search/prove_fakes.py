"""Small worlds to prove in: a split on disk, a script for the scripted prover, and the command line over both."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from generator.search.prove import main


def write_split(path: Path, names: Sequence[tuple[str, str]], tactics: Sequence[str] = ("done",)) -> Path:
    """Write theorems, given as file and full name, whose traced proofs have these tactics."""
    steps = [
        {
            "tactic": tactic,
            "annotated_tactic": [tactic, []],
            "state_before": f"⊢ {i}",
            "state_after": "no goals" if i + 1 == len(tactics) else f"⊢ {i + 1}",
        }
        for i, tactic in enumerate(tactics)
    ]
    theorems = [
        {
            "url": "https://example.org",
            "commit": "0" * 40,
            "file_path": file_path,
            "full_name": full_name,
            "start": [number + 1, 1],
            "end": [number + 2, 1],
            "traced_tactics": steps,
        }
        for number, (file_path, full_name) in enumerate(names)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(theorems, ensure_ascii=False), encoding="utf-8")
    return path


def write_script(path: Path, starts: Mapping[str, Any], tactics: Mapping[str, Any] | None = None) -> Path:
    """Write a script in which tactic `done` proves every state, unless `tactics` says what tactics do there."""
    states = [value["then"] if isinstance(value, dict) else value for value in starts.values() if "error" not in value]
    table = {state: {"done": "no goals"} for state in states} | dict(tactics or {})
    path.write_text(json.dumps({"starts": starts, "tactics": table}, ensure_ascii=False), encoding="utf-8")
    return path


def arguments(data_path: Path, script: Path, output_dir: Path, *more: str, workers: int = 0) -> list[str]:
    """The command line of a run in the scripted prover with tactics `step` and `done`."""
    given = [
        f"--data_path={data_path}",
        "--environment=scripted",
        f"--environment_options.script={script}",
        f"--output_dir={output_dir}",
        f"--workers={workers}",
        "--max_seconds=20",
        *([] if any(each.startswith("--figures") for each in more) else ["--figures=false"]),
    ]
    return [*given, *([] if any(each.startswith("--tactics") for each in more) else ["--tactics=step,done"]), *more]


def prove(*args: Any, **options: Any) -> None:
    """Run the command."""
    main(arguments(*args, **options))


def results_of(output_dir: Path) -> list[dict[str, Any]]:
    """The results in a run's file."""
    return [json.loads(line) for line in (output_dir / "results.jsonl").read_text(encoding="utf-8").splitlines()[1:]]


def statuses(output_dir: Path) -> dict[str, str]:
    """What came of each theorem, by its name."""
    return {result["theorem"]["full_name"]: result["status"] for result in results_of(output_dir)}
