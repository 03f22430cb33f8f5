"""CausalGenerator with adapters: what is trained and saved, and what merging and exporting them give."""

import dataclasses
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM

from common import ConfigError, DataError
from generator.architectures.adapters import Lora, check_adapters, merged_copy
from generator.causal import CausalGenerator
from generator.export import export
from generator.main import main
from tests.fakes import quiet_trainer, save_checkpoint, save_pretrained
from tests.generator.causal_fakes import build, data, first_batch

pytest.importorskip("peft")


@pytest.fixture
def pretrained(tmp_path):
    return str(save_pretrained(build(), tmp_path / "base"))


def adapted(pretrained, **options):
    """A generator whose adapters do something; new ones add zero."""
    model = build(pretrained, **{"lora": {"r": 4, "dropout": 0.0}, **options})
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()


def test_adapters_are_trained_and_saved_alone_and_merged_they_compute_the_same(pretrained, eight_path, tmp_path):
    model = build(pretrained, lora={"r": 4, "dropout": 0.0}, lr=1e-2, warmup_steps=0)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    quiet_trainer(tmp_path, max_steps=3, limit_val_batches=0).fit(model, data(eight_path))
    changed = {name for name, weight in model.state_dict().items() if not torch.equal(weight, before[name])}
    assert changed and all("lora_" in name for name in changed)

    path = save_checkpoint(model, tmp_path / "lora.ckpt")
    saved = torch.load(path, weights_only=True)
    assert saved["state_dict"] and all("lora_" in name for name in saved["state_dict"])
    model.eval()
    loaded = CausalGenerator.load(path)
    batch = first_batch(data(eight_path))
    assert loaded.loss_of(batch)[0].item() == pytest.approx(model.loss_of(batch)[0].item(), abs=1e-6)
    ids, mask = batch["input_ids"], batch["attention_mask"]
    logits = model.generator(ids, attention_mask=mask).logits
    export(path, tmp_path / "exported")
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "exported")
    assert torch.allclose(exported(ids, attention_mask=mask).logits, logits, atol=1e-4)


def test_a_merged_copy_computes_the_same_and_leaves_the_model_as_it_is(pretrained):
    model, ids = adapted(pretrained), torch.tensor([[70, 80, 90]])
    before, dtype = model.generator(ids).logits, model.generator.to(torch.bfloat16).dtype
    merged = merged_copy(model.generator)
    assert not any("lora" in name for name, _ in merged.named_parameters()) and merged.dtype == torch.float32
    assert torch.allclose(merged(ids).logits, before, atol=0.05)
    assert any("lora_" in name for name, _ in model.named_parameters()) and model.generator.dtype == dtype
    assert torch.allclose(model.generator.float()(ids).logits, before, atol=0.05), "adapters still work"


def test_gradients_reach_adapters_through_recomputed_activations(pretrained, eight_path):
    """As configs/overlay/lora.yaml sets it; what stands in front of the first adapter is frozen."""
    found = []
    for recomputes in (False, True):
        model = adapted(pretrained, gradient_checkpointing=recomputes).train()
        assert any(getattr(part, "gradient_checkpointing", False) for part in model.modules()) == recomputes
        model.loss_of(first_batch(data(eight_path)))[0].backward()
        found.append({name: p.grad for name, p in model.named_parameters() if p.requires_grad})
    plain, recomputed = found
    assert plain and plain.keys() == recomputed.keys()
    for name, gradient in plain.items():
        assert gradient.abs().max() > 0, name
        torch.testing.assert_close(recomputed[name], gradient)


def test_layers_are_named_by_a_list_or_by_peft_s_words(pretrained, tmp_path):
    def layers(targets):
        model = build(pretrained, lora={"r": 2, "target_modules": targets})
        path = save_checkpoint(model, tmp_path / "m.ckpt")
        assert CausalGenerator.load(path).lora == model.lora
        names = {name.rpartition(".lora_A")[0] for name in model.state_dict() if "lora_A" in name}
        return {".".join(name.split(".")[-2:]) for name in names}

    every = {"attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"}
    assert layers("all-linear") == every and layers(("c_fc",)) == {"mlp.c_fc"}
    assert layers(r".*attn\.c_proj") == {"attn.c_proj"}


@pytest.mark.parametrize(("written", "targets"), [("all-linear", "all-linear"), ("[c_fc]", ["c_fc"])])
def test_the_command_line_takes_both(pretrained, capsys, written, targets):
    model = ["--model", "generator.causal.CausalGenerator", "--model.model_name", pretrained]
    arguments = ["--data", "generator.instruct_datamodule.InstructDataModule", "--data.data_path", "x"]
    with pytest.raises(SystemExit):
        main(["fit", *model, *arguments, "--model.lora.target_modules", written, "--print_config"])
    printed = yaml.safe_load(capsys.readouterr().out)["model"]["init_args"]["lora"]
    assert printed["target_modules"] == targets and printed["r"] == Lora().r


# --------------------------------------------------------------------------------- other adapters


