"""Proof search: a tree and an order that know no model and no prover, and the loop that joins them to both."""
