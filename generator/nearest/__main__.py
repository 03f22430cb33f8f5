"""`python -m generator.nearest --data_path ... --output_dir ...`: make the folder of a lookup."""

from __future__ import annotations

from collections.abc import Sequence

from generator.nearest.make import nearest
from retrieval.training.commands import parse_arguments, run


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line; `args` replaces it in tests."""
    nearest(**parse_arguments(nearest, args))


def cli() -> None:
    """Run the command."""
    run(main)


if __name__ == "__main__":
    cli()