@pytest.mark.parametrize("change", [{"alpha": 64.0}, {"r": 8}, {"target_modules": ["c_proj"]}], ids=str)
def test_adapters_are_used_as_they_were_trained_or_not_at_all(pretrained, eight_path, tmp_path, change):
    path = save_checkpoint(adapted(pretrained), tmp_path / "lora.ckpt")
    other = {"r": 4, "dropout": 0.0, **change}
    said = rf"holds adapters of lora {{r: 4, alpha: 32.0}}, but this model has lora {{.*{change.popitem()[0]}.*--model"
    with pytest.raises(ConfigError, match=said):
        quiet_trainer(tmp_path).validate(build(pretrained, lora=other), data(eight_path), ckpt_path=path)
    with pytest.raises(ConfigError, match=said):
        CausalGenerator.load(path, lora=other)


def test_dropout_may_differ_and_layers_may_be_named_in_another_order(pretrained, tmp_path):
    lora = {"r": 4, "dropout": 0.0, "target_modules": ["c_proj", "c_fc"]}
    path = save_checkpoint(adapted(pretrained, lora=lora), tmp_path / "lora.ckpt")
    loaded = CausalGenerator.load(path, lora={**lora, "dropout": 0.5, "target_modules": ["c_fc", "c_proj"]})
    assert loaded.lora.dropout == 0.5


def test_adapters_and_whole_models_are_not_mixed_up(pretrained, eight_path, tmp_path):
    lora, whole = adapted(pretrained), build(pretrained)
    with pytest.raises(ConfigError, match=r"adapters of lora {r: 4, alpha: 32.0}, but this model has no lora"):
        path = save_checkpoint(lora, tmp_path / "lora.ckpt")
        quiet_trainer(tmp_path, max_steps=1).fit(whole, data(eight_path), ckpt_path=path)
    with pytest.raises(ConfigError, match=r"holds a whole model, but this model has lora {r: 4.*leave out lora"):
        path = save_checkpoint(whole, tmp_path / "whole.ckpt")
        quiet_trainer(tmp_path, max_steps=1).fit(lora, data(eight_path), ckpt_path=path)
    with pytest.raises(ConfigError, match="holds a whole model"):
        CausalGenerator.load(path, lora={"r": 4})


def test_adapters_of_other_layers_are_refused_by_their_names(pretrained):
    model = adapted(pretrained)
    state = {name: weight for name, weight in model.state_dict().items() if "lora_" in name}
    state.pop(next(iter(state)))
    with pytest.raises(DataError, match="adapters are not those of this model"):
        model.load_state_dict(state)


# ------------------------------------------------------------------------------------- the base model


def test_a_relative_path_to_the_base_works_from_any_folder(pretrained, tmp_path, monkeypatch):
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path / "runs")
    model = adapted("../base")
    path = save_checkpoint(model, tmp_path / "lora.ckpt")
    monkeypatch.chdir("/")
    loaded = CausalGenerator.load(path)
    assert loaded.model_name == loaded.hparams["model_name"] == pretrained
    ids = torch.tensor([[70, 80, 90]])
    assert torch.allclose(loaded.generator(ids).logits, model.generator(ids).logits, atol=1e-5)
    export(path, tmp_path / "exported")


def test_a_base_that_is_gone_is_named_with_the_checkpoint(pretrained, tmp_path):
    path = save_checkpoint(adapted(pretrained), tmp_path / "lora.ckpt")
    shutil.rmtree(pretrained)
    for use in (CausalGenerator.load, lambda path: export(path, Path(f"{path}.out"))):
        with pytest.raises(DataError, match=rf"lora\.ckpt: holds adapters alone, and the model '{pretrained}'"):
            use(path)


# --------------------------------------------------------------------------------------------- refusals


def test_adapters_need_a_trained_model_and_layers_that_exist(pretrained):
    with pytest.raises(ConfigError, match="lora adapts a trained model"):
        build(lora={"r": 4})
    with pytest.raises(ConfigError, match=r"set lora.target_modules to some of .*c_attn"):
        build(pretrained, lora={"target_modules": ["nowhere"]})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"r": 0}, "lora.r is 0; it must be greater than 0"),
        ({"r": 1.5}, "lora.r is 1.5; it must be a whole number"),
        ({"alpha": -1.0}, "lora.alpha is -1.0"),
        ({"dropout": 2}, "lora.dropout is 2; it must be at least 0 and below 1"),
        ({"dropout": 1.0}, "lora.dropout is 1.0"),
        ({"target_modules": []}, "lora.target_modules is \\[\\]; give names of layers, or all-linear"),
        ({"target_modules": [3]}, "lora.target_modules is \\[3\\]"),
        ({"target_modules": ""}, "lora.target_modules is ''"),
    ],
    ids=str,
)
def test_options_out_of_range_are_named(values, message):
    with pytest.raises(ConfigError, match=message):
        Lora(**values)


def test_every_option_but_dropout_is_compared():
    for field in dataclasses.fields(Lora):
        other = {"r": 3, "alpha": 3.0, "dropout": 0.3, "target_modules": "all-linear"}[field.name]
        changed = dataclasses.replace(Lora(), **{field.name: other})
        if field.name == "dropout":
            check_adapters(dataclasses.asdict(changed), Lora())
        else:
            with pytest.raises(ConfigError, match="add the configuration or overlay that it was trained with"):
                check_adapters(dataclasses.asdict(changed), Lora())
    check_adapters(None, None)
