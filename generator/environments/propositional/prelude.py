"""The connectives and their rules, which are declared without proofs (lemmas/Logic/Prelude.lean)."""

from collections.abc import Iterator

from generator.environments.propositional.declarations import Position, SourceTheorem, parse_signature

PRELUDE_PATH = "Logic/Prelude.lean"

# In the order of the file: the full name, what it says about propositions, the text that declares it.
# True, False, Not, And, Or and Iff build formulas and prove nothing.
_BUILT_IN: list[tuple[str, str | None, str]] = [
    ("True", None, "inductive True : Prop where"),
    ("True.intro", ": True", "intro : True"),
    ("False", None, "inductive False : Prop"),
    ("Not", None, "def Not (a : Prop) : Prop := a → False"),
    ("And", None, "structure And (a b : Prop) : Prop where"),
    ("And.intro", "{a b : Prop} (left : a) (right : b) : a ∧ b", "intro ::"),
    ("And.left", "{a b : Prop} (self : a ∧ b) : a", "left : a"),
    ("And.right", "{a b : Prop} (self : a ∧ b) : b", "right : b"),
    ("Or", None, "inductive Or (a b : Prop) : Prop where"),
    ("Or.inl", "{a b : Prop} (h : a) : a ∨ b", "inl (h : a) : Or a b"),
    ("Or.inr", "{a b : Prop} (h : b) : a ∨ b", "inr (h : b) : Or a b"),
    ("Iff", None, "structure Iff (a b : Prop) : Prop where"),
    ("Iff.intro", "{a b : Prop} (mp : a → b) (mpr : b → a) : a ↔ b", "intro ::"),
    ("Iff.mp", "{a b : Prop} (self : a ↔ b) : a → b", "mp : a → b"),
    ("Iff.mpr", "{a b : Prop} (self : a ↔ b) : b → a", "mpr : b → a"),
    ("trivial", ": True", "theorem trivial : True := ⟨⟩"),
    ("False.elim", "{C : Prop} (h : False) : C", "def False.elim {C : Sort u} (h : False) : C := h.rec"),
    (
        "absurd",
        "{a b : Prop} (h₁ : a) (h₂ : ¬a) : b",
        "def absurd {a : Prop} {b : Sort v} (h₁ : a) (h₂ : ¬a) : b := (h₂ h₁).rec",
    ),
    (
        "Or.elim",
        "{a b c : Prop} (h : a ∨ b) (left : a → c) (right : b → c) : c",
        "theorem Or.elim {a b c : Prop} (h : a ∨ b) (left : a → c) (right : b → c) : c := h.rec left right",
    ),
]


def built_in_declarations(source: str) -> Iterator[SourceTheorem]:
    """Yield the declarations of the prelude with their places in its source."""
    offset = 0
    for full_name, signature, snippet in _BUILT_IN:
        offset = source.index(snippet, offset)
        short_name = full_name if full_name in snippet else full_name.rpartition(".")[2]
        name_offset = offset + (0 if snippet.startswith(short_name) else snippet.index(f" {short_name}") + 1)
        code = source[source.rindex("\n\n", 0, offset) + 2 :].partition("\n\n")[0].rstrip()
        yield SourceTheorem(
            full_name=full_name,
            statement=None if signature is None else parse_signature(full_name, signature),
            code=code,
            start=_position(source, offset),
            end=_position(source, offset + len(snippet)),
            name_start=_position(source, name_offset),
            name_end=_position(source, name_offset + len(short_name)),
            proof="",
        )
        offset += len(snippet)


def _position(source: str, offset: int) -> Position:
    before = source[:offset]
    return before.count("\n") + 1, offset - before.rfind("\n")
