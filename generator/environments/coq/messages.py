"""Requests to coqidetop, and its answers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from generator.environments.coq.printing import Goals, flat, goals_of, parse_xml

ANSWER_END = b"</value>"  # in no text, since those are escaped
_ANSWER = re.compile(r"<value\b")
_MESSAGE = re.compile(r'<feedback_content val="message">.*?</feedback_content>', re.DOTALL)

INIT = '<call val="Init"><option val="none"/></call>'
ABOUT = '<call val="About"><unit/></call>'
GOAL = '<call val="Goal"><unit/></call>'
STATUS = '<call val="Status"><bool val="false"/></call>'


def add(sentence: str, tip: int) -> str:
    """Parse a sentence and put it behind the state `tip`; within a proof this runs nothing."""
    return (
        f'<call val="Add"><pair><pair><pair><pair><string>{escape(sentence)}</string><int>-1</int></pair>'
        f'<pair><state_id val="{tip}"/><bool val="false"/></pair></pair><int>0</int></pair>'
        "<pair><int>1</int><int>0</int></pair></pair></call>"
    )


def edit_at(state: int) -> str:
    """Go back to a state; what is not before it is lost."""
    return f'<call val="Edit_at"><state_id val="{state}"/></call>'


def query(sentence: str, state: int) -> str:
    """Run a sentence at a state, and leave the document as it is."""
    return (
        f'<call val="Query"><pair><route_id val="0"/><pair><string>{escape(sentence)}</string>'
        f'<state_id val="{state}"/></pair></pair></call>'
    )


class GarbledAnswerError(ValueError):
    """An answer is not of the protocol."""


@dataclass(frozen=True)
class Answer:
    """An answer of coqidetop.

    Attributes:
        good: whether Coq did what was asked
        error: what it says if not
        value: element with the result
        messages: what Coq printed on the way, with its lines where it asks for a new one
    """

    good: bool
    error: str
    value: ElementTree.Element
    messages: tuple[str, ...] = ()

    def state_id(self) -> int:
        """The state that `Init` or `Add` made, or after which a failure stands."""
        found = self.value.find(".//state_id")
        if found is None:
            raise GarbledAnswerError("an answer without a state")
        return int(found.attrib["val"])

    def goals(self) -> Goals | None:
        """What `Goal` tells; None outside a proof."""
        found = self.value.find(".//goals")
        try:
            return None if found is None else goals_of(found)
        except ValueError as broken:
            raise GarbledAnswerError("goals that are none of coqidetop's") from broken


def read_answer(data: bytes, with_messages: bool = False) -> Answer:
    """Read an answer, with all feedback before it.

    Raises:
        GarbledAnswerError: if it is not of the protocol
    """
    text = data.decode("utf-8", errors="replace")
    found = _ANSWER.search(text)
    if found is None:
        raise GarbledAnswerError(f"an answer that is none of coqidetop's: {text[:80]!r}")
    try:
        value = parse_xml(text[found.start() :])
        good = value.attrib["val"] == "good"
        error = "" if good else flat(value)
        messages = tuple(_messages(text[: found.start()])) if with_messages else ()
    except (ElementTree.ParseError, KeyError, IndexError, ValueError) as broken:
        raise GarbledAnswerError(f"an answer that is none of coqidetop's: {text[:80]!r}") from broken
    return Answer(good, error, value, messages)


def _messages(feedback: str) -> list[str]:
    parsed = (parse_xml(each) for each in _MESSAGE.findall(feedback))
    return ["".join(each.itertext()) for each in parsed]
