"""Steps of proofs as prompts and completions, from LeanDojo Benchmark files or from instruct data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from common import ConfigError, DataError, Pos, remove_marks
from generator.data.instruct_records import InstructRecord, InstructRecords
from generator.prompts.fields import PromptFields
from generator.prompts.source_files import SourceFiles
from generator.prompts.templates import PromptTemplate, find_template
from retrieval.leandojo.provenance import Provenance
from retrieval.leandojo.text_column import TextColumn, digest_of
from retrieval.leandojo.traces import TracedTactic, TracedTactics
from retrieval.predictions.retrieved import RetrievedPremises


@dataclass(frozen=True, slots=True)
class PromptedStep:
    """One example for a decoder-only model.

    Attributes:
        prompt: the whole text that the model reads
        completion: what it learns to write, EOS excluded
        tactic: what `template` finds in the completion
        fields: what the prompt was written from; None where that is not known, and the prompt cannot be shortened
        template: of the prompt; None if no template here writes such prompts
        provenance: where the step comes from
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
        what: which step this is, or what is wrong with it
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
        """Templates of the prompts; None stands for prompts of no template known here."""

    @property
    def background(self) -> Background | None:
        """Premises and file context for the prompts, which `PromptedStep.fields` does not have; None without any."""

    @property
    def source(self) -> Path | None:
        """The file, or the first of several, that the steps were read from; None if there is none."""

    @property
    def num_bytes(self) -> int:
        """Bytes of all distinct texts that the steps are written from."""

    def content(self) -> list[object]:
        """Return values that differ where prompts, completions or what is said of them differ; backgrounds aside."""


@dataclass(frozen=True, slots=True)
class Background:
    """What prompts hold besides the state: premises and file context, which are long and read when they are needed.

    Attributes:
        traces: the steps
        premises: retrieved for each step; None if prompts hold none
        sources: files of which a prompt holds what stands before the theorem; None if prompts hold no file context
        progress: show a progress bar where it takes more than a second
    """

    traces: TracedTactics
    premises: RetrievedPremises | None = None
    sources: SourceFiles | None = None
    progress: bool = True

    @property
    def filled_fields(self) -> set[str]:
        """Names of the fields of PromptFields that it fills."""
        sources = {"premises": self.premises, "context": self.sources}
        return {name for name, source in sources.items() if source is not None}

    def add(self, fields: PromptFields, number: int, max_tokens: int) -> PromptFields:
        """Return the fields of a step with its premises and file context.

        Args:
            fields: of the step, without either
            number: of the step
            max_tokens: that the prompt may take
        """
        premises = () if self.premises is None else self.premises[number]
        return replace(fields, premises=premises, context=self._context(number, max_tokens))

    def num_bytes(self, room: npt.NDArray[np.int64], max_tokens: int) -> npt.NDArray[np.int64]:
        """Return the bytes that premises and file context of each step take at most, int64 (number of steps,).

        Args:
            room: bytes that the prompt of each step has left for them, int64 (number of steps,)
            max_tokens: that a prompt may take
        """
        taken = np.zeros_like(room) if self.premises is None else self.premises.num_bytes(room)
        if self.sources is not None:
            numbers = tqdm(range(len(self.traces)), desc="read source files", delay=1, disable=not self.progress)
            taken += [len(self._context(number, max_tokens).encode()) for number in numbers]
        return np.minimum(taken, room)

    def _context(self, number: int, max_tokens: int) -> str:
        if self.sources is None:
            return ""
        return self.sources.before(*self.traces[number].provenance.place, max_tokens)


