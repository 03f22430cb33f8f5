"""Between the files of LeanDojo Benchmark 4 and instruct data, both ways.

    python -m generator.instruct_convert --data_path data/propositional/random --template ntp-st --output_dir data/st
    python -m generator.instruct_convert --reverse --data_path data/st --output_dir data/leandojo

Each split becomes a file of its name. `metadata` of an example tells where the step is from and what LeanDojo knows
of it, so that the way back gives the same steps, whichever way their tactics were written.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from common import ConfigError, DataError, Pos, format_state, remove_marks
from generator.data.instruct_records import InstructRecords, find_split_files
from generator.data.prompted_steps import InstructSteps, PromptedStep, TracedSteps, usable
from generator.data.state_lines import PromptWriter
from generator.prompts.templates import get_template
from retrieval.leandojo.json_list import JsonListReader
from retrieval.leandojo.tactic_text import TACTIC_NAMES, TacticNames, TacticText
from retrieval.leandojo.theorem_fields import marked_tactic
from retrieval.leandojo.traces import TracedTactic, TracedTactics
from retrieval.training.commands import parse_arguments, run
from retrieval.training.datamodule import SPLITS, missing_splits
from retrieval.training.files import writing_file
from retrieval.training.options import flat

TASK = "tactic_prediction"
_UNREADABLE = "prompts of no known template, of which the state cannot be told"
_STRANGE = "examples whose annotated_tactic is broken or of another tactic"


def convert(
    data_path: Path,
    output_dir: Path,
    template: str | None = None,
    reverse: bool = False,
    skip_invalid: bool = False,
    tactic_names: TacticNames = "written",
    normalize_tactics: bool = False,
) -> None:
    """Convert LeanDojo Benchmark files to prompts and completions, or back.

    Every split that is there is converted. What was written and what was left out is printed. Give template or
    reverse.

    Args:
        data_path: folder of train.json, val.json, test.json; for the way back of .jsonl or .jsonl.gz files
        output_dir: folder to write to; no file is overwritten
        template: how prompts and completions are written, such as ntp-st; see generator.prompts
        reverse: from prompts and completions to LeanDojo Benchmark files
        skip_invalid: leave out and count broken lines of prompts and completions, instead of stopping
        tactic_names: "written" takes tactics as they are in the file, "full" writes the names of premises in full; the
            way back restores the file's own
        normalize_tactics: leave out white space that no prover reads; see retrieval.leandojo.tactic_text

    Raises:
        ConfigError: if not one of template and reverse is given, or there is no such template
        DataError: if there is no split, a file is broken, or a file to write is there already or cannot be written
    """
    if (template is None) != reverse:
        raise ConfigError("give either --template, to write prompts and completions, or --reverse, for the way back")
    if template is not None:
        get_template(template)  # a wrong name is told before anything is read
    text = TacticText(tactic_names, normalize_tactics)
    if reverse and text != TacticText():
        raise ConfigError(
            "tactic_names and normalize_tactics are for --template; --reverse restores the file's tactics"
        )
    for split, target in _targets(data_path, output_dir, reverse=reverse):
        if template is None:
            print(to_leandojo(find_split_files(str(data_path), split), target, skip_invalid=skip_invalid))
        else:
            print(to_instruct(data_path / f"{split}.json", target, template, text))


def _targets(data_path: Path, output_dir: Path, *, reverse: bool) -> list[tuple[str, Path]]:
    """Each split that is there, and the file to make of it."""
    if not data_path.is_dir():
        raise DataError(f"data_path {data_path}: there is no such folder")
    is_there = {
        s: find_split_files(str(data_path), s) if reverse else not missing_splits(data_path, [s]) for s in SPLITS
    }
    splits: list[str] = [split for split in SPLITS if is_there[split]]
    if not splits:
        wanted = "train.jsonl, val.jsonl, test.jsonl" if reverse else "train.json, val.json, test.json"
        raise DataError(f"data_path {data_path}: none of {wanted} is there")
    targets = [(split, output_dir / f"{split}.json{'' if reverse else 'l'}") for split in splits]
    for _, target in targets:
        if target.exists():
            raise DataError(f"{target} is there already; remove it or choose another output_dir")
    return targets


# ------------------------------------------------------------------------------------------------
# To instruct data


def to_instruct(
    path: Path, target: Path, template: str, text: TacticText = TacticText(), *, progress: bool = True
) -> str:
    """Write the steps of a LeanDojo Benchmark file as instruct data, all of them or no file.

    Args:
        path: such as random/train.json
        target: the .jsonl file to make
        template: see `generator.prompts`
        text: how tactics are written
        progress: show progress bars for what takes long

    Returns:
        What was written and what was left out, in one line.
    """
    traces = TracedTactics.load(path, progress=progress, **flat(text))
    steps = TracedSteps(traces, get_template(template))
    unusable: dict[str, list[str]] = {}
    num_written = 0
    with writing_file(target, replace=False) as part, part.open("w", encoding="utf-8") as file:
        records = _raw_steps(path, steps.traces, progress)
        for number, (theorem, raw) in enumerate(records):
            for _, step in usable(steps, range(number, number + 1), unusable):
                file.write(json.dumps(_record(step, theorem, raw, path.stem), ensure_ascii=False) + "\n")
                num_written += 1
    return _report(steps.summary(), f"{num_written:,} examples in {target}", unusable)


def _raw_steps(path: Path, traces: TracedTactics, progress: bool) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield, for each step of `traces`, its theorem and itself as they stand in the file."""
    number = 0
    size = path.stat().st_size
    bar = tqdm(total=size, desc=f"convert {path.name}", unit="B", unit_scale=True, delay=1, disable=not progress)
    with open(path, "rb", buffering=0) as file, bar:
        for theorem in JsonListReader(path, file, bar.update):
            for tactic_idx, raw in enumerate(theorem["traced_tactics"]):
                if number < len(traces) and _is_step(traces[number], theorem, tactic_idx, raw):
                    yield theorem, raw
                    number += 1
    assert number == len(traces), "every step is in the file it was read from"


