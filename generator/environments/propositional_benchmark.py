"""The built-in dataset: random propositional theorems in the layout of LeanDojo Benchmark 4.

    python -m generator.environments.propositional_benchmark --output_dir data/propositional

The folder holds corpus.jsonl, metadata.json, random/ and novel_premises/ with {train,val,test}.json, and lean/ with
the sources that every position refers to. The lemmas have the names and statements of Lean 4 and Mathlib: to check
the theorems of lean/Problems with Lean, replace their imports by `import Mathlib.Logic.Basic`.
"""

import hashlib
import json
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from common import NO_GOALS, ConfigError
from generator.environments.base import Theorem
from generator.environments.propositional.declarations import Declaration, SourceTheorem
from generator.environments.propositional.environment import PropositionalEnvironment
from generator.environments.propositional.lemma_files import Library, SourceFile, lemma_library
from generator.environments.propositional.lemma_use import LemmaIndex
from generator.environments.propositional.random_theorems import Statement, StatementSampler
from generator.environments.propositional.scripts import Step, replay, write_script
from generator.environments.propositional.splits import split_by_novel_premises, split_randomly
from retrieval.training.files import writing_folder

FORMAT_VERSION = 1
MAX_STEPS = 8
MAX_STATE_BYTES = 200
MIN_THEOREMS = 10
DEFAULT_THEOREMS = 8000  # as configs/quickstart.yaml has it, so that one folder serves every quickstart

_URL = "https://example.org/nextstep/propositional"
_THEOREMS_PER_FILE = 50
_ONE_STEP_SHARE = 0.5  # of the theorems proved by a single tactic that are kept
_IDENTIFIER = re.compile(r"[A-Za-z_][\w'₀-₉]*(?:\.[A-Za-z_][\w'₀-₉]*)*")


@dataclass(frozen=True)
class Problem:
    """A generated theorem with its proof."""

    full_name: str
    signature: str
    steps: list[Step]

    @property
    def source(self) -> str:
        """The theorem as Lean source."""
        script = "\n".join(f"  {step.tactic}" for step in self.steps)
        return f"theorem {self.full_name} {self.signature} := by\n{script}\n"


def build_propositional_benchmark(
    output_dir: Path, num_theorems: int = DEFAULT_THEOREMS, seed: int = 3407, *, progress: bool = True
) -> None:
    """Write the built-in propositional dataset to a new folder, all of it or nothing.

    Args:
        output_dir: folder to make; it may exist if it is empty
        num_theorems: random theorems to write, besides the lemmas of the library
        seed: equal arguments give equal files
        progress: show a bar on stderr

    Raises:
        ConfigError: if num_theorems is less than 10
        NotEmptyError: if output_dir holds something
        DataError: if the system refuses to write
    """
    if num_theorems < MIN_THEOREMS:
        raise ConfigError(f"num_theorems is {num_theorems}; give at least {MIN_THEOREMS}, val and test need some too")
    with writing_folder(output_dir) as folder:
        _write(folder, num_theorems, seed, progress)


def _write(folder: Path, num_theorems: int, seed: int, progress: bool) -> None:
    lemmas = lemma_library()
    problems = list(generate_problems(lemmas, num_theorems, seed, progress))
    library = Library([*lemmas.files, *_problem_files(lemmas, problems)])
    commit = _fingerprint(library)
    records = [
        _theorem_record(library, file, theorem, commit)
        for file in library.files
        for theorem in file.theorems
        if theorem.proof
    ]
    for file in library.files:
        path = folder / "lean" / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file.source, encoding="utf-8")
    _write_lines(folder / "corpus.jsonl", [_corpus_record(file) for file in library.files])
    rng = random.Random(f"{seed} splits")
    names = {problem.full_name for problem in problems}
    for name, splits in (
        ("random", split_randomly(records, names, rng)),
        ("novel_premises", split_by_novel_premises(records, names, rng)),
    ):
        (folder / name).mkdir()
        for split, theorems in splits.items():
            _write_json(folder / name / f"{split}.json", theorems)
    metadata = {
        "dataset_name": "Propositional Benchmark",
        "format_version": FORMAT_VERSION,
        "from_repo": {"url": _URL, "commit": commit},
        "num_theorems": num_theorems,
        "seed": seed,
    }
    _write_json(folder / "metadata.json", metadata)


_MAX_REPEATED = 30  # statements in a row that are known already; then there are few new ones of this size


