"""The examples in docstrings are true."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = [ROOT / "common.py", *(path for name in ("generator", "retrieval") for path in (ROOT / name).rglob("*.py"))]
MODULES = sorted(
    path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
    for path in SOURCES
    if ">>> " in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("module", MODULES)
def test_examples_give_what_they_say(module: str) -> None:
    results = doctest.testmod(importlib.import_module(module))
    assert results.attempted > 0 and results.failed == 0, "what differs is printed above"


def test_ten_public_functions_and_classes_have_an_example() -> None:
    finder = doctest.DocTestFinder(exclude_empty=True)
    with_example = [
        test.name
        for module in MODULES
        for test in finder.find(importlib.import_module(module))
        if test.examples and not test.name.rpartition(".")[2].startswith("_")
    ]
    assert len(with_example) >= 10, with_example
