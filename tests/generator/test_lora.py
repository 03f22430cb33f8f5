"""CausalGenerator with adapters: what is trained and saved, and what merging and exporting them give."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from common import ConfigError, DataError
from generator.causal import CausalGenerator
from generator.export import export
from tests.fakes import quiet_trainer, save_checkpoint, save_pretrained
from tests.generator.causal_fakes import build, data, first_batch

pytest.importorskip("peft")


@pytest.fixture
def pretrained(tmp_path):
    return str(save_pretrained(build(), tmp_path / "base"))


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
    assert loaded._loss(batch)[0].item() == pytest.approx(model._loss(batch)[0].item(), abs=1e-6)
    merged = loaded.merged()
    assert not any("lora" in name for name, _ in merged.named_parameters())
    ids, mask = batch["input_ids"], batch["attention_mask"]
    adapted = model.generator(ids, attention_mask=mask).logits
    assert torch.allclose(merged(ids, attention_mask=mask).logits, adapted, atol=1e-5)
    export(path, tmp_path / "exported")
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "exported")
    assert torch.allclose(exported(ids, attention_mask=mask).logits, adapted, atol=1e-4)
    with pytest.raises(DataError, match="adapters are not those of this model"):
        CausalGenerator.load(path, lora={"r": 4, "target_modules": ["c_proj"]})


def test_adapters_need_a_trained_model_and_layers_that_exist(pretrained):
    with pytest.raises(ConfigError, match="lora adapts a trained model"):
        build(lora={"r": 4})
    with pytest.raises(ConfigError, match=r"set lora.target_modules to some of .*c_attn"):
        build(pretrained, lora={"target_modules": ["nowhere"]})
