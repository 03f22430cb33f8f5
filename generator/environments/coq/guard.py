"""What may be sent to Coq: one tactic and nothing else. Commands, several sentences and open texts never reach it.

A tactic goes out as `( TACTIC ).`, and Coq's grammar has no command that begins with a parenthesis: what slips by the
list of commands below is a syntax error there. The blanks matter, since `(*` opens a comment.
"""

from __future__ import annotations

import re
import unicodedata

from common import NextstepError
from generator.environments.coq.sentences import OpenTextError, iterate_sentences, skip_blanks

MAX_TACTIC_LENGTH = 16_384  # characters; what is longer is no tactic but a model that repeats itself

_SELECTOR = re.compile(
    r"(?:all|!|\d+(?:\s*-\s*\d+)?(?:\s*,\s*\d+(?:\s*-\s*\d+)?)*|\[\s*[^\W\d][\w']*\s*\])\s*:(?![=:])"
)
_PARALLEL = re.compile(r"par\s*:(?!=)")
_FIRST_WORD = re.compile(r"[\s(\[|]*([^\W\d][\w']*)")
_HOLES = re.compile(r"(?<![\w'.])(admit|give_up|Admitted)(?![\w'])")
_STRING = re.compile(r'"[^"]*"')

# commands of Coq 8.16 to Rocq 9; first words, none of which begins a tactic
COMMANDS = frozenset(
    """
    Abort About Add Admitted Arguments Attributes Axiom Axioms Back BackTo Backtrack Bind Canonical Cd Check Class
    Close Coercion CoFixpoint CoInductive Collection Combined Comments Compute Conjecture Conjectures Constraint
    Context Corollary Create Cumulative Debug Declare Defined Definition Delimit Derive Disable Drop Elpi Enable End
    Eval Example Existential Existing Export Extract Extraction Fact Fail Fixpoint Focus From Function Functional
    Generalizable Global Goal Grab Guarded Hint Hypotheses Hypothesis Identity Implicit Import Include Inductive Infix
    Info Inspect Instance Instructions Lemma Let Library Load Local Locate Ltac Ltac2 Module Monomorphic Next
    NonCumulative Notation Number Numeral Obligation Obligations OCaml Opaque Open Optimize Parameter Parameters
    Polymorphic Prenex Primitive Print Private Profile Program Proof Property Proposition Pwd Qed Quit Record
    Recursive Redirect Register Remark Remove Require Reserved Reset Restart Rewrite Save Scheme Search SearchAbout
    SearchHead SearchPattern SearchRewrite Section Separate Set Show Solve Strategy String Structure SubClass Succeed
    Symbol Symbols Tactic Test Theorem Time Timeout Transparent Type Typeclasses Undelimit Undo Unfocus Unfocused
    Universe Universes Unset Unshelve Variable Variables Variant
    """.split()
)


class RefusedError(NextstepError, ValueError):
    """A text is not one tactic."""


def guarded(tactic: str) -> str:
    """Return the sentence to send for a tactic, which may end with a full stop.

    >>> guarded("all: auto.")
    'all: ( auto ).'

    Raises:
        RefusedError: if it is anything but one tactic
    """
    check_text(tactic)
    body, ending = _without_stop(tactic.strip())
    selector = ""
    if found := _SELECTOR.match(body):
        selector, body = found[0] + " ", body[found.end() :].strip()
    if _PARALLEL.match(body):
        raise RefusedError("par: starts other processes; write all:")
    try:
        if skip_blanks(body, 0) == len(body):
            raise RefusedError("the tactic is empty")
    except OpenTextError as error:
        raise RefusedError(str(error)) from error
    _refuse_commands(body)
    sentence = f"{selector}( {body} ){ending}"
    _check_one_sentence(sentence)
    return sentence


def guarded_statement(text: str) -> str:
    """Return a statement, given as behind a theorem's name, as one text that cannot end its sentence.

    Raises:
        RefusedError: if it is not the statement of one theorem
    """
    check_text(text)
    body, _ = _without_stop(text.strip())
    if not body:
        raise RefusedError("the statement is empty")
    written = body if _has_binders(body) else f": ( {body} )"
    _check_one_sentence(f"Lemma a {written}.")
    return written


def check_text(text: str) -> None:
    """Refuse characters that Coq and the reader of sentences may take differently, and texts beyond all measure."""
    if len(text) > MAX_TACTIC_LENGTH:
        raise RefusedError(f"{len(text):,} characters; at most {MAX_TACTIC_LENGTH:,}")
    for character in text:
        if character.isascii():
            if character < " " and character not in "\t\n\r" or character == "\x7f":
                raise RefusedError(f"character U+{ord(character):04X}")
        elif unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zs", "Zl", "Zp"):
            raise RefusedError(f"character U+{ord(character):04X}")


def _without_stop(text: str) -> tuple[str, str]:
    """Split off the full stop, or the three dots that run the tactic of `Proof with`."""
    if text.endswith("...") and not text.endswith("...."):
        return text[:-3].rstrip(), "..."
    if text.endswith(".") and not text.endswith(".."):
        return text[:-1].rstrip(), "."
    return text, "."


def _refuse_commands(body: str) -> None:
    start = skip_blanks(body, 0)
    if body.startswith("#[", start):
        raise RefusedError("an attribute, not a tactic")
    first = _FIRST_WORD.match(body, start)
    if first and first[1] in COMMANDS and not body.startswith(".", first.end()):  # Z.order is a tactic of module Z
        raise RefusedError(f"{first[1]} is a command, not a tactic")
    if hole := _HOLES.search(_STRING.sub(" ", body)):
        raise RefusedError(f"{hole[1]} leaves a goal unproved")


def _check_one_sentence(sentence: str) -> None:
    try:
        first = next(iterate_sentences(sentence))
    except OpenTextError as error:
        raise RefusedError(str(error)) from error
    if first.end != len(sentence):
        raise RefusedError("more than one sentence")


def _has_binders(text: str) -> bool:
    """Whether a statement brings its own colon: `(x : nat) : x = x`, and no proposition such as `(P) -> Q`."""
    position = 0
    while position < len(text):
        character = text[position]
        if character == ":":
            return not text.startswith(":=", position)
        if character in "([{":
            closing = _closing(text, position)
            if closing is None:
                return False
            position = closing + 1
        elif word := re.compile(r"[^\W\d][\w']*").match(text, position):
            if word[0] in ("forall", "exists", "let", "fun", "if", "match"):
                return False
            position = word.end()
        elif character.isspace() or character in "`@":
            position += 1
        else:
            return False
    return False


def _closing(text: str, start: int) -> int | None:
    depth = 0
    for position in range(start, len(text)):
        depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(text[position], 0)
        if depth == 0:
            return position
    return None
