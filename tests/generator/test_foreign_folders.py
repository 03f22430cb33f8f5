"""Folders that other programs wrote, or that broke on their way: a line that says what to do for all that load them."""

import json
import pickle
from pathlib import Path

import pytest
import torch

from common import NextstepError
from generator import load_generator
from generator.export import export
from retrieval.model import PremiseRetriever
from tests.fakes import save_pretrained
from tests.generator.families import DECODER_ONLY


class Call:
    """What pickle makes a call of."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


def change(name, **values):
    def broken(folder):
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | values), encoding="utf-8")

    return broken


def write(name, content):
    return lambda folder: (folder / name).write_bytes(content)


def cut(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])


def pickled(save):
    def broken(folder):
        (folder / "model.safetensors").unlink()
        save({"weights": Call(folder / "ran")}, folder / "pytorch_model.bin")

    return broken


def plainly_pickled(content, path):
    path.write_bytes(pickle.dumps(content))


CASES = {
    "truncated weights": (cut, "truncated or broken.*copy the folder again"),
    "weights that are none": (write("model.safetensors", b"\xff" * 64), "truncated or broken"),
    "poisoned weights": (pickled(torch.save), "could run code; convert them to safetensors"),
    "a poisoned pickle": (pickled(plainly_pickled), "could run code; convert them to safetensors"),
    "an old file of torch": (
        pickled(lambda content, path: torch.save(content, path, _use_new_zipfile_serialization=False)),
        "could run code; convert them to safetensors",
    ),
    "a text for a number": (change("config.json", vocab_size="many"), "vocab_size"),
    "a list for a number": (change("config.json", vocab_size=[1]), "vocab_size"),
    "no layers": (change("config.json", num_layers=0, n_layer=0), "must be a whole number from 1 to 1000"),
    "layers without end": (change("config.json", num_layers=2**31, n_layer=2**31), "a whole number from 1 to 1000"),
    "no dropout": (change("config.json", dropout_rate=float("nan"), attn_pdrop=float("nan")), "drop.* is nan"),
    "no JSON": (write("config.json", b"{"), "config"),
    "a list": (write("config.json", b"[]"), ""),
    "not UTF-8": (write("config.json", b'{"model_type": "\xe9"}'), ""),
    "a byte-order mark": (write("tokenizer_config.json", b'\xef\xbb\xbf{"tokenizer_class": "ByT5Tokenizer"}'), "BOM"),
    "a tokenizer of no kind": (write("tokenizer_config.json", b'{"tokenizer_class": 5}'), "tokenizer"),
}


@pytest.mark.parametrize("broken, reason", CASES.values(), ids=CASES)
def test_a_broken_folder_is_told_in_a_line_by_all_that_load_it(broken, reason, family, tmp_path):
    folder = save_pretrained(family.build(), tmp_path / "model")
    broken(folder)
    for use in (load_generator, lambda path: export(path, tmp_path / "out"), PremiseRetriever.load):
        with pytest.raises(NextstepError, match=reason) as refused:
            use(folder)
        assert str(folder) in str(refused.value) and "\n" not in str(refused.value)
    assert not (folder / "ran").exists() and not list(tmp_path.glob("out*"))


@pytest.mark.parametrize(
    "values",
    [
        {"eos_token_id": "x"},
        {"eos_token_id": [1, None]},
        {"num_beams": "x"},
        {"pad_token_id": {}},
        {"decoder_start_token_id": [1]},
        [],
    ],
    ids=str,
)
def test_odd_settings_of_generation_are_told(values, family, tmp_path):
    folder = save_pretrained(family.build(), tmp_path / "model")
    (folder / "generation_config.json").write_text(json.dumps(values))
    try:
        generator = load_generator(folder, **({} if family.name == "encoder_decoder" else {"template": None}))
        generator.generate("⊢ p", "A.lean", "t", (1, 1), 2)
    except NextstepError as refused:
        assert "\n" not in str(refused)


def test_sound_weights_of_torch_are_still_read(family, tmp_path):
    model = family.build()
    folder = save_pretrained(model, tmp_path / "model")
    (folder / "model.safetensors").unlink()
    torch.save(model.generator.state_dict(), folder / "pytorch_model.bin")
    options = {} if family.name == "encoder_decoder" else {"template": None}
    loaded = load_generator(folder, **options)
    for name, weight in model.generator.state_dict().items():
        torch.testing.assert_close(loaded.generator.state_dict()[name], weight)


def test_a_tokenizer_that_reads_nothing_is_told(tmp_path):
    folder = save_pretrained(DECODER_ONLY.build(), tmp_path / "model")
    (folder / "tokenizer_config.json").unlink()
    with pytest.raises(NextstepError, match="the tokenizer|no tokenizer"):
        load_generator(folder, template=None)
