"""Checkpoints and folders become folders that other programs load, checked before they get their name."""

import json
import os
import re
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors import SafetensorError
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    T5Config,
    T5EncoderModel,
)

from common import ByteTokenizer, ConfigError, DataError, NextstepError
from generator.architectures.encoder_decoder import build_seq2seq
from generator.causal import CausalGenerator
from generator.engines import Decoding, make_engine
from generator.export import export, folders, load_source, main
from generator.model import RetrievalAugmentedGenerator
from generator.training.next_step_generator import CandidateOptions
from tests.fakes import TINY, save_checkpoint, save_pretrained
from tests.generator.decoding_fakes import randomize

STATE = "p q : Prop\nh : p ∧ q\n⊢ q ∧ p"


def generator(**overrides) -> RetrievalAugmentedGenerator:
    torch.manual_seed(0)
    model = RetrievalAugmentedGenerator(
        {**TINY, "dropout_rate": 0.1, **overrides}, num_beams=4, max_inp_seq_len=200, max_oup_seq_len=40
    )
    randomize(model.generator, eos_factor=1.5)
    return model.eval()


GPT2 = {"model_type": "gpt2", "n_embd": 24, "n_layer": 1, "n_head": 2, "n_positions": 400}
GPT2 |= {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}


def causal(model_name=GPT2, **options) -> CausalGenerator:
    torch.manual_seed(0)
    sizes = {"num_beams": 3, "max_seq_len": 352, "max_completion_len": 40}
    return CausalGenerator(model_name, **{"template": "llmstep", **sizes, **options}).eval()


@pytest.fixture
def model() -> RetrievalAugmentedGenerator:
    return generator()


@pytest.fixture
def ckpt_path(model, tmp_path) -> Path:
    return save_checkpoint(model, tmp_path / "model.ckpt")


def logits(model, **inputs):
    with torch.no_grad():
        return model.eval()(**inputs).logits


def test_a_checkpoint_becomes_a_folder_that_the_auto_classes_load(model, ckpt_path, tmp_path, capsys):
    main(["--ckpt_path", str(ckpt_path), "--output_dir", str(tmp_path / "out")])
    printed = capsys.readouterr().out
    assert re.search(r"wrote .*out: [\d,]+ parameters, float32\nlogits of 8 examples differ by at most \d", printed)
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    batch, target = tokenizer(STATE, return_tensors="pt"), tokenizer("exact h", return_tensors="pt")["input_ids"]
    torch.testing.assert_close(
        logits(loaded, **batch, labels=target), logits(model.generator, **batch, labels=target), atol=1e-5, rtol=1e-5
    )
    assert type(tokenizer).__name__ == "ByT5Tokenizer"
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".json", ".safetensors", ".md"}
    assert not list(tmp_path.glob("*.part"))


def test_the_fused_activation_is_exported_under_its_standard_name(model, ckpt_path, tmp_path):
    assert any(isinstance(part, torch.nn.GELU) for part in model.modules())
    export(ckpt_path, tmp_path / "out")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["feed_forward_proj"], config["dense_act_fn"]) == ("gated-gelu", "gelu_new")
    assert config["architectures"] == ["T5ForConditionalGeneration"] and config["dtype"] == "float32"


def test_generate_finds_the_generators_candidates_with_the_exported_settings(model, ckpt_path, tmp_path):
    export(ckpt_path, tmp_path / "out")
    settings = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert (settings["num_beams"], settings["length_penalty"], settings["max_length"]) == (4, 0.0, 41)
    assert settings["decoder_start_token_id"] == 0 and settings["early_stopping"] is False
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    found = loaded.generate(**tokenizer(STATE, return_tensors="pt"), num_return_sequences=4)
    engine = make_engine("native", model.generator, model.tokenizer, max_inp_seq_len=200)
    (expected,) = engine.propose([STATE], 4, Decoding(max_new_tokens=40))
    assert tokenizer.batch_decode(found, skip_special_tokens=True) == [text for text, _ in expected]


def test_one_beam_writes_settings_that_transformers_accepts(tmp_path):
    model = generator()
    model.candidates = CandidateOptions(num_beams=1)
    export(save_checkpoint(model, tmp_path / "model.ckpt"), tmp_path / "out")
    assert "length_penalty" not in json.loads((tmp_path / "out" / "generation_config.json").read_text())


