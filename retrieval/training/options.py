"""Options that are declared once, and taken by the constructors of several models and data modules.

Options that belong together are the fields of one documented, frozen dataclass, which checks them:

    @dataclass(frozen=True)
    class Optimization:
        '''How a model is trained.

        Attributes:
            lr: learning rate after the warm-up
        '''

        lr: float = 5e-4

    class Model(pl.LightningModule):
        @flat_options
        def __init__(self, model_name: str, *, optimization: Optimization = Optimization(lr=1e-4)) -> None: ...

To users `lr` is an option of the model like any other: `Model("t5", lr=1e-3)`, `--model.lr 1e-3`, `model: {lr: 1e-3}`;
help, types and defaults come from the dataclass. Inside, the settings stay together. A subclass takes its own options
and `**shared`, and changes a default by naming the dataclass with another one.
"""

from __future__ import annotations

import functools
import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields, is_dataclass, replace
from inspect import Parameter
from typing import Any

from common import DataError


def flat_options(init: Callable[..., None]) -> Callable[..., None]:
    """Let a constructor, or the function of a command, take the fields of its dataclasses as options of its own.

    A parameter whose default is a dataclass is replaced by keyword-only parameters, one for each field, with the
    default's values. The dataclass as a whole is accepted too, and single fields then change it.

    Args:
        init: has a Google docstring with arguments, and the fields' descriptions are added to them
    """
    signature = inspect.signature(init)
    groups = {p.name: p.default for p in signature.parameters.values() if is_dataclass(p.default)}

    @functools.wraps(init)
    def wrapper(*args: Any, **options: Any) -> None:
        for name, default in groups.items():
            given = {field.name: options.pop(field.name) for field in fields(default) if field.name in options}
            options[name] = replace(options.get(name, default), **given)
        init(*args, **options)

    wrapper.__signature__ = _flattened(init, signature, groups)  # type: ignore[attr-defined]
    wrapper.flat_fields = names_of(*map(type, groups.values()))  # type: ignore[attr-defined]
    wrapper.__doc__ = _described(init.__doc__ or "", groups.values())
    return wrapper


def _flattened(init: Callable[..., None], signature: inspect.Signature, groups: Mapping[str, Any]) -> inspect.Signature:
    """The signature with a keyword-only parameter for each field in place of each dataclass."""
    hints = typing.get_type_hints(init)
    parameters: list[Parameter] = []
    for parameter in signature.parameters.values():
        if (default := groups.get(parameter.name)) is None:
            parameters.append(parameter.replace(annotation=hints.get(parameter.name, parameter.annotation)))
            continue
        hints_of = typing.get_type_hints(type(default))
        parameters += [
            Parameter(f.name, Parameter.KEYWORD_ONLY, default=getattr(default, f.name), annotation=hints_of[f.name])
            for f in fields(default)
        ]
    return signature.replace(parameters=sorted(parameters, key=lambda parameter: parameter.kind))


def _described(doc: str, groups: typing.Iterable[Any]) -> str:
    """The docstring with the attributes of dataclasses behind its arguments."""
    doc = inspect.cleandoc(doc)
    kinds = [kind for group in groups for kind in reversed(type(group).__mro__) if is_dataclass(kind)]
    attributes = [_section(inspect.cleandoc(kind.__doc__ or ""), "Attributes") for kind in kinds]
    arguments = _section(doc, "Args")
    return doc.replace(arguments, "\n".join([arguments, *attributes]), 1)


def _section(doc: str, title: str) -> str:
    """The indented lines under a title of a Google docstring."""
    match = re.search(rf"^{title}:\n((?: +.*\n?)+)", doc, re.MULTILINE)
    return match[1].rstrip("\n") if match else ""


def options_of(kind: type) -> dict[str, Parameter]:
    """Return the options of a class's constructor by name, with those that it passes on to its parents."""
    options: dict[str, Parameter] = {}
    for parent in kind.__mro__:
        init = vars(parent).get("__init__")
        if init is None:
            continue
        parameters = inspect.signature(init).parameters
        options = {name: p for name, p in parameters.items() if p.kind in _NAMED and name != "self"} | options
        if not any(p.kind is Parameter.VAR_KEYWORD for p in parameters.values()):
            break
    return options


_NAMED = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)


def check_types(kind: type, options: Mapping[str, Any], where: str) -> None:
    """Raise DataError for the first option, of those that a file holds, whose value has not the type of its parameter.

    Args:
        kind: class that takes the options; those that it has not are not looked at
        options: by name, as JSON or a checkpoint has them
        where: names the file
    """
    hints = {name: parameter.annotation for name, parameter in options_of(kind).items()}
    hints |= typing.get_type_hints(kind) if is_dataclass(kind) else {}
    for name, value in options.items():
        if name in hints and not _fits(value, hints[name]):
            accepted = getattr(hints[name], "__name__", None) or str(hints[name])
            raise DataError(f"{where}: option {name} is {str(value)[:60]!r}; it must be of type {accepted}")


def _fits(value: Any, annotation: Any) -> bool:
    """Whether a plain value may be given for a parameter."""
    origin, members = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is Any or annotation is Parameter.empty:
        return True
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, member) for member in members)
    if origin is typing.Literal:
        return isinstance(value, str) and value in members
    if is_dataclass(annotation):
        hints = typing.get_type_hints(annotation)
        return isinstance(value, Mapping) and all(n in hints and _fits(v, hints[n]) for n, v in value.items())
    if annotation is float:
        return type(value) in (int, float) and abs(value) < 1e300
    kind = {types.NoneType: types.NoneType}.get(annotation, origin or annotation)
    if origin is list:
        return isinstance(value, list) and all(_fits(each, members[0]) for each in value)
    return type(value) is kind if isinstance(kind, type) else True


def flat(*groups: Any, **options: Any) -> dict[str, Any]:
    """Return the fields of dataclasses and further options as plain values, as checkpoints keep them."""
    values: dict[str, Any] = {}
    for group in groups:
        values |= asdict(group)
    return values | options


def names_of(*groups: type) -> tuple[str, ...]:
    """Return the names of the fields of dataclasses."""
    return tuple(field.name for group in groups for field in fields(group))


def save_options(module: Any, options: Mapping[str, Any], *, logger: bool = True) -> None:
    """Save options as hyper-parameters of a module or data module, beside those that are saved already.

    Args:
        module: of Lightning
        options: plain values: checkpoints that hold them load with weights_only=True
        logger: show them in the logger too
    """
    frame = inspect.currentframe()
    while frame is not None and frame.f_back is not None:  # from the outermost one, Lightning looks for no constructor
        frame = frame.f_back
    module.save_hyperparameters(dict(options), frame=frame, logger=logger)
