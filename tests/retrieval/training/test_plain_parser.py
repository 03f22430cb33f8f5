"""Files that the command line names are read or refused in one line, quickly, and as architecture files are."""

import subprocess
import sys
from pathlib import Path

import pytest
from jsonargparse import ActionConfigFile

from common import ConfigError, load_tokenizer, load_yaml, read_architecture
from retrieval.training.plain_parser import PlainParser

BOMB = "a0: &a0 x\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10))
BROKEN = {
    "a cycle": (b"lr: &t [*t]\n", "[*]t stands for nothing above it, or for what it stands in"),
    "an alias of nothing": (b"lr: *t\n", "[*]t stands for nothing above it"),
    "aliases of aliases": (BOMB.encode(), "has over 100,000 entries with what its aliases repeat"),
    "nested maps": (b"lr: " + b"{a: " * 3000 + b"1" + b"}" * 3000, "it is nested over 50 deep"),
    "nested lists": (b"- " * 3000 + b"1", "it is nested over 50 deep"),
    "no UTF-8": ("lr: café\n".encode("latin-1"), "UTF-8|utf-8"),
    "no YAML": (b"lr: [1\nb: 2", "line 2"),
    "control characters": (b"lr: \x00\x07", "character"),
}


@pytest.fixture
def parser():
    made = PlainParser()
    made.add_argument("--config", action=ActionConfigFile)
    made.add_argument("--lr", type=float, default=1.0)
    made.add_argument("--name", type=str, default="")
    return made


@pytest.mark.parametrize("content, reason", BROKEN.values(), ids=BROKEN)
def test_what_cannot_be_read_is_one_line_in_both_places(content, reason, parser, tmp_path, capsys):
    path = tmp_path / "given.yaml"
    path.write_bytes(content)
    with pytest.raises(SystemExit) as ended:
        parser.parse_args(["--config", str(path)])
    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2 and line.startswith(f"error: {path}")
    for read in (read_architecture, load_tokenizer):
        with pytest.raises(ConfigError, match=reason) as refused:
            read(path)
        assert str(path) in str(refused.value) and "\n" not in str(refused.value)


def test_one_reader_of_numbers(parser, tmp_path):
    path = tmp_path / "given.yaml"
    path.write_text("lr: 1e-06\nname: '1e-06'\n")
    assert read_architecture(path) == {"lr": 1e-06, "name": "1e-06"}
    parsed = parser.parse_args(["--config", str(path)])
    assert parsed.lr == 1e-06 and parsed.name == "1e-06"
    assert parser.parse_args(["--lr", "1e-06", "--name", "*x"]).name == "*x", "a text is no alias"


def test_anchors_that_end_are_read(parser, tmp_path):
    text = "base: &base {d_model: 8, list: &l [1, 2]}\nother: {<<: *base, again: *l}\n"
    assert load_yaml(text)["other"] == {"d_model": 8, "list": [1, 2], "again": [1, 2]}
    path = tmp_path / "given.yaml"
    path.write_text("name: &name x\nlr: 0.5\n")
    assert parser.parse_args(["--config", str(path)]).name == "x"


def test_commands_do_without_lightning():
    root = Path(__file__).parents[3]
    code = "import sys, generator.environments.propositional_benchmark; assert 'pytorch_lightning' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)
