"""Models in .gguf files: read, fine-tuned, saved and exported as those of folders are."""

import shutil
import struct
import sys
from pathlib import Path

import pytest
import torch
import yaml
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, PreTrainedTokenizerFast

from common import ConfigError, DataError, load_tokenizer
from generator import load_generator
from generator.architectures.frozen import BodyOptions, build_body, build_network, roles_of
from generator.causal import CausalGenerator
from generator.export import export
from generator.model import RetrievalAugmentedGenerator
from generator.nearest.make import nearest
from retrieval.encoder import build_encoder
from retrieval.training import gguf_files
from retrieval.training.checkpoints import absolute
from retrieval.training.gguf_files import read_header
from tests.fakes import quiet_trainer, save_checkpoint, write_splits
from tests.generator.causal_fakes import SIZES, data
from tests.generator.cli_fakes import run

pytest.importorskip("gguf")

from tests.generator.gguf_fakes import write_gguf, write_t5_header

ROOT = Path(__file__).resolve().parents[2]
IDS = torch.arange(5, 40)[None]
TEXTS = ["p q : Prop\nh : p ∧ q\n⊢ q ∧ p", "a <|endoftext|> b", " two  spaces ?_"]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory):
    """A tiny Llama as float32 in a .gguf file, the file in 8 bits, and the model."""
    folder = tmp_path_factory.mktemp("gguf")
    write_gguf(folder / "eight.gguf", "Q8_0")
    return folder / "tiny.gguf", folder / "eight.gguf", write_gguf(folder / "tiny.gguf")


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(input_ids=IDS).logits
    return found


# --------------------------------------------------------------------------------------------- reading


def test_a_file_is_the_model_that_was_written(written):
    path, _, original = written
    found = load_generator(path, template=None)
    assert torch.equal(logits(found.generator), logits(original))
    assert found.generator.config.rope_parameters["rope_theta"] == 5000.0
    assert found.max_seq_len == 256, "the positions that it has"
    assert found.generate(TEXTS[0], "A.lean", "t", (1, 1), 3)


def test_its_tokenizer_is_the_one_that_was_written(written):
    path, _, _ = written
    own, original = load_tokenizer(path), load_tokenizer(path.parent / "bpe")
    assert [own(text)["input_ids"] for text in TEXTS] == [original(text)["input_ids"] for text in TEXTS]
    assert [own.decode(own(text)["input_ids"]) for text in TEXTS] == TEXTS
    assert own.get_vocab() == original.get_vocab(), "nothing that the model has no embedding for"
    assert (own.pad_token_id, own.bos_token_id, own.eos_token_id) == (0, 1, 2) and own.name_or_path == str(path)


def test_a_tokenizer_is_read_once_and_each_asker_has_its_own(written, tmp_path, monkeypatch):
    path = Path(shutil.copy(written[0], tmp_path / "again.gguf"))
    read: list[str] = []
    make = gguf_files.PreTrainedTokenizerFast.from_pretrained

    def note(*args, **options):
        read.append(options["gguf_file"])
        return make(*args, **options)

    monkeypatch.setattr(gguf_files.PreTrainedTokenizerFast, "from_pretrained", note)
    first, second = load_tokenizer(path), load_tokenizer(path)
    assert read == ["again.gguf"] and first is not second
    first.add_tokens(["another"])
    assert len(first) == len(second) + 1
    shutil.copy(written[1], path)
    load_tokenizer(path)
    assert len(read) == 2, "another file of the same name"


