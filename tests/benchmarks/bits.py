"""How many samples does a body need to compute, for strangers, the xor of two strings: frozen, random, or all trained?

    python tests/benchmarks/bits.py --gguf SmolLM2-135M-Instruct.Q4_1.gguf --output_dir runs/bits --minutes 4

Each row is a run of `python -m generator.main fit --config configs/generator/bit_xor_cpu.yaml` with other options;
`--dry_run` prints the commands. A run ends when 99% of bits are right (see the page), or at its limits of samples and
of minutes of processor time on one thread, which do not depend on how busy the machine is. What has run before is kept
and not run again. A row of the table for each, and a line of JSON at the end.
"""

import argparse
import json
import re
import shlex
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from machine import facts

from generator.architectures.decoder_only import load_causal
from generator.main import GeneratorCLI
from retrieval.training.cli import start
from retrieval.training.run_folder import run_folder

CONFIG = "configs/generator/bit_xor_cpu.yaml"
GPT2 = {
    "model_type": "gpt2",
    "n_embd": 128,
    "n_layer": 4,
    "n_head": 4,
    "n_positions": 128,
    "resid_pdrop": 0.0,
    "embd_pdrop": 0.0,
    "attn_pdrop": 0.0,
}
TRAINED = {
    "all": ["--model.trained_groups=[all]"],
    "frozen": ["--model.trained_groups=[norms,positions]"],
    "probe": ["--model.trained_groups=[]", "--model.train_input=false"],
}
SAMPLES = {5: 64_000, 50: 64_000}  # a run ends there


@dataclass(frozen=True)
class Row:
    """A run.

    Attributes:
        group: of the table
        name: what is run
        trained: which parts are, see TRAINED
        n: bits
        lr: learning rate
        batch: problems of a step
        seed: of weights and bits
        options: further ones
    """

    group: str
    name: str
    trained: str
    n: int
    lr: float
    batch: int = 16
    seed: int = 1
    options: tuple[str, ...] = field(default=())

    @property
    def folder(self) -> str:
        """A name for files."""
        name = re.sub(r"\W+", "_", self.name)
        return f"{self.group}-{name}-{self.trained}-n{self.n}-lr{self.lr:g}-b{self.batch}-s{self.seed}"

    def command(self, output_dir: Path) -> list[str]:
        """The command line."""
        num_val = 80 if self.n == 5 else 100
        return [
            *("python", "-m", "generator.main", "fit", f"--config={CONFIG}", f"--seed_everything={self.seed}"),
            *(f"--data.seed={self.seed}", f"--data.domain_options.n={self.n}", f"--data.batch_size={self.batch}"),
            *(f"--data.num_val={num_val}", f"--model.lr={self.lr:g}", *TRAINED[self.trained], *self.options),
            f"--trainer.max_steps={SAMPLES[self.n] // self.batch}",
            *("--trainer.val_check_interval=100000", "--trainer.enable_progress_bar=false"),
            *(f"--trainer.logger.init_args.save_dir={output_dir}", f"--trainer.logger.init_args.name={self.folder}"),
        ]


def small() -> list[Row]:
    """Bodies of four layers of 128, of which no one has trained any."""
    llama, gpt2 = ("small", "Llama's shape"), ("small", "GPT-2's shape")
    shape = (f"--model.model_name={json.dumps(GPT2)}",)
    rows = [Row(*llama, "all", 5, 1e-3), Row(*llama, "frozen", 5, 1e-2), Row(*llama, "probe", 5, 1e-2)]
    rows += [Row(*llama, "all", 50, 1e-3), Row(*llama, "frozen", 50, 1e-2)]
    rows += [Row(*gpt2, trained, 5, lr, options=shape) for trained, lr in (("all", 1e-3), ("frozen", 1e-2))]
    rows += [Row(*gpt2, trained, 50, lr, options=shape) for trained, lr in (("all", 1e-3), ("frozen", 1e-2))]
    for seed in (2, 3):
        rows += [Row(*llama, trained, 5, lr, seed=seed) for trained, lr in (("all", 1e-3), ("frozen", 1e-2))]
        rows += [
            Row(*gpt2, trained, 5, lr, seed=seed, options=shape) for trained, lr in (("all", 1e-3), ("frozen", 1e-2))
        ]
    return rows


