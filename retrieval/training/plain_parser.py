"""The parser of every command: errors in a line with the nearest right name, and one reader of YAML.

Without Lightning, which takes seconds to import; `retrieval.training.parser` joins both.
"""

from __future__ import annotations

import difflib
import importlib
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

import yaml
from jsonargparse import ArgumentParser, set_loader

from common import load_yaml
from retrieval.training.options import options_of
from retrieval.training.shown import shown

# jsonargparse's ways of naming an option it does not know
_UNKNOWN = re.compile(
    r"""[Oo]ption '(?P<a>[\w.]+)' is not accepted"""
    r"""|not accept option '(?P<b>[\w.]+)'"""
    r"""|[Kk]ey ['"](?P<c>[\w.]+)['"] is not"""
    r"""|[Uu]nrecognized arguments: --(?P<d>[\w.]+)"""
)

# and of saying that an option has a wrong value
_WRONG_VALUE = re.compile(
    r"""Parser key "(?P<name>[\w.]+)":\s+Expected a (?P<type>.+?)\. Got value: (?P<value>.*)""", re.DOTALL
)


_YAML = "checked_yaml"  # jsonargparse's name for our reader


class PlainParser(ArgumentParser):
    """Says what is wrong in a line, and reads YAML as all else here does."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Make a parser without options."""
        set_loader(_YAML, load_yaml, (yaml.YAMLError,))
        super().__init__(*args, **{"parser_mode": _YAML, **kwargs})

    def parse_args(self, args: Any = None, *rest: Any, **kwargs: Any) -> Any:
        """Read a command line; a file in it that is no text is told like any other mistake."""
        try:
            return super().parse_args(args, *rest, **kwargs)
        except UnicodeDecodeError as error:
            return self.error(f"a file that the command line names {_not_utf8(error)}")

    def parse_path(self, path: Any, *rest: Any, **kwargs: Any) -> Any:
        """Read a configuration file, and name it where it cannot be read."""
        try:
            load_yaml(Path(path).read_text(encoding="utf-8"))
        except UnicodeDecodeError as error:
            self.error(f"{path} {_not_utf8(error)}")
        except yaml.YAMLError as error:
            self.error(f"{path}: {' '.join(str(error).split())}")
        except OSError:
            pass  # which the parser tells
        return super().parse_path(path, *rest, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> Any:
        """Print the message and exit with status 2."""
        known = {action.dest for parser in self._parsers().values() for action in getattr(parser, "_actions", [])}
        fail(explain(message, known))

    def format_help(self, *args: Any, **kwargs: Any) -> str:
        """Write a class by its name: `type: Path`, where jsonargparse has `type: <class 'Path'>`."""
        return re.sub(r"<class\s+'([\w.]+)'>", r"\1", super().format_help(*args, **kwargs))

    def _parsers(self) -> dict[str, Any]:
        """This parser and those of its subcommands, by the prefix of their options."""
        choices = [getattr(action, "choices", None) for action in self._actions]  # a dict of parsers for subcommands
        subcommands = [choice for choice in choices if isinstance(choice, dict)]
        return {"": self, **{f"{name}.": parser for choice in subcommands for name, parser in choice.items()}}


def _not_utf8(error: UnicodeDecodeError) -> str:
    return f"is no UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8"


def fail(message: str) -> NoReturn:
    """End the process as every command ends for a user's mistake: the message on stderr, and exit status 2."""
    sys.stderr.write(f"error: {shown(message)}\n")
    sys.exit(2)


def explain(message: str, known: Iterable[str]) -> str:
    """Add the nearest accepted name to a message about an unknown option, and put one about a value in our words.

    Args:
        message: what jsonargparse says
        known: dotted names that the parser accepts
    """
    if wrong_value := _WRONG_VALUE.fullmatch(message):
        return f"{wrong_value['name']} is {wrong_value['value']!r}; {_accepted(wrong_value['type'])}"
    match = _UNKNOWN.search(message)
    if match is None:
        return message
    wrong = next(group for group in match.groups() if group)
    names = {name.removeprefix("fit.") for name in known}
    for class_path in re.findall(r"class_path '([\w.]+)'", message):
        names |= _options(class_path)
    candidates = names | {name.rpartition(".")[2] for name in names}
    nearest = difflib.get_close_matches(wrong, sorted(candidates), n=1, cutoff=0.5)
    return f"{message}\ndid you mean {nearest[0]!r} instead of {wrong!r}?" if nearest else message


def _accepted(type_name: str) -> str:
    """Say what values a type has, given as jsonargparse writes it: `typing.Literal['a', 'b']`, `<class 'int'>`."""
    names = re.findall(r"'([^']+)'", type_name) or [type_name]
    return f"choose one of {', '.join(names)}" if "Literal" in type_name else f"it must be of type {names[0]}"


def _options(class_path: str) -> set[str]:
    module, _, name = class_path.rpartition(".")
    try:
        return set(options_of(getattr(importlib.import_module(module), name)))
    except (ImportError, AttributeError, ValueError):
        return set()
