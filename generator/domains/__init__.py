"""Domains: a specification goes in, programs come out, and a checker of the domain says which of them hold.

`make_domain(name)` returns a domain, `Synthesizer(writer, domain, budget)` asks a writer for programs until one holds,
and `python -m generator.domains` does all of it from a shell. Adding a domain: one module beside `rectangle`, after
`base`, and one line in `registry.DOMAINS`.

The names are loaded when they are first asked for: a process that only checks programs imports no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from generator.domains.base import Domain, Problem
    from generator.domains.registry import DOMAINS, domain_class, make_domain
    from generator.domains.verdicts import Verdict

__all__ = ["DOMAINS", "Domain", "Problem", "Verdict", "domain_class", "make_domain"]

_MODULES = {
    "generator.domains.base": ("Domain", "Problem"),
    "generator.domains.registry": ("DOMAINS", "domain_class", "make_domain"),
    "generator.domains.verdicts": ("Verdict",),
}


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
