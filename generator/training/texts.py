"""Examples as cards of text: what the model reads, and what it proposes beside what is right."""

from __future__ import annotations

from collections.abc import Sequence

from common import Candidate, remove_marks
from retrieval.training.markdown import as_code, inline_code
from retrieval.training.shown import shown


def example_card(state: str, tactic: str, candidates: Sequence[Candidate] | None = None) -> str:
    """Return Markdown that shows an example.

    Args:
        state: what the model reads
        tactic: what it should write
        candidates: what it proposes, best first; None where it was not asked
    """
    if candidates is None:
        return f"{as_code(state)}\n\nright tactic: {inline_code(remove_marks(tactic))}"
    return f"{as_code(state)}\n\n{beam_table(candidates, tactic)}"


def beam_table(candidates: Sequence[Candidate], tactic: str) -> str:
    """Return a Markdown table of candidates, best first, with a mark at the right one; it follows if missing."""
    right = remove_marks(tactic)
    rows = ["| | log-prob | tactic |", "|---|---:|---|"]
    found = False
    for proposed, log_prob in candidates:
        is_right = remove_marks(proposed) == right
        found |= is_right
        rows.append(f"| {'✓' if is_right else ''} | {log_prob:.2f} | {inline_code(proposed)} |")
    if not found:
        rows.append(f"| ✗ | not found | {inline_code(right)} |")
    return "\n".join(rows)


def candidate_row(tactic: str, log_prob: float) -> str:
    r"""Return a candidate as terminals show it, the lines of a tactic below each other.

    >>> print("|" + candidate_row("calc a = b := h\n  _ = c := g", -0.5))
    |   -0.50  calc a = b := h
                _ = c := g
    """
    return f"{log_prob:8.2f}  " + shown(tactic).replace("\n", "\n" + " " * 10)