def test_the_whole_file_is_read_for_the_configuration_and_for_the_weights_and_no_third_time(
    written, tmp_path, monkeypatch
):
    """Each costs 12 s for a vocabulary of 49,152 tokens; the table of names, of each module, as much again."""
    import gguf

    path = Path(shutil.copy(written[0], tmp_path / "model.gguf"))
    readers, tables = [], []
    reader, table = gguf.GGUFReader, gguf.get_tensor_name_map
    monkeypatch.setattr(gguf, "GGUFReader", lambda *args: readers.append(1) or reader(*args))
    counted = lambda *args: tables.append(1) or table(*args)  # noqa: E731
    monkeypatch.setattr(gguf, "get_tensor_name_map", counted)
    found = load_generator(path, template=None)
    assert torch.equal(logits(found.generator), logits(written[2]))
    assert len(readers) == 2 and len(tables) == 1 and gguf.get_tensor_name_map is counted


def test_what_stands_beside_a_file_is_not_read(written, tmp_path):
    """Another model's tokenizer, without EOS and with other ids, and adapters of whatever."""
    path = Path(shutil.copy(written[0], tmp_path / "model.gguf"))
    other = Tokenizer(WordLevel({"[UNK]": 0, "p": 1}, unk_token="[UNK]"))
    PreTrainedTokenizerFast(tokenizer_object=other, unk_token="[UNK]").save_pretrained(tmp_path)
    for name in ("config.json", "generation_config.json", "adapter_config.json"):
        (tmp_path / name).write_text('{"model_type": "t5", "peft_type": "LORA", "base_model_name_or_path": "none"}')
    own, original = load_tokenizer(path), load_tokenizer(written[0].parent / "bpe")
    assert own.eos_token_id == 2 and own.get_vocab() == original.get_vocab()
    assert [own(text)["input_ids"] for text in TEXTS] == [original(text)["input_ids"] for text in TEXTS]
    found = load_generator(path, template=None)
    assert torch.equal(logits(found.generator), logits(written[2]))
    assert found.generator.config.name_or_path == str(path)


def test_a_file_of_a_model_that_has_a_class_of_tokenizers_is_left_to_it(written, tmp_path, monkeypatch):
    path = Path(shutil.copy(written[0], tmp_path / "classed.gguf"))
    monkeypatch.setitem(gguf_files.TOKENIZER_MAPPING_NAMES, "llama", "PreTrainedTokenizerFast")
    own, original = load_tokenizer(path), load_tokenizer(written[0].parent / "bpe")
    assert own.eos_token_id == 2 and own(TEXTS[0])["input_ids"] == original(TEXTS[0])["input_ids"]


@pytest.mark.parametrize("kind", [AutoModel, AutoModelForCausalLM])
def test_what_was_read_is_saved_as_any_other_model(kind, written, tmp_path):
    """transformers refuses that of a model which it still takes for quantised."""
    model = gguf_files.read_model(kind, written[1])
    model.save_pretrained(tmp_path / "out")
    again = kind.from_pretrained(tmp_path / "out")
    assert all(torch.equal(one, again.state_dict()[name]) for name, one in model.state_dict().items())
    assert "quantization_config" not in (tmp_path / "out" / "config.json").read_text()


def test_quantised_weights_become_plain_ones_and_a_line_says_from_what(written, monkeypatch):
    _, path, original = written
    said: list[str] = []
    monkeypatch.setattr(gguf_files, "rank_zero_info", said.append)
    model = CausalGenerator(str(path), **SIZES)
    assert said == [f"{path}: 8.6 bits a weight (15 x Q8_0, 5 x F32), dequantised to 32"]
    difference = (logits(model.generator) - logits(original)).abs().max()
    assert 0 < difference < 1 and {p.dtype for p in model.parameters()} == {torch.float32}
    assert "quantization_config" not in model.generator.config.to_dict()
    assert model.half().generator.dtype == torch.float16


def test_it_is_the_body_of_a_frozen_transformer(written):
    path, _, original = written
    words = {"vocab_size": 91, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 0}
    network = build_network(path, words, BodyOptions(num_layers=1))
    roles = roles_of(network)
    weights = original.state_dict()
    for name, role in roles.items():
        assert (role in ("input", "output")) or torch.equal(network.get_parameter(name), weights[name])
    assert len(build_body(path).layers) == 2


