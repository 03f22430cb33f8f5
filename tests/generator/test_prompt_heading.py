"""Prompts with a heading (file and theorem, tactics of similar states): in training and inference alike."""

from pathlib import Path
from typing import Any

import pytest

from common import ConfigError, Context
from generator import load_generator
from generator.instruct_convert import main as convert
from generator.nearest.make import nearest
from generator.prompts.fields import PromptFields
from generator.prompts.templates import get_template
from tests.fakes import quiet_trainer, write_splits
from tests.generator.causal_fakes import build, data


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight steps, and beside them the lookup of them."""
    path = write_splits(tmp_path_factory.mktemp("heading") / "data")
    nearest(path, path.parent / "nearest", max_share=1.0)
    return path


def options(steps: Path, **more: Any) -> dict[str, Any]:
    told = {"tell_theorem": True, "nearest_path": str(steps.parent / "nearest"), "num_nearest": 2}
    return {"template": "nextstep", **told, **more}


def contexts_of(dataset: Any) -> list[Context]:
    return [
        Context(e.provenance.file_path, e.provenance.full_name, e.provenance.start, e.proof_state)
        for e in (dataset.example(0, index) for index in range(len(dataset)))
    ]


def test_a_checkpoint_writes_the_prompts_that_it_was_trained_on(steps: Path, tmp_path: Path) -> None:
    module, model = data(steps, **options(steps)), build(**options(steps))
    trainer = quiet_trainer(tmp_path, max_steps=1)
    trainer.fit(model, module)
    trainer.save_checkpoint(tmp_path / "told.ckpt")
    dataset = module.datasets["train"]
    trained = [dataset.example(0, index).state for index in range(len(dataset))]
    loaded: Any = load_generator(tmp_path / "told.ckpt")
    assert loaded.reads_theorem
    assert loaded.write_inputs(contexts_of(dataset)) == trained
    assert all("\n1 " in prompt.partition("[GOAL]")[0] for prompt in trained)
    assert "left empty" not in dataset.summary()


def test_without_headings_the_prompt_is_that_of_llmstep(steps: Path) -> None:
    plain, told = data(steps), data(steps, template="nextstep")
    for module in (plain, told):
        module.setup("fit")
    pairs = [(module.datasets["train"].example(0, 0).state) for module in (plain, told)]
    assert pairs[0] == pairs[1]
    assert "heading" in told.datasets["train"].summary()


def test_headings_go_last_when_a_prompt_is_too_long() -> None:
    fields = PromptFields("h : p\nh' : q\n⊢ p\n\n⊢ q", heading="2 simp\n1 intro\n\n")
    template = get_template("nextstep")
    whole = template.fit(fields).text
    assert whole == "2 simp\n1 intro\n\n[GOAL]h : p\nh' : q\n⊢ p\n\n⊢ q[PROOFSTEP]"
    assert template.read(whole) == fields
    assert template.fit(fields, 38).text == "2 simp\n1 intro\n\n[GOAL]⊢ p[PROOFSTEP]"
    assert template.fit(fields, 33).text == "1 intro\n\n[GOAL]⊢ p[PROOFSTEP]"


def test_a_template_without_a_place_is_refused(steps: Path) -> None:
    for template, match in (
        ("llmstep", "no place for heading; those of nextstep have"),
        (None, "set template to next"),
    ):
        with pytest.raises(ConfigError, match=match):
            data(steps, **options(steps, template=template))
    with pytest.raises(ConfigError, match="no place for heading"):
        build(**options(steps, template="llmstep"))
    with pytest.raises(ConfigError, match="tell_theorem: prompts of template llmstep"):
        build(template="llmstep", tell_theorem=True)


def test_a_model_without_a_template_says_that_it_needs_one(steps: Path) -> None:
    model = build(template=None, tell_theorem=True)
    with pytest.raises(ConfigError, match="need a template"):
        model.write_inputs([Context("A.lean", "t", None, "⊢ p")])


def test_instruct_data_has_its_prompts_whole(steps: Path, tmp_path: Path) -> None:
    convert(["--data_path", str(steps), "--output_dir", str(tmp_path / "instruct"), "--template", "nextstep"])
    module = data(tmp_path / "instruct", **options(steps))
    with pytest.raises(ConfigError, match="leave out corpus_path, sources_path, nearest_path and tell_theorem"):
        module.setup("fit")