class TracedSteps:
    """The steps of a LeanDojo Benchmark file, written with a template.

    Where a template has a place for the proof so far it stays empty, and file context ends before the theorem:
    `TacticGenerator.generate` does not know the proof so far either.
    """

    def __init__(
        self,
        traces: TracedTactics,
        template: PromptTemplate,
        background: Background | None = None,
        headings: TextColumn | None = None,
    ) -> None:
        """Take over the steps.

        Args:
            traces: the steps
            template: writes prompts and completions
            background: premises and file context of the prompts
            headings: of the prompt of each step; None if prompts have none
        """
        self.traces, self.template, self.background, self.headings = traces, template, background, headings

    @property
    def templates(self) -> set[PromptTemplate | None]:
        """See `PromptedSteps`."""
        return {self.template}

    @property
    def source(self) -> Path:
        """See `PromptedSteps`."""
        return self.traces.path

    @property
    def num_bytes(self) -> int:
        """See `PromptedSteps`."""
        return self.traces.num_bytes + (0 if self.headings is None else len(self.headings.joined))

    def content(self) -> list[object]:
        """See `PromptedSteps`."""
        headings = [] if self.headings is None else [digest_of(self.headings.joined, self.headings.bounds).hex()]
        return [self.traces.digest(), self.template, *headings]

    def __len__(self) -> int:
        return len(self.traces)

    def __getitem__(self, index: int) -> PromptedStep:
        return self.of(self.traces[index], "" if self.headings is None else self.headings[index])

    def of(self, step: TracedTactic, heading: str = "") -> PromptedStep:
        """Write one step; see PromptedSteps."""
        tactic = remove_marks(step.tactic)
        fields = PromptFields(step.state, full_name=step.provenance.full_name, heading=heading)
        prompt = self.template.fit(fields).text
        if not prompt.strip():
            raise UnusableStep("steps with an empty state", str(step.provenance))
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
            provenance=step.provenance,
        )

    def summary(self) -> str:
        """Say in one line what was read, what was left out, and what prompts hold besides the state."""
        from_background = set() if self.background is None else self.background.filled_fields
        notes = [self.traces.summary()]
        if from_background:
            notes.append(f"prompts tell {' and '.join(sorted(from_background))}")
        told = {"state", "full_name", "premises", *(() if self.headings is None else ("heading",))}
        if empty := sorted(self.template.fields - from_background - told):
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
        # the first record of a prompt_name decides for all of them
        self._templates: dict[str, PromptTemplate | None] = {
            record.prompt_name: find_template(record.prompt_name, record.prompt)
            for record in records.first_of_each_name()
        }

    @property
    def templates(self) -> set[PromptTemplate | None]:
        """See `PromptedSteps`."""
        return {self.template} if self.template is not None else set(self._templates.values())

    @property
    def background(self) -> None:
        """See `PromptedSteps`: the prompts of instruct data are whole."""

    @property
    def source(self) -> Path:
        """See `PromptedSteps`."""
        return self.records.paths[0]

    @property
    def num_bytes(self) -> int:
        """See `PromptedSteps`."""
        return self.records.num_bytes

    def content(self) -> list[object]:
        """See `PromptedSteps`."""
        return [self.records.digest(), self.template, list(self._templates.items())]

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> PromptedStep:
        record = self.records[index]
        source = self._templates[record.prompt_name]
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
            # inference knows the theorem, for which the old format may have had no place
            fields = replace(fields, full_name=fields.full_name or provenance.full_name)
            prompt = template.fit(fields).text
            try:
                completion = template.complete(tactic)
            except DataError as error:
                raise UnusableStep(f"tactics that template {template.name} cannot carry", str(error)) from None
        return PromptedStep(prompt, completion, tactic, fields, template, provenance, record.metadata)

    def _unknown(self, record: InstructRecord) -> PromptedStep:
        """Return an example whose format no template here has: as it is, with the completion as the tactic."""
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
        start = Pos(1, 1)  # other projects do not write where a theorem starts
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
    """Yield usable steps with their numbers, and add what is wrong with the others to `unusable`, by reason."""
    for number in numbers:
        try:
            yield number, steps[number]
        except UnusableStep as error:
            unusable.setdefault(error.reason, []).append(error.what)
