"""Lines of JSON, one object each, as users and runs write them."""

from __future__ import annotations

import json
from typing import Any

from common import DataError


def parse_object(line: str | bytes, where: str, next_step: str) -> dict[str, Any]:
    """Return the object that a line holds.

    Args:
        line: of a file or stream
        where: it stands, such as "file.jsonl:3"; begins the error
        next_step: what the user is to do about a line that is none; ends the error

    Raises:
        DataError: if the line holds no JSON, or no object
    """
    try:
        record = json.loads(line)
    except (RecursionError, ValueError) as error:
        raise DataError(f"{where}: is no JSON ({error}); {next_step}") from error
    if not isinstance(record, dict):
        raise DataError(f"{where}: is no object; {next_step}")
    return record
