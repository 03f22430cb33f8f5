"""The page of results of a GPU: what each part said, and what is not known."""

import importlib.util
import json
import subprocess
import sys
import time
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
    assert "61 s: 37 passed" in text and "cut off at its limit of time (150 s); its last line: none" in text
    assert "**Not all of it ran to its end: training (cut off).**" in text


def test_parts_fail_by_themselves_and_keep_their_limits(gpu_page: Any, tmp_path: Path) -> None:
    failing = gpu_page.run(gpu_page.Part("one", ("-c", "print('so far'); raise SystemExit('it broke')"), 60), tmp_path)
    assert failing.status == 1 and "it broke" in gpu_page.describe(failing)
    slow = gpu_page.run(gpu_page.Part("two", ("-c", "import time; time.sleep(60)"), 1), tmp_path)
    assert slow.status is None
    assert sum(gpu_page.LIMITS_S.values()) <= 13 * 60


def test_a_part_that_is_cut_off_leaves_nothing_running_and_says_how_far_it_came(gpu_page: Any, tmp_path: Path) -> None:
    """What it has started would hold the GPU, and the pipe."""
    child = "import subprocess, sys; done = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])"
    code = f"{child}; print('test_a PASSED'); print('test_b', done.pid, flush=True); done.wait()"
    cut = gpu_page.run(gpu_page.Part("tests", ("-c", code), 3), tmp_path)
    assert cut.status is None and cut.seconds < 30
    assert "1 tests had passed; its last line: test_b" in gpu_page.describe(cut)
    pid = int(cut.output.split()[-1])
    deadline = time.monotonic() + 20  # a killed process goes when it is next given a core
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(pid)


def is_running(pid: int) -> bool:
    """Whether there is such a process, and it has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:  # it went, before or while it was read
        return False


def test_a_call_runs_the_parts_that_it_names_with_its_limits_and_keeps_the_others(
    gpu_page: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = []

    def run(part: Any, folder: Path) -> Any:
        ran.append((part.name, part.limit_s))
        return gpu_page.Outcome(0, 1.0, f"{part.name} went well", "", "2026-11-27")

    monkeypatch.setattr(gpu_page, "run", run)
    monkeypatch.setattr(gpu_page, "has_gpu", lambda: True)
    files = ["--output", str(tmp_path / "gpu.md"), "--kept", str(tmp_path / "build" / "kept.json")]
    assert gpu_page.main(["--parts", "tests", "--tests-s", "900", *files]) == 0
    assert "decoding (not run), training (not run)" in (tmp_path / "gpu.md").read_text()
    assert gpu_page.main(["--parts", "decoding", "training", "--training-s", "77", *files]) == 0
    assert ran == [("tests", 900), ("decoding", gpu_page.LIMITS_S["decoding"]), ("training", 77)]
    text = (tmp_path / "gpu.md").read_text()
    assert all(f"2026-11-27 1 s: {name} went well" in text for name in gpu_page.LIMITS_S)
    assert "Not all" not in text and "--total-s 72" in text
    (tmp_path / "build" / "kept.json").write_text("{broken")
    assert gpu_page.main(["--parts", "tests", *files]) == 0


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
