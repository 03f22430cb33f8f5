"""What README shows is true: its Python runs, its output is what is printed, its commands and files exist."""

import contextlib
import importlib.util
import io
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", TEXT, re.DOTALL)
COMMANDS = sorted(set(re.findall(r"python -m ([\w.]+)", TEXT)))
FILES = sorted(set(re.findall(r"\b((?:configs|tests|generator|retrieval)/[\w/]+\.(?:yaml|py|md))\b", TEXT)))


@pytest.fixture
def quickstart(tmp_path, tiny_architecture):
    """A stand-in for what `make fit` leaves."""
    from generator.model import RetrievalAugmentedGenerator

    torch.manual_seed(0)
    model = RetrievalAugmentedGenerator(tiny_architecture, max_inp_seq_len=128, max_oup_seq_len=16)
    checkpoint = {"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams)}
    model.on_save_checkpoint(checkpoint)
    path = tmp_path / "runs" / "quickstart" / "version_0" / "checkpoints" / "last.ckpt"
    path.parent.mkdir(parents=True)
    torch.save(checkpoint, path)
    return tmp_path


@pytest.mark.parametrize(("code", "output"), PYTHON, ids=range(len(PYTHON)))
def test_python_runs_and_prints_what_is_shown(code, output, quickstart, monkeypatch):
    monkeypatch.chdir(quickstart)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), {})
    if output:
        assert printed.getvalue().strip() == output.strip()


def test_there_is_something_to_check():
    assert len(PYTHON) >= 2 and len(COMMANDS) >= 3 and len(FILES) >= 5
    assert not re.findall(r"@[A-Z]+@|TODO", TEXT), "a placeholder was left"


@pytest.mark.parametrize("module", COMMANDS)
def test_commands_exist(module):
    assert importlib.util.find_spec(module) is not None


@pytest.mark.parametrize("path", FILES)
def test_files_exist(path):
    assert (ROOT / path).is_file()


@pytest.mark.parametrize("target", ["fit", "test", "lint"])
def test_make_targets_exist(target):
    assert f"make {target}" in TEXT
    done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "/bin/" in done.stdout, done.stderr


def test_the_dataset_command_builds_what_it_says(tmp_path):
    line = next(line for line in TEXT.splitlines() if "propositional_benchmark --output_dir" in line)
    words = shlex.split(line)
    words[0] = sys.executable
    words[words.index("--output_dir") + 1] = str(tmp_path / "made")
    words[words.index("--num_theorems") + 1] = "40"
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True)
    assert {p.name for p in (tmp_path / "made" / "random").iterdir()} == {"train.json", "val.json", "test.json"}


def test_every_option_that_the_table_names_is_accepted(capsys):
    from generator.main import main

    for option in set(re.findall(r"--((?:model|data|trainer)\.\w+)", TEXT)):
        kind = {"model": "model.help", "data": "data.help"}.get(option.split(".")[0])
        with pytest.raises(SystemExit):
            main(["fit", f"--{kind}", HELP[kind]] if kind else ["fit", "--help"])
        assert option.split(".")[1] in capsys.readouterr().out, option


HELP = {
    "model.help": "generator.model.RetrievalAugmentedGenerator",
    "data.help": "generator.datamodule.GeneratorDataModule",
}
