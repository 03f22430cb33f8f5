"""Coq 8.16 to Rocq 9 by the XML protocol of coqidetop."""

from generator.environments.coq.environment import CoqEnvironment, CoqState

__all__ = ["CoqEnvironment", "CoqState"]
