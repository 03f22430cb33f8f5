"""Steps of proofs as prompts and completions, from LeanDojo Benchmark files or from instruct data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from common import ConfigError, DataError, Pos, remove_marks
from generator.data.instruct_records import InstructRecord, InstructRecords
from generator.prompts.source_files import SourceFiles
from generator.prompts.templates import PromptFields, PromptTemplate, find_template
from retrieval.leandojo.traces import TracedTactic, TracedTactics
from retrieval.predictions.retrieved import RetrievedPremises

_UNKNOWN_POS = Pos(1, 1)  # instruct data of other projects does not say where a theorem starts


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a step comes from; "" and 1:1 where the data does not say."""

    url: str = ""
    commit: str = ""
    file_path: str = ""
    full_name: str = ""  # of the theorem
    start: Pos = _UNKNOWN_POS  # of the theorem
    tactic_idx: int = 0  # number of the step among the theorem's traced tactics


@dataclass(frozen=True, slots=True)
class PromptedStep:
    """One example for a decoder-only model.

    Attributes:
        prompt: what the model reads, whole
        completion: what it learns to write, EOS excluded
        tactic: what `template` parses the completion to
        fields: what the prompt was written from; None where it cannot be told, so that it cannot be shortened
        template: of the prompt; None if no template here writes such prompts
        provenance: where it comes from
        metadata: of instruct data
    """

    prompt: str = field(repr=False)
    completion: str
    tactic: str
    fields: PromptFields | None = field(repr=False)
    template: PromptTemplate | None = field(repr=False)
    provenance: Provenance
    metadata: dict[str, Any] = field(repr=False, default_factory=dict)


class UnusableStep(DataError):
    """A step of which no example can be made.

    Attributes:
        reason: what such steps are, in the plural, as reports count them
    """

    def __init__(self, reason: str, what: str) -> None:
        super().__init__(f"{reason}: {what}")
        self.reason, self.what = reason, what


