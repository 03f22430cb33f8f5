"""load_generator: what it loads, as what, and what it refuses."""

import json
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, T5EncoderModel

import generator.load
from common import ByteTokenizer, ConfigError, DataError
from generator.causal import CausalGenerator
from generator.export import export
from generator.interface.tactic_generator import TacticGenerator
from generator.interface.wrappers import CachingGenerator
from generator.load import load_generator
from generator.model import RetrievalAugmentedGenerator
from generator.prompts.templates import TEMPLATES, get_template
from retrieval.training.architectures import t5_config
from tests.fakes import TINY, save_checkpoint, save_pretrained
from tests.generator.decoding_fakes import assert_same_candidates

REQUEST = {
    "state": "p : Prop\n⊢ p → p",
    "file_path": "A.lean",
    "theorem_full_name": "t",
    "theorem_pos": (1, 1),
    "num_samples": 3,
}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return RetrievalAugmentedGenerator(dict(TINY), num_beams=4, max_inp_seq_len=64, max_oup_seq_len=12).eval()


@pytest.fixture(scope="module")
def causal():
    torch.manual_seed(0)
    architecture = {"model_type": "gpt2", "n_embd": 24, "n_layer": 1, "n_head": 2, "n_positions": 400}
    options = {"num_beams": 3, "length_penalty": 0.5, "max_seq_len": 352, "max_completion_len": 8}
    return CausalGenerator(architecture, template="llmstep", **options).eval()


@pytest.fixture(scope="module")
def bare(causal, tmp_path_factory):
    """A decoder-only model as other programs save it."""
    return save_pretrained(causal, tmp_path_factory.mktemp("hub") / "gpt2")


@pytest.fixture(scope="module")
def ckpt_path(model, tmp_path_factory):
    return save_checkpoint(model, tmp_path_factory.mktemp("run") / "last.ckpt")


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    return save_pretrained(model, tmp_path_factory.mktemp("hub") / "tacgen")


# ------------------------------------------------------------------------------------------ happy path


BOTH = pytest.mark.parametrize("name", ["model", "causal"], ids=["encoder_decoder", "decoder_only"])
UNSAID = {  # of a folder, as other programs save it
    "model": {"max_inp_seq_len": 64, "max_oup_seq_len": 12},
    "causal": {"max_seq_len": 352, "max_completion_len": 8, "template": "llmstep", "length_penalty": 0.5},
}


@BOTH
def test_a_checkpoint_and_a_folder_give_the_model_that_was_saved(name, request, tmp_path):
    model = request.getfixturevalue(name)
    checkpoint, folder = save_checkpoint(model, tmp_path / "last.ckpt"), save_pretrained(model, tmp_path / "hub")
    expected = model.generate(**REQUEST)
    assert expected
    for path, options in ((checkpoint, {}), (str(folder), UNSAID[name])):
        loaded = load_generator(path, device="cpu", **options)
        assert type(loaded) is type(model) and isinstance(loaded, TacticGenerator) and not loaded.training
        assert_same_candidates([loaded.generate(**REQUEST)], [expected], tolerance=1e-4)


@BOTH
def test_an_exported_folder_answers_as_its_checkpoint_does(name, request, tmp_path):
    model = request.getfixturevalue(name)
    export(save_checkpoint(model, tmp_path / "m.ckpt"), tmp_path / "out")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*whole prompt")
        loaded = load_generator(tmp_path / "out", device="cpu")
    assert type(loaded) is type(model) and loaded.kept_options() == model.kept_options()
    expected = model.generate(**REQUEST)
    assert expected
    assert_same_candidates([loaded.generate(**REQUEST)], [expected], tolerance=1e-4)
    assert load_generator(tmp_path / "out", device="cpu", num_beams=2).kept_options() == {
        **model.kept_options(),
        "num_beams": 2,
    }


def test_an_exported_folder_prompts_and_parses_with_the_checkpoints_template(causal, tmp_path):
    checkpoint = torch.load(save_checkpoint(causal, tmp_path / "m.ckpt"), weights_only=True)
    checkpoint["generator"]["options"]["template"] = "ntp-st"
    torch.save(checkpoint, tmp_path / "m.ckpt")
    export(tmp_path / "m.ckpt", tmp_path / "out")
    loaded, asked = load_generator(tmp_path / "out", device="cpu"), []
    loaded.engine.propose = lambda inputs, n, how: asked.append((inputs, how.stop)) or [[("exact h\n[/TAC] x", -1.0)]]
    assert loaded.generate(**REQUEST) == [("exact h", -1.0)]
    assert asked == [([get_template("ntp-st").format(REQUEST["state"])], ("[/TAC]",))]
    loaded = load_generator(tmp_path / "out", device="cpu", template="bfs-prover")
    assert loaded.template == "bfs-prover", "what is given counts more than what the folder says"