def test_the_model_card_runs(ckpt_path, tmp_path, monkeypatch, capsys):
    export(ckpt_path, tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "# out\n" in card and "from `model.ckpt`" in card and str(tmp_path) not in card
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    exec(re.search(r"```python\n(.*?)```", card, re.DOTALL)[1], {})
    assert len(capsys.readouterr().out.splitlines()) >= 4


def test_a_hugging_face_folder_keeps_how_its_model_is_prompted(tmp_path):
    model = causal()
    done = export(save_checkpoint(model, tmp_path / "model.ckpt"), tmp_path / "one")
    written = (tmp_path / "one" / "nextstep.json").read_text(encoding="utf-8")
    name = "generator.causal.CausalGenerator"
    options = {
        name: value for name, value in model.kept_options().items() if name != "lora"
    }  # merged, if there are any
    assert json.loads(written) == {"format_version": 1, "class": name, "options": options}
    export(done.output_dir, tmp_path / "two")
    assert (tmp_path / "two" / "nextstep.json").read_text(encoding="utf-8") == written
    save_pretrained(model, tmp_path / "plain")
    export(tmp_path / "plain", tmp_path / "three")
    assert not (tmp_path / "three" / "nextstep.json").exists(), "nothing is known of it"


def test_adapters_are_added_to_a_bf16_model_in_float32(tmp_path):
    pytest.importorskip("peft")
    causal().generator.to(torch.bfloat16).save_pretrained(tmp_path / "base")
    ByteTokenizer().save_pretrained(tmp_path / "base")
    model = causal(str(tmp_path / "base"), lora={"r": 2, "dropout": 0.0})
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=1e-3)
    source = load_source(save_checkpoint(model, tmp_path / "lora.ckpt"))
    assert "lora" not in source.options
    adapted = {name: layer for name, layer in model.generator.named_modules() if hasattr(layer, "get_delta_weight")}
    assert adapted
    for name, layer in adapted.items():
        weight, change = layer.base_layer.weight, layer.get_delta_weight("default").float()
        assert weight.dtype == torch.bfloat16 and change.abs().max() > 0
        merged = source.model.get_submodule(name.removeprefix("base_model.model.")).weight
        torch.testing.assert_close(merged, weight.float() + change, atol=1e-7, rtol=1e-6)


def test_a_configuration_in_bf16_costs_a_checkpoint_no_digits(tmp_path):
    for number, model in enumerate([causal(), generator()]):
        checkpoint = torch.load(save_checkpoint(model, tmp_path / f"{number}.ckpt"), weights_only=True)
        checkpoint["generator"]["architecture"]["dtype"] = "bfloat16"
        torch.save(checkpoint, tmp_path / f"{number}.ckpt")
        found = load_source(tmp_path / f"{number}.ckpt").model.state_dict()
        assert all(torch.equal(found[name], weight) for name, weight in model.generator.state_dict().items())


def test_untied_and_scaled_models_stay_what_they_are(tmp_path):
    for number, options in enumerate([{"untied": True}, {"scale_decoder_outputs": True}]):
        model = generator(**{key: value for key, value in options.items() if key != "untied"})
        if "untied" in options:
            weight = torch.randn_like(model.generator.lm_head.weight)
            model.generator.lm_head.weight = torch.nn.Parameter(weight)
        done = export(save_checkpoint(model, tmp_path / f"{number}.ckpt"), tmp_path / f"out{number}")
        assert done.max_difference < 1e-4


def test_a_folder_is_exported_again_the_same(ckpt_path, tmp_path):
    export(ckpt_path, tmp_path / "one")
    done = export(tmp_path / "one", tmp_path / "two")
    assert done.max_difference < 1e-4
    one, two = (AutoModelForSeq2SeqLM.from_pretrained(tmp_path / name).state_dict() for name in ("one", "two"))
    assert all(torch.equal(one[name], two[name]) for name in one)
    names = ("generation_config.json", "config.json", "tokenizer_config.json")
    assert all((tmp_path / "one" / n).read_text() == (tmp_path / "two" / n).read_text() for n in names)


def test_a_dtype_halves_the_weights(ckpt_path, tmp_path):
    done = export(ckpt_path, tmp_path / "out", dtype="bfloat16")
    assert AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "out").dtype == torch.bfloat16
    assert 0 < done.max_difference < 5


def test_a_decoder_only_model_is_exported_by_the_same_command(tmp_path):
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=384, n_embd=16, n_layer=1, n_head=2, n_positions=64, bos_token_id=1, eos_token_id=1)
    model = GPT2LMHeadModel(config)
    architecture = {k: v for k, v in config.to_dict().items() if not isinstance(v, dict)}
    checkpoint = {
        "state_dict": {f"generator.{name}": value for name, value in model.state_dict().items()},
        "generator": {
            "class": "generator.causal.CausalGenerator",
            "architecture": {**architecture, "tokenizer": "bytes"},
        },
    }
    torch.save(checkpoint, tmp_path / "causal.ckpt")
    assert export(tmp_path / "causal.ckpt", tmp_path / "out").max_difference < 1e-4
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    ids = torch.tensor([[5, 6, 7]])
    torch.testing.assert_close(logits(loaded, input_ids=ids), logits(model, input_ids=ids))
    assert export(tmp_path / "out", tmp_path / "again").max_difference == 0.0
    assert "AutoModelForCausalLM" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


