"""Examples as cards of text, as TensorBoard shows them."""

import html
import re

from tensorboard.plugin_util import markdown_to_safe_html

from generator.training.texts import beam_table, example_card

STATE = "h : a ∣ b\n\n⊢ `x` | y < z"


def rows(markdown: str) -> list[tuple[str, ...]]:
    """The cells of the table that a reader sees, without its head."""
    page = markdown_to_safe_html(markdown)
    found = re.findall(r"<tr>\n(.*?)\n</tr>", page, re.DOTALL)
    cells = [re.findall(r"<td>(.*?)</td>", row, re.DOTALL) for row in found]
    return [tuple(map(_shown, row)) for row in cells if row]


def _shown(cell: str) -> str:
    text = re.sub(r"</?code>|</?em>", "", cell.replace("<br>", "\n"))
    return html.unescape(text).replace("\u00a0", " ")


def test_the_right_candidate_is_marked_and_all_are_shown_to_the_letter() -> None:
    candidates = [
        ("rcases h with a | b", -0.123),
        ("simp [`foo]\n  exact ⟨h.1, h.2⟩", -1.0),
        ("", -2.0),
        (" \x1b[31m", -10.0),
    ]
    assert rows(beam_table(candidates, "rcases <a>h</a> with a | b")) == [
        ("✓", "-0.12", "rcases h with a | b"),
        ("", "-1.00", "simp [`foo]\n  exact ⟨h.1, h.2⟩"),
        ("", "-2.00", "(empty)"),
        ("", "-10.00", r" \x1b[31m"),
    ]


def test_a_candidate_with_marks_is_as_right_as_for_the_accuracy() -> None:
    assert rows(beam_table([("exact <a>h</a>", -1.0)], "exact h"))[0][0] == "✓"


def test_what_was_not_proposed_follows() -> None:
    assert rows(beam_table([("simp", -1.0)], "exact <a>h</a>")) == [
        ("", "-1.00", "simp"),
        ("✗", "not found", "exact h"),
    ]
    assert rows(beam_table([], "rfl")) == [("✗", "not found", "rfl")]


def test_a_card_has_the_state_above_the_table() -> None:
    page = markdown_to_safe_html(example_card(STATE, "rfl", [("rfl", -1.0)]))
    state, _, table = page.partition("<table>")
    assert html.unescape(state).strip() == f"<pre><code>{STATE}\n</code></pre>" and "✓" in table


def test_in_training_there_is_the_state_and_what_is_right() -> None:
    page = markdown_to_safe_html(example_card(STATE, "exact <a>h</a>"))
    assert html.unescape(page).startswith(f"<pre><code>{STATE}\n</code></pre>")
    assert "right tactic: <code>exact h</code>" in page and "<table>" not in page