def test_another_template_than_an_exported_folder_names_is_said(causal, bare, tmp_path):
    export(save_checkpoint(causal, tmp_path / "m.ckpt"), tmp_path / "out")
    with pytest.warns(UserWarning, match="trained with template llmstep, but is used with ntp-st"):
        load_generator(tmp_path / "out", device="cpu", template="ntp-st")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*trained with template.*")
        load_generator(tmp_path / "out", device="cpu", template="llmstep")
        load_generator(bare, device="cpu", template="ntp-st")  # nothing is known of it


def test_lengths_that_nobody_said_are_what_the_model_has_positions_for(causal, bare, tmp_path):
    loaded = load_generator(bare, device="cpu", template="llmstep")
    assert (loaded.max_seq_len, loaded.max_completion_len) == (400, 200)
    assert loaded.generate(**REQUEST)
    loaded = load_generator(bare, device="cpu", template="llmstep", max_completion_len=300)
    assert (loaded.max_seq_len, loaded.max_completion_len) == (400, 300)
    assert load_generator(bare, device="cpu", template="llmstep", max_seq_len=352).max_completion_len == 256
    with pytest.raises(ConfigError, match="max_seq_len is 401, but the model has 400 positions"):
        load_generator(bare, device="cpu", template="llmstep", max_seq_len=401)
    long = GPT2LMHeadModel(GPT2Config(vocab_size=384, n_embd=4, n_layer=1, n_head=1, n_positions=3000))
    long.save_pretrained(tmp_path / "long")
    causal.tokenizer.save_pretrained(tmp_path / "long")
    loaded = load_generator(tmp_path / "long", device="cpu", template="llmstep")
    assert (loaded.max_seq_len, loaded.max_completion_len) == (2048, 256), "our defaults, where there is room"
    export(save_checkpoint(causal, tmp_path / "m.ckpt"), tmp_path / "out")
    assert load_generator(tmp_path / "out", device="cpu").max_seq_len == 352, "what the folder says"


def test_options_of_a_folder_that_the_class_lacks_are_left_out(folder, tmp_path):
    copied = tmp_path / "copy"
    copied.mkdir()
    for path in folder.iterdir():
        (copied / path.name).symlink_to(path)
    settings = {"format_version": 1, "class": "another.Class", "options": {"max_oup_seq_len": 9, "template": "llmstep"}}
    (copied / "nextstep.json").write_text(json.dumps(settings))
    loaded = load_generator(copied, device="cpu")
    assert loaded.limits.max_oup_seq_len == 9 and not hasattr(loaded, "template")


def test_whole_prompts_are_announced_where_nothing_says_how_a_model_is_prompted(causal, bare, tmp_path):
    with pytest.warns(UserWarning, match="gpt2: does not say how it is prompted.*whole prompt") as caught:
        load_generator(bare, device="cpu", max_seq_len=352)
    (said,) = [str(one.message) for one in caught if "whole prompt" in str(one.message)]
    assert all(name in said for name in TEMPLATES)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*whole prompt")
        for template in ("llmstep", None):
            assert load_generator(bare, device="cpu", max_seq_len=352, template=template).template == template
        load_generator(save_checkpoint(causal, tmp_path / "m.ckpt"), device="cpu")


def test_a_hub_id_is_loaded_by_its_configuration(model, folder, monkeypatch):
    asked = []
    monkeypatch.setattr(generator.load, "read_config", lambda name: asked.append(name) or T5)
    monkeypatch.setattr(generator.load, "_import", lambda name: RecordingGenerator.named(name))
    loaded = load_generator("someone/tacgen", device="cpu")
    assert asked == ["someone/tacgen"]
    assert loaded.options["path"] == "someone/tacgen"
    assert loaded.class_name == "generator.model.RetrievalAugmentedGenerator"


T5 = SimpleNamespace(architectures=["T5ForConditionalGeneration"], is_encoder_decoder=True)


