"""What proposes programs: a writer answers for each specification with a stream of proposals, told by their numbers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from common import Candidate, Context, check_positive
from generator.domains.seeds import stable_seed as stable_seed
from generator.interface.tactic_generator import TacticGenerator

_NUM_KEPT = 4096  # specifications


class Writer(ABC):
    """Proposes programs, with log-probabilities.

    The proposals of a specification are a stream: proposal i is the same however many are asked for at a time, and
    whatever is asked beside it.

    Attributes:
        name: in results and figures
        is_independent: whether proposals are independent draws from one distribution
        tells_probability: whether exp(log_prob) is the probability of drawing that proposal
        is_beam: whether proposals are the candidates of one search, as many as it is wide
    """

    name: str
    is_independent: bool = False
    tells_probability: bool = False
    is_beam: bool = False

    @abstractmethod
    def propose(self, specs: Sequence[str], first: int, count: int) -> list[list[Candidate]]:
        """Return the proposals of each specification from number `first` on, which counts from 0.

        Fewer than count say that there are no more.
        """

    def success_probability(self, spec: str) -> float | None:
        """Return the probability that a proposal holds, where proposals are independent and it can be computed."""
        return None

    def log_prob(self, spec: str, program: str) -> float | None:
        """Return the log-probability of proposing a program, where it can be computed."""
        return None


class BlockWriter(Writer):
    """A writer that draws a block of proposals at a time, each block with a seed of its own.

    Attributes:
        seed: of the draws, with the specification and the block's number
        block_size: proposals in a block
    """

    is_independent = tells_probability = True

    def __init__(self, name: str, seed: int = 0, block_size: int = 32) -> None:
        check_positive(block_size=block_size)
        self.name, self.seed, self.block_size = name, seed, block_size
        self._begun: dict[tuple[str, int], list[Candidate]] = {}  # blocks of the latest call that were not used up

    @abstractmethod
    def draw(self, spec: str, block: int) -> list[Candidate]:
        """Return a block of proposals; a shorter one is the last."""

    def draw_all(self, specs: Sequence[str], block: int) -> list[list[Candidate]]:
        """Return the block of this number of each specification."""
        return [self.draw(spec, block) for spec in specs]

    def seed_of(self, spec: str, block: int) -> int:
        """Return the seed of a block, below 2 ** 63."""
        return stable_seed(self.name, self.seed, spec, block)

    def propose(self, specs: Sequence[str], first: int, count: int) -> list[list[Candidate]]:
        """See `Writer.propose`; what a block is short of is drawn for all specifications together."""
        blocks, last = dict(self._begun), (first + count - 1) // self.block_size
        for number in range(first // self.block_size, last + 1):
            if new := list(dict.fromkeys(spec for spec in specs if (spec, number) not in blocks)):
                blocks.update(zip(((spec, number) for spec in new), self.draw_all(new, number), strict=True))
        is_used_up = (first + count) % self.block_size == 0
        self._begun = {} if is_used_up else {(spec, last): blocks[spec, last] for spec in specs}
        return [
            _slice([blocks[spec, n] for n in range(first // self.block_size, last + 1)], self.block_size, first, count)
            for spec in specs
        ]


def _slice(blocks: Sequence[list[Candidate]], block_size: int, first: int, count: int) -> list[Candidate]:
    """Proposals from number `first` on, of neighbouring blocks that begin with the one that holds it."""
    found: list[Candidate] = []
    for block in blocks:
        found += block
        if len(block) < block_size:
            break
    skipped = first % block_size
    return found[skipped : skipped + count]


class RankedWriter(Writer):
    """The candidates of a `TacticGenerator`, best first and each once, as provers get them: of a model, a beam search.

    They are asked for once, all together, so that how many there are does not depend on when the search stops.
    """

    is_beam = True

    def __init__(self, generator: TacticGenerator, num_candidates: int, name: str = "") -> None:
        """Keep the generator.

        Args:
            generator: answers `batch_generate`
            num_candidates: of a specification, which are all it gets
            name: in results; the generator's own or its class by default
        """
        check_positive(num_candidates=num_candidates)
        self.name = name or str(getattr(generator, "name", "") or type(generator).__name__)
        self.generator, self.num_candidates = generator, num_candidates
        self._found: dict[str, list[Candidate]] = {}

    def propose(self, specs: Sequence[str], first: int, count: int) -> list[list[Candidate]]:
        """See `Writer.propose`."""
        if first == 0 and len(self._found) > _NUM_KEPT:
            self._found.clear()
        new = list(dict.fromkeys(spec for spec in specs if spec not in self._found))
        if new:
            self.generator.initialize()
            places: list[Any] = [None] * len(new)
            names = [""] * len(new)
            answers = self.generator.batch_generate(new, names, names, places, self.num_candidates)
            self._found.update(zip(new, answers, strict=True))
        return [self._found[spec][first : first + count] for spec in specs]


def context_of(spec: str) -> Context:
    """Return a specification as what generators are asked about; no file and no theorem matters."""
    return Context("", "", None, spec)
