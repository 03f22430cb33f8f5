"""Instruct data of Mathlib, downloaded and checked: `python -m generator.prepare --output_dir data/ntp`.

l3lab/ntp-mathlib-instruct-st: states and tactics of Mathlib cf8e23a6 (Lean 4.4.0), extracted with ntp-toolkit.
"""

from __future__ import annotations

import argparse
from collections import deque
from collections.abc import Mapping
from pathlib import Path

from common import DataError
from generator.data.download import download
from generator.data.instruct_records import foreign_content, parse_line
from retrieval.training.cli import run

# /resolve/ gives the file; /blob/, which the tutorial's script has, an HTML page that shows it
BASE_URL = "https://huggingface.co/datasets/l3lab/ntp-mathlib-instruct-st/resolve/main/state_tactic_mathlib_only/"
NUM_LINES = {"state_tactic_train.jsonl": 291_262, "state_tactic_dev.jsonl": 7_735}  # as published


def prepare(
    output_dir: str | Path,
    *,
    base_url: str = BASE_URL,
    num_lines: Mapping[str, int] = NUM_LINES,
    progress: bool = True,
) -> list[Path]:
    """Download the files that are not there yet, and check all of them.

    A download that was cut off goes on where it stopped, now or in the next run.

    Args:
        output_dir: where to put the files; `data_path` of InstructDataModule
        base_url: where they are, up to their names
        num_lines: the files, and the lines that each has at least
        progress: show progress bars

    Returns:
        The files.

    Raises:
        DataError: if a file cannot be had, or is not what it should be
    """
    output_dir = Path(output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, number in num_lines.items():
        path, url = output_dir / name, base_url + name
        by_hand = f"Run again to try again, or download {url} by hand, put it at {path}, and run again"
        if path.exists():
            if problem := _problem_with(path, number):
                raise DataError(f"{path}: {problem}. Remove it and run again to download it")
        else:
            part = path.with_name(f"{name}.part")
            download(url, part, by_hand, progress)
            if problem := _problem_with(part, number):
                part.unlink()  # nothing could be added to it that would make it right
                raise DataError(f"what {url} gave was removed: {problem}. {by_hand}")
            part.rename(path)
        paths.append(path)
    return paths


def _problem_with(path: Path, num_lines: int) -> str | None:
    """Say what is wrong with a file: its content, its length, or its first or last line."""
    with open(path, "rb") as file:
        if what := foreign_content(file.read(64)):
            return what
        file.seek(0)
        first = file.readline()
        last = deque(enumerate(file, start=2), maxlen=1)
    found, line = last[0] if last else (1 if first.strip() else 0, first)
    if found < num_lines:
        return f"it has {found:,} lines, of {num_lines:,} that were published"
    for number, text in ((1, first), (found, line)):
        try:
            parse_line(text)
        except DataError as error:
            return f"line {number}: {error}"
    return None


def main(args: list[str] | None = None) -> None:
    """Run the command line; `args` replaces it in tests."""
    parser = argparse.ArgumentParser(
        prog="python -m generator.prepare",
        description="Download l3lab/ntp-mathlib-instruct-st: prompts and completions of Mathlib.",
    )
    parser.add_argument("--output_dir", type=Path, required=True, help="folder to put the files in")
    for path in prepare(parser.parse_args(args).output_dir):
        print(path)


def cli() -> None:
    """Run the command line."""
    run(main)


if __name__ == "__main__":
    cli()