def generate_problems(library: Library, num_theorems: int, seed: int, progress: bool = False) -> Iterator[Problem]:
    """Yield random theorems with proofs; no two are equal up to renaming, and none is a lemma."""
    rng = random.Random(f"{seed} theorems")
    sampler, index = StatementSampler(library, rng), LemmaIndex(library)
    environment = PropositionalEnvironment(library)
    seen = {
        _statement_of(theorem.statement).key()
        for file in library.files
        for theorem in file.theorems
        if theorem.statement is not None
    }
    num_found = num_repeated = 0
    with tqdm(total=num_theorems, desc="Proving", unit="thm", mininterval=0.5, disable=not progress) as bar:
        while num_found < num_theorems:
            statement = sampler.sample()
            if statement.key() in seen:
                num_repeated += 1
                if num_repeated > _MAX_REPEATED:
                    sampler.grow()
                    num_repeated = 0
                continue
            num_repeated = 0
            seen.add(statement.key())
            signature = statement.signature()
            steps = write_script(environment.start_statement(signature), index, MAX_STEPS, MAX_STATE_BYTES)
            if steps is None or (len(steps) == 1 and rng.random() > _ONE_STEP_SHARE):
                continue
            num_found += 1
            yield Problem(f"problem_{num_found:05d}", signature, steps)
            bar.update()


def _statement_of(declaration: Declaration) -> Statement:
    return Statement(tuple(formula for _, formula in declaration.hypotheses), declaration.conclusion)


def _problem_files(lemmas: Library, problems: Sequence[Problem]) -> Iterator[SourceFile]:
    for first in range(0, len(problems), _THEOREMS_PER_FILE):
        chunk = problems[first : first + _THEOREMS_PER_FILE]
        paths = {
            place[0]
            for problem in chunk
            for step in problem.steps
            for _, name in constants_of(step.tactic, lemmas)
            if (place := lemmas.find(name)) is not None
        }
        modules = sorted(path.removesuffix(".lean").replace("/", ".") for path in paths | {"Logic/Prelude.lean"})
        imports = "".join(f"import {module}\n" for module in modules)
        source = "\n".join([imports, *(problem.source for problem in chunk)])
        yield SourceFile.parse(f"Problems/Part{first // _THEOREMS_PER_FILE + 1:03d}.lean", source)


def constants_of(tactic: str, library: Library) -> Iterator[tuple[int, str]]:
    """Yield where the library's constants stand in a tactic (character offset) and their full names.

    Of `or_comm.mp` that is `or_comm`: a field after a constant has no full name of its own in the text.
    """
    for match in _IDENTIFIER.finditer(tactic):
        if match.start() == 0:
            continue  # the tactic's own name
        parts = match[0].split(".")
        for length in range(len(parts), 0, -1):
            name = ".".join(parts[:length])
            if library.find(name) is not None:
                yield match.start(), name
                break


def _annotate(tactic: str, library: Library) -> list[Any]:
    """Return the tactic with its constants between marks, and where each is defined."""
    annotated, provenances = tactic, []
    for offset, name in reversed(list(constants_of(tactic, library))):
        place = library.find(name)
        assert place is not None
        annotated = f"{annotated[:offset]}<a>{name}</a>{annotated[offset + len(name) :]}"
        provenances.append(
            {
                "full_name": name,
                "def_path": place[0],
                "def_pos": list(place[1].name_start),
                "def_end_pos": list(place[1].name_end),
            }
        )
    return [annotated, provenances[::-1]]


def _theorem_record(library: Library, file: SourceFile, theorem: SourceTheorem, commit: str) -> dict[str, Any]:
    environment = PropositionalEnvironment(library)
    steps: list[Step] = []
    if theorem.tactics is not None:
        steps = replay(environment.start(Theorem(file.path, theorem.full_name)), theorem.tactics)
        assert steps[-1].state_after == NO_GOALS, theorem.full_name
    return {
        "url": _URL,
        "commit": commit,
        "file_path": file.path,
        "full_name": theorem.full_name,
        "start": list(theorem.start),
        "end": list(theorem.end),
        "traced_tactics": [
            {
                "tactic": step.tactic,
                "annotated_tactic": _annotate(step.tactic, library),
                "state_before": step.state_before,
                "state_after": step.state_after,
            }
            for step in steps
        ],
    }


def _corpus_record(file: SourceFile) -> dict[str, Any]:
    premises = [
        {
            "full_name": theorem.full_name,
            "code": theorem.code,
            "start": list(theorem.start),
            "end": list(theorem.end),
            "kind": "commanddeclaration",
        }
        for theorem in file.theorems
    ]
    return {"path": file.path, "imports": list(file.imports), "premises": premises}


def _fingerprint(library: Library) -> str:
    digest = hashlib.sha1(usedforsecurity=False)
    for file in library.files:
        digest.update(f"{file.path}\n{file.source}\n".encode())
    return digest.hexdigest()


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def _write_lines(path: Path, values: Sequence[object]) -> None:
    text = "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values)
    path.write_text(text, encoding="utf-8")


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line; `args` replaces it in tests."""
    from retrieval.training.commands import parse_arguments  # data modules import this file, and parse nothing

    build_propositional_benchmark(**parse_arguments(build_propositional_benchmark, args))


def cli() -> None:
    """Run the command."""
    from retrieval.training.commands import run

    run(main)


if __name__ == "__main__":
    cli()
