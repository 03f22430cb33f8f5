"""How a tactic of LeanDojo's files is written in a target: its premises' names, and its white space.

ReProver wrote names in full and joined lines until July 2024 (`format_tactic`); since then it takes the field `tactic`
as it is. A full name is not always valid where the short one is, and a line break often has a meaning.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from common import MARK_END, MARK_START, DataError, check_choice

TacticNames = Literal["written", "full"]
TACTIC_NAMES: tuple[TacticNames, ...] = get_args(TacticNames)

_MARKED = re.compile(rf"{MARK_START}(.+?){MARK_END}", re.DOTALL)
# what may begin a string, a comment or a quoted name in Lean, Coq or Isabelle: white space behind it is left alone
_OPENERS = re.compile(r'"|--|/-|\(\*|[«‹`]')
_BLANK_LINES = re.compile(r"(?:[ \t\r]*\n)+")
_BEFORE_LINE_BREAK = re.compile(r"[ \t\r]+(?=\n)")
_BLANKS = re.compile(r"[ \t]+")
_WHITE_SPACE = " \t\r\n"


@dataclass(frozen=True)
class TacticText:
    """How tactics of LeanDojo data are written in targets.

    Attributes:
        tactic_names: "written" takes tactics as they are in the file, as ReProver does since July 2024; "full" writes
            the names of premises in full, as it did before
        normalize_tactics: leave out white space that no prover reads: at the end of a tactic and of its lines, and in a
            tactic of one line all but one of several blanks; line breaks stay
    """

    tactic_names: TacticNames = "written"
    normalize_tactics: bool = False

    def __post_init__(self) -> None:
        check_choice("tactic_names", self.tactic_names, TACTIC_NAMES)


def normalize_tactic(tactic: str) -> str:
    r"""Leave out white space that no prover reads.

    That is white space at the end, empty lines at the beginning, and blanks at the ends of lines. Of a tactic of one
    line also blanks in front, and all but one of several blanks. In a tactic of several lines these stay: provers read
    the column at which a line or a block begins (`by`, `calc`, a focus dot), and blanks further to the left move it.
    Line breaks stay. Behind the first quotation mark, comment or quoted name all stays but the end.

    >>> normalize_tactic("simp  [foo] -- close it\n  exact hp \n")
    'simp  [foo] -- close it\n  exact hp'
    >>> normalize_tactic(" rw [foo,   bar]  at h ")
    'rw [foo, bar] at h'
    """
    text = tactic.rstrip(_WHITE_SPACE)
    if start := _BLANK_LINES.match(text):
        text = text[start.end() :]
    if not (" " in text or "\t" in text or "\r" in text):
        return text
    opener = _OPENERS.search(text)
    end = len(text) if opener is None else opener.start()
    if "\n" in text:
        return _BEFORE_LINE_BREAK.sub("", text[:end]) + text[end:]
    return _BLANKS.sub(" ", text[:end]).lstrip(" ") + text[end:]


def format_tactic(annotated: str, full_names: Sequence[str], normalize: bool = False) -> str:
    """Write every marked name of an annotated tactic in full, keeping the marks.

    >>> format_tactic("rw [<a>add_comm</a>]", ["Nat.add_comm"])
    'rw [<a>Nat.add_comm</a>]'

    Args:
        annotated: the tactic with `<a>name</a>` around each premise
        full_names: the full name of each marked premise, in order; none at all leaves the tactic as it is
        normalize: see `normalize_tactic`

    Raises:
        DataError: if the marks and the names differ in number
    """
    text = normalize_tactic(annotated) if normalize else annotated
    if not full_names:
        return text
    num_marks = len(_MARKED.findall(text))
    if num_marks != len(full_names):
        raise DataError(f"tactic {annotated!r} marks {num_marks} premises but {len(full_names)} are listed")
    names = iter(full_names)
    return _MARKED.sub(lambda _: f"{MARK_START}{next(names)}{MARK_END}", text)
