"""Commands: a function's signature and docstring are its command line, and a user's mistake ends all in the same way.

    def main(args: Sequence[str] | None = None) -> None:
        convert(**parse_arguments(convert, args))

Tests call `main`; `run(main)` is what a shell runs.
"""

from __future__ import annotations

import collections.abc
import errno
import inspect
import keyword
import sys
import tempfile
from collections.abc import Callable, Sequence
from types import NoneType
from typing import Any, get_args, get_origin

from docstring_parser import google

from common import NextstepError
from retrieval.training.plain_parser import PlainParser, fail


def run(command: Callable[[], object]) -> None:
    """Run a command; a user's mistake, or what the system refuses, ends it with a line on stderr and exit status 2."""
    try:
        command()
    except NextstepError as error:
        fail(str(error))
    except OSError as error:
        fail(_in_one_line(error))


def _in_one_line(error: OSError) -> str:
    """The path and what is wrong with it, as far as the error tells."""
    paths = " -> ".join(str(path) for path in (error.filename, error.filename2) if path is not None)
    if paths and error.strerror:
        return f"{paths}: {error.strerror}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):  # of a write, which does not know its file
        return f"{error.strerror}; make room where the command writes, and in {tempfile.gettempdir()}"
    return " ".join(str(error).split()) or type(error).__name__


def parse_arguments(
    function: Callable[..., object],
    args: Sequence[str] | None = None,
    *,
    positional: str = "",
    subcommand: str = "",
) -> dict[str, Any]:
    """Read the arguments of a function from a command line.

    Each parameter is an option of its name, `with_` of `with`; without a default it is required. A sequence takes one
    or more words after its option, a bool that is False by default none. The function's Google docstring tells what
    options mean. What can be given by keyword only is for callers in Python, and no option, unless it is a field of
    `flat_options`.

    Args:
        function: with the type of every parameter in its signature
        args: replaces the command line of this process
        positional: parameter of the function that is given without its name, and may be left out
        subcommand: package and word, such as `generator.domains solve`, by which `python -m` runs the function; it
            then takes YAML too (`--config`)

    Returns:
        What to call the function with, by parameter.

    Raises:
        SystemExit: after --help, or for arguments that the function does not take
    """
    options: dict[str, Any] = _parser_of(function, positional, subcommand).parse_args(args).as_dict()
    options.pop("config", None)
    return {f"{name}_" if keyword.iskeyword(name) else name: value for name, value in options.items()}


def parse_options(kind: type, args: Sequence[str] | None = None) -> dict[str, Any]:
    """Read the options of a class's constructor from a command line, and from YAML files that `--config` names.

    What stands later counts, in a file or on the command line. `--print_config` writes all options as YAML.

    Args:
        kind: with a Google docstring of its constructor, and the type of every parameter in its signature
        args: replaces the command line of this process

    Raises:
        SystemExit: after --help, or for options that the class does not take
    """
    text = google.parse(inspect.getdoc(kind) or "")
    description = "\n\n".join(part for part in (text.short_description, text.long_description) if part)
    parser = PlainParser(prog=f"python -m {_module_of(kind)}", description=description, allow_abbrev=True)
    parser.add_argument("--config", action="config", help="YAML file of options")
    parser.add_class_arguments(kind, as_group=False)
    options: dict[str, Any] = parser.parse_args(args).as_dict()
    return {name: value for name, value in options.items() if name != "config"}


def _parser_of(function: Callable[..., object], positional: str, subcommand: str) -> PlainParser:
    text = google.parse(inspect.getdoc(function))
    help_of = {param.arg_name: param.description for param in text.params}
    description = "\n\n".join(part for part in (text.short_description, text.long_description) if part)
    # abbreviated options are understood; without the argument jsonargparse warns that one day they are not
    module = _module_of(function)
    prog = f"python -m {subcommand or module}"
    parser = PlainParser(prog=prog, description=description, allow_abbrev=True)
    if subcommand:
        parser.add_argument("--config", action="config", help="YAML file with any of these options")
    for name, parameter in inspect.signature(function, eval_str=True).parameters.items():
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY or name in getattr(function, "flat_fields", ()):
            word = name.rstrip("_")  # a parameter cannot be called `with`, and an option can
            flag = word if name == positional else f"--{word}"
            parser.add_argument(flag, help=help_of.get(name), **_settings(parameter, name == positional))
    return parser


def _settings(parameter: inspect.Parameter, is_positional: bool) -> dict[str, Any]:
    """What the parser is told of a parameter, beside its name and its help."""
    default, kind = parameter.default, _without_none(parameter.annotation)
    if kind is bool and default is False:
        return {"action": "store_true"}
    settings: dict[str, Any] = {"type": parameter.annotation}
    if is_positional:  # with None among its types, the word "null" would be none
        settings = {"type": kind, "nargs": "?"}
    elif get_origin(kind) in (list, collections.abc.Sequence):
        settings = {"type": get_args(kind)[0], "nargs": "+"}
        default = list(default) if isinstance(default, tuple) else default  # jsonargparse assigns to its items
    return {**settings, "required": True} if default is inspect.Parameter.empty else {**settings, "default": default}


def _without_none(annotation: Any) -> Any:
    """The type X of an annotation `X | None`; others as they are."""
    members = get_args(annotation)
    others = [member for member in members if member is not NoneType]
    return others[0] if len(others) == 1 < len(members) else annotation


def _module_of(function: Any) -> str:
    """The name that `python -m` runs the module of a function or class by."""
    module = sys.modules[function.__module__]
    return module.__spec__.name if module.__spec__ else module.__name__
