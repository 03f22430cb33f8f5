"""Runs the tests and benchmarks that need a GPU, and writes what they found as one Markdown page; `make gpu` calls it.

    python tests/benchmarks/gpu_page.py                      # at most thirteen minutes
    python tests/benchmarks/gpu_page.py --parts tests        # a part alone; the page keeps the others of earlier calls
    python tests/benchmarks/gpu_page.py --tests-s 600        # with another limit of its time
    python tests/benchmarks/gpu_page.py --without-running    # the page with nothing but what was known before

Parts run one after the other, and nothing else may run on the GPU: figures and limits are of it alone. Each is a
process of its own with a limit on its time; one that fails or is cut off is named on the page, its processes are ended,
and the rest goes on. The last line of a benchmark that begins with a brace is JSON: its `table` holds the cells of the
page's table, or its `rows`, by name and side, what was measured of a training step.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "tests/benchmarks/results/gpu.md"
PACKAGES = ("torch", "transformers", "pytorch-lightning")
KEPT = ROOT / "build/gpu_page.json"  # what parts found in earlier calls
NOT_MEASURED = "not measured"
# 180 s did not suffice for the tests, when trainings ran beside them on an H200
LIMITS_S = {"tests": 300, "decoding": 180, "training": 300}


@dataclass(frozen=True)
class Row:
    """A row of the table: what is measured, by which key of a benchmark's `table`."""

    key: str
    work: str
    today: str
    peer: str
    aim: str


TABLE = (
    Row(
        "byt5-small",
        "ByT5-small, 8 x 2,300 bytes, a training step",
        "333 ms, 50 GB, 5 to 9% MFU",
        "plain recipe 4.6% MFU",
        "40% MFU, under 18 GB",
    ),
    Row(
        "scratch",
        "generator of 43 M from scratch, 65,536 tokens a batch of up to 1,024 bytes",
        "1.6 steps/s, 59 GB",
        "",
        "5x, a third of the memory",
    ),
    Row("retriever", "retriever of 15 M, batches of 128 contexts", "2.7 steps/s", "", "5x"),
    Row(
        "decoder-only",
        "decoder-only, 135 M, 49,152 tokens, packed at 2,048",
        "33,000 tokens/s, 2.6% MFU, out of memory at 24,576 tokens a batch",
        "",
        "40% MFU, 65,536 tokens a batch",
    ),
    Row(
        "byt5-2300x64",
        "beam search, ByT5-small, 2,300 bytes, 64 beams, a step",
        "3.9 ms",
        "transformers 9.8 ms; arithmetic 0.03 ms",
        "8x transformers",
    ),
    Row("byt5-512x32", "the same, 512 bytes, 32 beams", "3.7 ms", "transformers 7.4 ms", "8x transformers"),
    Row(
        "causal-1500x32",
        "32 candidates of a 1,500-token prompt, decoder-only, 135 M",
        "1.25x transformers",
        "transformers",
        "6x",
    ),
    Row("validation", "validation under bf16-mixed", "5 times float32", "float32", "no slower"),
)


@dataclass(frozen=True)
class Part:
    """What is run, for how long at most, and what it left."""

    name: str
    command: tuple[str, ...]
    limit_s: int


@dataclass(frozen=True)
class Outcome:
    """Of a part: its status (None where it took too long), seconds, what it printed, its Markdown, and its day."""

    status: int | None
    seconds: float
    output: str
    markdown: str
    date: str = ""


