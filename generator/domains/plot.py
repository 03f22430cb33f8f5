"""The command `plot`: figures of results, as PNG files and in TensorBoard."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common import ConfigError, DataError
from generator.domains import DOMAINS, domain_class
from generator.domains.base import Domain
from generator.domains.choices import DomainChoice
from generator.domains.figures import result_charts, training_chart
from generator.domains.results import Result, read_results
from generator.domains.training_sizes import matrix_charts, published_charts, train_size_chart
from retrieval.training.charts import Chart
from retrieval.training.drawing import check_drawing, draw, to_png
from retrieval.training.files import writing_file
from retrieval.training.options import flat_options

_NUM_FOR_FLOOR = 1000
_LOSSES = {"training": ("loss_train_step", "loss_train"), "validation": ("loss_val",)}  # names in TensorBoard


@flat_options
def plot(
    output_dir: Path,
    results: Sequence[Path] = (),
    choice: DomainChoice = DomainChoice(),
    run: Path | None = None,
    across: bool = False,
    without_published: bool = False,
) -> None:
    """Draw what `baseline` and `evaluate` found: solved within a budget, by group, by size of training; ranks, losses.

    Figures are PNG files of the width of a paper's column, and events of TensorBoard in the same folder. Bands are 95%
    bootstrap intervals over problems, bars at points 95% intervals (Wilson); hollow dots are published numbers, and so
    are those in parentheses.

    Args:
        output_dir: folder to write to
        results: files that `baseline` and `evaluate` wrote, or their folders
        choice: which domain they are of
        run: folder of a training run, whose losses are drawn against the least possible ones
        across: results are of several domains, and what is drawn is the matrix of what models were trained and tested
            on, and the shares solved by the number of training problems
        without_published: leave out the numbers of others
    """
    check_drawing()
    if not results and run is None:
        raise ConfigError("results is missing; give files that `baseline` or `evaluate` wrote, or their folders")
    if across and run is not None:
        raise ConfigError("run is of one domain, and across of several; give one of them")
    if across:
        return _write(output_dir, "", _charts_across(read_results(results, None), without_published))
    domain, charts = choice.make(), dict[str, Chart]()
    if results:
        published = ((), ()) if without_published else (domain.published, domain.published_sizes)
        charts |= result_charts(read_results(results, domain), *published)
    if run is not None:
        charts["training"] = training_chart(read_losses(run), floor_of(domain))
    _write(output_dir, domain.name, charts)


def _charts_across(results: Sequence[Result], without_published: bool) -> dict[str, Chart]:
    known = [name for name in dict.fromkeys(result.domain for result in results) if name in DOMAINS]
    published = {} if without_published else {name: domain_class(name).published_across for name in known}
    charts = matrix_charts(results, published)
    if len(known) > 1:
        charts |= published_charts(published)
    sizes = train_size_chart(results)
    return charts if sizes is None else charts | {"train_size": sizes}


def _write(folder: Path, domain: str, charts: Mapping[str, Chart]) -> None:
    from torch.utils.tensorboard import SummaryWriter

    folder.mkdir(parents=True, exist_ok=True)
    with SummaryWriter(str(folder)) as board:
        for name, chart in charts.items():
            pixels = draw(chart, domain)
            with writing_file(folder / f"{name}.png") as part:
                part.write_bytes(to_png(pixels))
            board.add_image(f"figures/{name}", pixels, dataformats="HWC")
            print(folder / f"{name}.png")


def read_losses(run: Path) -> dict[str, list[tuple[int, float]]]:
    """Return steps and losses of a run from its TensorBoard events.

    Raises:
        DataError: if there are none
    """
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

    if not list(run.glob("events.out.tfevents.*")):
        raise DataError(
            f"run {run} holds no events of TensorBoard; give the folder of a run, such as runs/<name>/version_0"
        )
    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    events: Any = EventAccumulator(str(run), size_guidance={"scalars": 2000})
    events.Reload()
    tags = events.Tags()["scalars"]
    found = {name: next((tag for tag in names if tag in tags), None) for name, names in _LOSSES.items()}
    losses = {
        name: [(int(each.step), float(each.value)) for each in events.Scalars(tag)]
        for name, tag in found.items()
        if tag
    }
    if not losses:
        raise DataError(f"run {run} has logged no loss_train or loss_val")
    return losses


def floor_of(domain: Domain[Any, Any]) -> float | None:
    """Return the least loss in nats a token of bytes, EOS counted; None where the posterior is not known.

    It is the entropy of the posterior, on average over problems of val.
    """
    nats = num_tokens = 0.0
    for problem in domain.problems(0, "val", _NUM_FOR_FLOOR):
        floor = domain.floor(problem.spec)
        if floor is None:
            return None
        nats += floor
        num_tokens += len(problem.program.encode()) + 1
    return nats / num_tokens
