"""InstructDataModule alone: which data it reads, in which template, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import pytest

from common import ByteTokenizer, ConfigError, DataError
from generator.instruct_convert import main as convert
from generator.prompts.templates import get_template
from tests.fakes import EIGHT
from tests.generator.data_families import DECODER_ONLY_DATA, LLMSTEP, epochs, write_instruct, write_leandojo

make = DECODER_ONLY_DATA.make


@pytest.fixture
def data_path(tmp_path: Path) -> str:
    return str(write_instruct(tmp_path / "instruct"))


# ------------------------------------------------------------------------------------------------
# Data


def test_splits_are_found_by_the_names_that_data_has(data_path: str) -> None:
    module = make(data_path)
    module.setup()
    assert {role: dataset[0]["full_name"] for role, dataset in module.datasets.items()} == {
        "train": "train.t",
        "val": "val.t",
        "test": "test.t",
    }


def test_files_can_be_named_split_by_split(tmp_path: Path) -> None:
    folder = write_instruct(tmp_path, train="a.jsonl", val="b.jsonl", test="c.jsonl")
    module = make({"train": [f"{folder}/a.jsonl", folder / "b.jsonl"], "val": f"{folder}/c*"})
    module.setup("fit")
    assert len(module.datasets["train"]) == 74 and len(module.datasets["val"]) == 37
    with pytest.raises(DataError, match="none of its files is of split test"):
        module.setup("test")


@pytest.mark.parametrize("template", ["ntp-st", "reprover", "internlm2-step"])
def test_leandojo_data_is_converted_on_the_fly_as_by_the_converter(tmp_path: Path, template: str) -> None:
    leandojo = write_leandojo(tmp_path / "random")
    convert(["--data_path", str(leandojo), "--template", template, "--output_dir", str(tmp_path / "st")])
    seen = []
    for folder in (leandojo, tmp_path / "st"):
        module = make(str(folder), template=template, max_seq_len=600)
        module.setup("fit")
        seen.append(sum(epochs(module), []))
    assert seen[0] == seen[1] and len(seen[0]) == 20


def test_instruct_data_is_rewritten_with_another_template(data_path: str) -> None:
    module = make(data_path, template="bfs-prover")
    module.setup("validate")
    assert module.datasets["val"][1]["state"] == f"⊢ {'x' * 7}:::"


def test_what_was_left_out_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_instruct(tmp_path, num_steps=3)
    with (folder / "state_train.jsonl").open("a") as file:
        file.write(json.dumps({"prompt": LLMSTEP.format("p"), "completion": " ", "prompt_name": "llmstep"}) + "\n{\n")
    with pytest.raises(DataError, match="state_train.jsonl:5: broken JSON"):
        make(str(folder)).setup("fit")
    module = make(str(folder), skip_invalid=True)
    module.setup("fit")
    assert "1 examples with an empty completion" in module.datasets["train"].summary()
    assert "1 broken lines" in module.datasets["train"].summary()


# ------------------------------------------------------------------------------------------------
# Batches


def test_a_perfect_predictor_is_given_all_that_it_needs(data_path: str) -> None:
    """What stands behind each prompt in an evaluation batch is the tactic, under the template's own parser."""
    module = make(data_path)
    module.setup("test")
    for batch in module.test_dataloader():
        for row, tactic in enumerate(batch["tactic"]):
            labels = batch["labels"][row]
            prompt = batch["input_ids"][row][: int((labels != -100).nonzero()[0])]
            assert ByteTokenizer().decode(prompt) == batch["state"][row]
            written = ByteTokenizer().decode(labels[labels != -100], skip_special_tokens=True)
            assert LLMSTEP.parse(written) == tactic


# ------------------------------------------------------------------------------------------------
# Refusals


def test_leandojo_data_needs_a_template(eight_path: Path) -> None:
    with pytest.raises(ConfigError, match="train.json holds states without prompts; set template to one of reprover,"):
        make(str(eight_path)).setup("fit")
    module = make(str(eight_path), template="llmstep", max_seq_len=300)
    module.setup("fit")
    assert len(module.datasets["train"]) == len(EIGHT)


def test_both_kinds_of_data_in_one_folder_are_refused(eight_path: Path) -> None:
    write_instruct(eight_path)
    with pytest.raises(DataError, match=r"holds both train.json and state_train.jsonl; name the file to read"):
        make(str(eight_path), template="llmstep").setup("fit")


@pytest.mark.parametrize("data_path", ["nowhere", "nowhere.jsonl", ["nowhere.jsonl"], "nowhere/*.jsonl"])
def test_data_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data_path: Any) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="nowhere"):
        make(data_path).setup("fit")


def test_a_split_of_which_nothing_fits_is_refused(data_path: str) -> None:
    with pytest.raises(DataError, match="37 prompts that are too long .* nothing is left to read"):
        make(data_path, max_seq_len=20, max_completion_len=18).setup("fit")


def test_prompts_of_several_templates_need_one_to_be_chosen(tmp_path: Path) -> None:
    folder = write_instruct(tmp_path / "mixed")
    with open(folder / "state_train.jsonl", "a", encoding="utf-8") as file:
        prompt, completion = get_template("ntp-st").format("⊢ p"), get_template("ntp-st").complete("simp")
        file.write(json.dumps({"prompt": prompt, "completion": completion, "prompt_name": "state_tactic"}) + "\n")
    with pytest.raises(ConfigError, match=r"prompts are of several templates \(llmstep, ntp-st\); set template"):
        make(folder).setup("fit")
    rewritten = make(folder, template="llmstep")
    rewritten.setup("fit")
    assert rewritten.found_templates == {"llmstep"} and len(rewritten.datasets["train"]) == 38


def test_paths_of_several_files_are_saved_as_plain_values(tmp_path: Path) -> None:
    module = make({"train": [tmp_path / "a.jsonl"], "val": tmp_path}, template="ntp-st")
    assert module.hparams["data_path"] == {"train": [str(tmp_path / "a.jsonl")], "val": str(tmp_path)}
    json.dumps(dict(module.hparams))
