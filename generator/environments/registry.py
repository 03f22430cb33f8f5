"""Environments by name: those that come with the project, and a user's own by its dotted class path."""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Mapping
from inspect import Parameter
from typing import Any

from common import ConfigError
from generator.environments.base import Environment
from retrieval.training.options import options_of

ENVIRONMENTS = {
    "propositional": "generator.environments.propositional.environment.PropositionalEnvironment",
    "coq": "generator.environments.coq.CoqEnvironment",
    "lean": "generator.environments.lean.LeanEnvironment",
    "dojo": "generator.environments.dojo.DojoEnvironment",
    "scripted": "generator.environments.scripted.ScriptedEnvironment",
}
"""Where each environment stands; its module is imported when it is asked for."""

_METHODS = ("start", "run_tactic", "check", "source", "close")


def make_environment(name: str, options: Mapping[str, Any] | None = None) -> Environment:
    """Return a new environment.

    Args:
        name: one of `ENVIRONMENTS`, or the dotted path of a class such as my_prover.MyEnvironment
        options: of its constructor

    Raises:
        ConfigError: if there is no such environment, or it does not take these options
    """
    kind = environment_class(name)
    made: Environment = kind(**_checked(kind, dict(options or {}), f"environment {name}"))
    return made


def _checked(kind: Any, options: dict[str, Any], where: str) -> dict[str, Any]:
    """Return the options as the constructor's types have them: YAML knows no paths and no tuples."""
    from jsonargparse import ArgumentError, ArgumentParser  # here, as training and decoding need no parser of options

    accepted = options_of(kind)
    for option in options:
        if option not in accepted:
            nearest = difflib.get_close_matches(option, accepted, n=1)
            there_are = f"it takes {', '.join(accepted)}" if accepted else "it takes none"
            hint = f"did you mean {nearest[0]}?" if nearest else there_are
            raise ConfigError(f"{where} has no option {option}; {hint}")
    missing = [key for key, each in accepted.items() if each.default is Parameter.empty and key not in options]
    if missing:
        raise ConfigError(f"{where} needs the option {missing[0]}; give --environment_options.{missing[0]}")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(kind, as_group=False)
    try:
        parsed = parser.parse_object(options, defaults=False)
    except ArgumentError as error:
        key = re.search(r'Parser key "(\w+)', str(error))
        if key is None or key[1] not in accepted:
            raise ConfigError(f"{where}: {' '.join(str(error).split())}") from error
        annotation = accepted[key[1]].annotation
        type_name = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", annotation)
        value = options[key[1]]
        raise ConfigError(f"{where}: {key[1]} is {value!r}; it must be of type {type_name}") from error
    return {option: parsed[option] for option in options}


def environment_class(name: str) -> Any:
    """Return the class of an environment, given as `make_environment` takes it.

    Raises:
        ConfigError: if there is none
    """
    module_name, _, class_name = ENVIRONMENTS.get(name, name).rpartition(".")
    if not module_name:
        nearest = difflib.get_close_matches(name, ENVIRONMENTS, n=1)
        hint = f"did you mean {nearest[0]}?" if nearest else f"there are {', '.join(ENVIRONMENTS)}"
        raise ConfigError(f"environment is {name!r}; {hint}, or give the dotted path of your own class")
    try:
        kind = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"environment is {name!r}, and {module_name}.{class_name} cannot be imported: {error}; its folder must be "
            "on PYTHONPATH"
        ) from error
    missing = [method for method in _METHODS if not callable(getattr(kind, method, None))]
    if missing:
        raise ConfigError(
            f"environment is {name!r}, which has no {', '.join(missing)}; an environment is what "
            "generator.environments.base.Environment describes"
        )
    return kind
