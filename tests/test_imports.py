"""Arrows point one way, importing has no side effects, and optional libraries stay optional."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

ROOT = Path(__file__).parents[1]
MODULES = sorted(
    path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
    for folder in ("generator", "retrieval")
    for path in (ROOT / folder).rglob("*.py")
)
OPTIONAL = {
    "deepspeed",
    "matplotlib",
    "vllm",
    "ctranslate2",
    "gguf",
    "peft",
    "ray",
    "bm25s",
    "wandb",
    "lean_dojo",
    "pantograph",
}


def test_common_imports_nothing_of_ours():
    tree = ast.parse((ROOT / "common.py").read_text(encoding="utf-8"))
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert not [name for name in names if name.split(".")[0] in ("generator", "retrieval")]


def test_arrows_point_one_way(monkeypatch):
    """The contracts stand in pyproject.toml; `lint-imports` says which import breaks one."""
    monkeypatch.chdir(ROOT)
    assert lint_imports(no_cache=True) == EXIT_STATUS_SUCCESS


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


def test_models_and_data_import_without_a_parser_of_options():
    """A GPU machine may have torch, Lightning and transformers alone; `make gpu` runs there."""
    script = """
import sys
class Without:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("jsonargparse", "docstring_parser"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Without())
import generator.load, generator.model, generator.causal, generator.datamodule, retrieval.model, retrieval.datamodule
print("imported")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "imported", done.stderr[-2000:]


SOURCES = [ROOT / "common.py", *(path for name in ("generator", "retrieval") for path in (ROOT / name).rglob("*.py"))]


@pytest.mark.parametrize("path", sorted(SOURCES), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_in_a_file_is_run(path):
    """No pickle, no torch.load without weights_only, no eval: what a user's file holds is data."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name, options = (
                ast.unparse(node.func),
                {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords},
            )
            assert name not in ("eval", "exec", "compile", "pickle.load", "pickle.loads", "pickle.dump", "pickle.dumps")
            assert name not in ("yaml.load", "marshal.loads", "np.load", "joblib.load"), name
            assert name != "torch.load" or options.get("weights_only") == "True", f"line {node.lineno}"
