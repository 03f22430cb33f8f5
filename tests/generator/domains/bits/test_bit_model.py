"""BitModel in training: what is trained, when it stops, how it goes on, what it keeps, and what it proposes."""

from __future__ import annotations

import itertools
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from common import ConfigError, DataError
from generator.domains.bits.datamodule import BitDataModule
from generator.domains.bits.model import BitModel
from generator.domains.bits.stopping import OnlineAccuracy, Stopping, StopWhenLearnt
from generator.domains.datamodule import DomainDataModule
from generator.load import load_generator
from retrieval.training.run_summary import RunSummary
from tests.fakes import save_checkpoint
from tests.generator.domains.bits.bit_fakes import BODIES, build, data, fit


def batches_of(module: Any, epoch: int = 0) -> list[Any]:
    module.setup("fit")
    loader = module.train_dataloader()
    loader.sampler.set_epoch(epoch)
    return list(loader)


def perfect(model: BitModel) -> None:
    """Let it answer right: with logits of the answer itself."""

    def forward(inputs: torch.Tensor, num_bits: int) -> torch.Tensor:
        right = inputs[:, :num_bits] ^ inputs[:, num_bits:]
        return 20 * torch.nn.functional.one_hot(right, 2).float() + 0 * model.network.head.bias.sum()

    model.forward = forward  # type: ignore[method-assign]


# --------------------------------------------------------------------------------------------- data


def test_bits_follow_from_seed_epoch_and_index_and_not_from_workers() -> None:
    one, two = batches_of(data(num_train=40)), batches_of(data(num_train=40, num_workers=1))
    assert [batch["state"] for batch in one] == [batch["state"] for batch in two]
    assert all(torch.equal(a["inputs"], b["inputs"]) for a, b in zip(one, two, strict=True))
    assert [b["state"] for b in one] != [b["state"] for b in batches_of(data(num_train=40, seed=1))]


def test_every_step_has_new_bits() -> None:
    module = data(20, num_train=200)
    specs = [spec for epoch in range(3) for batch in batches_of(module, epoch) for spec in batch["state"]]
    assert len(set(specs)) == len(specs) == 600


def test_a_batch_says_in_numbers_what_its_texts_say() -> None:
    for batch in batches_of(data(num_train=16)):
        for row, (spec, answer) in enumerate(zip(batch["state"], batch["tactic"], strict=True)):
            assert "".join(map(str, batch["inputs"][row].tolist())) == spec.replace(" ", "")
            assert "".join(map(str, batch["targets"][row].tolist())) == answer


def test_model_and_data_must_be_of_one_task(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the model is for bit_memory, but the data is of bit_xor"):
        fit(tmp_path, build(domain="bit_memory"), data())
    with pytest.raises(ConfigError, match="domain is 'rectangle'; BitDataModule draws bit_xor or bit_memory"):
        BitDataModule("rectangle")
    texts = DomainDataModule("bit_xor", dict(BODIES["llama"]), num_train=8, num_val=2, max_inp_seq_len=64)
    with pytest.raises(ConfigError, match="BitModel reads numbers; set data.class_path to generator.domains.bits"):
        fit(tmp_path, build(), texts)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="takes 80 positions, and the body has 64; lower n"):
        fit(tmp_path, build(), data(40))


# ----------------------------------------------------------------------------------------- training


@pytest.mark.parametrize("body", BODIES)
def test_two_bits_are_learnt_and_training_then_stops(body: str, tmp_path: Path) -> None:
    model = build(body, lr=3e-3, window=20, num_confirming=200)
    trainer = fit(
        tmp_path, model, data(2, num_val=1, batch_size=16, domain_options={"splits": "independent"}), max_steps=600
    )
    assert trainer.global_step < 600
    facts = model.run_facts()
    assert facts["samples_to_99"] == facts["num_samples"] == 16 * trainer.global_step
    assert facts["confirmed_acc"] == 1.0 and facts["seconds_to_99"] > 0 and facts["online_acc"] >= 0.99
    model.eval()
    for a, b in itertools.product(("00", "01", "10", "11"), repeat=2):
        wanted = "".join(str(int(x) ^ int(y)) for x, y in zip(a, b, strict=True))
        assert model.generate(f"{a} {b}", "", "", None, 1)[0][0] == wanted


@pytest.mark.parametrize("policy", ["norms", "probe"])
@pytest.mark.parametrize("body", BODIES)
def test_what_is_frozen_stays_and_is_in_no_optimizer(body: str, policy: str, tmp_path: Path) -> None:
    groups = {
        "norms": {"trained_groups": ["norms", "positions"]},
        "probe": {"trained_groups": [], "train_input": False},
    }
    model = build(body, lr=1e-2, **groups[policy])
    before = {name: p.detach().clone() for name, p in model.network.named_parameters()}
    trainer = fit(tmp_path, model, data())
    roles = {"norms", "positions", "input", "output"} if policy == "norms" else {"output"}
    trained = {name for name in before if model.roles[name] in roles}
    moved = {name for name, p in model.network.named_parameters() if not torch.equal(p, before[name])}
    assert moved == trained
    kept = {id(p) for group in trainer.optimizers[0].param_groups for p in group["params"]}
    assert kept == {id(p) for name, p in model.network.named_parameters() if name in trained}
    assert model.run_facts()["num_trained"] == sum(before[name].numel() for name in trained)


