"""The rows of an evaluation that goes on: each on the disk before the next, and the same command goes on from them.

`<writer>.jsonl.unfinished` has the rows, `<writer>.json.unfinished` what the evaluation is. Both go when it is done.
A row is what `<writer>.jsonl` is to have: a problem, `solved_at`, `ending`, `seconds_writing` and `tries`, each
[program, log_prob, verdict, seconds], in the order of the proposals; of a program that holds,
where the domain makes the difference, a fifth entry says whether it is general.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from common import ConfigError, DataError
from generator.domains.base import KINDS, Problem, Verdict
from generator.domains.synthesize import Outcome, Try
from retrieval.training.files import lock_rows, write_errors, write_json
from retrieval.training.json_lines import parse_object

_SUFFIX = ".unfinished"
_DIGITS = 9  # of log-probabilities


def row_of(problem: Problem, outcome: Outcome) -> dict[str, Any]:
    """Return what became of a problem, as JSON has it."""
    return {
        **asdict(problem),
        "solved_at": outcome.solved_at,
        "ending": outcome.ending,
        "seconds_writing": round(outcome.seconds_writing, 7),
        "tries": [_entry(each) for each in outcome.tries],
    }


def _entry(each: Try) -> list[Any]:
    seconds = round(each.verdict.seconds * (not each.is_repeat), 7)
    general = [] if each.verdict.is_general is None else [each.verdict.is_general]
    return [each.program, round(each.log_prob, _DIGITS), each.verdict.kind, seconds, *general]


def outcome_of(row: Mapping[str, Any], *, charge_repeats: bool) -> Outcome:
    """Return the outcome that a row tells; IndexError, KeyError, TypeError or ValueError if it tells none."""
    outcome, verdicts, num_charged = Outcome(str(row["spec"])), dict[str, Verdict](), 0
    for program, log_prob, kind, seconds, *rest in row["tries"]:
        is_general = rest[0] if rest else None
        if kind not in KINDS or is_general not in (None, True, False) or len(rest) > 1:
            raise ValueError(f"{[kind, *rest]} is no verdict")
        is_repeat = program in verdicts
        num_charged += charge_repeats or not is_repeat
        if not is_repeat:
            verdicts[program] = Verdict(kind, seconds=float(seconds), is_general=is_general)
        outcome.tries.append(Try(program, float(log_prob), verdicts[program], num_charged, is_repeat))
        if outcome.program is None:
            outcome.num_samples = num_charged
            outcome.program = program if verdicts[program].holds else None
    if outcome.solved_at != row["solved_at"]:
        raise ValueError("solved_at does not fit its tries")
    outcome.ending, outcome.seconds_writing = row["ending"], float(row["seconds_writing"])
    return outcome


class UnfinishedRows:
    """Rows of one evaluation, which it appends to, from where an interrupted one stopped.

    A line that was cut off, as a killed process leaves it, is removed when the file is opened. A loss of power is not
    guarded against.

    Attributes:
        outcomes: of the first problems, which are done
    """

    def __init__(self, path: Path, about: Mapping[str, Any], problems: Sequence[Problem], charge_repeats: bool) -> None:
        """Open the rows of an evaluation, or begin them; nobody else may write to them meanwhile.

        Args:
            path: of the file that the rows are to become
            about: what tells this evaluation from others, as JSON
            problems: of the evaluation
            charge_repeats: whether its search charges them

        Raises:
            ConfigError: if there are rows of another evaluation, or another process writes them
            DataError: if they are broken, or cannot be written
        """
        self.path, self.outcomes = path, list[Outcome]()
        self._rows, self._about = Path(f"{path}{_SUFFIX}"), Path(f"{path.with_suffix('.json')}{_SUFFIX}")
        with write_errors(str(self._rows)):
            self._rows.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self._rows, "a+b")
        try:
            lock_rows(self._file, self._rows)
            self._check(json.loads(json.dumps(about)))
            self._read(problems, charge_repeats)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def append(self, problem: Problem, outcome: Outcome) -> None:
        """Write what became of the next problem."""
        with write_errors(str(self._rows)):
            self._file.write(json.dumps(row_of(problem, outcome), ensure_ascii=True).encode() + b"\n")
            self._file.flush()

    def finish(self) -> None:
        """Give the rows the name of the whole file."""
        with write_errors(str(self.path)):
            os.replace(self._rows, self.path)
            self._about.unlink(missing_ok=True)

    def _check(self, about: dict[str, Any]) -> None:
        """Keep what the evaluation is, or raise ConfigError if the rows are of another one."""
        self._file.seek(0)
        if not self._file.read(1):
            write_json(self._about, about)
            return
        found: dict[str, Any] = {}
        with suppress(OSError, DataError):
            found = parse_object(self._about.read_bytes(), str(self._about), "")
        for name in [*about, *(name for name in found if name not in about)]:
            if found.get(name) != about.get(name):
                raise ConfigError(
                    f"{self._rows} is of an evaluation that was interrupted, whose {name} is {found.get(name)}, and "
                    f"not {about.get(name)}; give the same options, another name or output_dir, or remove the file"
                )

    def _read(self, problems: Sequence[Problem], charge_repeats: bool) -> None:
        self._file.seek(0)
        end = 0
        for number, line in enumerate(self._file, start=1):
            if not line.endswith(b"\n"):
                break
            where = f"{self._rows}:{number}"
            row = parse_object(line, where, "remove the file")
            try:
                problem, outcome = Problem(row["spec"], row["program"]), outcome_of(row, charge_repeats=charge_repeats)
            except (IndexError, KeyError, TypeError, ValueError) as error:
                raise DataError(f"{where}: is no row of an evaluation ({error}); remove the file") from error
            if number > len(problems) or problem != problems[number - 1]:
                raise DataError(f"{where}: is not of problem {number} of this evaluation; remove the file")
            self.outcomes.append(outcome)
            end += len(line)
        self._file.truncate(end)
        self._file.seek(end)
