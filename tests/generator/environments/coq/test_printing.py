"""Goals are printed from Coq's trees as the training data prints them."""

import pytest

from generator.environments.coq.messages import GarbledAnswerError, add, query, read_answer


def string(text: str) -> str:
    return f'<ppdoc val="string"><string>{text}</string></ppdoc>'


def glue(*parts: str) -> str:
    return f'<ppdoc val="glue"><list>{"".join(parts)}</list></ppdoc>'


def box(*parts: str) -> str:
    return f'<ppdoc val="box"><pair><ppbox val="hovbox"><int>0</int></ppbox>{glue(*parts)}</pair></ppdoc>'


def tag(part: str) -> str:
    return f'<ppdoc val="tag"><pair><string>constr.variable</string>{part}</pair></ppdoc>'


def space(width: int = 1, indent: int = 0) -> str:
    return f'<ppdoc val="break"><pair><int>{width}</int><int>{indent}</int></pair></ppdoc>'


NEWLINE = '<ppdoc val="newline"/>'
COLON = string("&nbsp;:&nbsp;")
ONE = box(string("x"), COLON, tag(string("nat")))
TWO = box(glue(string("x"), string(","), space(), string("y")), COLON, tag(string("nat")))
DEFINED = box(glue(string("z"), string("&nbsp;:=&nbsp;"), string("3"), space(0)), COLON, tag(string("nat")))
TYPED_VALUE = box(glue(string("f"), string("&nbsp;:=&nbsp;"), string("fun a : b, c"), space(0)), COLON, string("A, B"))


def goal(conclusion: str, *hypotheses: str) -> str:
    return f'<goal><string>7</string><list>{"".join(hypotheses)}</list>{conclusion}<option val="none"/></goal>'


def answer(focused: str, background: str = "", shelved: str = "", given_up: str = "", feedback: str = "") -> bytes:
    lists = f"<list>{focused}</list><list>{background}</list><list>{shelved}</list><list>{given_up}</list>"
    whole = f'{feedback}<value val="good"><option val="some"><goals>{lists}</goals></option></value>'
    return whole.encode()


def pp(data: bytes) -> str:
    goals = read_answer(data).goals()
    assert goals is not None
    return goals.pp


@pytest.mark.parametrize(
    ("hypothesis", "lines"),
    [
        (ONE, "x : nat\n"),
        (TWO, "x : nat\ny : nat\n"),
        (DEFINED, "z : nat := 3\n"),
        (TYPED_VALUE, "f : A, B := fun a : b, c\n"),
    ],
)
def test_one_line_for_each_name(hypothesis: str, lines: str) -> None:
    assert pp(answer(goal(string("P"), hypothesis))) == f"{lines}⊢ P"


def test_breaks_and_new_lines_are_blanks_and_runs_of_them_one() -> None:
    conclusion = box(string("a&nbsp;&nbsp;&lt;"), space(1, 2), NEWLINE, string("b"), space(0), string("&amp;c&apos;"))
    assert pp(answer(goal(conclusion))) == "⊢ a < b&c'"


def test_goals_come_in_the_order_in_which_they_will_be_worked_on() -> None:
    one, two, three, four, five = (goal(string(name)) for name in "ABCDE")
    background = f"<pair><list>{two}{three}</list><list>{four}</list></pair><pair><list/><list>{five}</list></pair>"
    assert pp(answer(one, background)) == "⊢ A\n\n⊢ C\n\n⊢ B\n\n⊢ D\n\n⊢ E"


def test_shelved_and_given_up_goals_are_counted() -> None:
    goals = read_answer(answer("", shelved=goal(string("A")) * 2, given_up=goal(string("B")))).goals()
    assert goals is not None and (goals.texts, goals.num_shelved, goals.num_given_up) == ((), 2, 1)


def test_outside_a_proof_there_are_no_goals() -> None:
    assert read_answer(b'<value val="good"><option val="none"/></value>').goals() is None


@pytest.mark.parametrize("place", ["", "<option val='none'/>"], ids=["Coq 8.16", "Rocq 9"])
def test_failures_say_what_coq_says(place: str) -> None:
    said = glue(string("No&nbsp;such"), space(), string("goal."))
    text = f'<value val="fail" loc_s="1"><state_id val="4"/>{place}{said}</value>'
    found = read_answer(text.encode())
    assert (found.good, found.error, found.state_id()) == (False, "No such goal.", 4)


def test_messages_before_the_answer() -> None:
    content = (
        f'<message><message_level val="notice"/><option val="none"/>{glue(string("a"), NEWLINE, string("b"))}</message>'
    )
    feedback = f'<feedback><state_id val="1"/><feedback_content val="message">{content}</feedback_content></feedback>'
    assert read_answer(answer("", feedback=feedback), with_messages=True).messages == ("a\nb",)


def test_characters_that_xml_forbids_do_not_break_the_channel() -> None:
    assert pp(answer(goal(string("a\x01b\x0c")))) == "⊢ a\ufffdb\ufffd"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello</value>",
        b"<value></value>",
        b'<value val="good"><a></value>',
        b"<value",
    ],
)
def test_what_is_no_answer_is_told(data: bytes) -> None:
    with pytest.raises(GarbledAnswerError):
        read_answer(data)


def test_an_answer_without_what_was_asked_for_is_told() -> None:
    with pytest.raises(GarbledAnswerError):
        read_answer(b'<value val="good"><unit/></value>').state_id()
    with pytest.raises(GarbledAnswerError):
        read_answer(b'<value val="good"><goals><list/></goals></value>').goals()


def test_requests_escape_what_they_carry() -> None:
    assert "<string>a &lt; b &amp; </value></string>" not in add("a < b & </value>", 3)
    assert "a &lt; b &amp; &lt;/value&gt;" in add("a < b & </value>", 3)
    assert '<state_id val="5"/>' in query("Check x.", 5)
