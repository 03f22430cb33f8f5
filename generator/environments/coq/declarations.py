"""Theorems of a source file by their names, with the modules around them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from generator.environments.coq.sentences import Sentence

_ATTRIBUTES = (
    r"(?:\s*#\[[^\]]*\])*\s*"
    r"(?:(?:Local|Global|Polymorphic|Monomorphic|Cumulative|NonCumulative|Private|Program|Time)\s+)*"
)
_STATEMENT_WORDS = ("Theorem", "Lemma", "Fact", "Remark", "Corollary", "Proposition", "Property")
_DECLARATION = re.compile(
    rf"{_ATTRIBUTES}(?P<word>{'|'.join(_STATEMENT_WORDS)}|Definition|Example|Instance|Let|Fixpoint|CoFixpoint|Function"
    r"|Derive|Coercion|Canonical|Axiom|Parameter)\s+(?:Structure\s+|Fixpoint\s+|CoFixpoint\s+)?(?P<name>[^\W\d][\w']*)"
)
_STATEMENT = re.compile(rf"{_ATTRIBUTES}(?:{'|'.join(_STATEMENT_WORDS)})\b")
_MODULE = re.compile(r"Module\s+(?:Type\s+)?(?:(?:Import|Export)\s+)?(?P<name>[^\W\d][\w']*)")
_SECTION = re.compile(r"Section\s+(?P<name>[^\W\d][\w']*)")
_END = re.compile(r"End\s+(?P<name>[^\W\d][\w']*)")
_PROOF_END = re.compile(r"(?:Qed|Defined|Admitted|Abort|Save)\b")
_PROOF = re.compile(r"Proof\b")
_PROOF_MARK = re.compile(r"Proof(?:\s*\.|\s+(?:using|with)\b)")
_PROOF_WITH = re.compile(r"Proof\s+(?:using|with)\b")


@dataclass(frozen=True)
class Declaration:
    """A sentence that names something.

    Attributes:
        name: with the modules around it, without the library's
        number: of its sentence
    """

    name: str
    number: int


def declared_name(sentence: str) -> str | None:
    """Return the name that a sentence declares; `Next Obligation`, `Add Morphism` and their like declare none."""
    found = _DECLARATION.match(sentence)
    return found["name"] if found else None


def declarations(sentences: Sequence[Sentence]) -> list[Declaration]:
    """Return all named declarations of a file. Sections give no part of a name, modules do."""
    found: list[Declaration] = []
    blocks: list[str | None] = []  # name of a module, None for a section
    for number, sentence in enumerate(sentences):
        _enter_or_leave(blocks, sentence.text)
        if name := declared_name(sentence.text):
            modules = [each for each in blocks if each is not None]
            found.append(Declaration(".".join([*modules, name]), number))
    return found


def _opens(sentence: str) -> tuple[str | None] | None:
    """Return a section or module that a sentence opens; a module with a definition is closed again."""
    if _SECTION.match(sentence):
        return (None,)
    if (module := _MODULE.match(sentence)) and ":=" not in sentence:
        return (module["name"],)
    return None


def proof_options(sentences: Sequence[Sentence], number: int) -> str | None:
    """Return the sentence `Proof using` or `Proof with` behind a statement, which says how its proof is read."""
    following = sentences[number + 1].text if number + 1 < len(sentences) else ""
    return following if _PROOF_WITH.match(following) else None


def is_in_section(sentences: Sequence[Sentence], number: int) -> bool:
    """Whether a sentence stands in an open section, where a proof decides which variables its lemma takes."""
    return None in _open_blocks(sentences[:number])


def _open_blocks(sentences: Sequence[Sentence]) -> list[str | None]:
    """Return the modules, by name, and the sections, as None, that are open behind the sentences."""
    blocks: list[str | None] = []
    for sentence in sentences:
        _enter_or_leave(blocks, sentence.text)
    return blocks


def _enter_or_leave(blocks: list[str | None], sentence: str) -> None:
    if block := _opens(sentence):
        blocks.append(block[0])
    elif _END.match(sentence):
        del blocks[-1:]


def proof_end(sentences: Sequence[Sentence], number: int) -> int | None:
    """Return the number of the sentence that ends the proof begun by sentence `number`, None if there is none."""
    for later in range(number + 1, len(sentences)):
        text = sentences[later].text
        if _PROOF_END.match(text):
            return later
        if later == number + 1 and _PROOF.match(text) and not _PROOF_MARK.match(text):
            return later  # `Proof TERM.` is a whole proof
        if _opens(text) or _END.match(text) or _DECLARATION.match(text):
            return None
    return None


def without_proofs(sentences: Sequence[Sentence]) -> list[Sentence]:
    """Return the sentences with `Admitted` in the place of proofs that can be skipped.

    These are proofs of lemmas that end with `Qed`, outside of sections: within one, the proof decides which variables
    its lemma takes.
    """
    kept: list[Sentence] = []
    blocks: list[str | None] = []
    number = 0
    while number < len(sentences):
        sentence = sentences[number]
        kept.append(sentence)
        _enter_or_leave(blocks, sentence.text)
        if None not in blocks and _STATEMENT.match(sentence.text):
            end = _skippable_end(sentences, number)
            if end is not None:
                kept.append(Sentence(sentences[number + 1].start, sentences[end].end, "Admitted."))
                number = end
        number += 1
    return kept


def _skippable_end(sentences: Sequence[Sentence], number: int) -> int | None:
    end = proof_end(sentences, number)
    if end is None or sentences[end].text != "Qed." or proof_options(sentences, number):
        return None
    return end
