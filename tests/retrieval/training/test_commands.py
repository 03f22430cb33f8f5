"""Functions as commands: what a command line gives them, what its help says, and how mistakes end it."""

import importlib
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pytest

from common import ConfigError
from retrieval.training.commands import parse_arguments, run

ROOT = Path(__file__).parents[3]

NO_ROOM = f"error: No space left on device; make room where the command writes, and in {tempfile.gettempdir()}"


def convert(
    data_path: Path,
    names: Sequence[str],
    state: str | None = None,
    splits: list[str] | None = None,
    folders: Sequence[Path] = (Path("a"), Path("b")),
    output: Path | None = None,
    dtype: Literal["float32", "int8"] = "float32",
    k: int = 100,
    k1: float = 1.5,
    theorem_pos: tuple[int, int] = (1, 1),
    reverse: bool = False,
    allow_sorry: bool = True,
    *,
    progress: bool = True,
) -> None:
    """Convert some data.

    It takes a while.

    Args:
        data_path: folder of the data
        names: of what to convert
        state: to convert
        splits: of the data; all
            if not given
        folders: to look in
        output: file to write
        dtype: of the weights
        k: how many
        k1: how much
        theorem_pos: line and column
        reverse: the other way round
        allow_sorry: whether sorry is fine
        progress: show a bar

    Raises:
        ConfigError: never
    """


DEFAULTS = {
    "state": None,
    "splits": None,
    "folders": [Path("a"), Path("b")],
    "output": None,
    "dtype": "float32",
    "k": 100,
    "k1": 1.5,
    "theorem_pos": (1, 1),
    "reverse": False,
    "allow_sorry": True,
}


def parse(*args: str) -> dict[str, Any]:
    return parse_arguments(convert, [*args, "--data_path", "d", "--names", "x"], positional="state")


def test_what_is_not_given_has_the_functions_defaults() -> None:
    assert parse() == {**DEFAULTS, "data_path": Path("d"), "names": ["x"]}


