"""How high does a generator rank the right tactic? `python -m generator.rank --ckpt_path ... --data_path ...`.

Of any generator: a model, a lookup, a mixture, a baseline. Models have `python -m generator.main validate` too, which
decodes in batches of the data module and knows the loss.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from common import Candidate, Context, check_positive
from generator.interface.tactic_generator import TacticGenerator
from generator.search.tactic_sources import GeneratorOptions, identity, make_generator
from generator.training.metrics import TopkAccuracy
from generator.training.prediction_writer import write_candidates
from retrieval.leandojo.tactic_text import TacticText
from retrieval.leandojo.traces import TracedTactic, TracedTactics
from retrieval.training.commands import parse_arguments, run
from retrieval.training.files import write_json
from retrieval.training.options import flat, flat_options

_SHOWN = (1, 8, 10, 32)


@flat_options
def rank(
    data_path: Path,
    split: str = "val",
    num_candidates: int = 32,
    num_states: int | None = None,
    seed: int = 0,
    batch_size: int = 32,
    output_dir: Path | None = None,
    *,
    generator: GeneratorOptions = GeneratorOptions(allow_sorry=True),
    tactic_text: TacticText = TacticText(),
) -> None:
    """Print how often the right tactic is among the first k candidates of any generator.

    Args:
        data_path: folder with train.json, val.json, test.json
        split: whose steps are asked about
        num_candidates: candidates of a state
        num_states: so many steps, drawn at random; all if not given
        seed: which these are
        batch_size: states that the generator is asked about together
        output_dir: folder for metrics.json and predictions/, as `predict` of generator.main writes them
        generator: who proposes the tactics
        tactic_text: how tactics are written

    Raises:
        ConfigError: if an option is wrong
        DataError: if a file is missing or broken, or output_dir cannot be written
    """
    check_positive(num_candidates=num_candidates, num_states=num_states, batch_size=batch_size)
    traced = TracedTactics.load(data_path / f"{split}.json", **flat(tactic_text))
    print(traced.summary())
    steps = draw_steps(traced, num_states, seed)
    asked = make_generator(generator, data_path, seed).eval()
    asked.initialize()
    candidates = ask(asked, steps, num_candidates, batch_size)
    accuracy = TopkAccuracy(num_candidates)
    accuracy.update([[tactic for tactic, _ in each] for each in candidates], [step.tactic for step in steps])
    metrics: dict[str, Any] = {
        f"top{k}_acc_{split}": value for k, value in enumerate(accuracy.curve().tolist(), start=1)
    }
    shown = "  ".join(
        f"top{k} {metrics[f'top{k}_acc_{split}']:.1%}" for k in sorted({*_SHOWN, num_candidates}) if k <= num_candidates
    )
    print(f"{split}: {shown}, of {len(steps):,} steps")
    about = {"num_states": len(steps), "data_path": str(data_path), "generator": identity(generator, data_path)}
    metrics |= about | ({} if num_states is None else {"seed": seed})
    if output_dir is not None:
        records = [
            {
                **step.provenance.to_record(),
                "state": step.state,
                "tactic": step.tactic,
                "candidates": [{"tactic": tactic, "log_prob": log_prob} for tactic, log_prob in found],
            }
            for step, found in zip(steps, candidates, strict=True)
        ]
        write_candidates(output_dir / "predictions", records, {"data_path": str(data_path), "split": split})
        write_json(output_dir / "metrics.json", metrics)
        print(f"wrote {output_dir}")


def draw_steps(traced: TracedTactics, number: int | None, seed: int) -> list[TracedTactic]:
    """Return all steps of a split, or some drawn by seed, in their order."""
    if number is None or number >= len(traced):
        return traced[:]
    chosen = np.random.default_rng(seed).choice(len(traced), number, replace=False)
    return [traced[place] for place in np.sort(chosen).tolist()]


def ask(
    generator: TacticGenerator, steps: Sequence[TracedTactic], num_candidates: int, batch_size: int = 32
) -> list[list[Candidate]]:
    """Return the candidates for the state of each step."""
    found: list[list[Candidate]] = []
    with tqdm(total=len(steps), desc="ask", unit="state", delay=1) as bar:
        for batch in _batches([step.context for step in steps], batch_size):
            found += generator.propose(batch, num_candidates)
            bar.update(len(batch))
    return found


def _batches(contexts: Sequence[Context], size: int) -> Iterator[Sequence[Context]]:
    for first in range(0, len(contexts), size):
        yield contexts[first : first + size]


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line; `args` replaces it in tests."""
    rank(**parse_arguments(rank, args))


def cli() -> None:
    """Run the command."""
    run(main)


if __name__ == "__main__":
    cli()