class RecordingGenerator:
    """Stands in for a class of generators, and notes how it is loaded."""

    def __init__(self, model_name, engine="native", ret_ckpt_path=None, corpus_path=None, template=None):
        pass

    @classmethod
    def named(cls, class_name):
        return type("Recording", (cls,), {"class_name": class_name})

    @classmethod
    def load(cls, path, device, **overrides):
        loaded = cls(path)
        loaded.options = {"path": path, "device": device, **overrides}
        return loaded

    def to(self, dtype):
        self.options["dtype"] = dtype
        return self


def test_a_decoder_only_model_is_loaded_by_the_class_for_such(tmp_path, monkeypatch):
    GPT2LMHeadModel(GPT2Config(vocab_size=8, n_embd=4, n_layer=1, n_head=1)).save_pretrained(tmp_path / "gpt2")
    monkeypatch.setitem(sys.modules, "generator.causal", SimpleNamespace(CausalGenerator=RecordingGenerator))
    loaded = load_generator(
        tmp_path / "gpt2", device="cpu", dtype="bfloat16", engine="vllm", ret_ckpt_path=tmp_path, template="bfs-prover"
    )
    assert loaded.options == {
        "path": str(tmp_path / "gpt2"),
        "device": torch.device("cpu"),
        "engine": "vllm",
        "ret_ckpt_path": str(tmp_path),
        "template": "bfs-prover",
        "dtype": torch.bfloat16,
    }


def test_a_checkpoint_is_loaded_by_the_class_that_it_names(tmp_path, monkeypatch):
    path = tmp_path / "causal.ckpt"
    torch.save({"state_dict": {}, "generator": {"class": "generator.causal.CausalGenerator"}}, path)
    monkeypatch.setitem(sys.modules, "generator.causal", SimpleNamespace(CausalGenerator=RecordingGenerator))
    assert isinstance(load_generator(path, device="cpu"), RecordingGenerator)


def test_options_reach_the_model(ckpt_path):
    loaded = load_generator(ckpt_path, device="cpu", dtype="bfloat16", num_beams=2)
    assert loaded.candidates.num_beams == 2
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.bfloat16}
    assert loaded.generate(**REQUEST)


def test_answers_are_remembered_on_request_by_state_alone_without_a_retriever(ckpt_path):
    loaded = load_generator(ckpt_path, device="cpu", cache_size=10)
    assert isinstance(loaded, CachingGenerator) and not loaded.reads_theorem
    assert loaded.generate(**REQUEST) == loaded.generate(**{**REQUEST, "theorem_full_name": "another"})
    assert (loaded.hits, loaded.misses) == (1, 1)


def test_placeholders_stay_unless_they_are_refused(ckpt_path, monkeypatch):
    proposed = [("sorry", -1.0), ("simp", -2.0)]
    monkeypatch.setattr(RetrievalAugmentedGenerator, "propose", lambda self, contexts, num_candidates: [proposed])
    assert load_generator(ckpt_path, device="cpu").generate(**REQUEST) == proposed
    assert load_generator(ckpt_path, device="cpu", allow_sorry=False).generate(**REQUEST) == [("simp", -2.0)]


