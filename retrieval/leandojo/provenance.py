"""Where a step of a proof comes from: one record, and its form in examples, batches and files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypedDict

from common import Pos


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a step of a proof comes from; "" and 1:1 where the data does not say.

    Attributes:
        url: repository of the proof
        commit: its commit
        file_path: the file in the repository
        full_name: the theorem
        start: where the theorem starts
        tactic_idx: number of the step among the theorem's traced tactics, from 0
    """

    url: str = ""
    commit: str = ""
    file_path: str = ""
    full_name: str = ""
    start: Pos = Pos(1, 1)
    tactic_idx: int = 0

    def __str__(self) -> str:
        return f"{self.full_name} ({self.file_path}:{self.start})"

    @property
    def place(self) -> tuple[str, Pos]:
        """File and position of the theorem: what decides which premises it may cite."""
        return self.file_path, self.start

    def to_record(self) -> dict[str, Any]:
        """Return what files of predictions say of a step: all but its repository, as plain values."""
        return {
            "file_path": self.file_path,
            "full_name": self.full_name,
            "start": list(self.start),
            "tactic_idx": self.tactic_idx,
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Provenance:
        """Read what `to_record` returned."""
        return cls(
            file_path=record["file_path"],
            full_name=record["full_name"],
            start=Pos.of(record["start"]),
            tactic_idx=record["tactic_idx"],
        )


_FIELDS = tuple(field.name for field in fields(Provenance))


@dataclass(frozen=True, eq=False, kw_only=True)
class StepExample(Mapping[str, Any]):
    """What a dataset makes of a step of a proof; each dataset has a class of its own with more fields.

    It is read like a dictionary too, in which the fields of the provenance stand beside all others:
    `example["tactic"]` is `example.tactic`, and `example["file_path"]` is `example.provenance.file_path`.

    Attributes:
        state: the model's input
        provenance: where the step comes from
        index: number of the example in its dataset
    """

    state: str
    provenance: Provenance
    index: int

    def __getitem__(self, name: str) -> Any:
        if name not in self._names():
            raise KeyError(name)
        return getattr(self.provenance if name in _FIELDS else self, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __len__(self) -> int:
        return len(self._names())

    @classmethod
    def _names(cls) -> list[str]:
        return [*(field.name for field in fields(cls) if field.name != "provenance"), *_FIELDS]


class ProvenanceLists(TypedDict):
    """Where the examples of a batch come from: lists with an entry for each of them."""

    url: list[str]
    commit: list[str]
    file_path: list[str]
    full_name: list[str]
    start: list[tuple[int, int]]  # line, column: Lightning moves no batch that holds a frozen dataclass
    tactic_idx: list[int]


def provenance_lists(provenances: Sequence[Provenance]) -> ProvenanceLists:
    """Return the lists that a batch of examples holds."""
    return ProvenanceLists(
        url=[each.url for each in provenances],
        commit=[each.commit for each in provenances],
        file_path=[each.file_path for each in provenances],
        full_name=[each.full_name for each in provenances],
        start=[(each.start.line_nb, each.start.column_nb) for each in provenances],
        tactic_idx=[each.tactic_idx for each in provenances],
    )


def provenances_of(batch: Mapping[str, Any]) -> list[Provenance]:
    """Return where each example of a batch comes from; the batch holds `ProvenanceLists`."""
    columns = (batch[name] for name in _FIELDS)
    return [
        Provenance(url, commit, file_path, full_name, Pos(*start), tactic_idx)
        for url, commit, file_path, full_name, start, tactic_idx in zip(*columns, strict=True)
    ]
