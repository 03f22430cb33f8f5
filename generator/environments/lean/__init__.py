"""Lean 4 as an environment, through LeanInteract and its REPL."""

from generator.environments.lean.environment import LeanEnvironment, LeanState

__all__ = ["LeanEnvironment", "LeanState"]
