"""What a run of a generator shows beside what every run shows (`retrieval.monitoring`)."""

from __future__ import annotations

from collections.abc import Sequence

from common import remove_marks
from generator.tactic_generator import Candidate


def beam_table(candidates: Sequence[Candidate], tactic: str) -> str:
    """Return a Markdown table of candidates, best first, with a mark at the right one."""
    right = remove_marks(tactic)
    rows = ["| | log-prob | tactic |", "|---|---:|---|"]
    for proposed, log_prob in candidates:
        text = proposed.replace("|", "\\|").replace("\n", " ⏎ ")
        rows.append(f"| {'✓' if proposed == right else ''} | {log_prob:.2f} | `{text}` |")
    return "\n".join(rows)