# ----------------------------------------------------------------------------------------- DeepSpeed


@pytest.fixture
def deepspeed_path(ckpt_path, tmp_path) -> Path:
    """The layout of Lightning's DeepSpeed strategy: the module's own entries beside a part of the weights."""
    checkpoint = torch.load(ckpt_path, weights_only=True)
    folder = tmp_path / "sharded.ckpt"
    (folder / "checkpoint").mkdir(parents=True)
    (folder / "latest").write_text("checkpoint")
    states = {"module": {}, "ds_version": "0.19.8", "generator": checkpoint["generator"]}
    torch.save(states, folder / "checkpoint" / "mp_rank_00_model_states.pt")
    torch.save(checkpoint["state_dict"], folder / "weights.pt")
    return folder


def test_a_deepspeed_folder_is_read_with_its_own_tool(model, deepspeed_path, tmp_path, monkeypatch):
    fake = ModuleType("deepspeed.utils.zero_to_fp32")
    fake.get_fp32_state_dict_from_zero_checkpoint = lambda folder: {
        f"_forward_module.{key}": value for key, value in torch.load(f"{folder}/weights.pt", weights_only=True).items()
    }
    for name in ("deepspeed", "deepspeed.utils"):
        package = ModuleType(name)
        package.__spec__ = ModuleSpec(name, None)  # other libraries look whether it is there
        monkeypatch.setitem(sys.modules, name, package)
    monkeypatch.setitem(sys.modules, "deepspeed.utils.zero_to_fp32", fake)
    assert export(deepspeed_path, tmp_path / "out").max_difference < 1e-4
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "out")
    assert torch.equal(loaded.state_dict()["shared.weight"], model.generator.shared.weight)


def test_a_deepspeed_folder_without_deepspeed_names_the_extra(deepspeed_path, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "deepspeed", None)
    with pytest.raises(ConfigError, match=r"pip install -e '\.\[deepspeed\]'"):
        export(deepspeed_path, tmp_path / "out")


# --------------------------------------------------------------------------------------- CTranslate2


def test_a_checkpoint_becomes_a_ctranslate2_folder_with_the_same_greedy_output(
    model, ckpt_path, tmp_path, monkeypatch, capsys
):
    pytest.importorskip("ctranslate2")
    from generator.engines.ctranslate2 import CTranslate2Engine

    main(["--ckpt_path", str(ckpt_path), "--output_dir", str(tmp_path / "out"), "--format", "ctranslate2"])
    assert "100% of the greedy outputs for 8 states" in capsys.readouterr().out
    native = make_engine("native", model.generator, model.tokenizer, max_inp_seq_len=200)
    converted = CTranslate2Engine.from_folder(tmp_path / "out", ByteTokenizer(), 200)
    states, decoding = [STATE, "⊢ p → p", "x"], Decoding(max_new_tokens=40)
    found, expected = (engine.propose(states, 1, decoding) for engine in (converted, native))
    assert [candidates[0][0] for candidates in found] == [candidates[0][0] for candidates in expected]
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    exec(re.search(r"```python\n(.*?)```", card, re.DOTALL)[1], {})
    assert len(capsys.readouterr().out.splitlines()) >= 8


def test_int8_reports_how_many_outputs_stay(ckpt_path, tmp_path, capsys):
    pytest.importorskip("ctranslate2")
    out, arguments = tmp_path / "out", ["--format", "ctranslate2", "--quantization", "int8"]
    main(["--ckpt_path", str(ckpt_path), "--output_dir", str(out), *arguments])
    printed = capsys.readouterr().out
    share = int(re.search(r"(\d+)% of the greedy outputs", printed)[1])
    assert ("warning: rounding" in printed) == (share < 100)


def test_a_ctranslate2_folder_that_answers_otherwise_is_refused(ckpt_path, tmp_path, monkeypatch):
    pytest.importorskip("ctranslate2")

    def wrong(model, tokenizer, folder, quantization):
        with torch.no_grad():
            model.lm_head.weight[20:80] = 0.0
        original(model, tokenizer, folder, quantization)
        model.load_state_dict(weights)

    weights = {
        key.removeprefix("generator."): v for key, v in torch.load(ckpt_path, weights_only=True)["state_dict"].items()
    }
    original = folders.convert
    monkeypatch.setattr(folders, "convert", wrong)
    with pytest.raises(NextstepError, match="the same greedy output as .* for only"):
        export(ckpt_path, tmp_path / "out", format="ctranslate2")
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob("*.part"))


# ------------------------------------------------------------------------------------------ refusals


def test_logits_that_differ_are_refused_and_nothing_stays(ckpt_path, tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "MAX_DIFFERENCE", -1.0)
    with pytest.raises(NextstepError, match="the logits of what was written differ by"):
        export(ckpt_path, tmp_path / "out")
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob("*.part"))