def test_a_perfect_predictor_scores_exactly_one(tmp_path: Path) -> None:
    model = build(window=5, num_confirming=40)
    perfect(model)
    trainer = fit(tmp_path, model, data(), limit_val_batches=1.0, max_steps=9)
    assert trainer.global_step == 5, "the window has to be full"
    metrics = trainer.callback_metrics
    assert metrics["acc_val"] == metrics["solved@1_val"] == 1.0 and model.online.value == 1.0
    assert model.run_facts()["samples_to_99"] == 40


def test_a_task_that_only_training_finds_learnt_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, asked = build(window=3), list[int]()
    perfect(model)

    def fresh_accuracy(num_bits: int) -> float:
        asked.append(model.online.num_batches)
        return 0.98 if len(asked) < 3 else 0.99

    monkeypatch.setattr(model, "fresh_accuracy", fresh_accuracy)
    trainer = fit(tmp_path, model, data(), max_steps=20)
    assert asked == [3, 6, 9] and trainer.global_step == 9


def test_stopping_can_be_turned_off(tmp_path: Path) -> None:
    model = build(window=3, stop_at=0.0)
    perfect(model)
    assert fit(tmp_path, model, data(), max_steps=8).global_step == 8
    assert "samples_to_99" not in model.run_facts()


def test_fresh_problems_are_of_val_and_others_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen = build(window=2, num_confirming=40), list[str]()
    perfect(model)
    read = model.read

    def watched(specs: Any) -> Any:
        seen.extend(specs)
        return read(specs) * 0

    model.read = watched  # type: ignore[method-assign]
    module = data(10)
    fit(tmp_path, model, module, max_steps=6)
    trained = {spec for batch in batches_of(module) for spec in batch["state"]}
    assert len(seen) == 12 and len(set(seen)) == 12 and not trained & set(seen)


class Interrupted(Exception):
    pass