def test_a_retriever_reads_it_too(written):
    path, _, original = written
    encoder = build_encoder(path)
    with torch.no_grad():
        found, expected = encoder.eval()(input_ids=IDS), original.model(input_ids=IDS)
    assert torch.equal(found.last_hidden_state, expected.last_hidden_state)


# ----------------------------------------------------------------------------- training, checkpoints, export


def test_a_fine_tuned_file_is_loaded_exported_and_read_without_it(written, tmp_path, monkeypatch):
    shutil.copy(written[1], tmp_path / "model.gguf")
    shutil.copytree(written[1].parent / "bpe", tmp_path / "bpe")
    monkeypatch.chdir(tmp_path)
    model = CausalGenerator("model.gguf", template="llmstep", num_beams=2, lr=1e-3, warmup_steps=0, **SIZES)
    assert model.model_name == model.hparams["model_name"] == str(tmp_path / "model.gguf")
    trainer = quiet_trainer(tmp_path, max_steps=2, limit_val_batches=0)
    module = data(write_splits(tmp_path / "data"))
    module.model_name = str(tmp_path / "model.gguf")
    trainer.fit(model, module)
    trainer.save_checkpoint(tmp_path / "trained.ckpt")
    expected = logits(model.generator)
    monkeypatch.chdir("/")
    loaded = load_generator(tmp_path / "trained.ckpt")
    assert torch.equal(logits(loaded.generator), expected)
    done = export(tmp_path / "trained.ckpt", tmp_path / "out")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert done.max_difference < 1e-5 and torch.allclose(logits(again), expected, atol=1e-5)
    assert "quantization_config" not in (tmp_path / "out" / "config.json").read_text()
    assert again.config.rope_parameters["rope_theta"] == 5000.0


def test_the_configuration_for_coq_trains_a_file_as_a_whole_in_bf16(written, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch, "compile", lambda layers, **options: layers)  # a minute
    values = yaml.safe_load((ROOT / "configs" / "generator" / "coq_smollm2.yaml").read_text())
    model, module, trainer = values["model"]["init_args"], values["data"]["init_args"], values["trainer"]
    assert module["data_path"] == "data/coq_stdlib/random" and model["model_name"].startswith("models/SmolLM2-135M")
    nearest(write_splits(tmp_path / module["data_path"]), tmp_path / module["nearest_path"], max_share=1.0)
    model["model_name"] = str(written[1])
    module |= {"max_seq_len": 256}  # the positions of the tiny model
    trainer |= {"max_steps": 2, "val_check_interval": 2, "limit_val_batches": 0}
    made = run("fit", tmp_path, values)
    assert made.model.generator.config._attn_implementation == "eager" and made.model.template == "nextstep"
    assert made.trainer.datamodule.datasets["train"].example(0, 0).state.startswith("5 ")  # of five tactics
    assert {p.dtype for p in made.model.parameters()} == {torch.float32} and made.trainer.precision == "bf16-mixed"
    (checkpoint,) = (tmp_path / "runs" / "coq_smollm2" / "version_0" / "checkpoints").glob("last.ckpt")
    assert load_generator(checkpoint).generate(TEXTS[0], "A.v", "t", (1, 1), 2)


def test_adapters_are_trained_on_a_file_and_say_where_it_is(written, tmp_path, monkeypatch):
    pytest.importorskip("peft")
    shutil.copy(written[0], tmp_path / "model.gguf")
    monkeypatch.chdir(tmp_path)
    lora = {"r": 2, "target_modules": ["q_proj"]}
    model = CausalGenerator("model.gguf", template="llmstep", lora=lora, **SIZES)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    checkpoint = save_checkpoint(model, tmp_path / "adapters.ckpt")
    expected = logits(model.generator)
    monkeypatch.chdir("/")
    assert torch.equal(logits(CausalGenerator.load(checkpoint).generator), expected)
    assert export(checkpoint, tmp_path / "out").max_difference < 1e-4
    (tmp_path / "model.gguf").unlink()
    with pytest.raises(DataError, match=r"model\.gguf' that they were trained on cannot be loaded: .*no such file"):
        CausalGenerator.load(checkpoint)


