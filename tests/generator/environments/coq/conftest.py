"""The real Coq, one environment for all tests of this folder."""

import shutil
from collections.abc import Iterator

import pytest

from generator.environments.coq import CoqEnvironment
from tests.generator.environments.coq.real_coq import BASICS, PROJECT, compile_with_coqc


@pytest.fixture(scope="package")
def coq() -> Iterator[CoqEnvironment]:
    """One for the standard library and free statements, with a short time limit."""
    with CoqEnvironment(timeout_s=2.0, max_processes=2) as environment:
        yield environment


@pytest.fixture(scope="package")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CoqEnvironment]:
    """One for a user's project, whose first file is compiled, since the second imports it."""
    root = tmp_path_factory.mktemp("project") / "with space"
    shutil.copytree(PROJECT, root)
    compile_with_coqc(root / BASICS, "-R", str(root / "theories"), "Small")
    with CoqEnvironment(str(root), timeout_s=5.0, max_processes=2) as environment:
        yield environment
