"""Pass@1 in training: how many theorems of a fixed few of val the model of now proves."""

from __future__ import annotations

import queue
import re
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn
from pytorch_lightning.utilities.seed import isolate_rng

from common import ConfigError, check_positive
from generator.environments.base import BrokenEnvironmentError, CannotStartError, Environment, Theorem
from generator.environments.registry import make_environment
from generator.interface.tactic_generator import TacticGenerator
from generator.search.loop import SearchResult, prove
from generator.search.options import SearchOptions
from generator.search.shared_generator import SharedGenerator
from generator.search.theorems import choose, in_file_order, read_split, split_file
from generator.training.next_step_generator import NextStepGenerator
from retrieval.training.markdown import as_code
from retrieval.training.monitoring import log_text
from retrieval.training.options import flat_options
from retrieval.training.shown import shown

METRIC = "Pass@1_val"
_LONGEST_SHOWN = 8  # tactics of the proof that is shown


class ProofSearch(pl.Callback):
    """Searches proofs of the same theorems at each validation, and logs `Pass@1_val`, which checkpoints may monitor.

    A theorem counts as proved when the prover accepts its whole proof from nothing; those that the prover cannot start
    are left out, as ReProver does. Ranks share the theorems out. What is trained does not change: modes, random
    states and weights are as they were.

    Attributes:
        results: of the last validation, of this rank's theorems
        num_proved: theorems proved in the last validation, by all ranks
        num_searched: of how many
        shown_proof: one of the theorems that this rank proved, with its proof; "" if there is none
    """

    @flat_options
    def __init__(
        self,
        environment: str | None = None,
        environment_options: dict[str, Any] | None = None,
        *,
        num_theorems: int = 50,
        num_workers: int = 8,
        data_path: str | None = None,
        search: SearchOptions = SearchOptions(num_candidates=8, max_expansions=32, max_seconds=20.0),
    ) -> None:
        """Check the options; the prover starts when training is set up.

        Args:
            environment: the prover: propositional, coq, lean, or the dotted path of a class; null searches nothing
            environment_options: of its constructor
            num_theorems: of val, the first by the hash of their names; always the same ones
            num_workers: theorems searched side by side, each in a prover of its own, with one model for all
            data_path: folder of a val.json in the layout of LeanDojo; that of the data, unless given
            search: order and limits of each theorem's search

        Raises:
            ConfigError: if an option has a value that cannot be used
        """
        check_positive(num_theorems=num_theorems, num_workers=num_workers)
        self._name, self._environment_options = environment, dict(environment_options or {})
        self._num_theorems, self._num_workers, self._data_path = num_theorems, num_workers, data_path
        self._search = search
        self._theorems: list[Theorem] = []
        self._environments: list[Environment] = []
        self.results: list[SearchResult] = []
        self.num_proved = self.num_searched = 0
        self.shown_proof = ""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Read the theorems, and start one, so that what is wrong is said before training.

        Raises:
            ConfigError: if there is no such prover or no such file, or none of the theorems can be started
        """
        if self._name is None or self._environments or stage not in ("fit", "validate"):
            return
        folder = self._folder(trainer)
        number = 1 if trainer.fast_dev_run else self._num_theorems  # type: ignore[attr-defined]
        chosen = choose(list(dict.fromkeys(read_split(split_file(folder, "val")))), number, "md5", 0)
        self._theorems = list(in_file_order(chosen[trainer.global_rank :: trainer.world_size]))
        if self._name == "propositional" and (folder.parent / "lean").is_dir():  # made with the data
            self._environment_options.setdefault("root", str(folder.parent / "lean"))
        self._environments = [make_environment(self._name, self._environment_options)]
        with isolate_rng():
            _check_startable(self._environments[0], self._theorems, self._name)
        premises = getattr(getattr(trainer.datamodule, "retrieved", None), "corpus_path", None)  # type: ignore[attr-defined]
        if premises is not None and getattr(pl_module, "premise_source", None) is None:
            rank_zero_info(
                f"{METRIC} is of the model without premises: the data has them for the states of its own proofs alone; "
                "model.ret_ckpt_path lets it retrieve for others"
            )

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Search, before the checkpoints of this validation are written."""
        if self._name is None or trainer.sanity_checking:
            return
        if not isinstance(pl_module, NextStepGenerator) or pl_module.is_sharded:
            rank_zero_info(f"no {METRIC}: it needs a generator whose weights are whole")
            return
        self.results, self.shown_proof = [], ""
        try:
            with isolate_rng():
                self.results = self._prove_all(pl_module)
                self.shown_proof = _shown_proof(self._environments[0], self.results)
        except Exception as error:  # whatever it is, days of training are worth more
            rank_zero_warn(f"no proofs were searched: {type(error).__name__}: {error}; the run goes on")
        self._log(trainer, pl_module)

    def _folder(self, trainer: pl.Trainer) -> Path:
        path = self._data_path or getattr(trainer.datamodule, "data_path", None)  # type: ignore[attr-defined]
        if not isinstance(path, str | Path) or not Path(path).is_dir():
            raise ConfigError(
                f"proof_search.environment is {self._name}, and the data is no folder with a val.json whose theorems "
                "could be searched; give one as proof_search.data_path"
            )
        return Path(path)

    def _prove_all(self, generator: TacticGenerator) -> list[SearchResult]:
        num_workers = min(self._num_workers, len(self._theorems))
        if not num_workers:
            return []
        assert self._name is not None
        while len(self._environments) < num_workers:
            self._environments.append(make_environment(self._name, self._environment_options))
        free: queue.SimpleQueue[Environment] = queue.SimpleQueue()
        for environment in self._environments[:num_workers]:
            free.put(environment)

        def search(theorem: Theorem) -> SearchResult:
            environment = free.get()
            try:
                return prove(theorem, environment, shared, self._search)
            finally:
                free.put(environment)

        with SharedGenerator(generator, max_batch=num_workers) as shared, ThreadPoolExecutor(num_workers) as pool:
            return list(pool.map(search, self._theorems))

    def _log(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        statuses = Counter(result.status for result in self.results)
        counts = [statuses["proved"], len(self.results) - statuses["discarded"]]
        summed = trainer.strategy.reduce(torch.tensor(counts, device=pl_module.device), reduce_op="sum")
        assert isinstance(summed, torch.Tensor)
        self.num_proved, self.num_searched = (int(count) for count in summed.tolist())
        if discarded := [result for result in self.results if result.status == "discarded"]:
            rank_zero_warn(
                f"{len(discarded)} of {len(self.results)} theorems are left out of {METRIC}, the first: "
                f"{discarded[0].reason}"
            )
        if not self.num_searched:
            return
        # of all ranks already
        pl_module.log(METRIC, self.num_proved / self.num_searched, prog_bar=True, rank_zero_only=False)
        if self.shown_proof:
            log_text(pl_module, "proof_val", as_code(self.shown_proof))

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Stop the provers."""
        environments, self._environments = self._environments, []
        for environment in environments:
            environment.close()


def report_proof(trainer: pl.Trainer) -> None:
    """Print, on rank 0 and after the last validation, how many theorems were proved, and one of them with its proof."""
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]  # Lightning sets it from elsewhere
    search = next((callback for callback in callbacks if isinstance(callback, ProofSearch)), None)
    if search is None or not trainer.is_global_zero or not search.num_searched:
        return
    print(f"\nIt proves {search.num_proved} of {search.num_searched} theorems of val that it has not seen", end="")
    if search.shown_proof:
        print("; one of them, with the proof that it found:\n")
        print("\n".join(f"    {line}".rstrip() for line in search.shown_proof.split("\n")))
    else:
        print(".")


def _check_startable(environment: Environment, theorems: Sequence[Theorem], name: str) -> None:
    """Raise ConfigError if not even one theorem can be started."""
    first = ""
    if not theorems:  # of this rank
        return
    for theorem in theorems:
        try:
            environment.start(theorem)
            return
        except (CannotStartError, BrokenEnvironmentError) as error:
            first = first or str(error)
    raise ConfigError(
        f"proof_search.environment {name} starts none of the {len(theorems)} theorems of val; the first: {first}. "
        "proof_search.environment_options tells it where their files are"
    )


def _shown_proof(environment: Environment, results: Sequence[SearchResult]) -> str:
    """One of the theorems proved with its proof; "" if there is none. The longest proof that is short shows most."""
    proved = [result for result in results if result.proof]
    short = [result for result in proved if len(result.proof or ()) <= _LONGEST_SHOWN] or proved[:1]
    if not short:
        return ""
    best = max(short, key=lambda result: len(result.proof or ()))
    assert isinstance(best.theorem, Theorem) and best.proof is not None
    return shown(_declaration(environment, best.theorem, best.proof))


def _declaration(environment: Environment, theorem: Theorem, proof: Sequence[str]) -> str:
    """A theorem as its source has it, with this proof; its first state and the tactics, if that is not to be found."""
    name = theorem.full_name.rpartition(".")[2]
    for text in environment.source([(theorem, proof)]).values():
        begin = [match.start() for match in re.finditer(rf"^\w+ (?:\S+\.)?{re.escape(name)}\b", text, re.MULTILINE)]
        end = text.find(proof[-1].strip(), begin[-1]) if begin else -1
        if end >= 0:
            return text[begin[-1] : text.find("\n", end) if "\n" in text[end:] else None].rstrip()
    return "\n".join([environment.start(theorem).pp, *(f"  {tactic}" for tactic in proof)])
