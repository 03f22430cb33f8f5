"""The token that ends completions in training ends what is written, in every engine, checkpoint and export."""

import json

import pytest
import torch
import yaml
from huggingface_hub.errors import StrictDataclassFieldValidationError
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from common import ByteTokenizer, ConfigError
from generator.architectures.decoder_only import build_causal
from generator.architectures.traits import token_ids
from generator.causal import CausalGenerator
from generator.engines import make_engine
from generator.export import export, load_source
from tests.fakes import save_checkpoint
from tests.generator.causal_fakes import GPT2, build, save_bpe

END = 2  # EOS of the BPE


@pytest.fixture
def bpe(tmp_path):
    """Folder of a tokenizer of 300 tokens."""
    save_bpe(tmp_path / "bpe")
    return str(tmp_path / "bpe")


def saved(path, **options):
    """Folder of a model that other programs have trained, with the BPE."""
    torch.manual_seed(0)
    config = GPT2Config(**{"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 400, "vocab_size": 300, **options})
    GPT2LMHeadModel(config).save_pretrained(path)
    save_bpe(path)
    return path


def ends(model):
    """What ends the candidates of a generator: for the engines, and in what checkpoints keep."""
    native = token_ids(model.generator, "eos_token_id")
    assert set(make_engine("transformers", model.generator, model.tokenizer, max_inp_seq_len=9).ends) == set(native)
    kept = model.architecture()["eos_token_id"]
    assert set(kept if isinstance(kept, list) else [kept]) == set(native)
    return native


def writing(model, token):
    """The generator, which now writes one token whatever it reads."""
    body, output = model.generator.transformer, torch.zeros_like(model.generator.lm_head.weight)
    output[token] = 1.0
    model.generator.lm_head.weight = torch.nn.Parameter(output)
    torch.nn.init.zeros_(body.ln_f.weight)
    torch.nn.init.ones_(body.ln_f.bias)
    return model.eval()


# -------------------------------------------------------------------------------------- from scratch


@pytest.mark.parametrize(("given", "size"), [({}, 300), ({"vocab_size": 320}, 320)], ids=["300", "320"])
def test_a_model_from_scratch_has_the_tokens_of_its_tokenizer(bpe, given, size):
    model = build({**GPT2, "tokenizer": bpe, **given})
    config = model.generator.config
    assert (config.pad_token_id, config.bos_token_id, config.eos_token_id) == (0, 1, END)
    assert config.vocab_size == size and ends(model) == [END] == [model.tokenizer.eos_token_id]


def test_what_an_architecture_says_itself_ends_candidates_too(bpe):
    assert ends(build({**GPT2, "tokenizer": bpe, "eos_token_id": 7})) == [END, 7]
    model = build()
    assert ends(model) == [1] and model.generator.config.vocab_size == 384, "of the bytes"


def test_the_architecture_in_a_file_keeps_its_tokenizer_in_checkpoints(bpe, tmp_path, monkeypatch):
    (tmp_path / "model.yaml").write_text(yaml.safe_dump({**GPT2, "tokenizer": "bpe"}))
    monkeypatch.chdir(tmp_path)
    path = save_checkpoint(build("model.yaml"), tmp_path / "m.ckpt")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert len(CausalGenerator.load(path).tokenizer) == 300


def test_a_tokenizer_named_by_a_relative_path_is_found_from_anywhere(bpe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = build({**GPT2, "tokenizer": "bpe"})
    assert model.hparams["model_name"]["tokenizer"] == bpe, "what the command line takes from a checkpoint"


def test_an_architectures_weights_are_float32_whatever_it_says():
    model = build_causal({**GPT2, "dtype": "bfloat16"}, ByteTokenizer())
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


# -------------------------------------------------------------------------------------------- loaded


@pytest.mark.parametrize(
    ("own", "expected"),
    [({"eos_token_id": None}, [END]), ({"eos_token_id": 9}, [END, 9]), ({}, [END]), ({"eos_token_id": END}, [END])],
    ids=["none", "another", "unknown", "same"],
)
def test_a_loaded_model_ends_with_its_tokenizers_eos_and_its_own(tmp_path, own, expected):
    assert ends(build(str(saved(tmp_path / "model", **own)))) == expected


@pytest.mark.parametrize("engine", ["native", "transformers"])
@pytest.mark.parametrize("own", [None, 9], ids=["no eos", "another eos"])
def test_a_completion_ends_where_training_ends_it(tmp_path, engine, own):
    model = writing(build(str(saved(tmp_path / "model", eos_token_id=own)), engine=engine), END)
    assert model.engine.propose(["⊢ p"], 1, model.decoding())[0][0] == ("", pytest.approx(0.0, abs=1e-3))
    model = writing(model, 50)
    assert len(model.tokenizer(model.engine.propose(["⊢ p"], 1, model.decoding())[0][0][0])["input_ids"]) > 9


def test_what_generation_settings_alone_end_with_outlasts_a_checkpoint(tmp_path):
    path = saved(tmp_path / "model", eos_token_id=9)
    settings = json.loads((path / "generation_config.json").read_text())
    (path / "generation_config.json").write_text(json.dumps({**settings, "eos_token_id": [9, 11]}))
    model = build(str(path))
    assert ends(model) == [END, 9, 11]
    assert ends(CausalGenerator.load(save_checkpoint(model, tmp_path / "m.ckpt"))) == [END, 9, 11]


def test_exports_end_with_the_same(tmp_path):
    path = saved(tmp_path / "model", eos_token_id=9)
    export(save_checkpoint(build(str(path)), tmp_path / "m.ckpt"), tmp_path / "one")
    export(path, tmp_path / "two")
    for name in ("one", "two"):
        loaded = AutoModelForCausalLM.from_pretrained(tmp_path / name)
        assert loaded.generation_config.eos_token_id == loaded.config.eos_token_id == [END, 9]


def test_a_configuration_with_room_for_one_token_only_keeps_its_own(tmp_path, monkeypatch):
    """A few of transformers' are so."""
    path, assign = saved(tmp_path / "model", eos_token_id=9), GPT2Config.__setattr__

    def refuse_lists(config, name, value):
        if isinstance(value, list) and name == "eos_token_id":
            raise StrictDataclassFieldValidationError(name, TypeError("no int"))
        assign(config, name, value)

    monkeypatch.setattr(GPT2Config, "__setattr__", refuse_lists)
    model = build(str(path))
    assert model.generator.config.eos_token_id == 9 and set(token_ids(model.generator, "eos_token_id")) == {END, 9}
    export(save_checkpoint(model, tmp_path / "m.ckpt"), tmp_path / "out")
    assert json.loads((tmp_path / "out" / "generation_config.json").read_text())["eos_token_id"] == [END, 9]


def test_a_checkpoint_from_before_its_tokenizer_was_asked_ends_so_too(bpe, tmp_path):
    path = save_checkpoint(build({**GPT2, "tokenizer": bpe}), tmp_path / "m.ckpt")
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["generator"]["architecture"]["eos_token_id"] = None
    torch.save(checkpoint, path)
    assert ends(CausalGenerator.load(path)) == [END]
    assert load_source(path).model.generation_config.eos_token_id == END


# ------------------------------------------------------------------------------------------ refusals


def test_more_tokens_than_embeddings_are_refused(bpe, tmp_path):
    message = "the tokenizer has 300 tokens, but the model's vocabulary is 299"
    with pytest.raises(ConfigError, match=message):
        build({**GPT2, "tokenizer": bpe, "vocab_size": 299})
    path = saved(tmp_path / "model", vocab_size=299)
    for use in (build, CausalGenerator.load, load_source):
        with pytest.raises(ConfigError, match=message):
            use(str(path))


def test_ids_that_a_tokenizer_leaves_out_need_embeddings_too(tmp_path):
    path = saved(tmp_path / "model")
    written = json.loads((path / "tokenizer.json").read_text(encoding="utf-8"))
    written["model"]["vocab"]["far"] = 310
    (path / "tokenizer.json").write_text(json.dumps(written), encoding="utf-8")
    with pytest.raises(ConfigError, match="has 311 tokens"):
        build(str(path))
