"""Models that write the next formal step, and the provers and checkers that judge it.

What prover code needs is here by name, and loaded when it is first asked for: importing the package is free.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from common import Candidate
    from generator.interface.filtering import FilteredGenerator, without_placeholders
    from generator.interface.goal_states import render_state
    from generator.interface.mixture import MixedTacticGenerator
    from generator.interface.tactic_generator import AsyncTacticGenerator, TacticGenerator
    from generator.interface.wrappers import CachingGenerator, FixedTacticGenerator, RetryingGenerator
    from generator.load import load_generator
    from generator.nearest.generator import NearestTacticGenerator

__all__ = [
    "AsyncTacticGenerator",
    "CachingGenerator",
    "Candidate",
    "FilteredGenerator",
    "FixedTacticGenerator",
    "MixedTacticGenerator",
    "NearestTacticGenerator",
    "RetryingGenerator",
    "TacticGenerator",
    "load_generator",
    "render_state",
    "without_placeholders",
]

_MODULES = {
    "generator.interface.goal_states": ("render_state",),
    "generator.load": ("load_generator",),
    "generator.nearest.generator": ("NearestTacticGenerator",),
    "generator.interface.mixture": ("MixedTacticGenerator",),
    "common": ("Candidate",),
    "generator.interface.tactic_generator": ("AsyncTacticGenerator", "TacticGenerator"),
    "generator.interface.filtering": ("FilteredGenerator", "without_placeholders"),
    "generator.interface.wrappers": ("CachingGenerator", "FixedTacticGenerator", "RetryingGenerator"),
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
