"""A folder that brings code of its own is refused, and never asks: its question would be answered from standard input,
where a state to prove may stand."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from common import ConfigError, DataError, NextstepError, load_tokenizer
from generator import load_generator
from generator.architectures.decoder_only import build_causal
from generator.architectures.encoder_decoder import build_seq2seq
from generator.export import export
from retrieval.model import PremiseRetriever
from retrieval.training.checkpoints import read_shards
from tests.fakes import TINY
from tests.generator.causal_fakes import build

ROOT = Path(__file__).parents[1]
CODE = """
import pathlib
pathlib.Path(__file__).with_name("ran").touch()
from transformers import PreTrainedConfig
class C(PreTrainedConfig):
    model_type = "evil"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model whose configuration and tokenizer name a module of its own; what it wrote would lie beside it."""
    path = tmp_path / "evil"
    path.mkdir()
    (path / "evil.py").write_text(CODE)
    auto_map = {"AutoConfig": "evil.C", "AutoTokenizer": ["evil.C", None], "AutoModelForCausalLM": "evil.C"}
    config = {"model_type": "evil", "architectures": ["E"], "auto_map": auto_map}
    (path / "config.json").write_text(json.dumps(config))
    (path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "E", "auto_map": auto_map}))
    return path


def ran(folder: Path) -> bool:
    caches = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface")) / "modules"
    return bool(list(folder.parent.rglob("ran")) or list(caches.rglob("evil*/ran")))


WAYS = {
    "generator": lambda folder, other: load_generator(folder),
    "tokenizer": lambda folder, other: load_tokenizer(folder),
    "encoder-decoder": lambda folder, other: build_seq2seq(folder),
    "decoder-only model": lambda folder, other: build_causal(folder, build().tokenizer),
    "retriever": lambda folder, other: PremiseRetriever.load(folder),
    "export": lambda folder, other: export(folder, other / "out"),
    "tokenizer of an architecture": lambda folder, other: (
        build_seq2seq({**TINY}) and load_tokenizer({**TINY, "tokenizer": str(folder)})
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_no_code_of_a_folder_is_run_and_no_question_asked(way, folder, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("builtins.input", lambda *args: asked.append(args) or "y")
    with pytest.raises(NextstepError) as refused:
        WAYS[way](folder, tmp_path)
    assert "evil" in str(refused.value) and "\n" not in str(refused.value)
    assert not asked and not ran(folder)


class Call:
    """What pickle makes a call of."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


def test_a_shard_that_names_a_call_is_not_read(tmp_path, monkeypatch):
    """DeepSpeed's own reader unpickles; it is not reached."""
    marker, read = tmp_path / "ran", []
    reader = ModuleType("deepspeed.utils.zero_to_fp32")
    reader.get_fp32_state_dict_from_zero_checkpoint = read.append
    for name in ("deepspeed", "deepspeed.utils", reader.__name__):
        monkeypatch.setitem(sys.modules, name, reader)
    folder = tmp_path / "checkpoint"
    (folder / "step1").mkdir(parents=True)
    (folder / "latest").write_text("step1")
    torch.save({"module": {}}, folder / "step1" / "mp_rank_00_model_states.pt")
    torch.save({"optimizer": Call(marker)}, folder / "step1" / "zero_optim_states.pt")
    with pytest.raises(DataError, match=r"zero_optim_states\.pt: would run \S+, which is no part of a checkpoint"):
        read_shards(folder)
    assert not marker.exists() and not read


def test_standard_input_is_a_state_and_no_answer(folder):
    command = [sys.executable, "-m", "generator.suggest", "--ckpt_path", str(folder)]
    done = subprocess.run(command, input="y\n", capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2 and done.stderr.strip().splitlines()[-1].startswith("error: ")
    assert "Traceback" not in done.stderr and not ran(folder)


def test_every_call_that_loads_from_a_folder_says_so():
    for path in [ROOT / "common.py", *(ROOT / "generator").rglob("*.py"), *(ROOT / "retrieval").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".from_pretrained"):
                options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                is_concrete = ast.unparse(node.func) == "ByT5Tokenizer.from_pretrained"
                assert is_concrete or options.get("trust_remote_code") == "False", f"{path}:{node.lineno}"


def test_a_tokenizer_without_code_still_loads(tmp_path):
    build_seq2seq(TINY).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="no tokenizer"):
        load_tokenizer(tmp_path / "nothing")
