"""Steps as prompts and completions: from LeanDojo files and from instruct data, as they are or rewritten."""

import json
from pathlib import Path
from typing import Any

import pytest

from common import ConfigError, Pos
from generator.data.instruct_records import InstructRecords
from generator.data.prompted_steps import InstructSteps, TracedSteps, UnusableStep, provenance_of, usable
from generator.prompts.templates import get_template
from retrieval.leandojo.provenance import Provenance
from retrieval.leandojo.traces import TracedTactics
from tests.fakes import theorem

NTP = get_template("ntp-st")


def instruct(tmp_path: Path, *records: dict[str, Any], template: str | None = None) -> InstructSteps:
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return InstructSteps(InstructRecords.load([path], progress=False), template and get_template(template))  # type: ignore[arg-type]


def record(state: str, tactic: str, **fields: Any) -> dict[str, Any]:
    return {"prompt": NTP.format(state), "completion": NTP.complete(tactic), "prompt_name": "state_tactic"} | fields


def traced(tmp_path: Path, steps: list[tuple[str, str]], template: str) -> TracedSteps:
    path = tmp_path / "train.json"
    path.write_text(json.dumps([theorem(0, steps)]), encoding="utf-8")
    return TracedSteps(TracedTactics.load(path, progress=False), get_template(template))


def test_a_traced_step_is_written_with_the_template(tmp_path: Path) -> None:
    step = traced(tmp_path, [("2 goals\n⊢ p\n\n⊢ q", "exact h")], "ntp-st")[0]
    assert step.prompt == NTP.format("⊢ p\n\n⊢ q") and step.completion == "exact h\n[/TAC]" and step.tactic == "exact h"
    assert step.provenance == Provenance(
        "https://example.org/repo", "c0ffee", "Lib/File0.lean", "Lib.thm0", Pos(1, 1), 0
    )


def test_the_theorem_is_named_and_the_proof_is_not_told(tmp_path: Path) -> None:
    step = traced(tmp_path, [("⊢ p → p", "intro h"), ("h : p\n⊢ p", "exact h")], "internlm2.5-step")[1]
    assert "NAME: Lib.thm0\n" in step.prompt and "PROOF_BEFORE: \n" in step.prompt


def test_a_tactic_that_the_template_cannot_carry_is_counted(tmp_path: Path) -> None:
    steps = traced(tmp_path, [("⊢ p", "a ::: b"), ("⊢ p", "simp"), ("⊢ p", "c ::: d")], "bfs-prover")
    unusable: dict[str, list[str]] = {}
    assert [number for number, _ in usable(steps, range(3), unusable)] == [1]
    (reason,) = unusable
    assert reason == "tactics that template bfs-prover cannot carry" and len(unusable[reason]) == 2


def test_instruct_data_is_used_as_it_is(tmp_path: Path) -> None:
    steps = instruct(tmp_path, record("⊢ p", "simp", metadata={"file": "A.lean", "declId": "x.1"}))
    step = steps[0]
    assert (step.prompt, step.completion, step.tactic) == (NTP.format("⊢ p"), "simp\n[/TAC]", "simp")
    assert step.template is NTP and step.fields is not None and step.fields.state == "⊢ p"
    assert step.provenance == Provenance(file_path="A.lean", full_name="x.1")


def test_instruct_data_is_rewritten_with_another_template(tmp_path: Path) -> None:
    step = instruct(tmp_path, record("⊢ p", "simp"), template="llmstep")[0]
    assert (step.prompt, step.completion, step.tactic) == ("[GOAL]⊢ p[PROOFSTEP]", "simp", "simp")


def test_rewritten_prompts_name_the_theorem_as_inference_does(tmp_path: Path) -> None:
    told = record("⊢ p", "simp", metadata={"declId": "Nat.foo"})
    step = instruct(tmp_path, told, template="internlm2-step")[0]
    assert step.prompt == get_template("internlm2-step").format("⊢ p", full_name="Nat.foo")


def test_what_prompts_tell_and_what_stays_empty_is_said(tmp_path: Path) -> None:
    steps = [("⊢ p", "simp")]
    assert traced(tmp_path, steps, "vllm-reprover").summary().endswith("1 theorems, 1 steps")
    assert "left empty in prompts of ntp-ctx: context" in traced(tmp_path, steps, "ntp-ctx").summary()
    assert "left empty in prompts of internlm2.5-step: proof" in traced(tmp_path, steps, "internlm2.5-step").summary()


def test_a_completion_that_does_not_parse_is_counted_and_shown(tmp_path: Path) -> None:
    steps = instruct(tmp_path, record("⊢ p", "simp", completion="simp"), record("⊢ p", "ring"))
    with pytest.raises(UnusableStep, match=r"do not parse under template ntp-st: .*train.jsonl:1: 'simp'"):
        steps[0]
    assert steps[1].tactic == "ring"


def test_a_prompt_that_is_not_of_its_template_is_used_but_cannot_be_rewritten(tmp_path: Path) -> None:
    other = record("⊢ p", "simp", prompt="State: ⊢ p")
    step = instruct(tmp_path, other)[0]
    assert step.prompt == "State: ⊢ p" and step.fields is None and step.tactic == "simp"
    with pytest.raises(UnusableStep, match="not of template ntp-st, so that llmstep cannot rewrite them: .*:1"):
        instruct(tmp_path, other, template="llmstep")[0]


def test_a_format_that_no_template_has_is_used_as_it_is_and_said(tmp_path: Path) -> None:
    unknown = {"prompt": "Q: 1+1?", "completion": " 2\n", "prompt_name": "sums"}
    steps = instruct(tmp_path, unknown)
    assert (steps[0].completion, steps[0].tactic, steps[0].template) == (" 2\n", "2", None)
    assert steps.summary().endswith("used as they are: prompts of 'sums', which no template here writes")
    with pytest.raises(ConfigError, match=r"train.jsonl:1: prompt_name 'sums' is no template known here"):
        instruct(tmp_path, unknown, template="llmstep")[0]


def test_where_a_step_comes_from_is_read_as_far_as_it_is_told() -> None:
    told = {"url": "u", "commit": "c", "file_path": "A.lean", "full_name": "t", "start": [3, 4], "tactic_idx": 5}
    assert provenance_of(told) == Provenance("u", "c", "A.lean", "t", Pos(3, 4), 5)
    assert provenance_of({"declId": None, "start": "here", "tactic_idx": "x"}) == Provenance()
