"""What a run prints at its end."""

from pathlib import Path
from typing import Any

import pytest
from pytorch_lightning.callbacks import ModelCheckpoint

from generator.datamodule import GeneratorDataModule
from generator.model import RetrievalAugmentedGenerator
from generator.training.next_step_generator import NextStepGenerator
from generator.training.report import report_fit
from tests.fakes import EIGHT, TINY, quiet_trainer, write_splits
from tests.generator.causal_fakes import build, data


def encoder_decoder(path: Path, engine: str) -> tuple[Any, Any]:
    options = {"num_beams": 2, "max_oup_seq_len": 16, "engine": engine}
    return RetrievalAugmentedGenerator(TINY, **options), GeneratorDataModule(str(path), TINY)  # type: ignore[arg-type]


def decoder_only(path: Path, engine: str) -> tuple[Any, Any]:
    return build(num_beams=2, engine=engine), data(path)


@pytest.mark.parametrize("family", [encoder_decoder, decoder_only])
@pytest.mark.parametrize("engine", ["native", "transformers"])
def test_the_best_checkpoint_is_asked_what_validation_asked(
    family: Any, engine: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, module = family(write_splits(tmp_path / "data"), engine)
    saving = ModelCheckpoint(tmp_path, monitor="top1_acc_val", mode="max")
    trainer = quiet_trainer(tmp_path, max_steps=1, callbacks=[saving], enable_checkpointing=True)
    trainer.fit(model, module)
    asked: list[str] = []
    decode = NextStepGenerator.decode

    def listen(self: Any, inputs: Any, num_candidates: int) -> Any:
        assert self is not model and self.engine.name == engine
        asked.extend(inputs)
        decode(self, inputs, num_candidates)
        return [[] if len(asked) == 3 else [(EIGHT[1][1], -0.5)]]

    monkeypatch.setattr(NextStepGenerator, "decode", listen)
    report_fit(trainer, model, module)
    printed = capsys.readouterr().out
    examples = module.datasets["val"]
    assert asked == [examples[i]["state"] for i in (0, 3, 6)]
    assert "validation: top1 " in printed and f"checkpoint: {saving.best_model_path}" in printed
    assert all(f"    {line}\n" in printed for i in (0, 3, 6) for line in EIGHT[i][0].split("\n"))
    assert printed.count("   -0.50  intro h\n") == 2 and printed.endswith("  no suggestions\n")


def test_a_run_without_validation_or_checkpoint_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, module = encoder_decoder(write_splits(tmp_path / "data"), "native")
    trainer = quiet_trainer(tmp_path, max_steps=1, limit_val_batches=0)
    trainer.fit(model, module)
    report_fit(trainer, model, module)
    printed = capsys.readouterr().out
    assert "the run ended before the first one; lower trainer.val_check_interval" in printed
    assert "checkpoint:" not in printed and "suggests" not in printed
