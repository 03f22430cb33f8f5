"""What README shows is true: its Python runs, its output is what is printed, its commands and files exist."""

import contextlib
import importlib
import importlib.util
import io
import re
import shlex
import shutil
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


OF_RETRIEVERS = TEXT[(start := TEXT.index("`ret_ckpt_path` takes")) : TEXT.index("\n\n", start)]


@pytest.mark.parametrize(
    ("command", "text"), [("generator.main", TEXT.replace(OF_RETRIEVERS, "")), ("retrieval.main", OF_RETRIEVERS)]
)
def test_every_option_that_the_text_names_is_accepted(command, text, capsys):
    options = set(re.findall(r"--((?:model|data|trainer)\.\w+)", text))
    assert len(options) > 3
    for option in options:
        kind = {"model": "model.help", "data": "data.help"}.get(option.split(".")[0])
        with pytest.raises(SystemExit):
            importlib.import_module(command).main(
                ["fit", f"--{kind}", HELP[command, kind]] if kind else ["fit", "--help"]
            )
        assert option.split(".")[1] in capsys.readouterr().out, option


def commands_after(heading: str) -> list[list[str]]:
    """The words of the commands of a section, as a shell reads them."""
    section = TEXT.split(f"## {heading}", 1)[1].split("\n## ", 1)[0]
    lines = [line.strip() for line in section.splitlines() if line.startswith("    python -m ")]
    printed = [
        subprocess.run(["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, text=True) for line in lines
    ]
    return [done.stdout.rstrip("\0").split("\0")[2:] for done in printed]


def run_here(words: list[str], **extra: str) -> None:
    """Run a module's main on README's words, with configurations from the repository and shorter training."""
    module, *args = [str(ROOT / word) if word.startswith("configs/") else word for word in words]
    importlib.import_module(module).main(
        [*args, *(f"--{name.replace('__', '.')}={value}" for name, value in extra.items())]
    )


SHORT = {"trainer__limit_val_batches": "1", "trainer__limit_train_batches": "2", "trainer__max_epochs": "1"}


def test_the_five_commands_of_retrieval_run_one_after_the_other(tmp_path, monkeypatch, capsys):
    from generator.environments.propositional_benchmark import build_propositional_benchmark

    monkeypatch.chdir(tmp_path)
    build_propositional_benchmark(tmp_path / "data" / "propositional", 60)
    commands = commands_after("Retrieved premises, in five commands")
    assert [words[:2] for words in commands] == [
        ["retrieval.main", "fit"],
        ["retrieval.main", "predict"],
        ["generator.main", "fit"],
        ["generator.main", "test"],
        ["generator.suggest", "--ckpt_path"],
        ["retrieval.neighbors", "--data_path"],  # and those that need no training
        ["retrieval.fuse", "--parts"],
        ["retrieval.predict", "--ret_ckpt_path"],
    ]
    small = {"data__num_theorems": "60"}
    short = [SHORT, {}, SHORT | small, small | {"trainer__limit_test_batches": "1"}, {}, {}, {}, {}]
    for words, extra in zip(commands, short, strict=True):
        file = next((path.name for path in (tmp_path / "data/propositional/lean").rglob("Part*.lean")), "")
        run_here([word.replace("Part001.lean", file) for word in words], **extra)
    assert capsys.readouterr().out.count("\n") > 10


def test_the_tutorials_commands_run_on_the_debug_configuration(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    prepare, *commands = commands_after("Decoder-only models on prompts and completions")
    assert prepare[0] == "generator.prepare" and importlib.util.find_spec(prepare[0])
    debug = [[word.replace("next_step", "next_step_debug") for word in words] for words in commands]
    run_here(debug[0], **SHORT, data__num_theorems="60", trainer__max_steps="2")
    run_here(debug[1])
    run_here(debug[2])
    (tmp_path / "models/next_step_debug/config.json").read_text()
    assert capsys.readouterr().out.strip()


def test_the_commands_of_domains_run_one_after_the_other(quickstart, monkeypatch, capsys):
    monkeypatch.chdir(quickstart)
    checkpoint = "runs/quickstart/version_0/checkpoints/last.ckpt"
    commands = [
        [word.replace("...", checkpoint) for word in words] for words in commands_after("Programs for specifications")
    ]
    done = [words[1] for words in commands]
    assert done == ["inspect", "solve", "generate", "baseline", "evaluate", "plot", "fit", "baseline", "solve"]
    sizes = {"generate": {"num_train": "60", "num_val": "5", "num_test": "5"}, "baseline": {"num_problems": "5"}}
    few = {"num_problems": "2", "budget": "3"}
    for module, command, *words in commands:
        if command == "fit":
            short = {"trainer__max_steps": "2", "trainer__val_check_interval": "2"}
            run_here([module, command, *words], **short, data__num_train="128", data__num_val="4")
            continue
        assert module == "generator.domains"
        extra = sizes.get(command, {}) | (few if command == "evaluate" else {})
        if command == "baseline":
            words += [
                "--budget",
                "5",
                "--num_train",
                "50",
                "--writers",
                *(["words"] if "--config" in words else ["tight", "unigram"]),
            ]
        run_here(["generator.domains.__main__", command, *words], **extra)
    assert (quickstart / "runs/rectangle_writers/figures").is_dir()
    assert "verified" in capsys.readouterr().out


def test_the_commands_of_symbolic_mathematics_run_one_after_the_other(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    commands = commands_after("Symbolic mathematics")
    extra = {
        "generate": {"num_train": "16", "num_val": "2", "num_test": "2", "domain_options__max_ops": "3"},
        "fit": {"trainer__max_steps": "1", "trainer__val_check_interval": "1", "data__num_val": "1"}
        | {"data__num_workers": "0", "data__max_oup_seq_len": "40", "model__model_name.num_layers": "1"},
        "evaluate": {"num_problems": "1", "num_gold": "1"},
        "inspect": {"num_problems": "2", "num_shown": "1"},
        "compare": {"domain_options__sympy_seconds": "1"},
    }
    done = [words[1] for words in commands]
    assert done == ["solve", "check", "generate", "inspect", "fit", "solve", "evaluate", "plot", "compare"]
    for words in commands:
        module = "generator.domains.__main__" if words[0] == "generator.domains" else words[0]
        is_unsolved = words[1] == "solve" and "--ckpt_path" in words  # after so short a training
        words = [word for word in words if word not in ("10", "50")]
        capsys.readouterr()
        with pytest.raises(SystemExit) if is_unsolved or words[1] == "check" else contextlib.nullcontext() as ended:
            run_here([module, *words[1:]], **extra.get(words[1], {}))
        if ended is not None:
            assert ended.value.code == int(is_unsolved)
        if words[1] == "check":
            shown = TEXT.split("## Symbolic mathematics", 1)[1].split("```text\n")[1].split("```")[0]
            assert capsys.readouterr().out.strip() == shown.strip()
    assert (tmp_path / "runs/symbolic/figures").is_dir()


def statement_command(environment: str) -> list[str]:
    """README's words for proving a statement in a prover."""
    commands = [words for words in commands_after("Prove something") if "--statement" in words]
    [found] = [words for words in commands if words[words.index("--environment") + 1] == environment]
    return found


@pytest.mark.skipif(shutil.which("coqidetop.opt") is None, reason="apt-get install coq libcoq-stdlib")
def test_coq_prints_the_proof_that_is_shown(capsys):
    shown = TEXT.split("## Prove something", 1)[1].split("```text\n")[1].split("```")[0]
    run_here(statement_command("coq"))
    assert capsys.readouterr().out.strip() == shown.strip()


def test_the_built_in_prover_is_asked_as_is_shown(quickstart, monkeypatch, capsys):
    """The stand-in of the model proves nothing; a tactic in its place does."""
    monkeypatch.chdir(quickstart)
    words = statement_command("propositional")
    with pytest.raises(SystemExit):
        run_here(words, max_expansions="1")
    at = words.index("--ckpt_path")
    run_here([*words[:at], "--tactics", "exact And.symm h", *words[at + 2 :]])
    assert capsys.readouterr().out.endswith(": q ∧ p := by\n  exact And.symm h\n")


def test_a_split_is_searched_as_is_shown(quickstart, monkeypatch, capsys):
    """The stand-in of the model proves nothing; the most frequent tactics in its place prove some of the theorems."""
    from generator.environments.propositional_benchmark import build_propositional_benchmark

    monkeypatch.chdir(quickstart)
    build_propositional_benchmark(quickstart / "data" / "propositional", 200)
    [words] = [words for words in commands_after("Prove something") if "--output_dir" in words]
    at = words.index("--ckpt_path")
    run_here([*words[:at], "--tactics", "majority", *words[at + 2 :]], workers="0", figures="false")
    assert "Pass@1" in capsys.readouterr().out
    assert list((quickstart / "runs" / "proofs" / "proofs").rglob("*.lean"))
    shutil.rmtree(quickstart / "runs" / "proofs")
    run_here(words, workers="0", figures="false", num_theorems="1", max_expansions="1")
    assert "1 theorem: 0 proved" in capsys.readouterr().out


HELP = {
    ("generator.main", "model.help"): "generator.model.RetrievalAugmentedGenerator",
    ("generator.main", "data.help"): "generator.datamodule.GeneratorDataModule",
    ("retrieval.main", "model.help"): "retrieval.model.PremiseRetriever",
    ("retrieval.main", "data.help"): "retrieval.datamodule.RetrievalDataModule",
}
