"""What benchmarks say and measure of the machine: its name, versions, seconds, memory, and the rate of a product."""

import argparse
import datetime
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch


def add_arguments(parser: argparse.ArgumentParser, bfloat16: str = "weights") -> None:
    """Let the command line choose how many threads, the device, and the type, of which is said what it means."""
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"], help=f"bfloat16: {bfloat16}")


def facts(device: str = "cpu") -> dict[str, Any]:
    """Where and with what a benchmark was run, for its JSON line."""
    return {
        "date": datetime.date.today().isoformat(),
        "processor": processor() if device == "cpu" else torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "transformers": version("transformers"),
        "python": platform.python_version(),
        "command": " ".join(sys.argv),
    }


def processor() -> str:
    """The processor's name where the system tells it."""
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


# ---------------------------------------------------------------------------------------------------- time


def wait(device: str) -> None:
    """Wait for what the device still does."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def seconds(function: Callable[..., Any], *arguments: Any, device: str = "cpu") -> float:
    """Wall time of a call."""
    start = time.perf_counter()
    function(*arguments)
    wait(device)
    return time.perf_counter() - start


def milliseconds(value: float) -> str:
    """For a table."""
    return f"{value * 1e3:.1f} ms"


def matmul_rate(args: argparse.Namespace) -> float:
    """FLOP/s of a large product in the model's type, the best of ten."""
    size = 2048
    left = torch.randn(size, size, device=args.device, dtype=getattr(torch, args.dtype))
    best = min(seconds(left.matmul, left, device=args.device) for _ in range(10))
    return 2.0 * size**3 / best


# -------------------------------------------------------------------------------------------------- memory


def resident_mb(field: str = "VmRSS") -> float:
    """Memory of this process now, or at its peak (VmHWM), in MB; Linux only."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def peak_mb(run: Callable[[], Any], warm_up: Callable[[], Any], device: str) -> float:
    """Memory at the peak of a call, above what was held before it, in MB.

    Args:
        run: what is measured
        warm_up: a small call of the same, which takes what stays: thread pools and library buffers; CPU only
        device: where it runs
    """
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
        run()
        return (torch.cuda.max_memory_allocated() - held) / 1e6
    warm_up()
    Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak starts again from here
    before = resident_mb()
    run()
    return resident_mb("VmHWM") - before


def last_line_of(script: str, *options: object) -> str:
    """The last line that a script prints in a process of its own, where nothing was loaded before."""
    command = [sys.executable, script, *map(str, options)]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()[-1]
