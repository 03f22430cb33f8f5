"""Proofs as .v files that coqc accepts whole."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from generator.environments.base import Statement
from generator.environments.coq.declarations import is_in_section, proof_end, proof_options
from generator.environments.coq.guard import guarded_statement
from generator.environments.coq.sentences import Sentence
from generator.environments.coq.sources import Source

_TERM = re.compile(r"Proof\b(.*)\.", re.DOTALL)  # a whole proof in one sentence

Proof = Sequence[str]
"""Sentences, without `Qed`."""


def file_with_proofs(source: Source, proofs: Mapping[int, Proof]) -> str:
    """Return a file with proofs in the place of its own.

    What comes later in the file may depend on more of a proof than that it exists: on its term if it ends with
    `Defined`, within a section on the variables that it uses. There the new proof is checked (`Succeed Qed`), and the
    file's own follows.

    Args:
        source: the file
        proofs: by the offset of the statement
    """
    sentences = source.sentences
    pieces: list[str] = []
    position = 0
    for offset in sorted(proofs):
        number = source.number_at(offset)
        end = proof_end(sentences, number)
        options = proof_options(sentences, number)
        statement_end = sentences[number + 1 if options else number].end
        begin = "" if options else "\nProof."
        body = "".join(f"\n  {each}" for each in proofs[offset])
        pieces += [source.text[position:statement_end], begin, body]
        last = sentences[end].text if end is not None else ""
        if end is None:  # nothing of its own to put aside
            pieces.append("\nQed.")
            position = statement_end
        elif last.startswith(("Admitted", "Abort")) or not _matters(sentences, number, last):
            pieces.append("\nQed.")
            position = sentences[end].end
        elif term := _TERM.fullmatch(last):
            pieces.append(f"\n  Succeed Qed.\nRestart. exact ({term[1]}). Qed.")  # `Proof TERM` cannot follow `Restart`
            position = sentences[end].end
        else:
            pieces.append("\n  Succeed Qed.\nRestart.")
            position = statement_end
    return "".join([*pieces, source.text[position:]])


def _matters(sentences: Sequence[Sentence], number: int, last: str) -> bool:
    """Whether what follows may depend on more of a proof than that it exists."""
    return is_in_section(sentences, number) or not (last == "Qed." or _TERM.fullmatch(last))


def file_of_statements(proofs: Sequence[tuple[Statement, Proof]]) -> str:
    """Return free statements with their proofs; those with one header come under it, other headers into modules."""
    by_header: dict[str, list[tuple[Statement, Proof]]] = {}
    for statement, proof in proofs:
        by_header.setdefault(statement.header.strip(), []).append((statement, proof))
    groups = [_group(header, each) for header, each in by_header.items()]
    if len(groups) == 1:
        return groups[0]
    modules = [f"Module Header{n}.\n\n{group}\nEnd Header{n}.\n" for n, group in enumerate(groups, start=1)]
    return "\n".join(modules)


def _group(header: str, proofs: Sequence[tuple[Statement, Proof]]) -> str:
    taken: set[str] = set()
    lemmas = []
    for statement, proof in proofs:
        name = statement.name
        suffix = 2
        while name in taken:
            name, suffix = f"{statement.name}_{suffix}", suffix + 1
        taken.add(name)
        body = "".join(f"\n  {each}" for each in proof)
        lemmas.append(f"Lemma {name} {guarded_statement(statement.text)}.\nProof.{body}\nQed.\n")
    return "\n".join([f"{header}\n", *lemmas] if header else lemmas)