def test_logits_that_are_not_finite_are_refused(model, tmp_path):
    with torch.no_grad():
        model.generator.decoder.block[-1].layer[-1].DenseReluDense.wo.weight *= 1e6
    path = save_checkpoint(model, tmp_path / "model.ckpt")
    with pytest.raises(NextstepError, match="logits in float16 are not finite"):
        export(path, tmp_path / "out", dtype="float16")
    export(path, tmp_path / "out", dtype="bfloat16")


def test_a_folder_with_something_in_it_is_refused_and_an_empty_one_is_filled(ckpt_path, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    export(ckpt_path, out)
    with pytest.raises(ConfigError, match="output_dir .*out exists and is not empty"):
        export(ckpt_path, out)


def test_a_folder_that_cannot_be_written_is_named_and_nothing_stays(ckpt_path, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot write output_dir .*file/out: Not a directory; check the path"):
        export(ckpt_path, tmp_path / "file" / "out")
    for error in (OSError(28, "No space left on device"), SafetensorError("I/O error: No space left on device")):

        def refuse(*args, error=error):
            raise error

        monkeypatch.setattr("generator.export.write_hugging_face", refuse)
        with pytest.raises(DataError, match="cannot write output_dir .*out: .*No space left on device; check the path"):
            export(ckpt_path, tmp_path / "out")
        assert not (tmp_path / "out").exists() and not list(tmp_path.glob("*.part"))
    monkeypatch.undo()
    monkeypatch.setattr(os, "replace", lambda *args: refuse())
    with pytest.raises(DataError, match="cannot write output_dir .*out: "):
        export(ckpt_path, tmp_path / "out")
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob("*.part"))


def test_options_that_do_not_go_together_are_refused(ckpt_path, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="quantization is 'int8', which needs format ctranslate2"):
        export(ckpt_path, tmp_path / "out", quantization="int8")
    with pytest.raises(ConfigError, match="format is 'onnx'; choose one of hf, ctranslate2"):
        export(ckpt_path, tmp_path / "out", format="onnx")
    with pytest.raises(ConfigError, match="dtype is 'int8'"):
        export(ckpt_path, tmp_path / "out", dtype="int8")
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    with pytest.raises(ConfigError, match=r"pip install -e '\.\[ctranslate2\]'"):
        export(ckpt_path, tmp_path / "out", format="ctranslate2")


def test_what_is_no_generator_is_refused(ckpt_path, tmp_path):
    with pytest.raises(DataError, match="there is no such file"):
        export(tmp_path / "missing.ckpt", tmp_path / "out")
    torch.save({"state_dict": {}, "retriever": {}}, tmp_path / "retriever.ckpt")
    with pytest.raises(DataError, match="is of a premise retriever"):
        export(tmp_path / "retriever.ckpt", tmp_path / "out")
    broken = torch.load(ckpt_path, weights_only=True)
    del broken["state_dict"]["generator.shared.weight"]
    torch.save(broken, tmp_path / "broken.ckpt")
    with pytest.raises(DataError, match="do not fit the model that it describes.*shared.weight"):
        export(tmp_path / "broken.ckpt", tmp_path / "out")
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match="neither a Hugging Face folder .* it holds nothing"):
        export(tmp_path / "folder", tmp_path / "out")
    (tmp_path / "folder" / ".metadata").touch()
    with pytest.raises(ConfigError, match="FSDP.*consolidate_checkpoint"):
        export(tmp_path / "folder", tmp_path / "out")
    save_pretrained(generator(), tmp_path / "cut")
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(DataError, match=".*cut.*its weights are truncated or broken"):
        export(tmp_path / "cut", tmp_path / "out")
    with pytest.raises(ConfigError, match="ckpt_path '/no/such/folder' cannot be loaded"):
        export("/no/such/folder", tmp_path / "out")
    encoder = T5EncoderModel(T5Config(vocab_size=384, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2))
    encoder.save_pretrained(tmp_path / "encoder")
    with pytest.raises(ConfigError, match="is an encoder, which writes nothing"):
        export(tmp_path / "encoder", tmp_path / "out")
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob("*.part"))


def test_a_model_that_ctranslate2_cannot_run_is_refused(tmp_path):
    pytest.importorskip("ctranslate2")
    model = GPT2LMHeadModel(GPT2Config(vocab_size=384, n_embd=16, n_layer=1, n_head=2, n_positions=64))
    model.save_pretrained(tmp_path / "gpt2")
    ByteTokenizer().save_pretrained(tmp_path / "gpt2")
    with pytest.raises(ConfigError, match="CTranslate2 cannot run this model here"):
        export(tmp_path / "gpt2", tmp_path / "out", format="ctranslate2")
    assert build_seq2seq(TINY).config.is_encoder_decoder
