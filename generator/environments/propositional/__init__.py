"""A prover for intuitionistic propositional logic that speaks Lean 4, its lemmas, and theorems to prove."""
