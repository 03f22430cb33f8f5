"""Premises: which ones a proof state may cite, and which ones it should."""
