"""Mixing generators: `python -m generator.mix --parts A B ... --data_path ... --output_dir ...` fits their weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from common import Candidate, ConfigError, check_choice, check_positive, remove_marks
from generator.interface.mixture import fit_weights, mixed
from generator.interface.mixture_files import Part, write_mixture
from generator.interface.tactic_generator import TacticGenerator
from generator.interface.wrappers import FixedTacticGenerator
from generator.load import Dtype, load_part
from generator.rank import ask, draw_steps
from generator.search.tactic_sources import count_tactics, read_tactics
from generator.training.metrics import TopkAccuracy, rank_of
from retrieval.leandojo.tactic_text import TacticText
from retrieval.leandojo.traces import TracedTactics
from retrieval.training.commands import parse_arguments, run
from retrieval.training.options import flat, flat_options

MAJORITY = "majority"
_MAX_MAJORITY = 1000  # tactics, which stand in the folder's nextstep.json
_SHOWN = (1, 8, 10, 32)
_FACTORS = tuple(float(factor) for factor in np.geomspace(1 / 32, 32, 21))

Proposed = list[list[Candidate]]  # of one part, for each state


@flat_options
def mix(
    parts: Sequence[str],
    data_path: Path,
    output_dir: Path,
    weights: Sequence[float] = (),
    fit: Literal["likelihood", "topk"] = "likelihood",
    k: int = 8,
    split: str = "val",
    num_states: int | None = 1000,
    seed: int = 0,
    num_asked: int = 32,
    batch_size: int = 32,
    device: str = "auto",
    dtype: Dtype = "float32",
    engine: str = "native",
    corpus_path: str | None = None,
    *,
    tactic_text: TacticText = TacticText(),
) -> None:
    """Fit the weights of a mixture of generators, and write a folder that is opened like a model.

    Args:
        parts: checkpoints, folders or hub ids; majority: the most frequent tactics of train.json in data_path; a .txt
            file with a tactic in each line, or log-probability, tab and tactic: these in every state
        data_path: folder with train.json, val.json, test.json
        output_dir: folder to write; it names the parts, which stay where they are
        weights: of each part, instead of fitting them
        fit: likelihood: the weights under which the right tactics are the most probable; topk: from these on, those
            with the most right tactics among the first k
        k: of topk
        split: whose steps they are fitted on
        num_states: so many steps, drawn at random; null for all
        seed: which these are
        num_asked: candidates that each part is asked for at least, here and later
        batch_size: states that a part is asked about together
        device: auto, cpu, or cuda
        dtype: of weights of models
        engine: what writes the tactics of models
        corpus_path: corpus.jsonl, for parts that look up what stands before a theorem
        tactic_text: how tactics are written

    Raises:
        ConfigError: if an option is wrong
        DataError: if a file is missing or broken, or output_dir cannot be written
    """
    check_positive(num_states=num_states, num_asked=num_asked, batch_size=batch_size, k=k)
    check_choice("fit", fit, ("likelihood", "topk"))
    if weights and len(weights) != len(parts):
        raise ConfigError(
            f"there are {len(parts)} parts and {len(weights)} weights; give one for each, or none to fit them"
        )
    kept: list[Part] = []
    generators: list[TacticGenerator] = []
    for part in parts:
        fixed = _fixed(part, data_path)
        kept.append(part if fixed is None else fixed)
        generators.append(
            _opened(part, device, dtype, engine, corpus_path) if fixed is None else FixedTacticGenerator(fixed)
        )
    about: dict[str, object] = {"fit": "given"}
    found = list(weights)
    if not found:
        traced = TracedTactics.load(data_path / f"{split}.json", **flat(tactic_text))
        steps = draw_steps(traced, num_states, seed)
        proposed = [ask(generator.eval(), steps, max(num_asked, k), batch_size) for generator in generators]
        right = [remove_marks(step.tactic) for step in steps]
        found = fit_weights(log_probs_of(proposed, right))
        if fit == "topk":
            found = fit_to_topk(proposed, right, k, found)
        about = {"fit": fit, "data_path": str(data_path), "split": split, "num_states": len(steps), "seed": seed}
        _print_table(list(parts), found, proposed, right)
    total = sum(found)
    found = [weight / total for weight in found]
    write_mixture(output_dir, kept, found, num_asked, about)
    print(f"wrote {output_dir}: {', '.join(f'{weight:.3f} {part}' for part, weight in zip(parts, found, strict=True))}")


def log_probs_of(proposed: Sequence[Proposed], right: Sequence[str]) -> npt.NDArray[np.float64]:
    """Return what each part gives the right tactic of each state, float64 (states, parts); -inf where it is missing."""
    rows = [
        [dict(candidates).get(tactic, -math.inf) for candidates in of_state]
        for *of_state, tactic in zip(*proposed, right, strict=True)
    ]
    return np.array(rows, dtype=np.float64).reshape(-1, len(proposed))


def fit_to_topk(proposed: Sequence[Proposed], right: Sequence[str], k: int, start: Sequence[float]) -> list[float]:
    """Return weights with the most right tactics among the first k; of equal ones those nearest to the start.

    One weight after the other is multiplied by factors from 1/32 to 32, twice round.
    """
    best = list(start)
    for _ in range(2):
        for part in range(len(best)):
            tried = [[w * (f if i == part else 1) for i, w in enumerate(best)] for f in sorted(_FACTORS, key=_size)]
            best = max(tried, key=lambda weights: num_found(proposed, right, k, weights))  # the first of equal ones
    return [weight / sum(best) for weight in best]


def _size(factor: float) -> float:
    return abs(math.log(factor))


def num_found(proposed: Sequence[Proposed], right: Sequence[str], k: int, weights: Sequence[float]) -> int:
    """Return how many right tactics are among the first k of a mixture."""
    total = sum(weights)
    shares = [weight / total for weight in weights]
    ranked = (mixed(of_state, shares) for of_state in zip(*proposed, strict=True))
    ranks = (rank_of([tactic for tactic, _ in each], tactic, k) for each, tactic in zip(ranked, right, strict=True))
    return sum(rank < k for rank in ranks)


def _fixed(part: str, data_path: Path) -> list[Candidate] | None:
    """The tactics of a part that has the same in every state; None for a generator."""
    if part == MAJORITY:
        counts = count_tactics(data_path / "train.json")
        total = counts.total()
        return [(tactic, math.log(count / total)) for tactic, count in counts.most_common(_MAX_MAJORITY)]
    if part.endswith(".txt"):
        return FixedTacticGenerator(list(read_tactics(Path(part)))).candidates
    return None


def _opened(part: str, device: str, dtype: Dtype, engine: str, corpus_path: str | None) -> TacticGenerator:
    generator = load_part(part, {"device": device, "dtype": dtype, "engine": engine}, {"corpus_path": corpus_path})
    generator.initialize()
    return generator


def _print_table(
    names: Sequence[str], weights: Sequence[float], proposed: Sequence[Proposed], right: Sequence[str]
) -> None:
    """Print top-k of each part and of the mixture."""
    rows = {
        name: [candidates[: max(_SHOWN)] for candidates in part] for name, part in zip(names, proposed, strict=True)
    }
    rows["mixture"] = [mixed(of_state, weights) for of_state in zip(*proposed, strict=True)]
    print(f"on {len(right):,} steps" + "".join(f"  top-{k:<4}" for k in _SHOWN))
    for name, found in rows.items():
        accuracy = TopkAccuracy(max(_SHOWN))
        accuracy.update([[tactic for tactic, _ in each] for each in found], right)
        curve = accuracy.curve().tolist()
        print("  ".join(f"{curve[k - 1]:7.1%}" for k in _SHOWN) + f"  {name}")


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line; `args` replaces it in tests."""
    mix(**parse_arguments(mix, args))


def cli() -> None:
    """Run the command."""
    run(main)


if __name__ == "__main__":
    cli()
