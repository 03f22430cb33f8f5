"""The domains by name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import fields
from importlib import import_module
from typing import Any

from common import ConfigError, check_choice
from generator.domains.base import Domain
from retrieval.training.options import check_types

DOMAINS = {
    "rectangle": "generator.domains.rectangle.Rectangle",
    "regex": "generator.domains.regex.Regular",
    "prim_fwd": "generator.domains.symbolic.domain.PrimFwd",
    "prim_bwd": "generator.domains.symbolic.domain.PrimBwd",
    "prim_ibp": "generator.domains.symbolic.domain.PrimIbp",
    "ode1": "generator.domains.symbolic.domain.Ode1",
    "ode2": "generator.domains.symbolic.domain.Ode2",
    "bit_xor": "generator.domains.bits.tasks.BitXor",
    "bit_memory": "generator.domains.bits.tasks.BitMemory",
}


def make_domain(name: str, options: Mapping[str, Any] | None = None) -> Domain[Any, Any]:
    """Return a domain; its module is imported when it is chosen.

    >>> make_domain("rectangle", {"max_examples": 10}).options.max_examples
    10

    Args:
        name: one of DOMAINS
        options: fields of its dataclass of options that differ from the defaults

    Raises:
        ConfigError: for an unknown name, or an option that it has not or that has a value it cannot have
        DataError: for an option of a wrong type
    """
    kind = domain_class(name)
    known = [field.name for field in fields(kind.Options)]
    for option in options or {}:
        if option not in known:
            nearest = difflib.get_close_matches(option, known, n=1)
            hint = f"did you mean {nearest[0]}? " if nearest else ""
            raise ConfigError(f"domain {name} has no option {option!r}; {hint}it takes {', '.join(known)}")
    check_types(kind.Options, options or {}, f"domain {name}")
    return kind(kind.Options(**(options or {})))


def domain_class(name: str) -> type[Domain[Any, Any]]:
    """Return the class of a domain.

    Raises:
        ConfigError: for an unknown name
    """
    check_choice("domain", name, tuple(DOMAINS))
    module, _, class_name = DOMAINS[name].rpartition(".")
    kind: type[Domain[Any, Any]] = getattr(import_module(module), class_name)
    return kind
