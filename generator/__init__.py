"""Models that write the next formal step, and the provers and checkers that judge it.

What prover code needs is here by name, and loaded when it is first asked for: importing the package is free.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from generator.filtering import FilteredGenerator, without_placeholders
    from generator.goal_states import render_state
    from generator.load import load_generator
    from generator.tactic_generator import AsyncTacticGenerator, Candidate, TacticGenerator
    from generator.wrappers import CachingGenerator, FixedTacticGenerator, RetryingGenerator

__all__ = [
    "AsyncTacticGenerator",
    "CachingGenerator",
    "Candidate",
    "FilteredGenerator",
    "FixedTacticGenerator",
    "RetryingGenerator",
    "TacticGenerator",
    "load_generator",
    "render_state",
    "without_placeholders",
]

_MODULES = {
    "generator.goal_states": ("render_state",),
    "generator.load": ("load_generator",),
    "generator.tactic_generator": ("AsyncTacticGenerator", "Candidate", "TacticGenerator"),
    "generator.filtering": ("FilteredGenerator", "without_placeholders"),
    "generator.wrappers": ("CachingGenerator", "FixedTacticGenerator", "RetryingGenerator"),
}


def __getattr__(name: str) -> Any:
    """Import what is asked for."""
    for module, names in _MODULES.items():
        if name in names:
            value = globals()[name] = getattr(import_module(module), name)
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