class PromptedSteps(Protocol):
    """The steps of one split."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> PromptedStep:
        """Return a step.

        Raises:
            UnusableStep: if no example can be made of it
        """

    def summary(self) -> str:
        """Say in one line what was read and what was left out."""

    @property
    def templates(self) -> set[PromptTemplate | None]:
        """Of the prompts that were read so far; None stands for those of no template known here."""

    @property
    def background(self) -> Background | None:
        """What prompts tell beside what `PromptedStep.fields` has, if there is anything."""


@dataclass(frozen=True, slots=True)
class Background:
    """What a prompt tells beside its state: long texts, read when an example is.

    Attributes:
        traces: the steps
        premises: retrieved for each step
        sources: files of which a prompt tells what stands before the theorem
        progress: show a progress bar where it takes more than a second
    """

    traces: TracedTactics
    premises: RetrievedPremises | None = None
    sources: SourceFiles | None = None
    progress: bool = True

    @property
    def told(self) -> set[str]:
        """The fields of PromptFields that it fills."""
        return {name for name, there in (("premises", self.premises), ("context", self.sources)) if there is not None}

    def add(self, fields: PromptFields, number: int, max_tokens: int) -> PromptFields:
        """Return the fields of a step with all that belongs to it.

        Args:
            fields: without background
            number: of the step
            max_tokens: that the prompt may take
        """
        premises = () if self.premises is None else self.premises[number]
        return replace(fields, premises=premises, context=self._context(number, max_tokens))

    def num_bytes(self, room: npt.NDArray[np.int64], max_tokens: int) -> npt.NDArray[np.int64]:
        """Return the bytes that the background of each step takes of its room, at most, (number of steps,)."""
        taken = np.zeros_like(room) if self.premises is None else self.premises.num_bytes(room)
        if self.sources is not None:
            numbers = tqdm(range(len(self.traces)), desc="read source files", delay=1, disable=not self.progress)
            taken += [len(self._context(number, max_tokens).encode()) for number in numbers]
        return np.minimum(taken, room)

    def _context(self, number: int, max_tokens: int) -> str:
        if self.sources is None:
            return ""
        step = self.traces[number]
        return self.sources.before(step.file_path, step.start, max_tokens)


class TracedSteps:
    """The steps of a LeanDojo Benchmark file, written with a template.

    A template that tells the proof so far is given none: `TacticGenerator.generate` is not told it either. File
    context ends before the theorem for the same reason.
    """

    def __init__(self, traces: TracedTactics, template: PromptTemplate, background: Background | None = None) -> None:
        self.traces, self.template, self.background = traces, template, background

    @property
    def templates(self) -> set[PromptTemplate | None]:
        """See `PromptedSteps`."""
        return {self.template}

    def __len__(self) -> int:
        return len(self.traces)

    def __getitem__(self, index: int) -> PromptedStep:
        return self.of(self.traces[index])

    def of(self, step: TracedTactic) -> PromptedStep:
        """Write one step; see PromptedSteps."""
        tactic = remove_marks(step.tactic)
        fields = PromptFields(step.state, full_name=step.full_name)
        prompt = self.template.fit(fields).text
        if not prompt.strip():
            raise UnusableStep("steps with an empty state", f"{step.full_name} ({step.file_path}:{step.start})")
        try:
            completion = self.template.complete(tactic)
        except DataError as error:
            raise UnusableStep(f"tactics that template {self.template.name} cannot carry", str(error)) from None
        return PromptedStep(
            prompt=prompt,
            completion=completion,
            tactic=tactic.strip(),
            fields=fields,
            template=self.template,
            provenance=Provenance(step.url, step.commit, step.file_path, step.full_name, step.start, step.tactic_idx),
        )

    def summary(self) -> str:
        """Say in one line what was read, what was left out, and what prompts tell beside the state."""
        told = {"state", "full_name"} | (set() if self.background is None else self.background.told)
        notes = [self.traces.summary()]
        if beside := sorted(told & {"context", "premises"}):
            notes.append(f"prompts tell {' and '.join(beside)}")
        if empty := sorted(self.template.fields - told - {"premises"}):
            notes.append(f"left empty in prompts of {self.template.name}: {' and '.join(empty)}")
        return "; ".join(notes)


class InstructSteps:
    """The examples of instruct data, as they are or rewritten with another template."""

    def __init__(self, records: InstructRecords, template: PromptTemplate | None = None) -> None:
        """Take over records.

        Args:
            records: the examples
            template: rewrite prompts and completions with it; None leaves them as they are
        """
        self.records, self.template = records, template
        self._templates: dict[str, PromptTemplate | None] = {}  # by prompt_name

    @property
    def templates(self) -> set[PromptTemplate | None]:
        """See `PromptedSteps`."""
        return {self.template} if self.template is not None else set(self._templates.values())

    @property
    def background(self) -> None:
        """See `PromptedSteps`: instruct data has all of it in its prompts."""

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> PromptedStep:
        record = self.records[index]
        source = self._template_of(record)
        if source is None:
            return self._unknown(record)
        tactic = source.parse(record.completion)
        if tactic is None:
            reason = f"completions that do not parse under template {source.name}"
            raise UnusableStep(reason, f"{record.place}: {record.completion[:80]!r}")
        fields, provenance = source.read(record.prompt), provenance_of(record.metadata)
        prompt, completion, template = record.prompt, record.completion, self.template or source
        if template is not source:
            if fields is None:
                reason = f"prompts that are not of template {source.name}, so that {template.name} cannot rewrite them"
                raise UnusableStep(reason, record.place)
            # as inference will tell it, which the old format may have had no place for
            fields = replace(fields, full_name=fields.full_name or provenance.full_name)
            prompt = template.fit(fields).text
            try:
                completion = template.complete(tactic)
            except DataError as error:
                raise UnusableStep(f"tactics that template {template.name} cannot carry", str(error)) from None
        return PromptedStep(prompt, completion, tactic, fields, template, provenance, record.metadata)

    def _template_of(self, record: InstructRecord) -> PromptTemplate | None:
        """The template of all records of one prompt_name: the first of them tells."""
        if record.prompt_name not in self._templates:
            self._templates[record.prompt_name] = find_template(record.prompt_name, record.prompt)
        return self._templates[record.prompt_name]

    def _unknown(self, record: InstructRecord) -> PromptedStep:
        """An example of a format that no template here has: used as it is, the completion is the tactic."""
        if self.template is not None:
            raise ConfigError(
                f"{record.place}: prompt_name {record.prompt_name!r} is no template known here, so its prompts cannot "
                f"be rewritten as {self.template.name}; leave out template to use them as they are"
            )
        tactic = record.completion.strip()
        metadata = record.metadata
        return PromptedStep(record.prompt, record.completion, tactic, None, None, provenance_of(metadata), metadata)

    def summary(self) -> str:
        """Say in one line what was read and what was left out."""
        unknown = sorted(name for name, template in self._templates.items() if template is None)
        notes = [self.records.summary()]
        if unknown:
            notes.append(f"used as they are: prompts of {', '.join(map(repr, unknown))}, which no template here writes")
        return "; ".join(notes)


def provenance_of(metadata: dict[str, Any]) -> Provenance:
    """Read where an example comes from, as `generator.instruct_convert` or ntp-toolkit (file, declId) writes it."""

    def text(*names: str) -> str:
        return next((value for name in names if isinstance(value := metadata.get(name), str)), "")

    try:
        start = Pos.of(metadata["start"])
    except (KeyError, DataError):
        start = _UNKNOWN_POS
    number = metadata.get("tactic_idx")
    return Provenance(
        url=text("url"),
        commit=text("commit"),
        file_path=text("file_path", "file"),
        full_name=text("full_name", "declId"),
        start=start,
        tactic_idx=number if isinstance(number, int) else 0,
    )


def usable(
    steps: PromptedSteps, numbers: Iterable[int], unusable: dict[str, list[str]]
) -> Iterator[tuple[int, PromptedStep]]:
    """Yield steps with their numbers; what is wrong with others is added to `unusable`, by reason."""
    for number in numbers:
        try:
            yield number, steps[number]
        except UnusableStep as error:
            unusable.setdefault(error.reason, []).append(error.what)
