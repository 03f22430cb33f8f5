"""Arrows point one way, importing has no side effects, and optional libraries stay optional."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted(
    path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
    for folder in ("generator", "retrieval")
    for path in (ROOT / folder).rglob("*.py")
)
OPTIONAL = {"deepspeed", "vllm", "ctranslate2", "peft", "ray", "bm25s", "wandb", "lean_dojo", "pantograph"}


def imports(module: str) -> set[str]:
    path = ROOT / module.replace(".", "/")
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    names = set()
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_common_imports_nothing_of_ours_and_retrieval_nothing_of_generator():
    assert not {n for n in imports("common") if n.split(".")[0] in ("generator", "retrieval")}
    for module in MODULES:
        if module.startswith("retrieval"):
            assert not {n for n in imports(module) if n.startswith("generator")}, module


def test_there_are_no_cycles():
    graph = {m: {n for n in imports(m) if n in MODULES and n != m} for m in MODULES}
    done: set[str] = set()
    path: list[str] = []

    def visit(module: str) -> None:
        assert module not in path, " -> ".join([*path, module])
        if module not in done:
            path.append(module)
            for other in sorted(graph[module]):
                visit(other)
            done.add(path.pop())

    for module in MODULES:
        visit(module)


def test_every_module_imports_without_optional_libraries_and_without_side_effects():
    """One process: torch's settings, the random state and the environment are as before."""
    script = f"""
import builtins, os, random, sys
import torch
real = builtins.__import__
def guarded(name, *args, **kwargs):
    importer = str((args[0] or {{}}).get("__name__", "") if args else "").split(".")[0]
    if name.split(".")[0] in {OPTIONAL!r} and importer in ("common", "generator", "retrieval"):
        raise ImportError(name)
    return real(name, *args, **kwargs)
import pytorch_lightning, transformers, torchmetrics  # what these do at import is theirs
def settings():
    precision = torch.get_float32_matmul_precision()
    return precision, torch.get_num_threads(), torch.get_default_dtype(), torch.random.get_rng_state().tolist()
before = settings(), dict(os.environ), random.getstate(), sorted(os.listdir("."))
builtins.__import__ = guarded
import importlib
for module in {["common", *MODULES]!r}:
    importlib.import_module(module)
after = settings(), dict(os.environ), random.getstate(), sorted(os.listdir("."))
assert before == after
print("imported")
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env={**__import__("os").environ, "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=ROOT,
    )
    assert done.stdout.strip() == "imported", done.stderr[-2000:]


@pytest.mark.parametrize("path", [*sorted(ROOT.glob("generator/**/*.py")), ROOT / "common.py"], ids=lambda p: p.name)
def test_nothing_is_pickled(path):
    source = path.read_text(encoding="utf-8")
    assert "pickle.load" not in source and "pickle.dump" not in source
    assert "torch.load(" not in source or "weights_only=True" in source
