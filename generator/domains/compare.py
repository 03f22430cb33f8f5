"""The command `compare`: which problems a model solves that another writer does not, sympy for instance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import ConfigError, DataError, check_positive
from generator.domains.base import Domain, Problem
from generator.domains.choices import DomainChoice, SearchChoice
from generator.domains.evaluate import Progress
from generator.domains.problem_files import read_records
from generator.domains.results import Result, evaluate_writer, file_name, read_results
from generator.domains.synthesize import Outcome
from generator.domains.tally import Metrics
from generator.domains.unfinished import outcome_of
from retrieval.training.files import write_json
from retrieval.training.options import flat_options
from retrieval.training.shown import shown

FORMAT_VERSION = 1
_BUDGET = 5  # proposals of a baseline that is run here


@dataclass(frozen=True)
class Side:
    """A writer's outcomes, by specification.

    Attributes:
        name: of the writer
        outcomes: what became of each problem
        programs: the problems' own
    """

    name: str
    outcomes: Mapping[str, Outcome]
    programs: Mapping[str, str]


@flat_options
def compare(
    output_dir: Path,
    results: Path,
    with_: str,
    choice: DomainChoice = DomainChoice(),
    num_shown: int = 10,
) -> None:
    """Compare what two writers solve: problems that both do, one alone, or none, with examples and times.

    A table is printed, and all problems that one alone solves are written to compare.json.

    Args:
        output_dir: folder to write to
        results: what `evaluate` or `baseline` wrote of the first writer, a file or a folder with one
        with_: the other: such a file or folder, or a baseline of the domain, which is run here on the same problems and
            has its results kept in output_dir; of symbolic mathematics: sympy, with sympy_seconds of domain_options
        choice: which domain they are of
        num_shown: problems to print that the first alone solves
    """
    check_positive(num_shown=num_shown)
    domain = choice.make()
    first = _read(results, domain)
    second = _other(with_, domain, first, output_dir)
    found = compared(first, second)
    write_json(output_dir / "compare.json", {"format_version": FORMAT_VERSION, "domain": domain.name, **found})
    print(report(found))
    for spec, program in found["only_first"][:num_shown]:
        print(f"\n{shown(domain.show(spec))}\n{shown(domain.for_user(program))}")
    print(f"\nall of them: {output_dir / 'compare.json'}")


def compared(first: Side, second: Side) -> Metrics:
    """Return how many problems each side solves, of those that both were given.

    Raises:
        DataError: if they have none in common
    """
    specs = [spec for spec in first.outcomes if spec in second.outcomes]
    if not specs:
        raise DataError(f"{first.name} and {second.name} were given no problem in common; evaluate them on the same")
    one, other = (
        {spec: side.outcomes[spec].program for spec in specs if side.outcomes[spec].is_solved}
        for side in (first, second)
    )
    return {
        "first": _about(first, specs),
        "second": _about(second, specs),
        "num_problems": len(specs),
        "num_not_in_common": len(first.outcomes) + len(second.outcomes) - 2 * len(specs),
        "both": sum(spec in other for spec in one),
        "only_first": [[spec, program] for spec, program in one.items() if spec not in other],
        "only_second": [[spec, program] for spec, program in other.items() if spec not in one],
        "none": sum(spec not in one and spec not in other for spec in specs),
    }


def _about(side: Side, specs: Sequence[str]) -> Metrics:
    found = [side.outcomes[spec] for spec in specs]
    undecided = [not each.is_solved and any(attempt.verdict.is_undecided for attempt in each.tries) for each in found]
    return {
        "writer": side.name,
        "solved": sum(each.is_solved for each in found),
        "unsolved_and_undecided": sum(undecided),
        "mean_seconds_writing": sum(each.seconds_writing for each in found) / len(found),
        "mean_seconds_checking": sum(each.seconds_checking for each in found) / len(found),
    }


def report(found: Metrics) -> str:
    """Return a comparison as Markdown."""
    one, other = found["first"], found["second"]
    count = found["num_problems"]

    def cell(number: int) -> str:
        return f"{number:,} ({100 * number / count:.1f}%)"

    lines = [
        f"| of {count:,} problems | {other['writer']} solves | {other['writer']} does not |",
        "|---|--:|--:|",
        f"| {one['writer']} solves | {cell(found['both'])} | {cell(len(found['only_first']))} |",
        f"| {one['writer']} does not | {cell(len(found['only_second']))} | {cell(found['none'])} |",
        "",
        *(
            f"{side['writer']}: {side['mean_seconds_writing']:.2f} s a problem, and {side['mean_seconds_checking']:.2f}"
            f" s to check; not solved because the checker did not decide: {side['unsolved_and_undecided']:,}"
            for side in (one, other)
        ),
    ]
    if found["num_not_in_common"]:
        lines.append(f"problems of one that the other was not given are left out: {found['num_not_in_common']:,}")
    return "\n".join(lines)


# ------------------------------------------------------------------------------------------------
# The two sides


def _read(path: Path, domain: Domain[Any, Any]) -> Side:
    results = read_results([path], domain)
    if len(results) > 1:
        names = ", ".join(str(each.path) for each in results)
        raise ConfigError(f"{path} holds {len(results)} results; give one of {names}")
    return _side(results[0])


def _side(result: Result) -> Side:
    path = result.path.with_suffix("").with_name(f"{result.path.stem}.jsonl")
    outcomes, programs = dict[str, Outcome](), dict[str, str]()
    for number, row in read_records(path):
        try:
            outcome = outcome_of(row, charge_repeats=not result.metrics["options"].get("repeats_are_free", False))
            outcomes[outcome.spec], programs[outcome.spec] = outcome, str(row["program"])
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path}:{number}: is no row of an evaluation ({error}); evaluate again") from error
    return Side(result.writer, outcomes, programs)


def _other(name: str, domain: Domain[Any, Any], first: Side, output_dir: Path) -> Side:
    """The other side, which is run if it is a baseline whose results are not there."""
    baselines = domain.baselines()
    if name not in baselines:
        if not Path(name).exists():
            known = ", ".join(baselines) or "none"
            raise ConfigError(
                f"with is {name!r}; give a file or folder of results, or a baseline of {domain.name}: {known}"
            )
        return _read(Path(name), domain)
    path = output_dir / file_name(name)
    problems = [Problem(spec, program) for spec, program in first.programs.items()]
    if Path(f"{path}.json").is_file():
        kept = _read(Path(f"{path}.json"), domain)
        if kept.programs == first.programs:
            return kept
    writer, search = (
        baselines[name](0, lambda: []),
        SearchChoice(budget=_BUDGET, batch_size=_BUDGET, stop_at_first=True),
    )
    synthesizer = search.synthesizer(writer, domain)
    bar, options = Progress(name, len(problems)), {"compared_with": first.name, "budget": _BUDGET}
    evaluate_writer(writer, domain, problems, synthesizer, path, options, bar)
    return _read(Path(f"{path}.json"), domain)
