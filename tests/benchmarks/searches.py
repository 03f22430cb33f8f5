"""Beam search by `transformers.generate`, and whether ours found the same."""

import sys
from typing import Any

import torch


def reference(model: Any, batch: tuple[torch.Tensor, torch.Tensor], num_beams: int, steps: int) -> Any:
    """Token ids and mask, searched for a number of steps; every beam is returned, and scores are plain sums."""
    return model.generate(
        input_ids=batch[0],
        attention_mask=batch[1],
        num_beams=num_beams,
        num_return_sequences=num_beams,
        max_new_tokens=steps,
        length_penalty=0.0,
        early_stopping=False,
        do_sample=False,
        return_dict_in_generate=True,
        output_scores=True,
    )


def check_equal(
    found: Any, expected: Any, num_given: int, dtype: str, tolerance: float | None = None, min_same: float = 0.9
) -> None:
    """Scores agree to 1e-4 and sequences but for ties (float32); in bfloat16 only roughly.

    Args:
        found: ours
        expected: of `reference`
        num_given: tokens that its sequences begin with, which ours leave out
        dtype: of the weights
        tolerance: of scores, if another than is said above
        min_same: share of the sequences that must agree in float32
    """
    gap = float((found.log_probs - expected.sequences_scores.view(found.log_probs.shape)).abs().max())
    if tolerance is None:
        tolerance = 1e-4 if dtype == "float32" else 2.0
    assert gap < tolerance, f"scores differ by {gap}"
    sequences = expected.sequences[:, num_given:].view(found.sequences.shape)
    same = (sequences == found.sequences).all(-1).float().mean()
    assert dtype != "float32" or same > min_same, f"only {same:.0%} of the sequences agree"
    print(f"checked: {same:.1%} of the sequences agree, largest difference of scores {gap:.1e}", file=sys.stderr)
