"""Proof search on the theorems of a split: `python -m generator.search.prove --data_path ... --environment ...`."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from common import ConfigError, check_positive
from generator.environments.base import Environment, Verdict
from generator.environments.registry import ENVIRONMENTS, environment_class, make_environment
from generator.interface.tactic_generator import TacticGenerator
from generator.interface.wrappers import FixedTacticGenerator
from generator.search.cluster import RayWorkers
from generator.search.loop import SearchResult, prove
from generator.search.options import SearchOptions
from generator.search.progress_line import ProgressLine
from generator.search.proof_files import write_proofs
from generator.search.results import RESULTS, ResultsFile, hash_of
from generator.search.schedule import Job
from generator.search.shared_generator import SharedGenerator
from generator.search.summary import REFUSED, Summary, can_draw, write_figures
from generator.search.tactic_sources import GeneratorOptions, UniformGenerator, identity, make_generator
from generator.search.theorems import Goal, TheoremOptions, find_theorem, label, load_theorems
from generator.search.trace_one import LastSearch, draw, trace_file
from generator.search.workers import Answer, Workers, WorkerSetup, do
from retrieval.training.commands import parse_options, run
from retrieval.training.files import write_json
from retrieval.training.options import flat_options
from retrieval.training.signals import Interrupted, interrupted_by_signals

SUMMARY, PROOFS = "summary.json", "proofs"


class ProofRun:
    """Search proofs of theorems, and say how many were found.

    Results stand in results.jsonl of the output folder, one line a theorem; the same command goes on where one was
    stopped. At its end every proof is checked once more from nothing, and stands in proofs/ as the prover's source;
    summary.json and figures/ tell of the run.
    """

    @flat_options
    def __init__(
        self,
        environment: str | None = None,
        environment_options: dict[str, Any] | None = None,
        output_dir: Path | None = None,
        workers: int = 1,
        max_batch: int = 32,
        theorem_timeout_s: float | None = None,
        ray: str | None = None,
        recheck: bool = True,
        figures: bool = True,
        trace: str | None = None,
        *,
        theorems: TheoremOptions = TheoremOptions(),
        generator: GeneratorOptions = GeneratorOptions(),
        search: SearchOptions = SearchOptions(),
    ) -> None:
        """Keep the options.

        Args:
            environment: the prover: propositional (built in), coq, lean, dojo, or the dotted path of your own class
            environment_options: of its constructor, such as --environment_options.root data/propositional/lean
            output_dir: folder for results; not needed for a statement
            workers: processes that search, each with a prover of its own; they share the generator. 0: this one
            max_batch: states of several workers that the generator is asked about together, at most
            theorem_timeout_s: seconds after which a worker is ended that is not done with a theorem, start and check
                included; null: none where the search has no time limit, else twice that and ten minutes more
            ray: address of a Ray cluster on whose machines the workers and the model run; "auto" is that of this
                machine, "local" starts one for the time of the run
            recheck: whether all proofs are checked once more at the end
            figures: whether figures are drawn, as PNG and for TensorBoard
            trace: name of a theorem, or file:name, that is searched alone in this process, without results; its search
                tree is drawn on the screen and as SVG in output_dir, or else here
            theorems: which theorems
            generator: who proposes the tactics
            search: order and limits

        Raises:
            ConfigError: if an option is wrong
        """
        check_positive(max_batch=max_batch, theorem_timeout_s=theorem_timeout_s)
        if workers < 0:
            raise ConfigError(f"workers is {workers}; give 0 to search in this process, or more")
        if ray is not None and workers == 0:
            raise ConfigError(
                "workers is 0, which searches in this process, and ray is given; give --workers, or no --ray"
            )
        if environment is None:
            raise ConfigError(f"no prover is named; give --environment, one of {', '.join(ENVIRONMENTS)}")
        environment_class(environment)
        self.environment, self.environment_options = environment, dict(environment_options or {})
        self.output_dir, self.workers, self.max_batch = output_dir, workers, max_batch
        self.ray, self.recheck, self.figures, self.trace = ray, recheck, figures, trace
        self.theorems, self.generator, self.search = theorems, generator, search
        self.job_timeout_s = theorem_timeout_s
        if theorem_timeout_s is None and search.max_seconds is not None:
            self.job_timeout_s = 2 * search.max_seconds + 600

    def run(self) -> Summary:
        """Search, and return what came of it.

        Raises:
            ConfigError: if an option is wrong
            DataError: if a file is missing, broken, or cannot be written
        """
        start = time.monotonic()
        if self.trace is not None:
            everything = load_theorems(replace(self.theorems, num_theorems=None))
            return self._search_here(find_theorem(everything, self.trace))
        theorems = load_theorems(self.theorems, self.search.seed)
        if self.theorems.statement is not None and self.output_dir is None:
            return self._search_here(theorems[0])
        if self.output_dir is None:
            raise ConfigError("results need a place; give --output_dir, a folder for them")
        with self._results_file(self.output_dir, theorems) as results:
            try:
                with interrupted_by_signals():
                    self._search(theorems, results)
                    checked = self._checked(results.results)
            except Interrupted as error:
                num = len(results.results)
                print(
                    f"\ninterrupted by {error}: {num} of {len(theorems)} theorems are done; the same command goes on",
                    file=sys.stderr,
                )
                raise
        summary = Summary(checked, time.monotonic() - start)
        self._write(summary, self.output_dir)
        return summary

    # -------------------------------------------------------------------------------------------- searching

    def _results_file(self, folder: Path, theorems: Sequence[Goal]) -> ResultsFile:
        if not (folder / RESULTS).exists():
            _check_nothing_is_replaced(folder)
        about = {
            "num_theorems": len(theorems),
            "environment": self.environment,
            "environment_options": self.environment_options,
            "search": asdict(self.search),
            "generator": identity(self.generator, self.theorems.data_path),
            "theorems": hash_of(theorems),
        }
        return ResultsFile(folder / RESULTS, about, theorems)

    def _search(self, theorems: Sequence[Goal], results: ResultsFile) -> None:
        done = {result.theorem for result in results.results}
        left = [theorem for theorem in theorems if theorem not in done]
        if not left:
            return
        with self._generator() as generator, ProgressLine(len(theorems), results.results) as progress:
            with closing(self._answers([Job(theorem) for theorem in left], generator)) as answers:
                for _, answer in answers:
                    assert isinstance(answer, SearchResult)
                    results.append(answer)
                    progress.add(answer)

    def _checked(self, results: Sequence[SearchResult]) -> list[SearchResult]:
        """The results, in the order of files; a proof that does not hold once more is none."""
        jobs = [Job(result.theorem, result.proof) for result in results if result.proof is not None]
        if not self.recheck or not jobs:
            return list(results)
        nobody = FixedTacticGenerator([])
        with closing(self._answers(jobs, nobody)) as answers:
            verdicts = {job.theorem: answer for job, answer in answers if isinstance(answer, Verdict)}
        return [_with_verdict(result, verdicts.get(result.theorem)) for result in results]

    def _answers(self, jobs: Sequence[Job], generator: TacticGenerator) -> Generator[tuple[Job, Answer], None, None]:
        setup = WorkerSetup(self.environment, self.environment_options, generator, self.search)
        if self.workers == 0:
            with self._prover() as environment:
                for job in jobs:
                    yield job, do(job, environment, setup)
            return
        num_workers = min(self.workers, len(jobs))
        if self.ray is not None:
            with RayWorkers(setup, num_workers, self.ray, self.job_timeout_s) as cluster:
                yield from cluster.run(jobs)
            return
        if isinstance(generator, SharedGenerator):
            setup = replace(setup, generator=generator.client())
        with Workers(setup, num_workers, self.job_timeout_s) as workers:
            yield from workers.run(jobs)

    @contextmanager
    def _generator(self) -> Iterator[TacticGenerator]:
        """The generator; a model is shared by all workers, baselines are copied to each."""
        generator = make_generator(self.generator, self.theorems.data_path, self.search.seed)
        if isinstance(generator, FixedTacticGenerator | UniformGenerator):
            yield generator
            return
        generator.initialize()
        with SharedGenerator(generator.eval(), max_batch=self.max_batch) as shared:
            yield shared

    # -------------------------------------------------------------------------------------------- what is left of it

    def _search_here(self, theorem: Goal) -> Summary:
        """Search one theorem in this process, print its proof, and draw its tree if that is asked for."""
        seen = LastSearch()
        with interrupted_by_signals(), self._generator() as generator, self._prover() as environment:
            result = prove(theorem, environment, generator, self.search, observer=seen)
            if self.trace is not None and seen.search is not None:
                path = (self.output_dir or Path()) / trace_file(theorem)
                print(draw(result, seen.search, path), f"drawn in {path}", sep="\n", end="\n\n")
            if result.proof is None:
                print(f"{label(theorem)}: {result.status}: {result.reason}", file=sys.stderr)
            elif self.trace is not None:
                print(f"{label(theorem)}: proved", *result.proof, sep="\n  ")
            else:
                print("\n".join(environment.source([(theorem, result.proof)]).values()).rstrip("\n"))
        return Summary([result])

    def _prover(self) -> Environment:
        return make_environment(self.environment, self.environment_options)

    def _write(self, summary: Summary, folder: Path) -> None:
        write_json(folder / SUMMARY, {"format_version": 1, **summary.to_json()})
        with self._prover() as environment:
            files = write_proofs(summary.results, environment, folder / PROOFS)
        print(summary.text())
        if files:
            print(f"proofs: {len(files)} file{'s' * (len(files) > 1)} in {folder / PROOFS}")
        if self.figures:
            print(can_draw() or f"figures: {', '.join(map(str, write_figures(summary, folder)))}")


def _check_nothing_is_replaced(folder: Path) -> None:
    """Raise ConfigError if a run that begins in a folder would replace at its end what stands there by these names."""
    for path in (folder / PROOFS, folder / SUMMARY):
        if path.is_file() or (path.is_dir() and any(path.iterdir())):
            raise ConfigError(
                f"{path} is there and of no run that goes on ({folder / RESULTS} is not there), and would be replaced; "
                "give another output_dir, or remove it"
            )


def _with_verdict(result: SearchResult, verdict: Verdict | None) -> SearchResult:
    if verdict is None or verdict.accepted:
        return result
    # not discarded, which would leave it out of Pass@1: it was searched, and is not proved
    return replace(result, status="failed", proof=None, proof_states=(), reason=f"{REFUSED}: {verdict.message}")


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line; `args` replaces it in tests."""
    proof_run = ProofRun(**parse_options(ProofRun, args))
    summary = proof_run.run()
    if proof_run.theorems.statement is not None and not summary.counts["proved"]:
        raise SystemExit(1)


def cli() -> None:
    """Run the command."""
    run(main)


if __name__ == "__main__":
    cli()
