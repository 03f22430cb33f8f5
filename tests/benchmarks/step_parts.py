"""How long do the parts of a step of the quickstart take, and its validation, on this processor?

What is timed: the model (loss and gradients), the optimizer, and beam search on validation batches, in turns. Medians
are compared within one run, so other work on the machine changes little. What is to be: a step is the model's work, so
`--max-share` (a third, in .ci/run) ends with status 1 where the optimizer takes more of it.

The last column is what the steps and validations of `make fit` add up to, without making its data. How a processor
without AVX-512 and bfloat16 does, an Intel one can tell:

    ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 MKL_ENABLE_INSTRUCTIONS=AVX2 python tests/benchmarks/step_parts.py
"""

import argparse
import itertools
import json
import statistics
import sys
from pathlib import Path
from typing import Any

import machine
import torch
import yaml

from generator.datamodule import GeneratorDataModule
from generator.model import RetrievalAugmentedGenerator
from retrieval.training.optimizers import MuonAdamW, split_matrices

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Time, print a Markdown row and a JSON line, and judge."""
    args = parse_arguments()
    torch.set_num_threads(args.threads)
    options = yaml.safe_load((ROOT / "configs" / "quickstart.yaml").read_text(encoding="utf-8"))
    torch.manual_seed(0)
    model = RetrievalAugmentedGenerator(**{**options["model"], "lr_decay": 0.0})
    given = {"data_path": args.data_path, "dataset": None} if args.data_path else {}
    data_options = {**options["data"], **given}
    data = GeneratorDataModule(model_name=options["model"]["model_name"], **data_options)
    data.prepare_data()
    data.setup("fit")
    parts = time_steps(model, data, args.steps)
    parts["validation"] = time_validation(model, data, args.validation_batches)
    median = {name: statistics.median(seconds) for name, seconds in parts.items() if seconds}
    share = median["optimizer"] / (median["model"] + median["optimizer"])
    num_steps, num_batches = len(data.train_dataloader()), len(data.val_dataloader())
    total = num_steps * (median["model"] + median["optimizer"]) + num_batches * median.get("validation", 0.0)
    epochs = options["trainer"]["max_epochs"]
    print(
        f"\n| threads | model | optimizer | its share | a batch of validation | {epochs} epochs |\n"
        "|--:|--:|--:|--:|--:|--:|\n"
        f"| {args.threads} | {machine.milliseconds(median['model'])} | {machine.milliseconds(median['optimizer'])} "
        f"| {share:.0%} | {machine.milliseconds(median.get('validation', 0.0))} | {epochs * total / 60:.1f} min |"
    )
    print(json.dumps({"median_s": median, "optimizer_share": share, "options": vars(args), **machine.facts()}))
    if args.max_share is not None and share > args.max_share:
        sys.exit(f"the optimizer takes {share:.0%} of a step of the quickstart; it may take {args.max_share:.0%}")


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--data_path", help="the quickstart's data, or less of it; by default what the quickstart reads"
    )
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--validation_batches", type=int, default=3)
    parser.add_argument("--max-share", type=float, help="of the optimizer in a step, from 0 to 1")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    return parser.parse_args()


def time_steps(model: Any, data: Any, num_steps: int) -> dict[str, list[float]]:
    """Seconds of the parts of each step, behind five that are not counted."""
    model.train()
    optimizer = MuonAdamW(*split_matrices(model), lr=1e-3)
    parts: dict[str, list[float]] = {"model": [], "optimizer": []}
    for batch in itertools.islice(data.train_dataloader(), num_steps + 5):
        optimizer.zero_grad()
        parts["model"].append(machine.seconds(lambda batch=batch: model.loss_of(batch)[0].backward()))
        parts["optimizer"].append(machine.seconds(optimizer.step))
    return {name: seconds[5:] for name, seconds in parts.items()}


def time_validation(model: Any, data: Any, num_batches: int) -> list[float]:
    """Seconds of each batch: its loss, and the beam search."""
    model.eval()
    batches = itertools.islice(data.val_dataloader(), num_batches)
    return [machine.seconds(lambda batch=batch: validate(model, batch)) for batch in batches]


@torch.no_grad()
def validate(model: Any, batch: Any) -> None:
    """What a step of validation computes."""
    model.loss_of(batch)
    model.decode(batch["state"], model.candidates.num_beams)


if __name__ == "__main__":
    main()
