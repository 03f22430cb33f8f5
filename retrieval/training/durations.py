"""Lengths of time as one says them."""

from datetime import timedelta


def words(seconds: float) -> str:
    """Return a length of time as one says it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return str(timedelta(seconds=60 * round(seconds / 60)))[:-3] + " h"