def test_importing_the_package_loads_nothing_and_finds_every_name():
    script = """
import sys
import generator
assert "torch" not in sys.modules and "generator.load" not in sys.modules
for name in generator.__all__:
    assert name in dir(generator) and getattr(generator, name) is not None, name
from generator import interface, load_generator  # a package, and a name
assert generator.TacticGenerator is interface.tactic_generator.TacticGenerator
assert not hasattr(generator, "load_generators")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr[-2000:]


# ------------------------------------------------------------------------------------------- refusals


def test_a_path_with_a_slip_gets_the_nearest_one_that_exists(ckpt_path, folder, monkeypatch):
    wrong = ckpt_path.parent.parent / "rum0" / "last.ckpt"
    right = ckpt_path.parent.parent / "run0" / "last.ckpt"
    with pytest.raises(DataError, match=f"rum0/last.ckpt: there is no such file or folder; did you mean {right}?"):
        load_generator(wrong)
    monkeypatch.chdir(folder.parent.parent)
    with pytest.raises(DataError, match=rf"did you mean {folder.parent.name}/tacgen\?"):  # without asking the hub
        load_generator(f"{folder.parent.name}/tacgem")
    with pytest.raises(DataError, match="a/b/c: there is no such file or folder; give a Lightning checkpoint"):
        load_generator("a/b/c")
    for path in ("./gone", "~/gone-for-sure", "gone.ckpt", "/gone-for-sure"):
        with pytest.raises(DataError, match=f"{path}: there is no such file or folder"):
            load_generator(path)


def test_a_name_that_the_hub_does_not_know_is_named(monkeypatch):
    def refuse(name, **options):
        raise OSError("no such repository\nand more")

    monkeypatch.setattr(generator.load, "read_config", refuse)
    with pytest.raises(ConfigError, match="'someone/nothing' is no file or folder.*no such repository Give a Light"):
        load_generator("someone/nothing")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "needs an object with format_version, class, and options"),
        ('{"class": "x", "options": {}}', "needs an object with format_version"),
        ('{"format_version": 1, "options": {}}', "needs an object with format_version, class"),
        ('{"format_version": 1, "class": "x", "options": [1]}', ".*options as an object"),
        ('{"format_version": 2}', "format_version is 2, but this version reads 1"),
    ],
)
def test_broken_settings_of_a_folder_are_named(tmp_path, text, message):
    (tmp_path / "nextstep.json").write_text(text)
    for load in (RetrievalAugmentedGenerator.load, CausalGenerator.load):
        with pytest.raises(DataError, match=rf"nextstep\.json: {message}.*export the model again"):
            load(tmp_path)


def test_a_ctranslate2_folder_is_told_from_one_for_transformers(folder, tmp_path):
    for name in ("model.bin", "config.json", "shared_vocabulary.json"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(ConfigError, match=r'is a CTranslate2 folder.*engine="ctranslate2".*CTranslate2Engine\.from_f'):
        load_generator(tmp_path)
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert load_generator(tmp_path, device="cpu"), "both in one folder"


def test_a_folder_without_a_model_says_what_is_in_it(tmp_path):
    with pytest.raises(DataError, match=r"has no config\.json.*give a Lightning checkpoint"):
        load_generator(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    for name in ("a.ckpt", "last.ckpt"):
        (tmp_path / "checkpoints" / name).touch()
    with pytest.raises(DataError, match=r"did you mean .*checkpoints/last\.ckpt\?"):
        load_generator(tmp_path)
    (tmp_path / "latest").touch()
    with pytest.raises(DataError, match=r"sharded checkpoint.*generator\.export --ckpt_path"):
        load_generator(tmp_path)


def test_checkpoints_of_other_classes_are_refused_with_the_known_ones(tmp_path):
    path = tmp_path / "other.ckpt"
    torch.save({"state_dict": {}, "generator": {"class": "os.system"}}, path)
    with pytest.raises(DataError, match=r"other\.ckpt: is a checkpoint of os\.system; known are generator\.model\."):
        load_generator(path)
    torch.save({"state_dict": {}}, path)
    with pytest.raises(DataError, match="does not say which generator wrote it"):
        load_generator(path)
    torch.save({"state_dict": {}, "retriever": {"class": "retrieval.model.PremiseRetriever"}}, path)
    with pytest.raises(DataError, match="premise retriever; give it as ret_ckpt_path"):
        load_generator(path)
    path.write_text("hello")
    with pytest.raises(DataError, match=r"other\.ckpt: cannot be read as a Lightning checkpoint"):
        load_generator(path)


def test_an_encoder_is_no_generator(tmp_path):
    T5EncoderModel(t5_config(TINY, ByteTokenizer())).save_pretrained(tmp_path / "encoder")
    with pytest.raises(ConfigError, match=r"is an encoder \(T5EncoderModel\).*ret_ckpt_path"):
        load_generator(tmp_path / "encoder")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_beam": 4}, "no option num_beam; did you mean num_beams?"),
        ({"model_name": "x"}, "no option model_name"),
        ({"dtype": "int3"}, "dtype is 'int3'; choose one of float32"),
        ({"device": "quantum"}, "device is 'quantum'; give auto"),
        ({"cache_size": -1}, "cache_size is -1"),
        ({"ret_ckpt_path": "r.ckpt"}, "ret_ckpt_path and corpus_path belong together"),
    ],
    ids=str,
)
def test_options_that_do_not_fit_are_named(ckpt_path, options, message):
    with pytest.raises(ConfigError, match=message):
        load_generator(ckpt_path, **{"device": "cpu", **options})


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_named(ckpt_path):
    with pytest.raises(ConfigError, match="device is 'cuda:0', but torch finds no GPU"):
        load_generator(ckpt_path, device="cuda:0")
