"""A tokenizer made of the data is a folder that an architecture names; checkpoints and exports go on with it."""

from pathlib import Path
from typing import Any

import pytest

from common import ConfigError, DataError, load_tokenizer
from generator import load_generator
from generator.datamodule import GeneratorDataModule
from generator.export import export
from generator.model import RetrievalAugmentedGenerator
from generator.tokenizer import main
from retrieval.leandojo.traces import TracedTactics
from tests.fakes import TINY, quiet_trainer, write_splits

LIMITS: dict[str, Any] = {"max_inp_seq_len": 128, "max_oup_seq_len": 48}


def make(folder: Path, *options: str) -> tuple[Path, Path]:
    data_path = write_splits(folder / "data")
    main(["--data_path", str(data_path), "--output_dir", str(folder / "tokenizer"), "--vocab_size", "290", *options])
    return data_path, folder / "tokenizer"


def test_the_command_says_what_it_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data_path, folder = make(tmp_path)
    tokenizer = load_tokenizer({"tokenizer": str(folder)})
    assert f"wrote {folder}: {len(tokenizer)} pieces, " in capsys.readouterr().out
    texts = [step.state for step in TracedTactics.load(data_path / "train.json")]
    assert tokenizer.batch_decode(tokenizer(texts)["input_ids"], skip_special_tokens=True) == texts
    assert sum(map(len, tokenizer(texts)["input_ids"])) < sum(len(text.encode()) for text in texts)


def test_a_model_learns_with_it_and_its_checkpoint_and_export_keep_it(tmp_path: Path) -> None:
    data_path, folder = make(tmp_path)
    architecture = {**TINY, "tokenizer": str(folder)}
    architecture.pop("vocab_size", None)
    model = RetrievalAugmentedGenerator(architecture, num_beams=2, **LIMITS)
    trainer = quiet_trainer(tmp_path, max_steps=1)
    trainer.fit(model, GeneratorDataModule(str(data_path), architecture, batch_size=8, **LIMITS))
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    export(tmp_path / "model.ckpt", tmp_path / "exported")
    asked = ("p q : Prop\n⊢ p ∨ q", "A.lean", "t", (1, 1), 2)
    candidates = load_generator(tmp_path / "model.ckpt").generate(*asked)
    exported = load_generator(tmp_path / "exported").generate(*asked)
    assert [tactic for tactic, _ in candidates] == [tactic for tactic, _ in exported]
    assert (tmp_path / "exported" / "tokenizer.json").is_file()


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="max_state_bytes is 0"):
        make(tmp_path, "--max_state_bytes", "0")
    with pytest.raises(DataError, match=r"nowhere.train\.json"):
        main(["--data_path", str(tmp_path / "nowhere"), "--output_dir", str(tmp_path / "tokenizer")])
    assert not (tmp_path / "tokenizer").exists()