def main(arguments: list[str] | None = None) -> int:
    """Runs the parts, writes the page; returns 0 if all went well."""
    args = parse_arguments(arguments)
    outcomes: dict[str, Outcome] = {}
    if not args.without_running:
        outcomes = {name: found for name, found in earlier(args.kept).items() if name not in args.parts}
        if args.device == "cuda" and not has_gpu():
            print(f"make gpu: torch of {sys.executable} finds no CUDA device; name a python that has one: PYTHON=...")
            return 2
        with tempfile.TemporaryDirectory() as folder:
            for part in parts(Path(folder), args):
                if part.name in args.parts:
                    print(f"{part.name}: {' '.join(part.command)}", flush=True)
                    outcomes[part.name] = run(part, Path(folder))
                    print(f"{part.name}: {describe(outcomes[part.name])}", flush=True)
                    keep(outcomes, args.kept)
                    write(outcomes, args)  # whoever ends this has what there is
    write(outcomes, args)
    print(f"written: {args.output}")
    return int(any(outcome.status != 0 for outcome in outcomes.values()))


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=PAGE)
    parser.add_argument("--parts", nargs="+", choices=list(LIMITS_S), default=list(LIMITS_S), help="that are run now")
    for name, limit_s in LIMITS_S.items():
        parser.add_argument(f"--{name}-s", type=int, default=limit_s, help=f"seconds that {name} may take")
    parser.add_argument("--kept", type=Path, default=KEPT, help="file of what parts found, for calls that run others")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="tiny models and few steps, to try the way on any device")
    parser.add_argument("--without-running", action="store_true", help="write the page with what was known before")
    return parser.parse_args(arguments)


def has_gpu() -> bool:
    """Whether this Python's torch finds a GPU; asked in another process, so that this one takes no memory there."""
    ask = "import sys, torch; sys.exit(not torch.cuda.is_available())"
    return subprocess.run([sys.executable, "-c", ask], check=False).returncode == 0


def write(outcomes: dict[str, Outcome], args: argparse.Namespace) -> None:
    """Writes the page."""
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(page(outcomes, parts(Path("FOLDER"), args)), encoding="utf-8")