def _is_step(step: TracedTactic, theorem: dict[str, Any], tactic_idx: int, raw: dict[str, Any]) -> bool:
    """Whether what stands in the file became this step; steps that were left out did not."""
    here = (theorem["file_path"], theorem["full_name"], tactic_idx, format_state(raw["state_before"]))
    origin = step.provenance
    return here == (origin.file_path, origin.full_name, origin.tactic_idx, step.state)


def _record(step: PromptedStep, theorem: dict[str, Any], raw: dict[str, Any], split: str) -> dict[str, Any]:
    """One line of instruct data."""
    origin = step.provenance
    metadata = {
        "url": origin.url,
        "commit": origin.commit,
        "file_path": origin.file_path,
        "full_name": origin.full_name,
        "start": list(origin.start),
        "end": theorem.get("end"),
        "tactic_idx": origin.tactic_idx,
        "state_after": raw.get("state_after"),
        "tactic": _text_or_none(raw.get("tactic")),
        "annotated_tactic": raw.get("annotated_tactic"),
        "split": split,
    }
    return {
        "task": TASK,
        "prompt": step.prompt,
        "prompt_name": step.template.name if step.template else "",
        "completion": step.completion,
        "metadata": {name: value for name, value in metadata.items() if value is not None},
    }


# ------------------------------------------------------------------------------------------------
# To LeanDojo Benchmark files


