"""The parser of command lines and YAML: errors in a line, with the nearest right name, and links that are kept."""

from __future__ import annotations

import difflib
import importlib
import re
import sys
from collections.abc import Iterable
from typing import Any, NoReturn

from jsonargparse import Namespace
from pytorch_lightning.cli import LightningArgumentParser

from common import ConfigError
from retrieval.training.options import options_of

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


class Parser(LightningArgumentParser):
    """Says what is wrong in a line, and refuses what a link would overwrite in silence.

    Attributes:
        links: option that follows another one -> the other one
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Make a parser without options."""
        self.links: dict[str, str] = {}
        super().__init__(*args, **kwargs)

    def link_arguments(self, source: Any, target: str, *args: Any, **kwargs: Any) -> None:
        """Link, and remember a link that hands over the value as it is."""
        super().link_arguments(source, target, *args, **kwargs)
        if not args and not kwargs:
            self.links[target] = source

    def get_defaults(self, *args: Any, **kwargs: Any) -> Namespace:
        """Leave out what parsing adds last, so that what it finds before that was set by someone.

        That is both ends of the links, and the options of the default model and data: another class, chosen instead,
        would take them over where it has defaults of its own.
        """
        defaults = super().get_defaults(*args, **kwargs)
        for name in {*self.links, *self.links.values()} & set(defaults.keys()):
            del defaults[name]
        for name in ("model", "data"):
            defaults.pop(f"{name}.init_args", None)
        return defaults

    def error(self, message: str, ex: Exception | None = None) -> Any:
        """Print the message and exit with status 2."""
        known = {action.dest for parser in self._parsers().values() for action in getattr(parser, "_actions", [])}
        fail(explain(message, known))

    def format_help(self, *args: Any, **kwargs: Any) -> str:
        """Write a class by its name: `type: Path`, where jsonargparse has `type: <class 'Path'>`."""
        return re.sub(r"<class\s+'([\w.]+)'>", r"\1", super().format_help(*args, **kwargs))

    def _parse_common(self, cfg: Namespace, **kwargs: Any) -> Namespace:  # type: ignore[override]  # varies by version
        """Compare both ends of each link while `cfg` still holds nothing but what was set.

        jsonargparse comes here with each configuration file alone (without defaults), and with all of them
        together and the command line on top. A file that says the same on both ends, as config.yaml of a run
        does, sets the source only, so that a later file or option can still change it.
        """
        links = {
            prefix + target: prefix + source
            for prefix, parser in self._parsers().items()
            for target, source in getattr(parser, "links", {}).items()
            if prefix + target in cfg
        }
        if not kwargs["defaults"]:
            for target, source in links.items():
                if source in cfg and cfg[target] == cfg[source]:
                    del cfg[target]
            return super()._parse_common(cfg=cfg, **kwargs)
        given = {target: cfg[target] for target in links}
        parsed = super()._parse_common(cfg=cfg, **kwargs)
        for target, source in links.items():
            if source in parsed:  # else the class has no such option, and there is nothing to follow
                check_link(target, given[target], source, parsed[source])
        return parsed

    def _parsers(self) -> dict[str, Any]:
        """This parser and those of its subcommands, by the prefix of their options."""
        choices = [getattr(action, "choices", None) for action in self._actions]  # a dict of parsers for subcommands
        subcommands = [choice for choice in choices if isinstance(choice, dict)]
        return {"": self, **{f"{name}.": parser for choice in subcommands for name, parser in choice.items()}}


def fail(message: str) -> NoReturn:
    """End the process as every command ends for a user's mistake: the message on stderr, and exit status 2."""
    sys.stderr.write(f"error: {message}\n")
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


def check_link(target: str, given: Any, source: str, value: Any) -> None:
    """Refuse an option that was set to something else than the option that it follows.

    Args:
        target: dotted name of the option that follows, as the parser has it: fit.model.init_args.template
        given: its value
        source: dotted name of the option that decides
        value: its value

    Raises:
        ConfigError: if they differ
    """
    if given != value:
        follower, leader = (".".join(name.replace(".init_args.", ".").split(".")[-2:]) for name in (target, source))
        raise ConfigError(
            f"{follower} is {given!r}, but it follows {leader}, which is {value!r}: "
            f"set --{leader}, or in YAML {leader}, instead"
        )


def _options(class_path: str) -> set[str]:
    module, _, name = class_path.rpartition(".")
    try:
        return set(options_of(getattr(importlib.import_module(module), name)))
    except (ImportError, AttributeError, ValueError):
        return set()