def test_a_file_is_exported_as_it_is(written, tmp_path):
    done = export(written[0], tmp_path / "out")
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(tmp_path / "out")), logits(written[2]))
    assert done.max_difference < 1e-5
    assert AutoConfig.from_pretrained(tmp_path / "out").vocab_size == 300


def test_its_path_is_found_from_anywhere(written, monkeypatch):
    monkeypatch.chdir(written[0].parent)
    assert absolute("tiny.gguf") == str(written[0])
    assert absolute({"body": "tiny.gguf", "tokenizer": "bytes"}) == {"body": str(written[0]), "tokenizer": "bytes"}
    assert absolute({"d_model": 8, "tokenizer": None}) == {"d_model": 8, "tokenizer": None}


# ------------------------------------------------------------------------------------------- refusals


def test_what_is_missing_broken_or_truncated_is_named(written, tmp_path):
    content = written[1].read_bytes()
    files = {
        "missing.gguf": (None, "there is no such file"),
        "text.gguf": (b"a text that is no model", "does not begin with GGUF"),
        "empty.gguf": (b"", "does not begin with GGUF"),
        "header.gguf": (content[:900], "its header is truncated or broken"),
        "cut.gguf": (content[:-5000], r"has [\d,]+ bytes of at least [\d,]+, so it is truncated"),
        "old.gguf": (b"GGUF" + struct.pack("<IQQ", 1, 1, 1), "is version 1 of GGUF"),
        "huge.gguf": (content[:8] + struct.pack("<Q", 2**60) + content[16:], "truncated or broken"),
    }
    for name, (written_bytes, message) in files.items():
        if written_bytes is not None:
            (tmp_path / name).write_bytes(written_bytes)
        for call in (load_generator, load_tokenizer, trained, taken_as_body, exported):
            with pytest.raises((DataError, ConfigError), match=message):
                call(tmp_path / name)


def trained(path: Path) -> None:
    CausalGenerator(str(path))


def taken_as_body(path: Path) -> None:
    build_network(path, {"vocab_size": 91})


def exported(path: Path) -> None:
    export(path, path.parent / "out")


def test_an_architecture_that_transformers_does_not_read_is_named(written, tmp_path):
    content = written[0].read_bytes().replace(b"llama", b"zebra")
    (tmp_path / "zebra.gguf").write_bytes(content)
    with pytest.raises(ConfigError, match="zebra.gguf' cannot be loaded: .*architecture zebra is not supported"):
        load_generator(tmp_path / "zebra.gguf")


def test_without_the_package_the_extra_is_named(written, monkeypatch):
    gguf_files._header.cache_clear()
    monkeypatch.setitem(sys.modules, "gguf", None)
    for call in (load_tokenizer, load_generator, read_header):
        with pytest.raises(ConfigError, match=r"tiny\.gguf, .*needs the package gguf; pip install -e '\.\[gguf\]'"):
            call(written[0])


def test_a_t5_of_which_transformers_would_make_another_model_is_refused(tmp_path):
    path = tmp_path / "t5.gguf"
    write_t5_header(path)
    for call in (RetrievalAugmentedGenerator, build_encoder, load_generator, load_tokenizer):
        with pytest.raises(ConfigError, match=r"t5\.gguf.* is of the T5 family, .*give the hub id or the folder"):
            call(str(path))


def test_an_encoder_decoder_refuses_a_decoder_only_file(written):
    with pytest.raises(ConfigError, match="it is no encoder-decoder model"):
        RetrievalAugmentedGenerator(str(written[0]))
