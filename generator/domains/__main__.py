"""`python -m generator.domains <command>`: the same commands for every domain."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from importlib import import_module
from keyword import iskeyword

from common import ConfigError
from retrieval.training import remarks
from retrieval.training.commands import parse_arguments, run

COMMANDS = {
    "generate": ("evaluate", "draw problems into files"),
    "import": ("symbolic.exchange", "make such files from published ones, of symbolic mathematics"),
    "export": ("symbolic.exchange", "write them as such"),
    "inspect": ("solve", "show problems as pictures, and count them"),
    "baseline": ("evaluate", "let writers that are no language model solve problems"),
    "evaluate": ("evaluate", "let a model solve problems"),
    "solve": ("solve", "solve one specification, in the terminal"),
    "check": ("solve", "judge given programs"),
    "plot": ("plot", "draw what `baseline` and `evaluate` found"),
    "compare": ("compare", "say what one writer solves that another, such as sympy, does not"),
    "bootstrap": ("bootstrap", "teach a model by those of its own programs that hold"),
    "learning": ("learning", "draw how accuracy grew with samples, in runs of bit tasks"),
}
_POSITIONAL = {"solve": "spec"}
_TYPED = ("solve", "check")  # commands with texts that may begin with a minus, as no option but -h does


def main(args: Sequence[str] | None = None) -> None:
    """Run a command line; `args` replaces that of the process in tests.

    Raises:
        NextstepError: for what is wrong with an option or a file
        SystemExit: after --help, for a command line that does not parse, or as a command says
    """
    command, *rest = (sys.argv[1:] if args is None else args) or ["--help"]
    if command in ("-h", "--help"):
        rows = "\n".join(f"  {name:<10} {text}" for name, (_, text) in COMMANDS.items())
        print(f"usage: python -m generator.domains <command> --domain <name> ...\n\n{rows}")
        print("\nEach tells its options with --help, and takes them from a YAML file too: --config file.yaml")
        return
    if command not in COMMANDS:
        raise ConfigError(f"command is {command!r}; choose one of {', '.join(COMMANDS)}")
    if command in _TYPED:
        rest = [f" {word}" if re.match("-(?!-|h$)", word) else word for word in rest]
    name = f"{command}_" if iskeyword(command) else command
    function = getattr(import_module(f"generator.domains.{COMMANDS[command][0]}"), name)
    place = _POSITIONAL.get(command, "")
    function(**parse_arguments(function, rest, positional=place, subcommand=f"generator.domains {command}"))


def cli() -> None:
    """Run the command."""
    remarks.prepare()
    run(main)


if __name__ == "__main__":
    cli()
