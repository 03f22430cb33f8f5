"""What a run prints at its end."""

from pathlib import Path
from typing import Any

import pytest
from pytorch_lightning.callbacks import ModelCheckpoint

from generator.training.next_step_generator import NextStepGenerator
from generator.training.report import report_fit
from retrieval.training.run_summary import RunSummary
from tests.fakes import EIGHT, quiet_trainer, write_splits
from tests.generator.families import Family


@pytest.mark.parametrize("engine", ["native", "transformers"])
def test_the_best_checkpoint_is_asked_what_validation_asked(
    family: Family, engine: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, module = family.build(num_beams=2, engine=engine), family.data(write_splits(tmp_path / "data"))
    saving = ModelCheckpoint(tmp_path, monitor="top1_acc_val", mode="max")
    trainer = quiet_trainer(tmp_path, max_steps=1, callbacks=[saving], enable_checkpointing=True)
    trainer.fit(model, module)
    asked: list[str] = []
    decode = NextStepGenerator.decode

    def listen(self: Any, inputs: Any, num_candidates: int) -> Any:
        assert self is not model and self.engine.name == engine
        asked.extend(inputs)
        decode(self, inputs, num_candidates)
        return [[] if len(asked) == 3 else [(EIGHT[1][1], -0.5), ("\x1b[2J", -0.75)]]

    monkeypatch.setattr(NextStepGenerator, "decode", listen)
    report_fit(trainer, model, module)
    printed = capsys.readouterr().out
    examples = module.datasets["val"]
    assert asked == [examples[i]["state"] for i in (0, 3, 6)]
    assert "validation: top1 " in printed and f"checkpoint: {saving.best_model_path}" in printed
    assert all(f"    {line}\n" in printed for i in (0, 3, 6) for line in EIGHT[i][0].split("\n"))
    assert printed.count("   -0.75  \\x1b[2J\n") == 2 and "\x1b" not in printed, "shown, and not acted on"
    assert printed.count("   -0.50  intro h\n") == 2 and printed.endswith("  no suggestions\n")


def test_a_run_without_validation_or_checkpoint_says_so(
    family: Family, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, module = family.build(num_beams=2), family.data(write_splits(tmp_path / "data"))
    trainer = quiet_trainer(tmp_path, max_steps=1, limit_val_batches=0, callbacks=[RunSummary()])
    trainer.fit(model, module)
    report_fit(trainer, model, module)
    printed = capsys.readouterr().out
    assert "validation: none: trainer.limit_val_batches is 0" in printed
    assert "checkpoint: none was kept" in printed and "suggests" not in printed
