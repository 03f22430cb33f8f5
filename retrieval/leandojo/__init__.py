"""Files of LeanDojo Benchmark 4, read in little memory."""