@pytest.mark.parametrize(
    ("args", "name", "value"),
    [
        (["--splits", "train", "val"], "splits", ["train", "val"]),
        (["--splits=train"], "splits", ["train"]),
        (["--folders", "x", "1", "null"], "folders", [Path("x"), Path("1"), Path("null")]),
        (["--output", "3"], "output", Path("3")),
        (["--output", "."], "output", Path(".")),
        (["--dtype", "int8"], "dtype", "int8"),
        (["--k", "5"], "k", 5),
        (["--k=5"], "k", 5),
        (["--k1", "2"], "k1", 2.0),
        (["--theorem_pos", "[900, 1]"], "theorem_pos", (900, 1)),
        (["--reverse"], "reverse", True),
        (["--rev"], "reverse", True),
        (["--allow_sorry", "false"], "allow_sorry", False),
        (["⊢ p"], "state", "⊢ p"),
        (["null"], "state", "null"),
        ([""], "state", ""),
    ],
)
def test_an_option_is_read_as_its_type_says(
    args: list[str], name: str, value: object, recwarn: pytest.WarningsRecorder
) -> None:
    assert parse(*args) == {**DEFAULTS, "data_path": Path("d"), "names": ["x"], name: value}
    assert not recwarn.list


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--kk", "3"], "did you mean 'k' instead of 'kk'?"),
        (["--split", "a", "--dtpe", "int8"], "did you mean 'dtype' instead of 'dtpe'?"),
        (["--dtype", "int4"], "error: dtype is 'int4'; choose one of float32, int8\n"),
        (["--k", "many"], "error: k is 'many'; it must be of type int\n"),
        (["--splits"], "--splits: expected at least one argument"),
        (["--reverse=true"], "--reverse"),
        (["--progress", "false"], "unrecognized arguments: --progress"),
        (["a", "b"], "unrecognized arguments: b"),
    ],
)
def test_a_mistake_is_said_and_ends_with_status_2(
    args: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        parse(*args)
    printed = capsys.readouterr()
    assert stopped.value.code == 2 and printed.out == ""
    assert printed.err.startswith("error: ") and message in printed.err and "usage:" not in printed.err


def test_what_is_missing_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        parse_arguments(convert, ["--data_path", "d"])
    assert stopped.value.code == 2 and "required: names" in capsys.readouterr().err


def test_help_is_the_docstring_and_the_signature(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        parse("--help")
    assert stopped.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for part in (
        "usage: python -m ",
        "[state] Convert some data. It takes a while. positional",
        "--names NAMES [NAMES ...] of what to convert (required, type: str)",
        "--data_path DATA_PATH folder of the data (required, type: Path)",
        "of the data; all if not given (type: str, default: null)",
        "--dtype {float32,int8} of the weights",
        "--k K how many (type: int, default: 100)",
        "--reverse the other way round (default: False)",
    ):
        assert part in text
    assert not any(word in text for word in ("progress", "config", "never"))


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ConfigError("k is 0; it must be greater than 0"), "error: k is 0; it must be greater than 0"),
        (PermissionError(13, "Permission denied", "runs/x"), "error: runs/x: Permission denied"),
        (FileNotFoundError(2, "No such file or directory", "a", None, "b"), "error: a -> b: No such file or directory"),
        (
            OSError(28, "No space left on device"),
            NO_ROOM,
        ),
        (OSError("no model\nis there"), "error: no model is there"),
        (OSError(), "error: OSError"),
    ],
    ids=["ours", "permission", "rename", "full", "text", "bare"],
)
def test_a_users_mistake_and_what_the_system_refuses_are_one_line_and_status_2(
    error: Exception, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def command() -> None:
        raise error

    with pytest.raises(SystemExit) as stopped:
        run(command)
    assert stopped.value.code == 2 and capsys.readouterr().err == f"{line}\n"


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(KeyError):
        run(lambda: {}["missing"])


MISTAKES: dict[str, list[str]] = {
    "generator.main": ["fit", "--model.model_name", "x", "--data.data_path", "y", "--model.max_oup_seq_len", "5"],
    "retrieval.main": ["fit", "--model.model_name", "x", "--data.data_path", "y", "--model.max_seq_len", "5"],
    "generator.suggest": ["⊢ p", "--ckpt_path", "gone.ckpt"],
    "generator.export": ["--ckpt_path", "gone.ckpt", "--output_dir", "out"],
    "generator.prepare": ["--output_dir", "file/below"],
    "generator.instruct_convert": ["--data_path", "gone", "--output_dir", "out", "--template", "ntp-st"],
    "generator.environments.propositional_benchmark": ["--output_dir", "out", "--num_theorems", "1"],
    "generator.domains.__main__": ["solve", "[11+11-]", "--writer", "dsl"],
    "retrieval.index": ["--ret_ckpt_path", "gone.ckpt", "--corpus_path", "gone.jsonl", "--output_dir", "out"],
    "retrieval.bm25": ["--data_path", "gone", "--corpus_path", "gone.jsonl", "--output_dir", "out"],
    "retrieval.predict": [
        *("--ret_ckpt_path", "gone.ckpt", "--data_path", "gone", "--corpus_path", "gone.jsonl", "--output_dir", "out"),
    ],
    "retrieval.neighbors": ["--data_path", "gone", "--output_dir", "out"],
    "retrieval.fuse": [
        *("--parts", "gone", "--data_path", "gone", "--corpus_path", "gone.jsonl", "--output_dir", "out"),
    ],
    "retrieval.evaluate": ["--data_path", "gone", "--corpus_path", "gone.jsonl", "--predictions", "gone"],
}


@pytest.mark.parametrize("module", MISTAKES)
def test_every_command_ends_a_mistake_in_the_same_way(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    monkeypatch.setattr(sys, "argv", [module, *MISTAKES[module]])
    with pytest.raises(SystemExit) as stopped:
        importlib.import_module(module).cli()
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert stopped.value.code == 2 and last.startswith("error: ")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_subcommand_takes_yaml_and_is_named_in_its_help(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "some.yaml").write_text("k: 7\nnames: [y]\n", encoding="utf-8")
    words = ["--config", str(tmp_path / "some.yaml"), "--data_path", "d", "--k", "8"]
    assert parse_arguments(convert, words, subcommand="texts turn")["names"] == ["y"]
    assert parse_arguments(convert, words, subcommand="texts turn")["k"] == 8
    with pytest.raises(SystemExit):
        parse_arguments(convert, ["--help"], subcommand="texts turn")
    assert capsys.readouterr().out.startswith("usage: python -m texts turn [")
    with pytest.raises(SystemExit):  # a command without subcommands has no --config
        parse_arguments(convert, words)


def test_a_module_that_is_run_is_named_in_its_help() -> None:
    for module in ("generator.export", "retrieval.evaluate"):
        done = subprocess.run(
            [sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert done.stdout.startswith(f"usage: python -m {module} --") and done.stderr == ""