class InterruptAt(pl.Callback):
    """Ends a run behind a batch, before other callbacks have seen it."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(Path(trainer.default_root_dir) / "stopped.ckpt")
            raise Interrupted


def run(folder: Path, ckpt_path: Any = None, **options: Any) -> BitModel:
    model = build(lr=3e-3, window=10, num_confirming=100)
    module = data(2, num_train=100, num_val=1, domain_options={"splits": "independent"})
    fit(folder, model, module, ckpt_path, max_steps=400, **options)
    return model


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> BitModel:
    """A run that nothing interrupted."""
    return run(tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("at", ["early", "last"])
def test_a_resumed_run_is_the_uninterrupted_one(at: str, whole: BitModel, tmp_path: Path) -> None:
    num_steps = whole.online.num_batches
    assert 20 < num_steps < 400, "it learns"
    with pytest.raises(Interrupted):
        run(tmp_path / "first", callbacks=[InterruptAt(20 if at == "early" else num_steps)])
    resumed = run(tmp_path / "second", tmp_path / "first" / "stopped.ckpt")
    for a, b in zip(whole.network.parameters(), resumed.network.parameters(), strict=True):
        assert torch.equal(a, b)
    facts, again = (
        {name: value for name, value in model.run_facts().items() if "seconds" not in name}
        for model in (whole, resumed)
    )
    assert facts == again and facts["confirmed_acc"] == 1.0


def test_a_run_that_was_learnt_is_not_trained_again(tmp_path: Path) -> None:
    model = build(window=3, num_confirming=40)
    perfect(model)
    trainer = fit(tmp_path, model, data())
    trainer.save_checkpoint(tmp_path / "done.ckpt")
    again = build(window=3, num_confirming=40)
    perfect(again)
    assert fit(tmp_path / "again", again, data(), tmp_path / "done.ckpt").global_step == 3
    assert again.run_facts()["samples_to_99"] == 24


def test_batches_without_a_step_are_not_counted_yet() -> None:
    time = itertools.count()
    online = OnlineAccuracy(2, clock=lambda: float(next(time)))
    online.start()
    online.observe(0.5, 4)
    assert online.state_dict() == {"num_samples": 0, "num_batches": 0, "seconds": 0.0, "accuracies": []}
    online.observe(1.0, 4)
    online.step()
    online.observe(0.75, 2)
    online.step()
    assert online.value == 0.875 and online.is_full and (online.num_samples, online.num_batches) == (10, 3)
    again = OnlineAccuracy(2)
    again.load_state_dict(online.state_dict())
    assert again.state_dict() == online.state_dict()


def test_metrics_json_says_when_it_was_learnt(tmp_path: Path) -> None:
    model = build(window=3, num_confirming=40, stop_at=0.9)
    perfect(model)
    fit(tmp_path, model, data(), callbacks=[RunSummary()])
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["samples_to_90"] == 24 and metrics["num_samples"] == 24 and metrics["confirmed_acc"] == 1.0
    assert metrics["seconds_to_90"] <= metrics["train_seconds"] and metrics["status"] == "finished"
    assert metrics["num_trained"] == metrics["num_parameters"] == sum(p.numel() for p in model.network.parameters())


def test_a_callback_of_the_configuration_comes_first(tmp_path: Path) -> None:
    model = build(window=3)
    perfect(model)
    own = StopWhenLearnt(Stopping(stop_at=0.0))
    assert fit(tmp_path, model, data(), callbacks=[own], max_steps=5).global_step == 5


# ---------------------------------------------------------------------------------------- inference


@pytest.mark.parametrize("body", BODIES)
def test_a_checkpoint_proposes_every_string_best_first(body: str, tmp_path: Path) -> None:
    model = build(body)
    path = save_checkpoint(model, tmp_path / "model.ckpt")
    loaded: Any = load_generator(path, device="cpu")
    assert isinstance(loaded, BitModel)
    found = loaded.generate("011 110", "", "", None, 10)
    assert len(found) == 8 and [p for _, p in found] == sorted((p for _, p in found), reverse=True)
    assert math.fsum(math.exp(p) for _, p in found) == pytest.approx(1.0)
    inputs = torch.tensor([[0, 1, 1, 1, 1, 0]])
    log_probs = model.eval()(inputs, 3)[0].detach().double().log_softmax(dim=-1)
    for text, log_prob in found:
        assert log_prob == pytest.approx(sum(float(log_probs[i, int(bit)]) for i, bit in enumerate(text)), abs=1e-5)


def test_many_specifications_are_answered_in_their_order_whatever_their_lengths() -> None:
    model = build().eval()
    specs = ["01 10", "011 110", "11 00", "0 1", "01 10 11", "01 10"]
    together = model.batch_generate(specs, [""] * 6, [""] * 6, [None] * 6, 4)
    alone = [model.generate(spec, "", "", None, 4) for spec in specs]
    for a, b in zip(together, alone, strict=True):
        assert [text for text, _ in a] == [text for text, _ in b]
        assert [p for _, p in a] == pytest.approx([p for _, p in b], abs=1e-5)
    assert [len(a[0][0]) for a in together] == [2, 3, 2, 1, 2, 2] and model.propose([], 3) == []
    with pytest.raises(DataError, match="'p' is no string of bits"):
        model.generate("p ⊢ q", "", "", None, 1)


def test_a_checkpoint_keeps_its_task_its_layers_and_what_was_frozen(tmp_path: Path) -> None:
    policy = {"trained_groups": ["norms"], "train_input": False}
    model = build(domain="bit_memory", input_layer="linear", patch_size=2, num_layers=1, **policy)
    path = save_checkpoint(model, tmp_path / "model.ckpt")
    loaded = BitModel.load(path, freeze=False)
    assert loaded.task.name == "bit_memory" and loaded.network.patch_size == 2
    assert len(loaded.network.body.layers) == 1
    names = {name for name, p in loaded.network.named_parameters() if p.requires_grad}
    assert names == {name for name, role in model.roles.items() if role in ("norms", "output")}
    for a, b in zip(model.state_dict().values(), loaded.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_the_table_of_what_is_trained_is_printed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fit(tmp_path, build("gpt2", trained_groups=["norms", "positions"]), data(), max_steps=1)
    text = caplog.text
    assert re.search(r"\| positions +\| +2,048 \| +2,048 \|", text) and re.search(r"\| attention .*\| +0 \|", text)


def test_a_trained_body_is_taken_and_its_checkpoint_needs_no_folder(tmp_path: Path) -> None:
    torch.manual_seed(1)
    options = {**BODIES["llama"], "vocab_size": 11, "bos_token_id": 0, "eos_token_id": 1}
    trained = AutoModelForCausalLM.from_config(AutoConfig.for_model(**options))
    trained.save_pretrained(tmp_path / "body")
    name = "layers.0.mlp.up_proj.weight"
    of_file = trained.model.get_parameter(name)
    for pretrained in (True, False):
        model = BitModel(str(tmp_path / "body"), num_layers=1, pretrained=pretrained)
        assert len(model.network.body.layers) == 1 and torch.equal(model.network.body.get_parameter(name), of_file) == (
            pretrained
        )
        path = save_checkpoint(model, tmp_path / f"{pretrained}.ckpt")
        (tmp_path / "body").rename(tmp_path / "elsewhere")
        loaded: Any = load_generator(path, device="cpu")
        (tmp_path / "elsewhere").rename(tmp_path / "body")
        for a, b in zip(model.state_dict().values(), loaded.state_dict().values(), strict=True):
            assert torch.equal(a, b)
        found, again = (each.eval().generate("0110 1010", "", "", None, 3) for each in (model, loaded))
        assert [text for text, _ in found] == [text for text, _ in again]
