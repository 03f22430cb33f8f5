"""Every YAML parses and instantiates, alone and with every overlay."""

from pathlib import Path

import pytest
import yaml

from common import TOKENIZERS, ConfigError
from generator.causal import CausalGenerator
from generator.main import GeneratorCLI, main
from generator.nearest.make import nearest
from retrieval.training.cli import start
from retrieval.training.subwords import train_tokenizer
from tests.fakes import TINY, write_splits

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "configs"
BITS = sorted((CONFIGS / "generator").glob("bit_*.yaml"))
GENERATOR = [CONFIGS / "quickstart.yaml", *sorted(set((CONFIGS / "generator").rglob("*.yaml")) - set(BITS))]
SEARCH = sorted((CONFIGS / "search").glob("*.yaml"))
STRATEGIES = sorted((CONFIGS / "strategy").glob("*.yaml"))
TINY_GPT2 = {"model_type": "gpt2", "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 2048}


def options(values: dict, part: str) -> dict:
    """The options of model or data, in either way of writing them."""
    return values[part].get("init_args", values[part])


def make_folders_of(values: dict, folder: Path) -> None:
    """What a configuration says is made first, by the commands at its head: a tokenizer and a lookup."""
    model_name, nearest_path = options(values, "model")["model_name"], options(values, "data").get("nearest_path")
    if "tokenizer" in model_name and model_name["tokenizer"] not in TOKENIZERS:
        train_tokenizer(["intros n"], 300).save_pretrained(folder / model_name["tokenizer"])
    if nearest_path is not None:
        nearest(write_splits(folder / "eight"), folder / nearest_path, max_share=1.0)


def test_there_are_configurations():
    assert len(GENERATOR) >= 3 and len(STRATEGIES) >= 3


@pytest.mark.parametrize("path", GENERATOR, ids=lambda p: p.stem)
def test_configuration_instantiates(path, tmp_path, monkeypatch):
    """Pretrained weights are replaced by a tiny architecture: there is no network here."""
    monkeypatch.chdir(tmp_path)
    values = yaml.safe_load(path.read_text())
    class_path = values["model"].get("class_path", "")
    is_causal = "causal" in class_path or "frozen" in class_path
    make_folders_of(values, tmp_path)
    model_name = options(values, "model")["model_name"]
    tokenizer = {"tokenizer": model_name["tokenizer"]} if "tokenizer" in model_name else {}
    options(values, "model").pop("engine", None)  # tiny ones are T5s
    options(values, "model")["model_name"] = (TINY_GPT2 if is_causal else TINY) | tokenizer
    values["trainer"].update(accelerator="cpu", precision="32-true")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    made = start(GeneratorCLI, [], [f"--config={tmp_path / 'config.yaml'}"], run=False)
    limit = "max_seq_len" if is_causal else "max_inp_seq_len"
    assert made.model.kept_options()[limit] == made.datamodule.hparams[limit] == options(values, "data")[limit]
    assert isinstance(made.model, CausalGenerator) == is_causal
    hub_ids = ("google/byt5-small", "google/byt5-base", "deepseek-ai/deepseek-coder-1.3b-base")
    hub_ids += ("facebook/mbart-large-en-ro",)
    assert model_name in hub_ids or isinstance(model_name, dict) or model_name.endswith(".gguf")


@pytest.mark.parametrize("path", BITS, ids=lambda p: p.stem)
def test_configuration_of_a_bit_task_instantiates(path, tmp_path, monkeypatch):
    from generator.domains.bits.model import BitModel

    monkeypatch.chdir(tmp_path)
    values = yaml.safe_load(path.read_text())
    given = options(values, "model")
    assert f"#   python -m generator.main fit --config configs/generator/{path.name}\n" in path.read_text()
    assert given["model_name"] == "gpt2" or isinstance(given["model_name"], dict)
    given["model_name"] = TINY_GPT2
    values["trainer"].update(accelerator="cpu")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    made = start(GeneratorCLI, [], [f"--config={tmp_path / 'config.yaml'}"], run=False)
    assert isinstance(made.model, BitModel) and made.model.task.name == options(values, "data")["domain"]
    task = made.datamodule.domain
    made.model.network.check_length(task.num_symbols_drawn, task.options.n)
    assert (
        made.model.optimization.lr == given["lr"]
        and made.datamodule.domain.options.n == (options(values, "data")["domain_options"]["n"])
    )
    made.datamodule.setup("validate")
    (batch, *_) = made.datamodule.val_dataloader()
    assert made.model.loss_of(batch)[0] > 0


def test_the_lora_overlay_changes_what_it_names(capsys):
    paths = [CONFIGS / "generator" / "next_step.yaml", CONFIGS / "overlay" / "lora.yaml"]
    with pytest.raises(SystemExit) as stopped:
        main(["fit", *(f"--config={path}" for path in paths), "--print_config"])
    assert stopped.value.code in (0, None)
    printed = yaml.safe_load(capsys.readouterr().out)
    model = options(printed, "model")
    assert model["lora"]["r"] == 16 and model["lr"] == 2e-4 and model["lr_decay"] == 1.0
    assert model["model_name"].startswith("deepseek") and options(printed, "data")["template"] == "ntp-st"


@pytest.mark.parametrize(
    ("chosen", "lr", "warmup_steps"), [([], 5e-4, 2000), (["--model=generator.causal.CausalGenerator"], 1e-5, 100)]
)
def test_a_class_brings_its_own_defaults(capsys, chosen, lr, warmup_steps):
    with pytest.raises(SystemExit):
        main(["fit", *chosen, "--model.model_name=x", "--data.data_path=y", "--print_config"])
    model = options(yaml.safe_load(capsys.readouterr().out), "model")
    assert (model["lr"], model["warmup_steps"]) == (lr, warmup_steps)


def test_a_template_is_an_option_of_the_data(tmp_path):
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text("model: {template: llmstep}")
    paths = [CONFIGS / "generator" / "next_step.yaml", CONFIGS / "overlay" / "lora.yaml", overlay]
    with pytest.raises(
        ConfigError, match=r"model\.template is 'llmstep', .* 'ntp-st': set --data\.template, or in YAML"
    ):
        main(["fit", *(f"--config={path}" for path in paths)])


def test_the_quickstarts_own_architecture_builds():
    from generator.architectures.encoder_decoder import build_seq2seq

    model = build_seq2seq(yaml.safe_load((CONFIGS / "quickstart.yaml").read_text())["model"]["model_name"])
    assert model.config.vocab_size == 384


@pytest.mark.parametrize("path", SEARCH, ids=lambda p: p.stem)
def test_a_search_takes_every_option_of_its_configuration(path):
    from generator.search.prove import ProofRun
    from retrieval.training.commands import parse_options

    made = ProofRun(**parse_options(ProofRun, [f"--config={path}", "--ckpt_path=x"]))
    given = yaml.safe_load(path.read_text())
    assert made.environment == given["environment"] and made.theorems.split == given["split"]
    assert made.theorems.data_path == Path(given["data_path"]) and made.search.max_seconds == given["max_seconds"]
    needed = {"dojo": {"url"}, "propositional": {"root"}}.get(made.environment, set())
    assert set(made.environment_options) == needed
    prefix, command = "#   python -m ", "generator.search.prove --config "
    assert f"{prefix}{command}configs/search/{path.name} " in path.read_text()


def test_expert_iteration_takes_every_option_of_its_configuration(tmp_path):
    from generator.expert_iteration import ExpertIteration
    from retrieval.training.commands import parse_options

    path, run = CONFIGS / "expert_iteration.yaml", tmp_path / "version_0" / "checkpoints" / "last.ckpt"
    run.parent.mkdir(parents=True)
    (run.parents[1] / "config.yaml").write_text("")
    options = [f"--config={path}", f"--ckpt_path={run}", f"--data_path={tmp_path}", f"--output_dir={tmp_path / 'out'}"]
    made, given = ExpertIteration(**parse_options(ExpertIteration, options)), yaml.safe_load(path.read_text())
    assert made.fit_config == run.parents[1] / "config.yaml" and made.fit_options == given["fit_options"]
    assert made.split == "train" and made.repeats == given["repeats"]
    assert made.proofs.search.max_seconds == given["max_seconds"]
    assert "#   python -m generator.expert_iteration --config configs/expert_iteration.yaml " in path.read_text()


def test_there_is_a_configuration_for_each_kind_of_prover():
    assert {path.stem for path in SEARCH} >= {"propositional", "coq", "leandojo"}


@pytest.mark.parametrize("overlay", STRATEGIES, ids=lambda p: p.stem)
def test_overlays_parse_on_top_of_a_configuration(overlay, capsys):
    base = CONFIGS / "generator" / ("next_step.yaml" if "llama" in overlay.name else "leandojo_random.yaml")
    with pytest.raises(SystemExit) as stopped:
        main(["fit", f"--config={base}", f"--config={overlay}", "--print_config"])
    assert stopped.value.code in (0, None)
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["trainer"]["accelerator"] == "gpu" and printed["trainer"]["strategy"] != "auto"
    limit = "max_seq_len" if "llama" in overlay.name else "max_inp_seq_len"
    assert printed["data"]["init_args"][limit] in (2048, 2300), "an overlay changes only what it names"
    if "fsdp" in overlay.name:  # nothing decodes there, so no top-k can be waited for
        (stopping,) = printed["trainer"]["callbacks"]
        assert printed["checkpoint"]["monitor"] == stopping["init_args"]["monitor"] == "loss_val"
