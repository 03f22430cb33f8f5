"""Optional libraries: each is imported at first use, by the one module that wraps it."""

from __future__ import annotations

import importlib
from typing import Any

from common import ConfigError


def import_extra(module: str, extra: str, what: str) -> Any:
    """Return a module of an optional library.

    Args:
        module: dotted name; its first part is the package
        extra: of this project, which installs the package
        what: needs it, as the subject of the message

    Raises:
        ConfigError: if it cannot be imported
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        advice = f"pip install -e '.[{extra}]' in the project's folder"
        raise ConfigError(f"{what} needs the package {package}; {advice}") from error
