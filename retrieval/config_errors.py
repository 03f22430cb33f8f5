"""Errors of the command line and of YAML, told in a line, with the nearest right name."""

from __future__ import annotations

import difflib
import importlib
import inspect
import re
from collections.abc import Iterable
from typing import Any

from common import ConfigError

# jsonargparse's ways of naming an option it does not know
_UNKNOWN = re.compile(
    r"""[Oo]ption '(?P<a>[\w.]+)' is not accepted"""
    r"""|not accept option '(?P<b>[\w.]+)'"""
    r"""|[Kk]ey ['"](?P<c>[\w.]+)['"] is not"""
    r"""|[Uu]nrecognized arguments: --(?P<d>[\w.]+)"""
)


def explain(message: str, known: Iterable[str]) -> str:
    """Add the nearest accepted names to a message about an unknown option.

    Args:
        message: what jsonargparse says
        known: dotted names that the parser accepts
    """
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
        return set(inspect.signature(getattr(importlib.import_module(module), name)).parameters)
    except (ImportError, AttributeError, ValueError):
        return set()