def earlier(path: Path) -> dict[str, Outcome]:
    """What parts found in earlier calls."""
    try:
        return {name: Outcome(**found) for name, found in json.loads(path.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}  # none is kept, or another version kept it


def keep(outcomes: dict[str, Outcome], path: Path) -> None:
    """Writes what parts found, for calls that run others."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({name: asdict(outcome) for name, outcome in outcomes.items()})
    path.with_suffix(".part").write_text(text, encoding="utf-8")
    path.with_suffix(".part").replace(path)


def parts(folder: Path, args: argparse.Namespace) -> list[Part]:
    """What can be run, in this order."""
    options = ("--device", "cpu", "--tiny") if args.device == "cpu" else ("--tiny",) if args.tiny else ()
    tests = ("-m", "pytest", "-v", "-m", "gpu", "tests/gpu", "-p", "no:cacheprovider")  # -v: how far it came
    training_s = ("--total-s", str(max(1, args.training_s - 5)))  # it ends by itself, with the rows that it has
    return [
        Part("tests", tests, args.tests_s),
        Part(
            "decoding",
            ("tests/benchmarks/gpu_decoding.py", "--output", f"{folder}/decoding.md", *options),
            args.decoding_s,
        ),
        Part(
            "training",
            ("tests/benchmarks/gpu_training.py", "--output", f"{folder}/training.md", *training_s, *options),
            args.training_s,
        ),
    ]


def run(part: Part, folder: Path) -> Outcome:
    """Runs a part within its time."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    begun = time.monotonic()
    with subprocess.Popen(
        [sys.executable, *part.command],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        status: int | None
        try:
            output, _ = process.communicate(timeout=part.limit_s)
            status = process.returncode
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # with what it has started: the GPU is the next part's
            output, _ = process.communicate()
            status = None
    written = folder / f"{part.name}.md"
    markdown = written.read_text(encoding="utf-8") if written.is_file() else ""
    return Outcome(status, time.monotonic() - begun, output, markdown, time.strftime("%Y-%m-%d"))


def describe(outcome: Outcome) -> str:
    """In a line how a part went."""
    lines = [line for line in outcome.output.splitlines() if line.strip()] or [""]
    took = f"{outcome.seconds:.0f} s"
    if outcome.status is None:
        num_passed = sum(" PASSED" in line for line in lines)
        done = f"{num_passed} tests had passed; " if num_passed else ""
        return f"cut off at its limit of time ({took}); {done}its last line: {lines[-1][:200] or 'none'}"
    if outcome.status:
        return f"failed with status {outcome.status} after {took}: {lines[-1][:200]}"
    return f"{took}" if lines[-1].startswith("{") else f"{took}: {lines[-1][:200]}"


def facts(outcomes: dict[str, Outcome]) -> dict[str, Any]:
    """What the last lines of the benchmarks say."""
    found: dict[str, Any] = {}
    for name, outcome in outcomes.items():
        # libraries may say something when a process ends, behind its last line
        for line in reversed(outcome.output.splitlines()):
            if line.startswith("{"):
                with contextlib.suppress(ValueError):
                    found[name] = json.loads(line)
                break
    return found


def training_cells(rows: Any) -> dict[str, dict[str, str]]:
    """The cells of training steps, from what `gpu_training.py` says of each side."""
    cells: dict[str, dict[str, str]] = {}
    for key, sides in rows.items() if isinstance(rows, dict) else ():
        cells[key] = {"new": step_cell(sides.get("now"))}
        others = [f"{name}: {step_cell(sides[side])}" for side, name in _OTHERS.items() if side in sides]
        cells[key]["peer"] = "; ".join(others)
    return cells


_OTHERS = {"plain": "plain recipe", "before": "before, in this run"}


def step_cell(value: Any) -> str:
    """What was measured of a training step, in a few words."""
    if not value:
        return NOT_MEASURED
    if "error" in value:
        return str(value["error"])
    found = [f"{value['ms']:.1f} ms", f"{value['tokens_per_s']:,.0f} tokens/s"]
    if value.get("mfu") is not None:
        found.append(f"{value['mfu']:.1%} MFU")
    if value.get("peak_gb") is not None:
        found.append(f"{value['peak_gb']:.1f} GB")
    return ", ".join(found)


def page(outcomes: dict[str, Outcome], run_parts: list[Part]) -> str:
    """The page as Markdown."""
    said = facts(outcomes)
    cells: dict[str, dict[str, str]] = {}
    for one in said.values():
        cells |= one["table"] if "table" in one else training_cells(one.get("rows", {}))
    lines = ["# Training and decoding on a GPU", "", "    make gpu PYTHON=python3", ""]
    if said:
        processor = next((one["processor"] for one in said.values() if "processor" in one), "an unknown device")
        lines.append(f"{processor}; {versions()}; {time.strftime('%Y-%m-%d')}. Sides take turns in one run.")
    elif outcomes:
        lines.append(f"{versions()}; {time.strftime('%Y-%m-%d')}. No benchmark ran to its end.")
    else:
        lines.append("No GPU was at hand when this page was written: the command fills its cells in.")
    lines += incomplete(outcomes, run_parts)
    lines += [
        "",
        '"Today" is what was measured before the changes that this page is about, with these benchmarks and a script',
        "around them: an H100, torch 2.11, transformers 5.17, bf16-mixed.",
        "",
        "| work | today | new | peer | aim |",
        "|---|---|---|---|---|",
    ]
    for row in TABLE:
        cell = cells.get(row.key, {})
        new, peer = cell.get("new", NOT_MEASURED), cell.get("peer") or row.peer
        lines.append(f"| {row.work} | {row.today} | {new} | {peer} | {row.aim} |")
    for part in run_parts:
        lines += ["", f"## {part.name.capitalize()}", "", f"    python {' '.join(part.command)}", ""]
        outcome = outcomes.get(part.name)
        lines.append(
            NOT_MEASURED.capitalize() + "." if outcome is None else f"{outcome.date} {describe(outcome)}".strip()
        )
        if outcome is not None and outcome.markdown:
            lines += ["", outcome.markdown.rstrip()]
    return "\n".join(lines).replace("FOLDER/", "build/") + "\n"


def incomplete(outcomes: dict[str, Outcome], run_parts: list[Part]) -> list[str]:
    """A paragraph that says which parts were cut off, failed or not run, if any."""
    if not outcomes:
        return []
    found = []
    for part in run_parts:
        outcome = outcomes.get(part.name)
        how = "not run" if outcome is None else "cut off" if outcome.status is None else "failed" * bool(outcome.status)
        found += [f"{part.name} ({how})"] if how else []
    return ["", f"**Not all of it ran to its end: {', '.join(found)}.** See below."] if found else []


def versions() -> str:
    """Of Python and the packages that matter."""
    found = [f"Python {platform.python_version()}"]
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"no {name}")
    return ", ".join(found)


if __name__ == "__main__":
    sys.exit(main())
