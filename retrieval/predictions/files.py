"""The files of retrieved premises: what `retrieval.predictions` writes and reads.

A folder holds the predictions of one retriever for one or more splits. Each rank writes its own files:

    val-0-of-2.json                 what it is, and whether the rank has finished (see `Part`)
    val-0-of-2.00000.safetensors    premise_numbers int32 (M, k), -1 behind the last; scores float32 (M, k)
    val-0-of-2.00000.jsonl          the M contexts, one a line (see `RetrievalContext`)
    val-0-of-2.00001.safetensors    ...

Every file appears under its name only when it is whole, and the first one says until the end that the rank
has not finished, so a crash leaves a folder that is refused and not one that lacks rows.

Shape legend: M contexts of a shard, k premises per context.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from common import DataError, Pos
from retrieval.training.files import write_errors, writing_file

FORMAT_VERSION = 1
_ADVICE = "what is there is marked incomplete"


@dataclass(frozen=True, slots=True)
class RetrievalContext:
    """Names a proof state of a split: the theorem, and the number of the tactic that starts from it.

    `state_hash` (see `hash_state`) tells whether the state itself is still the same.
    """

    file_path: str
    full_name: str
    start: Pos
    tactic_idx: int
    state_hash: str = ""

    def to_json(self) -> str:
        """Return the context as one line of JSON."""
        return json.dumps(asdict(self) | {"start": list(self.start)}, ensure_ascii=False)

    @classmethod
    def from_json(cls, line: str | bytes) -> RetrievalContext:
        """Read what `to_json` wrote."""
        record = json.loads(line)
        return cls(**record | {"start": Pos.of(record["start"])})


@dataclass(frozen=True, slots=True)
class Part:
    """What one rank writes of one split; `num_contexts` counts the contexts of the split on all ranks."""

    format_version: int
    corpus_hash: str
    retriever: str
    k: int
    split: str
    rank: int
    num_ranks: int
    num_contexts: int
    num_shards: int
    complete: bool

    @property
    def stem(self) -> str:
        return f"{self.split}-{self.rank}-of-{self.num_ranks}"

    @property
    def origin(self) -> tuple[str, str, int]:
        """What all parts of a folder share."""
        return self.corpus_hash, self.retriever, self.k

    def shard(self, folder: Path, number: int, suffix: str) -> Path:
        return folder / f"{self.stem}.{number:05d}{suffix}"


def read_parts(folder: Path) -> list[Part]:
    """Read what each rank says of itself, sorted by split and rank."""
    parts = []
    for path in folder.glob("*-of-*.json"):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            if record["format_version"] != FORMAT_VERSION:
                raise DataError(
                    f"{path}: format version {record['format_version']}, but this program reads version "
                    f"{FORMAT_VERSION}; make the predictions again"
                )
            parts.append(Part(**record))
        except DataError:
            raise
        except FileNotFoundError:
            continue  # another rank has just removed what an earlier run left
        except (KeyError, OSError, TypeError, ValueError) as error:
            raise DataError(f"{path}: not the description of predictions ({error}); make them again") from error
    return sorted(parts, key=lambda part: (part.split, part.rank))


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a safetensors file; a truncated one is a DataError that names it."""
    try:
        with safe_open(path, framework="np") as tensors:
            yield tensors
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing; make the predictions again") from error
    except SafetensorError as error:
        raise DataError(f"{path} is truncated or broken ({error}); make the predictions again") from error


def write(path: Path, content: bytes) -> None:
    """Write a file of predictions, all of it or nothing.

    Raises:
        DataError: if the system refuses to write
    """
    with writing_file(path, _what(path.parent), _ADVICE) as part:
        part.write_bytes(content)


def changing(folder: Path) -> AbstractContextManager[None]:
    """Raise DataError for what the system refuses while the files of a folder are changed."""
    return write_errors(_what(folder), _ADVICE)


def _what(folder: Path) -> str:
    return f"predictions to {folder}"
