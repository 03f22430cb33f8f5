"""What does a generator learn in its first steps? Variants of the quickstart, by top-1 on val.

    python tests/benchmarks/learning.py
    python tests/benchmarks/learning.py --variants pool1 pool20 pool200 plain_bias --steps 500 --seeds 3407 1 2

Every variant trains the quickstart for the same number of steps on the built-in data (made first if it is not
there) through its command line, its learning rate falling to 0 by the last step, and is validated on all of val.
Every step sees the same number of examples, so that what differs is which examples, and the epoch's bytes a second
say what mixing costs in padding.

    pool1, pool20, ...  data.batches_per_pool; 20 is the quickstart's
    adamw               AdamW instead of Muon
    constant            the learning rate stays where it is
    adamw_constant      both, as ReProver trains
    sorted              batches of all examples sorted by source and target length
    plain_bias          position biases as transformers draws them, see `spread_position_biases`
    plain_gelu          transformers' activation, see `fuse_activations`; it learns the same, more slowly

One seed is a first look; several say what is noise. There is no limit to name: the better variant is the one to use.
"""

import argparse
import contextlib
import json
import re
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import machine
import numpy as np
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import generator.architectures.encoder_decoder
import retrieval.training.datamodule
from generator.datamodule import GeneratorDataModule
from generator.main import main as generator_main
from retrieval.training.batches import LengthGroupedBatchSampler

ROOT = Path(__file__).resolve().parents[2]
QUICKSTART = ROOT / "configs" / "quickstart.yaml"
VARIANTS = ("pool20", "adamw", "constant", "adamw_constant", "pool1", "pool200", "sorted", "plain_bias", "plain_gelu")
OPTIONS = {
    "adamw": {"model.optimizer": "adamw"},
    "constant": {"model.lr_decay": 0},
    "adamw_constant": {"model.optimizer": "adamw", "model.lr_decay": 0},
}


def main() -> None:
    """Train every variant with every seed; print a Markdown row for each variant and a JSON line."""
    args = parse_arguments()
    torch.set_num_threads(args.threads)
    make_data()
    runs: dict[str, list[dict[str, float]]] = {variant: [] for variant in args.variants}
    for seed in args.seeds:
        for variant in args.variants:
            runs[variant].append(train(variant, seed, args))
            print(f"{variant}, seed {seed}: {runs[variant][-1]}", flush=True)
    print(
        f"\n| {args.steps} steps of the quickstart | top-1 on val | by seed | in the beam | loss on val | padding "
        "| bytes/s in training |\n|---|--:|--:|--:|--:|--:|--:|"
    )
    for variant, results in runs.items():
        mean = {key: statistics.fmean(result[key] for result in results) for key in results[0]}
        by_seed = " ".join(f"{result['top1']:.1%}" for result in results)
        print(
            f"| {variant} | {mean['top1']:.1%} | {by_seed} | {mean['in_beam']:.1%} | {mean['loss']:.3f} "
            f"| {mean['padding_share']:.1%} | {mean['useful_bytes_per_s']:,.0f} |"
        )
    print(json.dumps({"runs": runs, "options": vars(args), **machine.facts()}))


def parse_arguments() -> argparse.Namespace:
    """The command line; what it does not know goes to the quickstart's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--variants", nargs="+", type=variant_name, default=list(VARIANTS), metavar="VARIANT")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--seeds", nargs="+", type=int, default=[3407])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--options", nargs=argparse.REMAINDER, default=[], help="last: more options of generator.main, for all variants"
    )
    return parser.parse_args()


def variant_name(name: str) -> str:
    """Accept the known variants and any size of pool."""
    if name not in VARIANTS and not re.fullmatch(r"pool[1-9]\d*", name):
        raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(VARIANTS)}, nor another size of pool")
    return name


def make_data() -> None:
    """Make the quickstart's data as the quickstart does, where it is missing; a run's seed must not change it."""
    options = yaml.safe_load(QUICKSTART.read_text(encoding="utf-8"))["data"]
    with contextlib.chdir(ROOT):
        GeneratorDataModule(model_name={}, **options).prepare_data()


def train(variant: str, seed: int, args: argparse.Namespace) -> dict[str, float]:
    """Run the command line on one variant; return what its metrics.json and TensorBoard say."""
    pool = re.fullmatch(r"pool(\d+)", variant)
    with tempfile.TemporaryDirectory() as folder, changed(variant), contextlib.chdir(ROOT):
        options = {
            "config": QUICKSTART,
            "seed_everything": seed,
            "data.seed": seed,
            "data.batches_per_pool": pool[1] if pool else 20,
            "trainer.max_epochs": 1,
            "trainer.limit_train_batches": args.steps,
            "trainer.log_every_n_steps": max(1, args.steps // 10),
            **OPTIONS.get(variant, {}),
            "trainer.logger.init_args.save_dir": folder,
        }
        with mock.patch.object(sys, "argv", sys.argv[:1]):  # Lightning warns of options on both sides
            cli = generator_main(["fit", *(f"--{key}={value}" for key, value in options.items()), *args.options])
        (path,) = Path(folder).rglob("metrics.json")
        metrics = json.loads(path.read_text(encoding="utf-8"))
        events = EventAccumulator(str(path.parent)).Reload()
    assert metrics["num_steps"] == args.steps and metrics["status"] == "finished", metrics
    logged = {
        name: statistics.median(event.value for event in events.Scalars(name))
        for name in ("useful_bytes_per_s", "padding_share")
    }
    names = {"top1": "top1_acc_val", "in_beam": f"top{cli.model.candidates.num_beams}_acc_val", "loss": "loss_val"}
    return {**{short: metrics[name] for short, name in names.items()}, **logged}


@contextlib.contextmanager
def changed(variant: str) -> Iterator[None]:
    """Take away what the variant goes without; no option does, since no user should."""
    parts: dict[str, tuple[Any, str, Any]] = {
        "sorted": (retrieval.training.datamodule, "LengthGroupedBatchSampler", SortedBatches),
        "plain_bias": (generator.architectures.encoder_decoder, "spread_position_biases", lambda model: None),
        "plain_gelu": (generator.architectures.encoder_decoder, "fuse_activations", lambda model: model),
    }
    if variant not in parts:
        yield
        return
    with mock.patch.object(*parts[variant]):
        yield


class SortedBatches(LengthGroupedBatchSampler):
    """Batches of neighbours among all examples, sorted by source and then target length."""

    def _order(self, epoch: int, attempt: int = 0) -> np.ndarray:
        return np.lexsort((self.targets, self.sources))


if __name__ == "__main__":
    main()
