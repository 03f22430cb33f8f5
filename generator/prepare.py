"""Instruct data of Mathlib, downloaded and checked: `python -m generator.prepare --output_dir data/ntp`.

l3lab/ntp-mathlib-instruct-st: states and tactics of Mathlib cf8e23a6 (Lean 4.4.0), extracted with ntp-toolkit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

from huggingface_hub import hf_hub_download, hf_hub_url
from huggingface_hub.errors import LocalEntryNotFoundError

from common import DataError
from generator.data.instruct_records import foreign_content, parse_line
from retrieval.training.commands import parse_arguments, run
from retrieval.training.files import own_part, write_errors

REPO_ID = "l3lab/ntp-mathlib-instruct-st"
FOLDER = "state_tactic_mathlib_only"  # of the repository
NUM_LINES = {"state_tactic_train.jsonl": 291_262, "state_tactic_dev.jsonl": 7_735}  # as published


def prepare(
    output_dir: str | Path, *, endpoint: str | None = None, num_lines: Mapping[str, int] = NUM_LINES
) -> list[Path]:
    """Download l3lab/ntp-mathlib-instruct-st: prompts and completions of Mathlib.

    Files that are there already are checked, and not downloaded again. Environment variables of the Hugging Face hub
    (HF_ENDPOINT, HF_TOKEN) and of proxies are heeded.

    Args:
        output_dir: folder to put the files in; data_path of InstructDataModule
        endpoint: address of the hub; by default what HF_ENDPOINT says, or https://huggingface.co
        num_lines: the files, and the lines that each has at least

    Returns:
        The files.

    Raises:
        DataError: if a file cannot be had, is not what it should be, or cannot be written
    """
    paths = {Path(output_dir) / name: number for name, number in num_lines.items()}
    for path, number in paths.items():
        if not path.exists():
            _download(path, number, endpoint)
        elif problem := _problem_with(path, number):
            raise DataError(f"{path}: {problem}. Remove it and run again to download it")
    return list(paths)


def _download(path: Path, num_lines: int, endpoint: str | None) -> None:
    """Download a file of the hub, and give it its name once it is what it should be."""
    url = hf_hub_url(REPO_ID, f"{FOLDER}/{path.name}", repo_type="dataset", endpoint=endpoint)
    by_hand = f"Run again to try again, or download {url} by hand, put it at {path}, and run again"
    with write_errors(str(path)):
        path.parent.mkdir(parents=True, exist_ok=True)
        with own_part(path, Path.mkdir) as folder:
            try:
                found = hf_hub_download(
                    REPO_ID, f"{FOLDER}/{path.name}", repo_type="dataset", local_dir=folder, endpoint=endpoint
                )
            except Exception as error:  # errors of its HTTP client too, whose classes differ between releases
                raise DataError(f"{url} {_reason(error)}. {by_hand}") from error
            if problem := _problem_with(Path(found), num_lines):
                raise DataError(f"what {url} gave was removed: {problem}. {by_hand}")
            Path(found).replace(path)


def _reason(error: BaseException) -> str:
    """What is wrong, in one line."""
    cause = (error.__cause__ if isinstance(error, LocalEntryNotFoundError) else None) or error
    response = getattr(cause, "response", None)
    if response is not None:
        return f"answers {response.status_code}"
    return f"cannot be downloaded: {' '.join(str(cause).split()) or type(cause).__name__}"


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


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line; `args` replaces it in tests."""
    for path in prepare(**parse_arguments(prepare, args)):
        print(path)


def cli() -> None:
    """Run the command."""
    run(main)


if __name__ == "__main__":
    cli()