def smollm2(folder: Path, num_layers: int) -> list[Row]:
    """The first layers of SmolLM2-135M-Instruct, with its weights and with others of the same shape."""
    group = f"smollm2_{num_layers}"
    body = (f"--model.model_name={folder}", f"--model.num_layers={num_layers}", "--model.input_std=0.1")
    drawn = (*body, "--model.pretrained=false")
    kinds: dict[tuple[str, str], tuple[tuple[str, ...], float, float]] = {  # options, learning rates
        ("pretrained", "frozen"): (body, 1e-2, 3e-3),
        ("random", "frozen"): (drawn, 1e-2, 3e-3),
        ("pretrained", "all"): (body, 1e-3, 3e-4),
        ("random", "all"): (drawn, 1e-3, 3e-4),
        ("pretrained", "probe"): (body, 1e-2, 1e-3),
        ("random", "probe"): (drawn, 1e-2, 1e-3),
    }
    first = [Row(group, *kind, 5, lr, options=options) for kind, (options, lr, _) in kinds.items()]
    second = [Row(group, *kind, 5, lr, options=options) for kind, (options, _, lr) in kinds.items()]
    long = [Row(group, *kind, 50, lr, options=options) for kind, (options, lr, _) in kinds.items()]
    seeds = [
        Row(group, *kind, 5, lr, seed=seed, options=options)
        for seed in (2, 3)
        for kind, (options, *rates) in kinds.items()
        for lr in rates
    ]
    return [*first, *second, *long, *seeds]


def dequantised(gguf: Path, output_dir: Path) -> Path:
    """Write a .gguf file as a folder, once: to dequantise it takes 20 s, and each row would."""
    folder = output_dir / "body"
    if not (folder / "config.json").is_file():
        load_causal(gguf).save_pretrained(folder)
    return folder


class Limit(pl.Callback):
    """Ends a run after some seconds of processor time."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.since, self.spent = seconds, time.process_time(), 0.0

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Look at the clock."""
        self.spent = time.process_time() - self.since
        trainer.should_stop = trainer.should_stop or self.spent > self.seconds


def run(row: Row, output_dir: Path, minutes: float) -> dict[str, Any]:
    """Run a row within its minutes of processor time, unless it has run."""
    result = output_dir / f"{row.folder}.json"
    if result.is_file():
        return dict(json.loads(result.read_text()))
    limit = Limit(60 * minutes)
    with (output_dir / f"{row.folder}.log").open("w") as log, redirect_stdout(log), redirect_stderr(log):
        made = start(GeneratorCLI, [limit], row.command(output_dir)[3:])
    folder = run_folder(made.trainer)
    metrics = json.loads((folder / "metrics.json").read_text())
    found = {"minutes": limit.spent / 60, "folder": str(folder), "limit_minutes": minutes, **metrics}
    result.write_text(json.dumps(found, indent=2))
    return found


def outcome(metrics: dict[str, Any]) -> str:
    """What became of a run."""
    if "samples_to_99" in metrics:
        return f"{metrics['samples_to_99']:,}"
    return f"not learnt, {metrics['online_acc']:.1%} after {metrics['num_samples']:,}"


def table(found: list[tuple[Row, dict[str, Any]]]) -> str:
    """A line for each kind of row, with what became of its seeds."""
    lines = [
        "| run | n | trained weights | samples to 99% | processor minutes | held-out bits |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    kinds: dict[str, list[tuple[Row, dict[str, Any]]]] = {}
    for row, metrics in found:
        kinds.setdefault(row.folder.rpartition("-s")[0], []).append((row, metrics))
    for name, each in kinds.items():
        metrics = [metrics for _, metrics in each]
        samples = " / ".join(map(outcome, metrics))
        minutes = " / ".join(f"{m['minutes']:.1f}" for m in metrics)
        accuracy = " / ".join(f"{m['acc_val']:.1%}" for m in metrics)
        weights = f"{metrics[0]['num_trained']:,} of {metrics[0]['num_parameters']:,}"
        lines.append(f"| `{name}` | {each[0][0].n} | {weights} | {samples} | {minutes} | {accuracy} |")
    return "\n".join(lines)


def main() -> None:
    """Run what is asked for, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=Path("runs/bits"))
    parser.add_argument("--gguf", type=Path, help="file of SmolLM2; without it, only small bodies are run")
    parser.add_argument("--num_layers", type=int, nargs="+", default=[2], help="first layers of SmolLM2, which has 30")
    parser.add_argument("--minutes", type=float, default=4.0, help="of processor time for each run, at most")
    parser.add_argument("--only", default="", help="regular expression that a run's name has to match")
    parser.add_argument("--dry_run", action="store_true", help="print commands")
    parser.add_argument("--kept", action="store_true", help="only the table of what has run")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.output_dir.mkdir(parents=True, exist_ok=True)
    rows = small()
    for num_layers in args.num_layers if args.gguf else []:
        rows += smollm2(dequantised(args.gguf, args.output_dir), num_layers)
    found = list[tuple[Row, dict[str, Any]]]()
    for row in rows:
        if not re.search(args.only, row.folder):
            continue
        if args.dry_run:
            print(shlex.join(row.command(args.output_dir)))
        elif not args.kept or (args.output_dir / f"{row.folder}.json").is_file():
            found.append((row, run(row, args.output_dir, args.minutes)))
            print(row.folder, outcome(found[-1][1]), file=sys.stderr, flush=True)
    if found:
        print(table(found))
        num_learnt = sum("samples_to_99" in metrics for _, metrics in found)
        print(json.dumps({**facts(), "num_runs": len(found), "num_learnt": num_learnt}))


if __name__ == "__main__":
    main()
