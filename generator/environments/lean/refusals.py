"""Which tactics Lean is not asked to run: placeholders, commands, and programs that run while a proof is read.

A proof that Lean accepts is sound whatever it says: its axioms are looked at. But a tactic such as `run_tac` runs any
program, with the user's rights, and a command inside a script could leave the theorem and state another.
"""

from __future__ import annotations

import re

_PLACEHOLDERS = frozenset({"sorry", "admit", "sorryAx", "stop"})
_PROGRAMS = frozenset(
    "run_tac run_cmd run_elab run_meta run_conv by_elab eval% unsafe implemented_by extern include_str simproc "
    "dsimproc simproc_decl dsimproc_decl builtin_simproc builtin_dsimproc initialize builtin_initialize".split()
)
_COMMANDS = frozenset(
    "abbrev alias axiom class declare_syntax_cat def deriving elab elab_rules end example export import "
    "inductive infix infixl infixr instance lemma macro macro_rules mutual namespace noncomputable notation omit "
    "opaque partial postfix prefix private protected section structure syntax theorem universe variable".split()
)
_OPTIONS = re.compile(r"debug\.|compiler\.|trace\.compiler")  # debug.skipKernelTC skips the kernel

_WORD_START, _WORD = r"[^\W\d]", r"[\w'!?₀-₉]"
_TOKEN = re.compile(
    r"(?P<line_comment>--[^\n]*)"
    r"|(?P<open_comment>/-)"
    r'|(?P<string>r?"(?:\\.|[^"\\])*")'
    r"|(?P<open_string>\")"
    r"|(?P<character>'(?:\\[^\n]{1,8}|[^'\\\n])')"
    r"|(?P<quoted>«[^»\n]*»)"
    rf"|(?P<command>#{_WORD_START}{_WORD}*)"
    rf"|(?P<word>{_WORD_START}{_WORD}*%?(?:\.{_WORD_START}{_WORD}*)*)"
    r"|(?P<bracket>[()\[\]{}⟨⟩])"
    r"|(?P<other>.)",
    re.DOTALL,
)
_CLOSING = {")": "(", "]": "[", "}": "{", "⟩": "⟨"}


def refusal(tactic: str) -> str | None:
    """Return why Lean is not asked to run `tactic`; None if it is.

    >>> refusal("exact h.1"), refusal("sorry")
    (None, '`sorry` proves nothing')
    """
    if not tactic.strip():
        return "the tactic is empty"
    if "\0" in tactic:
        return "the tactic holds a character that no text holds"
    open_brackets: list[str] = []
    position, after_set_option = 0, False
    while position < len(tactic):
        token = _TOKEN.match(tactic, position)
        assert token is not None and token.lastgroup is not None
        kind, text, position = token.lastgroup, token.group(), token.end()
        if kind == "open_comment":
            end = _comment_end(tactic, position)
            if end is None:
                return "a comment does not end"
            position = end
        elif kind == "string" and "{" in text:  # interpolation may run what it shows
            if programs := _PROGRAMS.intersection(re.findall(r"\w+%?", text)):
                return _refused_word(min(programs))
        elif kind == "open_string":
            return "a string does not end"
        elif kind == "bracket":
            if text not in _CLOSING:
                open_brackets.append(text)
            elif not open_brackets or open_brackets.pop() != _CLOSING[text]:
                return f"`{text}` closes nothing"
        elif kind == "command":
            return f"`{text}` is a command"
        elif kind == "word":
            if after_set_option and _OPTIONS.match(text):
                return f"option {text} may not be set"
            after_set_option = text == "set_option"
            if reason := _refused_word(text):
                return reason
    return f"`{open_brackets[-1]}` is not closed" if open_brackets else None


def _refused_word(word: str) -> str | None:
    if word in _PLACEHOLDERS:
        return f"`{word}` proves nothing"
    if word in _PROGRAMS:
        return f"`{word}` runs a program"
    return f"`{word}` is a command" if word in _COMMANDS else None


def _comment_end(text: str, position: int) -> int | None:
    """Where the comment ends whose inside begins here; comments nest."""
    depth = 1
    for mark in re.finditer(r"/-|-/", text[position:]):
        depth += 1 if mark.group() == "/-" else -1
        if depth == 0:
            return position + mark.end()
    return None
