"""What the commands have in common: options that choose a domain, its problems, how to search, and a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from common import ConfigError, check_choice, check_positive
from generator.decoding.settings import Sampling
from generator.domains import make_domain
from generator.domains.base import Domain, Problem
from generator.domains.model_writer import MAX_BLOCK, PROPOSALS, SampleWriter
from generator.domains.problem_files import read_split
from generator.domains.synthesize import MAX_BUDGET, Checker, Synthesizer
from generator.domains.writers import RankedWriter, Writer
from generator.load import load_generator
from retrieval.training.datamodule import SPLITS, Split


@dataclass(frozen=True)
class DomainChoice:
    """Which domain.

    Attributes:
        domain: its name, see `generator.domains.DOMAINS`
        domain_options: what it is told, such as max_examples: 10 of rectangle
    """

    domain: str = "rectangle"
    domain_options: dict[str, Any] | None = None

    def make(self) -> Domain[Any, Any]:
        """Return the domain."""
        return make_domain(self.domain, self.domain_options)


@dataclass(frozen=True)
class ProblemChoice(DomainChoice):
    """Which problems of a domain.

    Attributes:
        data_path: folder that `generate` made; without one, problems are drawn on the spot
        split: train, val or test
        num_problems: how many of the split, from its first on; of a folder all by default, else 1000
        seed: of the draws, of problems and proposals
    """

    data_path: Path | None = None
    split: Split = "test"
    num_problems: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_choice("split", self.split, SPLITS)
        check_positive(num_problems=self.num_problems)

    def problems(self, domain: Domain[Any, Any]) -> list[Problem]:
        """Return the problems."""
        return self.of_split(domain, self.split, self.num_problems)

    def of_split(self, domain: Domain[Any, Any], split: Split, count: int | None) -> list[Problem]:
        """Return problems of any split.

        Raises:
            ConfigError: if there are not so many
        """
        if self.data_path is None:
            return domain.problems(self.seed, split, 1000 if count is None else count)
        found = read_split(self.data_path, split, domain)
        if count is not None and count > len(found):
            raise ConfigError(f"{count:,} problems of {split} are asked for, but {self.data_path} has {len(found):,}")
        return found[:count]


@dataclass(frozen=True)
class SearchChoice:
    """How programs are searched for.

    Attributes:
        budget: proposals for a problem
        stop_at_first: stop at the first that holds. Else the whole budget is looked at, and shares of solved problems
            are those of Pass@k, which uses all of it
        repeats_are_free: a text that was proposed before is not charged
        batch_size: proposals that are asked for at a time, and of a model drawn together
        group_size: problems that are worked on together, and kept together if the command is interrupted; by default
            128, of a domain whose checks take long 16
    """

    budget: int = 100
    stop_at_first: bool = False
    repeats_are_free: bool = False
    batch_size: int = 50
    group_size: int | None = None

    def __post_init__(self) -> None:
        check_positive(MAX_BUDGET, budget=self.budget)
        check_positive(group_size=self.group_size)
        check_positive(MAX_BLOCK, batch_size=self.batch_size)

    def synthesizer(self, writer: Writer, checker: Checker) -> Synthesizer:
        """Return the search."""
        return Synthesizer(
            writer,
            checker,
            self.budget,
            batch_size=self.batch_size,
            charge_repeats=not self.repeats_are_free,
            stop_at_first=self.stop_at_first,
            group_size=self.group_size or (16 if getattr(checker, "is_slow", False) else 128),
        )


@dataclass(frozen=True)
class ModelChoice:
    """Which model, and how it proposes.

    Attributes:
        ckpt_path: checkpoint, Hugging Face folder, .gguf file or hub id, as `load_generator` takes it
        device: auto, cpu, cuda, ...
        engine: what decodes, see generator.engines
        proposals: "samples" draws independently; "beam" takes the best candidates of a beam search as wide as the
            budget, each once
        temperature: of samples; 1 is the model's own distribution
        top_k: samples are drawn from this many likeliest tokens; 0 from all
        top_p: samples are drawn from the likeliest tokens that together reach this probability; 1 from all
        beams: widths of beam searches, each with results of its own, in place of one search as wide as the budget. The
            first candidates of a wide beam are not what a narrow one finds
        name: of the writer in results and figures
        trained_on: what the model was trained on, for figures; by default the domain that its checkpoint names
        train_size: how many problems it was trained on, for figures; by default as its checkpoint says
    """

    ckpt_path: str = ""
    device: str = "auto"
    engine: str = "native"
    proposals: str = "samples"
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    beams: Sequence[int] = ()
    name: str = "model"
    trained_on: str = ""
    train_size: int | None = None

    def __post_init__(self) -> None:
        check_choice("proposals", self.proposals, PROPOSALS)
        check_positive(train_size=self.train_size)
        for beam in self.beams:
            check_positive(MAX_BLOCK, beams=beam)
        self.sampling(0)

    def sampling(self, seed: int) -> Sampling:
        """Return the settings of samples."""
        return Sampling(self.temperature, self.top_k, self.top_p, seed)

    def load(self) -> Any:
        """Load the model.

        Raises:
            ConfigError: if no model is named, or an option does not fit
            DataError: if there is no such model
        """
        if not self.ckpt_path:
            raise ConfigError("ckpt_path is missing; give a checkpoint, a Hugging Face folder or a hub id")
        model: Any = load_generator(self.ckpt_path, device=self.device, engine=self.engine)
        return model.eval()

    def writer(self, search: SearchChoice, seed: int) -> Writer:
        """Load the model as a writer; errors as of `load`."""
        return self.writer_of(self.load(), search, seed)

    def writer_of(self, model: Any, search: SearchChoice, seed: int) -> Writer:
        """Return a model as a writer."""
        if self.proposals == "beam":
            return RankedWriter(model, search.budget, self.name)
        return SampleWriter(model, self.sampling(seed), min(search.batch_size, search.budget), self.name)

    def searches(self, search: SearchChoice) -> list[tuple[ModelChoice, SearchChoice]]:
        """Return the searches that are asked for: one, or a beam search of each width."""
        if not self.beams:
            return [(self, search)]
        return [
            (replace(self, proposals="beam", beams=(), name=f"{self.name}_beam{beam}"), replace(search, budget=beam))
            for beam in sorted(set(self.beams))
        ]


def baseline_writers(
    names: Sequence[str], domain: Domain[Any, Any], choice: ProblemChoice, num_train: int
) -> dict[str, Writer]:
    """Return baselines of a domain by name, those that learn taught on the first problems of train.

    Raises:
        ConfigError: for a name that the domain has not
    """
    known = domain.baselines()
    for name in names:
        check_choice(f"writers of domain {domain.name}", name, tuple(known))
    learnt: list[Problem] = []

    def learn() -> list[Problem]:
        if not learnt:
            learnt.extend(choice.of_split(domain, "train", num_train))
        return learnt

    return {name: known[name](choice.seed, learn) for name in names}


def recorded(*choices: Any) -> Mapping[str, Any]:
    """Return options as results keep them."""
    values = {name: value for choice in choices for name, value in asdict(choice).items()}
    return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}
