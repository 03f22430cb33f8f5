"""Models that write the next formal step, and the provers and checkers that judge it."""
