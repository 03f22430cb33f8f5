"""An exported folder is the same model to transformers 4, which many provers have.

Installs that version into a folder of its own, so it is left out of the default run.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from generator.export import export
from generator.model import RetrievalAugmentedGenerator
from tests.fakes import EIGHT, TINY, save_checkpoint
from tests.generator.decoding_fakes import randomize

PACKAGES = ("transformers==4.57.6", "tokenizers>=0.22,<=0.23.0", "huggingface_hub>=0.34,<1.0")
NEEDS = ("requests", "urllib3", "certifi", "charset_normalizer")  # of this huggingface_hub, and not of the newer one
SCRIPT = """
import json, sys
import torch, transformers
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer
folder, states = sys.argv[1], json.loads(sys.argv[2])
model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
answers = []
for state in states:
    ids = tokenizer(state, return_tensors="pt")
    with torch.no_grad():
        logits = model(**ids, labels=ids["input_ids"]).logits[0, -1, :8].tolist()
        found = model.generate(**ids, num_beams=4, num_return_sequences=4, length_penalty=0.0, max_new_tokens=24)
    answers.append([logits, tokenizer.batch_decode(found, skip_special_tokens=True)])
print(json.dumps([transformers.__version__, tokenizer.decode(tokenizer("mpr ?_")["input_ids"][:-1]), answers]))
"""


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("transformers4")
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--target",
        str(folder),
        *PACKAGES,
        *NEEDS,
    ]
    done = subprocess.run(install, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"transformers 4 cannot be installed: {done.stderr[-300:]}")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("untied", [True, False], ids=["untied, as ByT5", "tied, as T5 1.0"])
def test_transformers_4_reads_the_same_model(untied: bool, older: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    made = RetrievalAugmentedGenerator({**TINY, "untied": untied, "tie_word_embeddings": not untied})
    randomize(made.generator, head_factor=4.0, eos_factor=1.5)
    export(save_checkpoint(made, tmp_path / "model.ckpt"), tmp_path / "model")
    states = [state for state, _ in EIGHT]
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "model"), json.dumps(states)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(older)})
    assert done.returncode == 0, done.stderr[-2000:]
    version, spaced, answers = json.loads(done.stdout.splitlines()[-1])
    assert version == "4.57.6" and spaced == "mpr ?_"
    model = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "model").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    for state, (logits, texts) in zip(states, answers, strict=True):
        ids = tokenizer(state, return_tensors="pt")
        with torch.no_grad():
            ours = model(**ids, labels=ids["input_ids"]).logits[0, -1, :8]
            options = {"num_beams": 4, "num_return_sequences": 4, "length_penalty": 0.0, "max_new_tokens": 24}
            found = model.generate(**ids, **options)
        torch.testing.assert_close(ours, torch.tensor(logits), atol=1e-4, rtol=1e-4)
        assert tokenizer.batch_decode(found, skip_special_tokens=True) == texts
