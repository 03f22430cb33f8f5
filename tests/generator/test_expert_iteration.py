"""A round of expert iteration: proofs are searched, become data, and the model is trained on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from common import ConfigError
from generator.expert_iteration import main
from retrieval.training.checkpoints import read_checkpoint
from tests.fakes import EIGHT
from tests.generator.cli_fakes import Fitted, fit
from tests.generator.families import DECODER_ONLY, ENCODER_DECODER, Family
from tests.generator.search.prove_fakes import write_script

FAMILIES = [ENCODER_DECODER, DECODER_ONLY]


def iterate(fitted: Fitted, folder: Path, script: Path, *more: str) -> None:
    """Search with `solve` and `step`, and train the fitted model on."""
    main(
        [
            f"--output_dir={folder}",
            "--environment=scripted",
            f"--environment_options.script={script}",
            f"--data_path={fitted.folder / 'data'}",
            f"--model_path={fitted.version / 'checkpoints' / 'last.ckpt'}",
            "--tactics=solve,step",
            "--workers=0",
            *more,
        ]
    )


def weights(path: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = read_checkpoint(path)["state_dict"]
    return found


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_model_goes_on_from_its_weights_with_the_proofs_that_were_found(
    family: Family, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fitted = fit(tmp_path / "first", family)
    train = json.loads((fitted.folder / "data" / "train.json").read_text())
    first, name = EIGHT[0][0], train[0]["full_name"]
    calls = tmp_path / "calls"
    table = {first: {"step": EIGHT[1][0]}, EIGHT[1][0]: {"solve": "no goals"}}
    script = write_script(tmp_path / "s.json", {name: first}, table)
    options = ["--repeats=2", '--fit_options={"trainer.max_epochs": 1, "model.lr": 1e-30}']
    options.append(f"--environment_options.calls_path={calls}")
    out = tmp_path / "round"
    iterate(fitted, out, script, *options)
    printed = capsys.readouterr().out
    assert "1 proofs of 2 steps; 2 steps of 1 proofs are not in the data already" in printed
    last = out / "fit" / "version_0" / "checkpoints" / "last.ckpt"
    assert printed.rstrip().endswith(f"--ckpt_path {last} tells what it proves")
    added = json.loads((out / "data" / "train.json").read_text())[len(train) :]
    assert [[step["tactic"] for step in each["traced_tactics"]] for each in added] == [["step", "solve"]] * 2
    before, after = weights(fitted.version / "checkpoints" / "last.ckpt"), weights(last)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before), "it begins with these, and hardly moves"
    assert read_checkpoint(last)["global_step"] == (8 + 2 * 2) / 2, "old and new steps, two in a batch"

    num_calls = len(calls.read_text().splitlines())
    iterate(fitted, out, script, *options)  # nothing is searched or trained again
    assert len(calls.read_text().splitlines()) == num_calls
    assert read_checkpoint(last)["global_step"] == 6


def test_what_is_missing_is_said_before_anything_is_searched(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    base = [f"--output_dir={tmp_path / 'out'}", "--environment=scripted", "--tactics=x"]
    with pytest.raises(ConfigError, match="data_path is None; give the folder of the splits"):
        main(base)
    with pytest.raises(ConfigError, match="no model is named that is trained on; give model_path, or ckpt_path"):
        main([*base, f"--data_path={tmp_path / 'data'}"])
    with pytest.raises(ConfigError, match=r"config.yaml: there is no such file; give the YAML .* as fit_config"):
        main([*base, f"--data_path={tmp_path / 'data'}", f"--model_path={tmp_path / 'a' / 'b' / 'x.ckpt'}"])
    assert not (tmp_path / "out").exists()
