"""Proofs that were found, as further data to train on: a folder of splits in the layout of LeanDojo Benchmark 4."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from common import NO_GOALS, DataError, check_positive
from generator.environments.base import Theorem
from generator.search.loop import SearchResult
from generator.search.theorems import Goal, label, theorem_of
from retrieval.leandojo.json_list import JsonListReader
from retrieval.leandojo.theorem_fields import as_object, list_field, text_field
from retrieval.training.files import writing_folder

_BLOCK = 1 << 20  # bytes
Step = tuple[str, str, str]  # state, tactic, state behind it


@dataclass(frozen=True)
class Added:
    """What proofs have added to a split.

    Attributes:
        num_proofs: that were found
        num_steps: of all of them
        num_new_steps: states with a tactic that the split has not
        num_new_proofs: proofs with such a step
    """

    num_proofs: int
    num_steps: int
    num_new_steps: int
    num_new_proofs: int

    def __str__(self) -> str:
        """What a command says of it."""
        return (
            f"{self.num_proofs:,} proofs of {self.num_steps:,} steps; {self.num_new_steps:,} steps of "
            f"{self.num_new_proofs:,} proofs are not in the data already"
        )


def write_with_proofs(
    results: Sequence[SearchResult],
    data_path: Path,
    output_dir: Path,
    split: str = "train",
    *,
    num_old: int | None = None,
    repeats: int = 1,
    seed: int = 0,
) -> Added:
    """Write a folder of splits again, with the new steps of proofs behind a split's own theorems.

    A proof stands there as a further theorem of the same name and place. Steps that the split has already, with the
    same state and tactic, are left out.

    Args:
        results: of theorems of the split; those without a proof count nothing
        data_path: folder with train.json, val.json and test.json, as far as there are such
        output_dir: new folder to write
        split: of the theorems
        num_old: so many of the split's own theorems are kept, drawn at random; None for all
        repeats: how often each new step is written, as its weight among the others
        seed: of which are kept

    Returns:
        What was added.

    Raises:
        ConfigError: if output_dir is there and not empty
        DataError: if the split is missing or broken, lacks a theorem, or a proof was kept without its states
    """
    check_positive(num_old=num_old, repeats=repeats)
    source = data_path / f"{split}.json"
    proofs = {result.theorem: _steps_of(result) for result in results if result.proof is not None}
    records, known = _read(source, proofs)
    new = {theorem: [step for step in steps if step[:2] not in known] for theorem, steps in proofs.items()}
    added = [_record(records[theorem], steps) for theorem, steps in new.items() if steps]
    with writing_folder(output_dir, f"the data to {output_dir}") as part:
        for path in sorted(data_path.glob("*.json")):
            if path.name != source.name:
                shutil.copyfile(path, part / path.name)
        if num_old is None:
            shutil.copyfile(source, part / source.name)
        else:
            _write(part / source.name, _drawn(source, num_old, seed))
        _append(part / source.name, added * repeats)
    num_steps = sum(map(len, proofs.values()))
    return Added(len(proofs), num_steps, sum(map(len, new.values())), len(added))


def _steps_of(result: SearchResult) -> list[Step]:
    proof, states = result.proof or (), result.proof_states
    if len(states) != len(proof):
        raise DataError(f"{label(result.theorem)}: its proof was kept without its states; search it again")
    return list(zip(states, proof, (*states[1:], NO_GOALS), strict=True))


def _read(path: Path, proofs: Mapping[Goal, Sequence[Step]]) -> tuple[dict[Goal, dict[str, Any]], set[tuple[str, str]]]:
    """The records of the theorems with proofs, and which states and tactics of the proofs the split has already.

    Raises:
        DataError: if it is broken, or lacks a theorem
    """
    wanted = {step[:2] for steps in proofs.values() for step in steps}
    records, known = dict[Goal, dict[str, Any]](), set[tuple[str, str]]()
    for theorem, record, steps in _theorems(path):
        if theorem in proofs:
            records[theorem] = record
        known.update(step for step in steps if step in wanted)
    for goal in proofs:
        if goal not in records:
            raise DataError(f"{path}: has no theorem {label(goal)}, which was proved; give the data that it is from")
    return records, known


def _theorems(path: Path) -> Iterator[tuple[Theorem, dict[str, Any], list[tuple[str, str]]]]:
    """Yield each theorem of a split with its record, and the states and tactics of its steps."""
    try:
        file: BinaryIO = open(path, "rb", buffering=0)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; give a folder with this split as data_path") from error
    with file:
        for number, record in enumerate(JsonListReader(path, file, lambda _: None)):
            try:
                found = as_object(record, "a theorem")
                steps = [as_object(step, "a step") for step in list_field(found, "traced_tactics")]
                pairs = [(text_field(step, "state_before"), text_field(step, "tactic")) for step in steps]
                theorem = theorem_of(found)
            except DataError as error:
                raise DataError(f"{path}: theorem {number}{error}") from None
            yield theorem, found, pairs


def _record(original: Mapping[str, Any], steps: Sequence[Step]) -> dict[str, Any]:
    """A theorem with these steps instead of its own; which premises they cite is not known."""
    traced = [
        {"tactic": tactic, "annotated_tactic": [tactic, []], "state_before": before, "state_after": after}
        for before, tactic, after in steps
    ]
    return {**original, "traced_tactics": traced}


def _drawn(path: Path, number: int, seed: int) -> Iterator[dict[str, Any]]:
    """So many theorems of a split, in its order."""
    total = sum(1 for _ in _theorems(path))
    chosen = set(random.Random(f"{seed} old theorems").sample(range(total), min(number, total)))
    return (record for i, (_, record, _) in enumerate(_theorems(path)) if i in chosen)


def _write(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    with open(path, "w", encoding="utf-8", errors="surrogatepass") as file:
        for number, record in enumerate(records):
            file.write((",\n" if number else "[") + json.dumps(record, ensure_ascii=False))
        file.write("]\n")


def _append(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Add elements to the JSON list of a file; its own stay as they are, byte for byte."""
    if not records:
        return
    with open(path, "r+b") as file:
        end = _end_of_list(file)
        file.seek(end - 1)
        is_empty = file.read(1) == b"["
        file.seek(end)
        file.truncate()
        lines = ",\n".join(json.dumps(record, ensure_ascii=False) for record in records)
        file.write((("\n" if is_empty else ",\n") + lines + "\n]\n").encode("utf-8", errors="surrogatepass"))


def _end_of_list(file: BinaryIO) -> int:
    """The place behind the last element: the file has been read, and so ends with a bracket and blanks."""
    size = file.seek(0, 2)
    file.seek(max(0, size - _BLOCK))
    tail = file.read()
    inside = tail.rstrip()[:-1].rstrip()
    return size - len(tail) + len(inside)