def to_leandojo(paths: list[Path], target: Path, *, skip_invalid: bool = False, progress: bool = True) -> str:
    """Write instruct data as a LeanDojo Benchmark file, all of it or no file.

    Steps of one theorem are brought together, in the order of their numbers; what was left out before leaves no gap.
    What the data does not tell is written as "" or as the position 1:1.

    Args:
        paths: the .jsonl files of one split
        target: the .json file to make
        skip_invalid: leave out and count broken lines
        progress: show progress bars for what takes long

    Returns:
        What was written and what was left out, in one line.
    """
    writer = PromptWriter(get_template("ntp-st"))  # for lines without prompts, of which any template tells the state
    records = InstructRecords.load(paths, skip_invalid=skip_invalid, progress=progress, writer=writer)
    steps = InstructSteps(records)
    unusable: dict[str, list[str]] = {}
    theorems: dict[tuple[Any, ...], list[tuple[int, int]]] = {}  # tactic_idx and number of each step
    bar = tqdm(range(len(steps)), desc="group by theorem", delay=1, disable=not progress)
    for number, step in usable(steps, bar, unusable):
        if step.fields is None:
            unusable.setdefault(_UNREADABLE, []).append(repr(step.prompt[:80]))
            continue
        origin = step.provenance
        key = (origin.url, origin.commit, origin.file_path, origin.full_name or number, origin.start)
        theorems.setdefault(key, []).append((origin.tactic_idx, number))
    num_steps = 0
    with writing_file(target, replace=False) as part, part.open("w", encoding="utf-8") as file:
        file.write("[")
        groups = tqdm(theorems.values(), desc=f"write {target.name}", delay=1, disable=not progress)
        for i, numbers in enumerate(groups):
            theorem = _theorem([steps[number] for _, number in sorted(numbers)], unusable)
            file.write((",\n" if i else "") + json.dumps(theorem, ensure_ascii=False))
            num_steps += len(numbers)
        file.write("]\n")
    return _report(steps.summary(), f"{len(theorems):,} theorems with {num_steps:,} steps in {target}", unusable)


def _theorem(steps: list[PromptedStep], strange: dict[str, list[str]]) -> dict[str, Any]:
    """A theorem of LeanDojo's; steps whose premises are not those of their tactics are added to `strange`."""
    origin = steps[0].provenance
    return {
        "url": origin.url,
        "commit": origin.commit,
        "file_path": origin.file_path,
        "full_name": origin.full_name,
        "start": list(origin.start),
        "end": _end(steps[0]),
        "traced_tactics": [
            {
                **_tactic(step, strange),
                "state_before": step.fields.state if step.fields else "",
                "state_after": _text_or_none(step.metadata.get("state_after")) or "",
            }
            for step in steps
        ],
    }


def _end(step: PromptedStep) -> list[int]:
    """Where the theorem ends, or its start where the metadata does not say so."""
    try:
        return list(Pos.of(step.metadata.get("end")))
    except DataError:
        return list(step.provenance.start)


def _tactic(step: PromptedStep, strange: dict[str, list[str]]) -> dict[str, Any]:
    """The tactic and its premises as they stood in the file, if the metadata has those of this very tactic."""
    annotation = step.metadata.get("annotated_tactic")
    raw = {"annotated_tactic": annotation}
    if isinstance(tactic := step.metadata.get("tactic"), str):
        raw["tactic"] = tactic
    if annotation is None and "tactic" not in raw:
        return {"tactic": step.tactic, "annotated_tactic": [step.tactic, []]}
    if _joined(step.tactic) in [_joined(text) for names in TACTIC_NAMES for text in _rendered(raw, names)]:
        written = raw.get("tactic", remove_marks(annotation[0]) if annotation else step.tactic)
        return {"tactic": written, "annotated_tactic": annotation or [written, []]}
    strange.setdefault(_STRANGE, []).append(str(step.provenance))
    return {"tactic": step.tactic, "annotated_tactic": [step.tactic, []]}


def _rendered(raw: dict[str, Any], names: TacticNames) -> list[str]:
    """What a completion says of a tactic of the file; nothing if the tactic is broken."""
    try:
        return [remove_marks(marked_tactic(raw, TacticText(names))[0])]
    except DataError:
        return []


def _joined(text: str) -> str:
    """A tactic with each run of white space as one blank, in which data that was converted before has tactics."""
    return " ".join(text.split())


def _text_or_none(value: object) -> str | None:
    return value if isinstance(value, str) else None


# ------------------------------------------------------------------------------------------------
# Both ways


def _report(read: str, written: str, unusable: dict[str, list[str]]) -> str:
    notes = {reason: "left out" if reason != _STRANGE else "without their premises" for reason in unusable}
    left_out = [f"{notes[reason]}: {len(what):,} {reason} (first {what[0]})" for reason, what in unusable.items()]
    return "; ".join([f"{read} -> {written}", *left_out])


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line; `args` replaces it in tests."""
    convert(**parse_arguments(convert, args))


def cli() -> None:
    """Run the command."""
    run(main)


if __name__ == "__main__":
    cli()
