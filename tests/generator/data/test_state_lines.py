"""Lines of ntp-training-data's first stage are instruct data, in whichever template's prompts."""

import json
from pathlib import Path
from typing import Any

import pytest

from common import ConfigError, DataError
from generator.data.instruct_records import InstructRecords
from generator.data.prompted_steps import InstructSteps
from generator.data.state_lines import PromptWriter
from generator.instruct_convert import to_leandojo
from generator.prompts.templates import TEMPLATES, get_template
from tests.generator.causal_fakes import data

LINE = {
    "state": "m n : ℕ\nh : m = n\n⊢ n = m",
    "nextTactic": "exact h.symm",
    "srcUpToTactic": "import Mathlib\n\ntheorem Nat.swap (m n : ℕ) (h : m = n) : n = m := by\n  skip\n  ",
    "declUpToTactic": "theorem Nat.swap (m n : ℕ) (h : m = n) : n = m := by\n  skip\n  ",
    "decl": "theorem Nat.swap (m n : ℕ) (h : m = n) : n = m ",
    "declId": "Examples.12_0.aBc",
}


def write(folder: Path, *lines: dict[str, Any]) -> Path:
    path = folder / "train.jsonl"
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    return path


def load(path: Path, template: str | None, max_tokens: int = 500, **options: Any) -> InstructRecords:
    writer = PromptWriter(template and get_template(template), max_tokens)  # type: ignore[arg-type]
    return InstructRecords.load([path], progress=False, writer=writer, **options)


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_state_and_its_tactic_become_a_prompt_and_its_completion(template: str, tmp_path: Path) -> None:
    records = load(write(tmp_path, LINE), template)
    (step,) = InstructSteps(records, get_template(template))
    wanted = {"state": LINE["state"], "context": LINE["srcUpToTactic"], "full_name": "Nat.swap", "proof": "skip"}
    wanted["heading"] = ""  # such lines know no similar states
    assert step.tactic == "exact h.symm" and step.provenance.full_name == "Examples.12_0.aBc"
    assert step.prompt == get_template(template).format(**wanted)  # type: ignore[arg-type]
    fields = get_template(template).fields - {"premises"}
    assert {name: getattr(step.fields, name) for name in fields} == {name: wanted[name] for name in fields}


def test_what_the_line_does_not_say_stays_empty(tmp_path: Path) -> None:
    line = {"state": "⊢ p", "nextTactic": "simp", "declId": None, "decl": "example : p "}
    (step,) = InstructSteps(load(write(tmp_path, line), "internlm2.5-step"))
    assert step.fields is not None
    assert (step.fields.full_name, step.fields.proof, step.provenance.full_name) == ("", "", "")
    unnamed = {**LINE, "decl": "instance : Foo ", "declUpToTactic": "instance : Foo := by rw [a]\n  "}
    (step,) = InstructSteps(load(write(tmp_path, unnamed), "internlm2.5-step"))
    assert step.fields is not None
    assert (step.fields.full_name, step.fields.proof) == ("Examples.12_0.aBc", "rw [a]")


def test_no_more_of_a_file_is_kept_than_a_prompt_may_hold(tmp_path: Path) -> None:
    long = {**LINE, "srcUpToTactic": "x\n" * 10_000 + "end"}
    (record,) = load(write(tmp_path, long), "ntp-ctx", max_tokens=20)
    assert "x\nend\n[/CTX]" in record.prompt and record.prompt.count("x\n") < 100


def test_what_cannot_be_used_is_counted(tmp_path: Path) -> None:
    lines = [LINE, {**LINE, "state": " "}, {**LINE, "nextTactic": ""}, {**LINE, "nextTactic": "a ::: b"}]
    records = load(write(tmp_path, *lines), "bfs-prover")
    assert len(records) == 1
    assert records.left_out == {
        "examples with an empty prompt": 1,
        "examples with an empty completion": 1,
        "tactics that template bfs-prover cannot carry": 1,
    }


def test_states_without_a_template_and_broken_fields_are_named(tmp_path: Path) -> None:
    path = write(tmp_path, LINE)
    with pytest.raises(ConfigError, match=r"train\.jsonl:1: lines with state .* set template to one of reprover, llm"):
        load(path, None, skip_invalid=True)
    path = write(tmp_path, LINE, {**LINE, "srcUpToTactic": 5})
    with pytest.raises(DataError, match=r"train\.jsonl:2: field 'srcUpToTactic' must be a text"):
        load(path, "ntp-st")
    assert len(load(path, "ntp-st", skip_invalid=True)) == 1


def test_a_data_module_reads_them_beside_prompts(tmp_path: Path) -> None:
    prompt = {"prompt": get_template("llmstep").format("⊢ q"), "completion": "trivial", "prompt_name": "llmstep"}
    write(tmp_path, LINE, prompt)
    dataset = data(tmp_path)._read("train", is_train=True)
    assert [dataset[i]["tactic"] for i in range(2)] == ["exact h.symm", "trivial"]  # type: ignore[index]
    with pytest.raises(ConfigError, match="set template to one of"):
        data(tmp_path, template=None)._read("train", is_train=True)


def test_they_become_files_of_leandojo(tmp_path: Path) -> None:
    to_leandojo([write(tmp_path, LINE, LINE)], tmp_path / "back.json", progress=False)
    (theorem,) = json.loads((tmp_path / "back.json").read_text(encoding="utf-8"))
    assert theorem["full_name"] == "Examples.12_0.aBc" and len(theorem["traced_tactics"]) == 2
    assert theorem["traced_tactics"][0]["state_before"] == LINE["state"]
