"""What prover code touches: generators of tactics, what goes around them, and the goals of other provers as text."""
