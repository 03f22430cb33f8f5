"""Run `python -m generator.export`."""

from generator.export import cli

if __name__ == "__main__":
    cli()
