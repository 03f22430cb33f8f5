"""A prover for intuitionistic propositional logic in Lean 4's language, its lemmas, and random theorems for it."""
