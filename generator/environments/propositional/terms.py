"""Proof terms of the Lean fragment: syntax tree, parser and printer."""

from dataclasses import dataclass
from typing import TypeAlias

from generator.environments.propositional.syntax import SyntaxProblem, TokenReader, is_identifier


@dataclass(frozen=True, slots=True)
class Name:
    """An identifier, perhaps dotted: `h`, `And.symm`, `h.mp`, `or_comm.mp`."""

    name: str


@dataclass(frozen=True, slots=True)
class Field:
    """`subject.field` where the subject is no identifier or the field is a number: `h.1`, `(h x).mp`."""

    subject: "Term"
    field: str


@dataclass(frozen=True, slots=True)
class Apply:
    """`function argument ...` with at least one argument."""

    function: "Term"
    arguments: tuple["Term", ...]


@dataclass(frozen=True, slots=True)
class Anonymous:
    """An anonymous constructor `⟨a, b, ...⟩`."""

    arguments: tuple["Term", ...]


@dataclass(frozen=True, slots=True)
class Lambda:
    """`fun x y => body`."""

    names: tuple[str, ...]
    body: "Term"


@dataclass(frozen=True, slots=True)
class Hole:
    """`?_`, a new goal (only in `refine`)."""


@dataclass(frozen=True, slots=True)
class Underscore:
    """`_`, to be found by unification."""


Term: TypeAlias = Name | Field | Apply | Anonymous | Lambda | Hole | Underscore


def read_term(reader: TokenReader) -> Term:
    """Read a `fun` or an application."""
    if reader.take("fun"):
        names = [_read_binder(reader)]
        while not reader.take("=>"):
            names.append(_read_binder(reader))
        return Lambda(tuple(names), read_term(reader))
    function = _read_argument(reader)
    if function is None:
        raise SyntaxProblem(f"expected a term, found '{reader.peek() or 'the end'}'")
    arguments = []
    while (argument := _read_argument(reader)) is not None:
        arguments.append(argument)
    return Apply(function, tuple(arguments)) if arguments else function


def _read_binder(reader: TokenReader) -> str:
    return reader.next() if reader.peek() == "_" else reader.read_name()


def _read_argument(reader: TokenReader) -> Term | None:
    """Read a term that needs no brackets as an argument, with the fields that follow; None where none starts."""
    token = reader.peek()
    term: Term
    if token in ("?_", "_"):
        reader.next()
        return Hole() if token == "?_" else Underscore()
    if token == "(":
        reader.next()
        term = read_term(reader)
        reader.expect(")")
    elif token == "⟨":
        return _read_anonymous(reader)
    elif not _is_identifier(token):
        return None
    else:
        term = Name(reader.next())
    while reader.peek().startswith(".") and reader.is_glued():
        term = Field(term, reader.next()[1:])
    return term


def _is_identifier(token: str) -> bool:
    return is_identifier(token.split(".")[0]) or token in ("True.intro", "False.elim")


def _read_anonymous(reader: TokenReader) -> Anonymous:
    reader.expect("⟨")
    arguments: list[Term] = []
    while not reader.take("⟩"):
        if arguments:
            reader.expect(",")
        arguments.append(read_term(reader))
    return Anonymous(tuple(arguments))


def print_term(term: Term) -> str:
    """Print a term so that `read_term` reads it back."""
    match term:
        case Name(name):
            return name
        case Field(subject, field):
            return f"{_print_argument(subject)}.{field}"
        case Apply(function, arguments):
            return " ".join(map(_print_argument, (function, *arguments)))
        case Anonymous(arguments):
            return f"⟨{', '.join(map(print_term, arguments))}⟩"
        case Lambda(names, body):
            return f"fun {' '.join(names)} => {print_term(body)}"
        case Hole():
            return "?_"
        case Underscore():
            return "_"


def _print_argument(term: Term) -> str:
    text = print_term(term)
    return f"({text})" if isinstance(term, Apply | Lambda) else text


def contains_hole(term: Term) -> bool:
    """Tell whether `?_` occurs in the term."""
    match term:
        case Hole():
            return True
        case Field(subject, _):
            return contains_hole(subject)
        case Apply(function, arguments):
            return contains_hole(function) or any(map(contains_hole, arguments))
        case Anonymous(arguments):
            return any(map(contains_hole, arguments))
        case Lambda(_, body):
            return contains_hole(body)
        case _:
            return False


def names_in_order(term: Term) -> list[str]:
    """Return every identifier of the term from left to right, repetitions included."""
    match term:
        case Name(name):
            return [name]
        case Field(subject, _):
            return names_in_order(subject)
        case Apply(function, arguments):
            return [name for part in (function, *arguments) for name in names_in_order(part)]
        case Anonymous(arguments):
            return [name for part in arguments for name in names_in_order(part)]
        case Lambda(_, body):
            return names_in_order(body)
        case _:
            return []
