"""The search of one theorem, watched and drawn."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from generator.environments.base import Statement
from generator.search.base import Search
from generator.search.loop import SearchResult
from generator.search.theorems import Goal, label
from generator.search.trace import draw_text
from generator.search.trace_svg import draw_svg, write_svg

_MAX_NAME = 100  # characters


class LastSearch:
    """An observer that keeps the search it is shown, whose tree is whole at its end.

    Attributes:
        search: None before the first state
    """

    def __init__(self) -> None:
        """Begin with nothing."""
        self.search: Search | None = None

    def __call__(self, search: Search) -> None:
        """Keep it."""
        self.search = search


def trace_file(theorem: Goal) -> str:
    """Return the name of the file that a theorem's tree is drawn in."""
    name = theorem.name if isinstance(theorem, Statement) else theorem.full_name
    plain = re.sub(r"[^\w.-]+", "_", name)[:_MAX_NAME]
    return f"trace_{plain}.svg"


def draw(result: SearchResult, search: Search, path: Path) -> str:
    """Draw a tree into an SVG file, and return it as lines for the terminal.

    Raises:
        DataError: if the system refuses to write
    """
    title = f"{label(result.theorem)}: {result.status}, {result.num_expansions} states tried in {result.total_s:.1f} s"
    write_svg(path, draw_svg(search.tree, result.proof, title=title))
    width = shutil.get_terminal_size((120, 24)).columns
    return draw_text(search.tree, result.proof, width=width)
