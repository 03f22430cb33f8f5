"""Proof assistants behind one small protocol, and the built-in prover for propositional logic."""

from generator.environments.base import (
    BrokenEnvironmentError,
    CannotStartError,
    Environment,
    ProofFinished,
    ProofState,
    Statement,
    TacticError,
    TacticResult,
    Theorem,
    Verdict,
)
from generator.environments.propositional.environment import PropositionalEnvironment
from generator.environments.registry import ENVIRONMENTS, make_environment
from generator.environments.simple import SimpleEnvironment

__all__ = [
    "ENVIRONMENTS",
    "BrokenEnvironmentError",
    "CannotStartError",
    "Environment",
    "ProofFinished",
    "ProofState",
    "PropositionalEnvironment",
    "SimpleEnvironment",
    "Statement",
    "TacticError",
    "TacticResult",
    "Theorem",
    "Verdict",
    "make_environment",
]
