"""The page of results of a GPU: what each part said, and what is not known."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parent / "benchmarks"


@pytest.fixture
def gpu_page(monkeypatch: pytest.MonkeyPatch) -> Any:
    spec = importlib.util.spec_from_file_location("gpu_page", BENCHMARKS / "gpu_page.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "gpu_page", module)
    spec.loader.exec_module(module)
    return module


def test_without_a_run_every_cell_that_is_new_is_not_measured(gpu_page: Any, tmp_path: Path) -> None:
    assert gpu_page.main(["--without-running", "--output", str(tmp_path / "gpu.md")]) == 0
    rows = [line for line in (tmp_path / "gpu.md").read_text().splitlines() if line.startswith("| ")][1:]
    assert len(rows) == 8 and all("| not measured |" in row for row in rows)
    assert "3.9 ms" in str(rows)


def test_what_the_parts_say_is_on_the_page(gpu_page: Any) -> None:
    cells = {"byt5-2300x64": {"new": "0.9 ms a step", "peer": "transformers 9.7 ms"}}
    said = json.dumps({"processor": "NVIDIA H100", "table": cells})
    outcomes = {
        "tests": gpu_page.Outcome(0, 61.0, "....\n37 passed in 60 s\n", ""),
        "decoding": gpu_page.Outcome(0, 100.0, f"progress\n{said}\nlibrary: said when it ended\n", "| a | table |\n"),
        "training": gpu_page.Outcome(None, 150.0, "", ""),
    }
    parts = [gpu_page.Part(name, ("x.py",), 1) for name in outcomes]
    text = gpu_page.page(outcomes, parts)
    [row] = [line for line in text.splitlines() if "2,300 bytes, 64 beams" in line]
    assert "| 3.9 ms | 0.9 ms a step | transformers 9.7 ms |" in row
    assert "NVIDIA H100" in text and "| a | table |" in text
    assert "61 s: 37 passed" in text and "did not end within its time (150 s)" in text


def test_parts_fail_by_themselves_and_keep_within_eight_minutes(gpu_page: Any, tmp_path: Path) -> None:
    failing = gpu_page.run(gpu_page.Part("one", ("-c", "print('so far'); raise SystemExit('it broke')"), 60), tmp_path)
    assert failing.status == 1 and "it broke" in gpu_page.describe(failing)
    slow = gpu_page.run(gpu_page.Part("two", ("-c", "import time; time.sleep(60)"), 1), tmp_path)
    assert slow.status is None
    assert gpu_page.TOTAL_S < 480


def test_what_training_measured_by_side_is_in_the_table(gpu_page: Any) -> None:
    now = {"ms": 91.2, "tokens_per_s": 201_000.0, "mfu": 0.41, "peak_gb": 16.2}
    rows = {
        "byt5-small": {"now": now, "plain": {"error": "out of memory"}},
        "scratch": {"before": {**now, "mfu": None}},
    }
    outcome = gpu_page.Outcome(0, 100.0, json.dumps({"processor": "NVIDIA H100", "rows": rows}), "")
    text = gpu_page.page({"training": outcome}, [])
    assert "| 91.2 ms, 201,000 tokens/s, 41.0% MFU, 16.2 GB | plain recipe: out of memory |" in text
    assert "| not measured | before, in this run: 91.2 ms, 201,000 tokens/s, 16.2 GB |" in text


def test_without_a_gpu_the_python_is_named(gpu_page: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(gpu_page, "has_gpu", lambda: False)
    assert gpu_page.main([]) == 2
    assert sys.executable in capsys.readouterr().out


def test_the_page_that_is_kept_has_the_rows_of_the_table(gpu_page: Any) -> None:
    kept = gpu_page.PAGE.read_text(encoding="utf-8")
    assert all(f"| {row.work} | {row.today} |" in kept for row in gpu_page.TABLE)


@pytest.mark.slow
def test_the_benchmark_of_decoding_runs_without_a_gpu(tmp_path: Path) -> None:
    command = ["gpu_decoding.py", "--device", "cpu", "--tiny", "--output", str(tmp_path / "found.md")]
    done = subprocess.run([sys.executable, str(BENCHMARKS / command[0]), *command[1:]], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    said = json.loads(done.stdout.splitlines()[-1])
    assert {"byt5-40x4", "byt5-24x3", "causal-50x4", "validation"} == set(said["table"])
    assert (tmp_path / "found.md").read_text().startswith("| input x beams |")
