"""A round of expert iteration: `python -m generator.expert_iteration --config ... --ckpt_path ... --output_dir ...`.

Proofs are searched of theorems of train, what they add to the data is written beside it, and a model is trained on
from where it stands. The parts are commands of their own: `generator.search.prove`, `generator.export` and
`generator.main fit`; what is new is in `generator.search.proof_data`.

Source: expert iteration, Anthony et al. 2017 (arXiv:1705.08439); for provers, Polu et al. 2022 (arXiv:2202.01344).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common import ConfigError
from generator.export import export
from generator.main import main as generator_main
from generator.search.options import SearchOptions
from generator.search.proof_data import write_with_proofs
from generator.search.prove import ProofRun
from generator.search.tactic_sources import GeneratorOptions
from generator.search.theorems import TheoremOptions
from retrieval.training.commands import parse_options, run
from retrieval.training.files import one_at_a_time
from retrieval.training.options import flat_options

_SEARCH, _DATA, _START, _FIT = "search", "data", "start", "fit"  # of the output folder


class ExpertIteration:
    """Search proofs, and train a model on with them.

    The output folder holds the search (search/), the data with the new proofs (data/), the model as it was (start/),
    and the run of training (fit/version_0/). What is whole there is not made again: the same command goes on where it
    was stopped.
    """

    @flat_options
    def __init__(
        self,
        output_dir: Path,
        environment: str,
        environment_options: dict[str, Any] | None = None,
        model_path: Path | None = None,
        fit_config: Path | None = None,
        fit_options: dict[str, Any] | None = None,
        num_old: int | None = None,
        repeats: int = 1,
        workers: int = 1,
        max_batch: int = 32,
        *,
        theorems: TheoremOptions = TheoremOptions(split="train"),
        generator: GeneratorOptions = GeneratorOptions(),
        search: SearchOptions = SearchOptions(),
    ) -> None:
        """Keep the options.

        Args:
            output_dir: folder to write to
            environment: the prover, as in generator.search.prove
            environment_options: of its constructor
            model_path: checkpoint that is trained on; by default ckpt_path, which searches
            fit_config: YAML of generator.main fit; by default config.yaml of the run that model_path is of
            fit_options: what is different, by dotted names, such as trainer.max_steps
            num_old: theorems of the split that are trained on beside the new proofs, drawn by seed; null for all
            repeats: how often each new step is in the data, as its weight among the old ones
            workers: processes that search
            max_batch: states of several workers that the generator is asked about together, at most
            theorems: of whose proofs are searched; a folder of splits as data_path
            generator: who proposes the tactics
            search: order and limits

        Raises:
            ConfigError: if an option is wrong or missing
        """
        if theorems.data_path is None or not theorems.data_path.is_dir():
            raise ConfigError(f"data_path is {theorems.data_path}; give the folder of the splits, with train.json")
        found = model_path or (Path(generator.ckpt_path) if generator.ckpt_path else None)
        if found is None:
            raise ConfigError("no model is named that is trained on; give model_path, or ckpt_path")
        self.output_dir, self.data_path, self.split = output_dir, theorems.data_path, theorems.split
        self.model_path, self.num_old, self.repeats, self.seed = found, num_old, repeats, search.seed
        self.fit_config = fit_config or found.parent.parent / "config.yaml"
        if not self.fit_config.is_file():
            raise ConfigError(f"{self.fit_config}: there is no such file; give the YAML of the training as fit_config")
        self.fit_options = dict(fit_options or {})
        self.proofs = ProofRun(
            environment,
            environment_options,
            output_dir / _SEARCH,
            workers,
            max_batch,
            recheck=False,  # each was accepted as a whole when it was found
            figures=False,
            theorems=theorems,
            generator=generator,
            search=search,
        )

    def run(self) -> Path:
        """Search, train, and return the checkpoint that was trained.

        Raises:
            NextstepError: as the commands do that this one is made of
        """
        with one_at_a_time(self.output_dir):
            if not (self.output_dir / _DATA).exists():
                results, target = self.proofs.run().results, self.output_dir / _DATA
                weights: dict[str, Any] = {"num_old": self.num_old, "repeats": self.repeats, "seed": self.seed}
                print(write_with_proofs(results, self.data_path, target, self.split, **weights))
            if not (self.output_dir / _START).exists():
                export(self.model_path, self.output_dir / _START)
            generator_main(["fit", f"--config={self.fit_config}", *self._options(), "--ckpt_path=last"])
        return self.output_dir / _FIT / "version_0" / "checkpoints" / "last.ckpt"

    def _options(self) -> list[str]:
        given: Mapping[str, Any] = {
            "model.model_name": str(self.output_dir / _START),
            "data.data_path": str(self.output_dir / _DATA),
            "trainer.logger.init_args.save_dir": str(self.output_dir),
            "trainer.logger.init_args.name": _FIT,
            **self.fit_options,
        }
        return [f"--{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in given.items()]


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line; `args` replaces it in tests."""
    trained = ExpertIteration(**parse_options(ExpertIteration, args)).run()
    print(f"trained on: {trained}; python -m generator.search.prove --ckpt_path {trained} tells what it proves")


def cli() -> None:
    """Run the command."""
    run(main)


if __name__ == "__main__":
    cli()
