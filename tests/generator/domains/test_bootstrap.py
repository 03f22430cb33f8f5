"""Expert iteration: only what the checker accepts is learnt, and what was interrupted ends as if it had not been."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from common import ConfigError
from generator.domains import make_domain
from generator.domains.__main__ import main
from generator.domains.bootstrap import bootstrap
from generator.load import load_generator
from retrieval.training.checkpoints import read_checkpoint
from tests.fakes import TINY
from tests.generator.causal_fakes import GPT2

MODEL = {
    "model_name": {**TINY, "num_layers": 1, "num_decoder_layers": 1},
    "lr": 1e-2,
    "warmup_steps": 2,
    "num_beams": 1,
}
DATA = {"max_inp_seq_len": 64, "max_oup_seq_len": 16, "batch_size": 8}
FEW = {"num_pairs": 8, "num_specs": 12, "num_samples": 6, "num_steps": 40, "num_val": 6, "num_proposals": 4}
FEW |= {"domain_options": {"max_examples": 2}, "device": "cpu"}  # two cells are often right by chance


def run(folder: Path, **options: Any) -> list[dict[str, Any]]:
    given = {"model": MODEL, "data": DATA, **FEW, "num_rounds": 2, **options}
    bootstrap(folder, given.pop("model"), given.pop("data"), **given)
    return [json.loads((folder / f"round-{r}" / "metrics.json").read_text()) for r in range(given["num_rounds"] + 1)]


def weights(folder: Path, number: int) -> dict[str, torch.Tensor]:
    return read_checkpoint(folder / f"round-{number}" / "model.ckpt")["state_dict"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("bootstrap") / "whole"
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Found .* in eval mode")  # dropout would be off from the second round on
        return folder, run(folder)


def test_pairs_that_are_added_hold_and_are_new(whole: tuple[Path, list[dict[str, Any]]]) -> None:
    folder, metrics = whole
    domain = make_domain("rectangle", {"max_examples": 2})
    rounds = [
        [json.loads(line) for line in (folder / f"round-{r}" / "pairs.jsonl").read_text().splitlines()]
        for r in range(3)
    ]
    assert len(rounds[0]) == 8 and metrics[0]["num_new"] == 8 and "accepted" not in metrics[0]
    assert len(rounds[2]) > len(rounds[0]), "by chance some hold"
    for before, after, said in zip(rounds, rounds[1:], metrics[1:], strict=False):
        assert after[: len(before)] == before and said["num_new"] == len(after) - len(before)
        assert 0 <= said["accepted"] <= 1
    assert all(domain.check(pair["spec"], pair["program"]).holds for pair in rounds[2])
    texts = [(pair["spec"], pair["program"]) for pair in rounds[2]]
    assert len(set(texts)) == len(texts)


def test_each_round_is_measured_on_the_same_problems(whole: tuple[Path, list[dict[str, Any]]]) -> None:
    _, metrics = whole
    assert len({said["floor"] for said in metrics}) == 1
    assert {"solved@1", "solved@4", "valid_syntax", "loss", "sequence_nll"} <= set(metrics[2])


def test_an_interrupted_run_ends_as_if_it_had_not_been(
    whole: tuple[Path, list[dict[str, Any]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, metrics = whole
    from generator.domains import bootstrap as module

    train = module._Run._train

    def dies(self: Any, model: Any, data: Any, where: Path) -> Any:
        if where.name == "round-1":
            raise KeyboardInterrupt
        return train(self, model, data, where)

    monkeypatch.setattr(module._Run, "_train", dies)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "b")
    monkeypatch.undo()
    again = run(tmp_path / "b")
    assert again == metrics
    for name, weight in weights(folder, 2).items():
        assert torch.equal(weight, weights(tmp_path / "b", 2)[name]), name


def test_more_rounds_are_added_and_others_are_not_mixed_in(
    whole: tuple[Path, list[dict[str, Any]]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, metrics = whole
    assert run(folder, num_rounds=1) == metrics[:2]
    assert "| 1 | " in capsys.readouterr().out
    with pytest.raises(ConfigError, match=r"was begun with num_steps 40, and now num_steps is 50; give another folder"):
        run(folder, num_steps=50)


def test_checkpoints_of_rounds_are_those_of_any_model(whole: tuple[Path, list[dict[str, Any]]]) -> None:
    folder, _ = whole
    model = load_generator(folder / "round-2" / "model.ckpt", device="cpu")
    assert len(model.generate("[01+]", "", "", None, 3)) > 0


def test_one_yaml_says_all_also_for_a_decoder_only_model(tmp_path: Path) -> None:
    model = {"model_name": {**GPT2, "n_layer": 1, "n_positions": 96}, "lr": 1e-3, "warmup_steps": 1, "num_beams": 1}
    values = {
        **FEW,
        "num_steps": 3,
        "num_rounds": 1,
        "from_scratch": True,
        "output_dir": str(tmp_path / "run"),
        "model": {"class_path": "generator.causal.CausalGenerator", "init_args": model},
        "data": {"template": "spec-program", "max_seq_len": 96, "max_completion_len": 16, "batch_size": 4},
    }
    (tmp_path / "all.yaml").write_text(yaml.safe_dump(values))
    main(["bootstrap", "--config", str(tmp_path / "all.yaml")])
    assert (tmp_path / "run" / "round-1" / "metrics.json").is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": {"class_path": "torch.nn.Linear"}}, r"model\.class_path is 'torch\.nn\.Linear'; choose one of"),
        ({"model": {"model_nam": "x"}}, "model has no option 'model_nam'"),
        ({"model": {"lr": 1e-3}}, "model has no model_name"),
        ({"data": {"fresh": True}}, "data has no option 'fresh' here"),
        ({"num_samples": 0}, "num_samples is 0"),
        ({"num_rounds": -1}, "num_rounds is -1"),
    ],
)
def test_what_cannot_be_used_is_refused_before_anything_is_written(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        run(tmp_path / "run", **options)
    assert not (tmp_path / "run").exists() or not any((tmp_path / "run").iterdir())


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds something else"):
        run(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
