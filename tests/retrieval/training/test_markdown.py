"""Texts in Markdown, as TensorBoard shows them."""

import html
import re

import pytest
from tensorboard.plugin_util import markdown_to_safe_html

from retrieval.training.markdown import as_code, inline_code

TACTICS = [
    "exact h",
    "rcases h with a | b",
    "simp [`foo, ``Bar.baz]",
    "exact ⟨h.2, h.1⟩",
    "have h_1 : _x_ * y * z = <|>",
    "rw [← foo] <;> simp",
    r"exact fun x \ y => \n",
    "a & b &lt; c",
    "~~no~~ #1 [a](b) ![c](d) **e** __f__",
    "{`}|",
]


def shown(cell: str) -> str:
    """The text that a reader sees in the cell of a table."""
    page = markdown_to_safe_html(f"| | tactic |\n|---|---|\n| ✓ | {cell} |\n")
    cells = re.findall(r"<td>(.*?)</td>", page, re.DOTALL)
    assert len(cells) == 2 and cells[0] == "✓", page
    code = re.fullmatch(r"<code>(.*)</code>", cells[1], re.DOTALL)
    assert code is not None, page
    text = code[1].replace("<br>", "\n")
    assert "<" not in text, page
    return html.unescape(text).replace("\u00a0", " ")


@pytest.mark.parametrize("tactic", TACTICS)
def test_a_tactic_in_a_table_is_shown_to_the_letter(tactic: str) -> None:
    assert shown(inline_code(tactic)) == tactic


@pytest.mark.parametrize("tactic", ["constructor\n  · simp\n  · exact h | k", "  exact h", "exact h ", "a\n\n    b"])
def test_line_breaks_and_spaces_at_the_ends_are_seen(tactic: str) -> None:
    assert shown(inline_code(tactic)) == tactic


def test_control_characters_are_seen_and_do_nothing() -> None:
    assert shown(inline_code("ex\x1b[31mact\r\x00 h\u202e")) == r"ex\x1b[31mact\r\x00 h\u202e"
    page = markdown_to_safe_html(as_code("p : Prop\x1b[2J\r\n⊢ p"))
    assert "p : Prop\\x1b[2J\\r\n⊢ p" in page


def test_the_empty_tactic_is_said() -> None:
    assert "<em>(empty)</em>" in markdown_to_safe_html(inline_code(""))


def test_a_state_is_a_block_line_by_line() -> None:
    page = markdown_to_safe_html(as_code("h : a | b\n\n  * c <x>\n⊢ `d`"))
    assert html.unescape(page) == "<pre><code>h : a | b\n\n  * c <x>\n⊢ `d`\n</code></pre>"
