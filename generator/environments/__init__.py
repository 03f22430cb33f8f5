"""Proof assistants behind one small protocol, and the built-in prover for propositional logic."""

from generator.environments.base import (
    Environment,
    ProofFinished,
    ProofState,
    TacticError,
    TacticResult,
    Theorem,
)
from generator.environments.propositional.environment import PropositionalEnvironment

__all__ = [
    "Environment",
    "ProofFinished",
    "ProofState",
    "PropositionalEnvironment",
    "TacticError",
    "TacticResult",
    "Theorem",
]
