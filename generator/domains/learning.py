"""The command `learning`: how accuracy grows with samples, of several runs of bit tasks in one figure."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import ConfigError, DataError
from retrieval.training.charts import Lines, Series
from retrieval.training.drawing import check_drawing, draw, to_png
from retrieval.training.files import writing_file

_TAGS = ("num_samples", "online_acc")
_MAX_POINTS = 2000


def learning(output_path: Path, runs: Sequence[Path] = (), names: Sequence[str] = (), title: str = "") -> None:
    """Draw the accuracy of training against samples, and print after how many a task was learnt.

    Args:
        output_path: PNG file to write
        runs: folders of runs, such as runs/bit_xor_cpu/version_0
        names: of the runs, for the legend; those of their folders by default
        title: of the figure
    """
    check_drawing()
    if not runs:
        raise ConfigError("runs is missing; give folders of runs, such as runs/bit_xor_cpu/version_0")
    if names and len(names) != len(runs):
        raise ConfigError(f"there are {len(names)} names for {len(runs)} runs; give one for each")
    labels = list(names) or [f"{run.parent.name}/{run.name}" for run in runs]
    curves = {label: read_curve(run) for label, run in zip(labels, runs, strict=True)}
    with writing_file(output_path) as part:
        part.write_bytes(to_png(draw(learning_chart(curves, title))))
    for label, run in zip(labels, runs, strict=True):
        print(f"{label}: {learnt(run)}")
    print(output_path)


def learning_chart(curves: dict[str, list[tuple[float, float]]], title: str = "") -> Lines:
    """Return accuracies by samples, by the name of the run."""
    series = [Series(name, tuple(x for x, _ in rows), tuple(y for _, y in rows)) for name, rows in curves.items()]
    return Lines(
        title or "Bits that are right in training",
        "logged points",
        "samples",
        "bits, mean of the last batches",
        tuple(series),
        sum(len(each.x) for each in series),
        is_share=True,
        is_log_x=True,
        levels=(("chance", 0.5),),
    )


def read_curve(run: Path) -> list[tuple[float, float]]:
    """Return samples and online accuracies of a run from its TensorBoard events.

    Raises:
        DataError: if it has logged none
    """
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

    if not list(run.glob("events.out.tfevents.*")):
        raise DataError(f"run {run} holds no events of TensorBoard; give a folder such as runs/bit_xor_cpu/version_0")
    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    events: Any = EventAccumulator(str(run), size_guidance={"scalars": _MAX_POINTS})
    events.Reload()
    if not set(_TAGS) <= set(events.Tags()["scalars"]):
        raise DataError(f"run {run} has logged no {' and '.join(_TAGS)}, so it is no run of a bit task")
    samples, accuracies = ({int(each.step): float(each.value) for each in events.Scalars(tag)} for tag in _TAGS)
    return [(samples[step], accuracies[step]) for step in sorted(samples) if step in accuracies and samples[step] > 0]


def learnt(run: Path) -> str:
    """Say after how many samples a run had learnt its task, by its metrics.json.

    Raises:
        DataError: if there is none that says so
    """
    path = run / "metrics.json"
    try:
        metrics = json.loads(path.read_text(encoding="utf-8"))
        samples, accuracy = metrics["num_samples"], metrics["online_acc"]
        found = [name for name in metrics if name.startswith("samples_to_")]
        seconds = [metrics[name.replace("samples", "seconds")] for name in found]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: is missing, or not that of a bit task ({error!r})") from error
    if not found:
        return f"not learnt: {accuracy:.1%} of bits in training after {samples:,} samples"
    [name], [second] = found, seconds
    return f"{name.rsplit('_', 1)[1]}% of bits after {metrics[name]:,} samples, {second:,.0f} s"
