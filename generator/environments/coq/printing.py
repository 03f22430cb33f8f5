"""Goals as text, from the trees of Coq's pretty-printer.

A box, tag or glue is only its content, a break its width in blanks, a new line a blank, and a run of blanks one: no
width of a line plays any part.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from xml.etree import ElementTree

# Leaves become plain text before the tree is parsed: XML is fifty times the text, and most of it is these.
_STRING = re.compile(r'<ppdoc val="string"><string>([^<]*)</string></ppdoc>')
_EMPTY_STRING = re.compile(r'<ppdoc val="string"><string/></ppdoc>|<ppdoc val="empty"/>')
_BREAK = re.compile(r'<ppdoc val="break"><pair><int>(\d+)</int><int>-?\d+</int></pair></ppdoc>')
_NEWLINE = '<ppdoc val="newline"/>'
_TAG = re.compile(r'<ppdoc val="tag"><pair><string>[^<]*</string>')
_BOX = re.compile(r'<ppbox val="\w+">(?:<int>-?\d+</int>)?</ppbox>|<ppbox val="\w+"/>')
_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")  # a string of a goal may hold them


@dataclass(frozen=True)
class Goals:
    """What is left to prove.

    Attributes:
        texts: goals that are open, first the one that a tactic works on
        num_shelved: goals that were put aside
        num_given_up: goals that were admitted
    """

    texts: tuple[str, ...]
    num_shelved: int = 0
    num_given_up: int = 0

    @property
    def pp(self) -> str:
        """The state as in the training data: goals with an empty line between them."""
        return "\n\n".join(self.texts)


def parse_xml(text: str) -> ElementTree.Element:
    """Parse XML of Coq, with the leaves of pretty-printed texts as plain text.

    Raises:
        ElementTree.ParseError: if it is no XML
    """
    text = text.replace("&nbsp;", " ").replace(_NEWLINE, "\n")
    text = _EMPTY_STRING.sub("", _STRING.sub(r"\1", text))
    text = _BREAK.sub(lambda found: " " if int(found[1]) else "", text)
    text = _BOX.sub("", _TAG.sub('<ppdoc val="tag"><pair>', text))
    return ElementTree.fromstring(_NOT_XML.sub("\ufffd", text))


def flat(element: ElementTree.Element) -> str:
    """Return the text of a pretty-printed text, in one line."""
    return _one_line("".join(element.itertext()))


def goals_of(element: ElementTree.Element) -> Goals:
    """Return the goals of an element <goals>."""
    focused, background, shelved, given_up = element
    goals = list(focused)
    for pair in background:
        left, right = pair
        goals += [*reversed(left), *right]
    return Goals(tuple(_goal(each) for each in goals), len(shelved), len(given_up))


def _goal(goal: ElementTree.Element) -> str:
    _, hypotheses, *rest = goal
    lines = [line for each in hypotheses for line in _hypothesis(each)]
    conclusion = (hypotheses.tail or "") + "".join(each for tree in rest[:-1] for each in tree.itertext())
    return "\n".join([*lines, f"⊢ {_one_line(conclusion)}"])


def _hypothesis(box: ElementTree.Element) -> list[str]:
    """Return a line for each name that one box declares, `x : T` or `x : T := v`.

    Names come as `x, y : T` or `x := v : T`; several names, or a value, stand in a glue of their own.
    """
    whole = "".join(box.itertext())
    head, kind = _head_and_type(box, whole)
    names, defined, value = head.partition(" := ")
    ending = f" := {value}" if defined else ""
    return [_one_line(f"{name} : {kind}{ending}") for name in names.split(",")]


def _head_and_type(box: ElementTree.Element, whole: str) -> tuple[str, str]:
    outer = box.find("./pair/ppdoc/list")
    if outer is not None and len(outer) and not (outer.text or "").strip():
        head = "".join(outer[0].itertext())
        rest = whole[len(head) :]
        if rest.startswith(" : "):
            return head, rest.removeprefix(" : ")
    head, _, kind = whole.partition(" : ")
    return head, kind


def _one_line(text: str) -> str:
    return " ".join(text.split())
