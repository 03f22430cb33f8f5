"""sympy itself as a writer, the baseline of symbolic mathematics: its `integrate`, or its `dsolve`."""

from __future__ import annotations

from collections.abc import Sequence

from common import Candidate
from generator.domains.symbolic.by_sympy import solved_by_sympy
from generator.domains.symbolic.pool import Pool
from generator.domains.writers import Writer

SYMPY = "sympy"


class SympyWriter(Writer):
    """Proposes what sympy finds within a time; its log-probability says nothing and is 0.

    Attributes:
        pool: of processes that solve
    """

    def __init__(self, seconds: float = 10.0, num_workers: int = 1, name: str = SYMPY) -> None:
        """Keep the settings.

        Args:
            seconds: for a problem
            num_workers: processes
            name: in results
        """
        self.name, self.seconds = name, seconds
        self.pool: Pool[str, list[str]] = Pool(solved_by_sympy, num_workers, seconds)
        self._found: dict[str, list[str]] = {}

    def propose(self, specs: Sequence[str], first: int, count: int) -> list[list[Candidate]]:
        """See `Writer.propose`."""
        new = [spec for spec in dict.fromkeys(specs) if spec not in self._found]
        for spec, result in zip(new, self.pool.map(new), strict=True):
            self._found[spec] = result.value or []
        return [[(answer, 0.0) for answer in self._found[spec][first : first + count]] for spec in specs]
