"""What acts on a terminal or turns a line around is shown as an escape."""

import unicodedata
from types import SimpleNamespace

import pytest

from retrieval.training.markdown import as_code
from retrieval.training.monitoring import log_text
from retrieval.training.plain_parser import fail
from retrieval.training.shown import shown


def test_every_control_character_is_escaped_but_line_break_and_tab():
    active = [chr(i) for i in range(0x110000) if unicodedata.category(chr(i)) in ("Cc", "Cs") and chr(i) not in "\n\t"]
    assert all(shown(c).isascii() and shown(c).startswith("\\") for c in active)
    turning = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c"
    assert shown(turning).isascii()
    plain = "α → β ⟨h, k⟩\n\t∀ x, 𝓝 x · ‹p›"
    assert shown(plain) == plain


def test_loggers_and_errors_get_what_is_shown(capsys):
    logged = []
    experiment = SimpleNamespace(add_text=lambda tag, text, step: logged.append(text))
    module = SimpleNamespace(
        trainer=SimpleNamespace(is_global_zero=True), loggers=[SimpleNamespace(experiment=experiment)], global_step=0
    )
    log_text(module, "state", as_code("p\x1b[2J\n⊢ q"))
    assert logged == ["    p\\x1b[2J\n    ⊢ q\n"]
    with pytest.raises(SystemExit):
        fail("no file \x1b[2J.json")
    assert capsys.readouterr().err == "error: no file \\x1b[2J.json\n"
