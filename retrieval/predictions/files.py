"""The files in which retrieved premises are kept.

A folder holds the predictions of one retriever for one or more splits. Each rank writes its own files:

    val-0-of-2.json                 what it is, and whether the rank has finished (see `Part`)
    val-0-of-2.00000.safetensors    premise_numbers int32 (M, k), -1 behind the last; scores float32 (M, k)
    val-0-of-2.00000.jsonl          the M contexts, one a line (see `RetrievalContext`)
    val-0-of-2.00001.safetensors    ...

Every file appears under its name only when it is whole. Until the rank has finished, the first file says that it has
not: after a crash the folder is refused, and not read with rows missing.

Shape legend: M contexts of a shard, k premises per context.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from common import DataError
from retrieval.leandojo.provenance import Provenance
from retrieval.training.files import write_errors, writing_file

FORMAT_VERSION = 1
_ADVICE = "what is there is marked incomplete"


def hash_state(state: str) -> str:
    """Return 16 hexadecimal digits that stand for a state."""
    return hashlib.blake2b(state.encode(errors="surrogatepass"), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class RetrievalContext:
    """A proof state of a split that premises were retrieved for.

    Attributes:
        provenance: the theorem, and the number of the tactic that starts from the state; files leave out the repository
        state_hash: what `hash_state` gives for the state, to tell whether it is still the same
    """

    provenance: Provenance
    state_hash: str = ""

    def to_json(self) -> str:
        """Return the context as one line of JSON."""
        return json.dumps(self.provenance.to_record() | {"state_hash": self.state_hash}, ensure_ascii=False)

    @classmethod
    def from_json(cls, line: str | bytes) -> RetrievalContext:
        """Read what `to_json` wrote."""
        record = json.loads(line if isinstance(line, str) else line.decode())
        return cls(Provenance.from_record(record), record["state_hash"])


@dataclass(frozen=True, slots=True)
class Part:
    """What the file of one rank and one split says of its predictions.

    Attributes:
        format_version: of the files
        corpus_hash: of the corpus that premise numbers refer to
        retriever: its name
        k: premises for each context, at most
        split: train, val or test
        rank: which process wrote it
        num_ranks: processes that shared the split
        num_contexts: contexts of the split, on all ranks together
        num_shards: how many pairs of .safetensors and .jsonl this rank has written
        complete: whether the rank has finished
    """

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

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if type(value).__name__ != field.type:
                raise DataError(f"{field.name} is {str(value)[:60]!r}; it must be of type {field.type}")
        if not self.split.isidentifier():
            raise DataError(f"split is {self.split!r}; it must be a word such as val, as it is part of file names")
        if self.k < 1 or not 0 <= self.rank < self.num_ranks or min(self.num_contexts, self.num_shards) < 0:
            raise DataError("a number is out of its range (k, rank, num_ranks, num_contexts or num_shards)")

    @property
    def stem(self) -> str:
        """What the names of its files begin with."""
        return f"{self.split}-{self.rank}-of-{self.num_ranks}"

    @property
    def origin(self) -> tuple[str, str, int]:
        """What all parts of a folder have in common: corpus, retriever and k."""
        return self.corpus_hash, self.retriever, self.k

    def shard(self, folder: Path, number: int, suffix: str) -> Path:
        """Return the path of a file of one shard."""
        return folder / f"{self.stem}.{number:05d}{suffix}"


def read_parts(folder: Path) -> list[Part]:
    """Read what each rank says of its predictions, sorted by split and rank."""
    parts = []
    for path in folder.glob("*-of-*.json"):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            if record["format_version"] != FORMAT_VERSION:
                raise DataError(
                    f"format version {record['format_version']}, but this program reads version {FORMAT_VERSION}"
                )
            part = Part(**record)
            if path.stem != part.stem:
                raise DataError(f"it describes {part.stem}")
            parts.append(part)
        except FileNotFoundError:
            continue  # another rank has just removed what an earlier run left
        except (KeyError, OSError, RecursionError, TypeError, ValueError) as error:
            raise DataError(f"{path}: not the description of predictions ({error}); make them again") from error
    return sorted(parts, key=lambda part: (part.split, part.rank))


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a safetensors file; raise a DataError that names it where it is missing or broken."""
    try:
        with safe_open(path, framework="np") as tensors:
            yield tensors
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing; make the predictions again") from error
    except (OSError, SafetensorError) as error:
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
