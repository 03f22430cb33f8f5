"""The lookup: tactics of the most similar states of proofs that are known, as a generator."""
