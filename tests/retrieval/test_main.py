"""The command line: training, checkpoints, evaluation, prediction on one rank and two, the index."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from common import ConfigError, DataError
from retrieval.corpus import Corpus
from retrieval.evaluate import evaluate
from retrieval.index import EmbeddingIndex
from retrieval.index import main as index_main
from retrieval.main import RetrievalCLI, main
from retrieval.model import PremiseRetriever
from retrieval.predictions.reader_writer import Predictions
from retrieval.reports import premise_table
from retrieval.training.cli import start
from retrieval.training.divergence import DivergedError
from tests.retrieval.fakes import ENCODER, write_library

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted((ROOT / "configs" / "retrieval").glob("*.yaml"))


def config(data_path: Path, folder: Path, **trainer: Any) -> dict[str, Any]:
    return {
        "seed_everything": 1,
        "model": {"model_name": dict(ENCODER), "lr": 1e-3, "warmup_steps": 2, "num_retrieved": 10},
        "data": {"data_path": str(data_path), "batch_size": 2, "eval_batch_size": 3, "max_seq_len": 128},
        "trainer": {
            "accelerator": "cpu",
            "max_epochs": 2,
            "num_sanity_val_steps": 0,
            "log_every_n_steps": 1,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "logger": {
                "class_path": "retrieval.training.tensorboard.TensorBoard",
                "init_args": {"save_dir": str(folder), "name": "run", "default_hp_metric": False},
            },
            **trainer,
        },
    }


def run(subcommand: str, folder: Path, values: dict[str, Any], *extra: str) -> RetrievalCLI:
    torch.set_num_threads(1)  # two add up gradients of embeddings in any order
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(values, allow_unicode=True))
    return main([subcommand, "--config", str(path), *extra])


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    """A finished run: its folder, its configuration, and its metrics.json."""
    folder = tmp_path_factory.mktemp("fitted")
    values = config(write_library(folder / "library"), folder)
    values["trainer"]["callbacks"] = [
        {
            "class_path": "pytorch_lightning.callbacks.ModelCheckpoint",
            "init_args": {"every_n_train_steps": 1, "save_top_k": -1, "filename": "at-{step}"},
        }
    ]
    run("fit", folder, values, "--model.log_projector", "true")
    return folder, values, json.loads((folder / "run" / "version_0" / "metrics.json").read_text())


Fitted = tuple[Path, dict[str, Any], dict[str, Any]]


def test_fit_leaves_metrics_checkpoints_and_what_tensorboard_shows(fitted: Fitted) -> None:
    folder, _, metrics = fitted
    assert metrics["status"] == "finished" and metrics["num_steps"] == 8
    assert {"Recall@1_val", "Recall@10_val", "MRR_val"} <= set(metrics["best"])
    assert "Recall@10_val=" in metrics["best_checkpoint"] and Path(metrics["last_checkpoint"]).is_file()
    events = EventAccumulator(str(folder / "run" / "version_0")).Reload()
    scalars = set(events.Tags()["scalars"])
    expected = {"loss_train_step", "loss_train_epoch", "Recall@1_val", "Recall@10_val", "MRR_val"}
    assert expected | {"optimizer/lr-AdamW", "optimizer/grad_norm", "throughput/useful_bytes_per_s"} <= scalars
    assert {"throughput/model_flops_per_s", "throughput/padding_share", "throughput/data_wait_share"} <= scalars
    texts = {tag.removesuffix("/text_summary"): tag for tag in events.Tags()["tensors"]}
    assert {"run_config", "recall_at_k_val", "examples_val/0"} <= set(texts)
    sample = events.Tensors(texts["examples_val/0"])[0].tensor_proto.string_val[0].decode()
    assert "✓" in sample and "⊢" in sample and ".lean" in sample
    assert "| 10 |" in events.Tensors(texts["recall_at_k_val"])[0].tensor_proto.string_val[0].decode()
    assert "epoch" not in scalars and "custom_scalars__config__" in texts
    points = next((folder / "run" / "version_0").rglob("metadata.tsv")).read_text().splitlines()
    premises = Corpus(folder / "library" / "corpus.jsonl")
    assert points == ["premise\tfile", *(f"{premise.full_name}\t{premise.path}" for premise in premises)]


def test_each_validation_is_drawn_and_test_too(fitted: Fitted) -> None:
    pytest.importorskip("matplotlib")
    folder, values, metrics = fitted
    events = EventAccumulator(str(folder / "run" / "version_0")).Reload()
    names = {"rank", "recall_at_k", "found_by_num_premises", "right_by_cosine"}
    assert set(events.Tags()["images"]) == {f"val_figures/{name}" for name in names}
    assert [event.step for event in events.Images("val_figures/rank")] == [4, 8]
    files = (folder / "run" / "version_0" / "figures").iterdir()
    assert {path.name for path in files} == {f"{name}_val.png" for name in names}
    cli = run("test", folder, values, "--ckpt_path", metrics["last_checkpoint"])
    files = (Path(cli.trainer.log_dir) / "figures").iterdir()
    assert {path.name for path in files} == {f"{name}_test.png" for name in names}


def test_resuming_in_the_middle_of_an_epoch_equals_never_stopping(fitted: Fitted) -> None:
    folder, values, metrics = fitted
    middle = folder / "run" / "version_0" / "checkpoints" / "at-step=6.ckpt"  # four steps an epoch
    resumed = run("fit", folder, values, "--ckpt_path", str(middle))
    whole = torch.load(metrics["last_checkpoint"], weights_only=True)["state_dict"]
    assert resumed.trainer.global_step == 8
    for name, weight in resumed.model.state_dict().items():
        assert torch.equal(weight, whole[name]), name


def test_a_run_that_diverges_has_failed_and_one_without_validation_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = config(write_library(tmp_path / "library"), tmp_path, max_steps=30, max_epochs=-1)
    with pytest.raises(DivergedError, match="not finite, so the run has diverged"):
        run("fit", tmp_path, values, "--model.lr", "1e30")
    folder = tmp_path / "run"
    assert json.loads((folder / "version_0" / "metrics.json").read_text())["status"] == "failed"
    run("fit", tmp_path, values, "--trainer.max_steps", "2", "--trainer.limit_val_batches", "0")
    assert "validation: none: trainer.limit_val_batches is 0\n" in capsys.readouterr().out
    last = str(folder / "version_1" / "checkpoints" / "last.ckpt")
    run("fit", tmp_path, values, "--trainer.max_steps", "6", "--ckpt_path", last)
    whole = run("fit", tmp_path, values, "--trainer.max_steps", "6")
    resumed = torch.load(folder / "version_2" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(weight, resumed[name]) for name, weight in whole.model.state_dict().items())
    checkpoint = torch.load(last, weights_only=True)
    lost = checkpoint["state_dict"].popitem()[0]
    torch.save(checkpoint, tmp_path / "less.ckpt")
    with pytest.raises(DataError, match=f"its weights do not fit the model that it describes: it lacks {lost}"):
        run("validate", tmp_path, values, "--ckpt_path", str(tmp_path / "less.ckpt"))


def test_what_evaluation_retrieves_is_chosen_at_evaluation(fitted: Fitted) -> None:
    folder, values, metrics = fitted
    last = ("--ckpt_path", metrics["last_checkpoint"])
    other = {**values, "model": {**values["model"], "model_name": {**ENCODER, "d_model": 16}}}
    cli = run("validate", folder, other, *last, "--model.num_retrieved", "5")
    assert cli.model.num_retrieved == 5 and "Recall@10_val" not in cli.trainer.callback_metrics
    assert float(cli.trainer.callback_metrics["Recall@1_val"]) == pytest.approx(metrics["Recall@1_val"])
    tested = run("test", folder, values, *last).trainer.callback_metrics
    assert float(tested["MRR_test"]) == pytest.approx(metrics["MRR_val"]), "the splits are the same"


def test_two_ranks_predict_what_one_predicts_and_evaluation_agrees(fitted: Fitted, tmp_path: Path) -> None:
    """Ten contexts in batches of three, nine premises: neither shares out evenly over two processes."""
    folder, values, metrics = fitted
    last = ("--ckpt_path", metrics["last_checkpoint"])
    run("predict", folder, values, *last, "--output_dir", str(tmp_path / "one"))
    values = {**values, "trainer": {**values["trainer"], "devices": 2, "strategy": "ddp", "logger": False}}
    (tmp_path / "two.yaml").write_text(yaml.safe_dump(values, allow_unicode=True))
    command = [sys.executable, "-m", "retrieval.main", "predict", "--config", str(tmp_path / "two.yaml"), *last]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--output_dir", str(tmp_path / "two")], env=environment, capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(list((tmp_path / "two").glob("val-*-of-2.json"))) == 2

    corpus = Corpus(folder / "library" / "corpus.jsonl")
    one, two = Predictions.load(tmp_path / "one", corpus), Predictions.load(tmp_path / "two", corpus)
    assert one.splits == two.splits == ["test", "train", "val"] and len(one) == len(two) == 30
    for row, context in enumerate(one.contexts):
        other = two.find(context.provenance)
        assert other is not None and two.contexts[other] == context
        assert one.retrieved(row) == two.retrieved(other) and len(one.retrieved(row)) == 8
        assert np.allclose(one.scores[row], two.scores[other], atol=1e-5)
    scored = evaluate(Path(values["data"]["data_path"]), corpus.path, [tmp_path / "one"], ["val"])[0]
    assert scored.mrr == pytest.approx(metrics["MRR_val"]) and scored.num_contexts == 8
    assert scored.recall_at_1 == pytest.approx(metrics["Recall@1_val"])


def test_a_run_learns_from_what_an_earlier_one_found(fitted: Fitted, tmp_path: Path) -> None:
    folder, values, metrics = fitted
    data = {**values["data"], "predict_splits": ["train"], "premise_form": "name_first"}
    found, last = tmp_path / "found", ("--ckpt_path", metrics["last_checkpoint"])
    run("predict", folder, {**values, "data": data}, *last, "--output_dir", str(found))
    hard = ["--data.num_hard_negatives", "2", "--data.hard_negatives_path", f"[{found}]"]
    cli = run("fit", tmp_path, {**values, "data": data}, *hard, "--trainer.max_epochs", "1")
    assert cli.datamodule.negatives.hard_negatives_path == [str(found)]
    example = cli.datamodule.datasets["train"].example(0, 0)
    predictions = Predictions.load(found, cli.datamodule.corpus)
    best = set(predictions.retrieved(0)) - set(example.positives)
    assert len(best & set(example.premises[1:])) >= 2, "of all that it could have drawn"
    assert cli.model.premise_form == "name_first", "the model reads what the data module writes"
    loaded = PremiseRetriever.load(str(Path(cli.trainer.log_dir) / "checkpoints" / "last.ckpt"))
    assert loaded.premise_form == "name_first" and PremiseRetriever.load(last[1]).premise_form == "marked"


def test_predictions_go_to_the_run_folder_if_not_told_otherwise(fitted: Fitted) -> None:
    folder, values, _ = fitted
    values = {**values, "data": {**values["data"], "predict_splits": ["val"]}}
    cli = run("predict", folder, values, "--ckpt_path", fitted[2]["last_checkpoint"])
    found = Predictions.load(Path(cli.trainer.log_dir) / "predictions", Corpus(folder / "library" / "corpus.jsonl"))
    assert found.splits == ["val"] and found.retriever == fitted[2]["last_checkpoint"]


def test_the_index_command_writes_what_load_reads(
    fitted: Fitted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus_path = fitted[0] / "library" / "corpus.jsonl"
    options = [f"--ret_ckpt_path={fitted[2]['last_checkpoint']}", f"--corpus_path={corpus_path}", "--device=cpu"]
    index_main([*options, f"--output_dir={tmp_path / 'index'}", "--dtype=bfloat16"])
    assert f"wrote {tmp_path / 'index'}: 9 premises, 32 numbers each, bfloat16" in capsys.readouterr().out
    index = EmbeddingIndex.load(tmp_path / "index", Corpus(corpus_path))
    assert len(index) == 9 and index.model == fitted[2]["last_checkpoint"]


def test_checkpoints_that_cannot_be_used_are_named(fitted: Fitted, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.ckpt: there is no such file"):
        run("validate", tmp_path, fitted[1], "--ckpt_path", "gone.ckpt")
    torch.save({"state_dict": {}, "retriever": {"class": "x.Y"}}, tmp_path / "other.ckpt")
    with pytest.raises(DataError, match=r"other\.ckpt: is a checkpoint of x\.Y, not of retrieval\.model"):
        run("validate", tmp_path, fitted[1], "--ckpt_path", str(tmp_path / "other.ckpt"))


def test_a_wrong_key_is_answered_with_the_nearest_right_one(
    fitted: Fitted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = {**fitted[1], "data": {**fitted[1]["data"], "num_negative": 3}}
    with pytest.raises(SystemExit):
        run("fit", tmp_path, values)
    assert "did you mean 'num_negatives'" in capsys.readouterr().err.replace("data.", "")


def test_the_length_is_an_option_of_the_data(fitted: Fitted, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model\.max_seq_len is 64, .* is 128: set --data\.max_seq_len"):
        run("fit", tmp_path, fitted[1], "--model.max_seq_len", "64")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_configuration_instantiates(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretrained weights are replaced by a tiny architecture: there is no network here."""
    monkeypatch.chdir(tmp_path)
    values = yaml.safe_load(path.read_text())
    assert values["model"]["model_name"] == "google/byt5-small" or isinstance(values["model"]["model_name"], dict)
    values["model"]["model_name"] = dict(ENCODER)
    values["trainer"].update(accelerator="cpu", precision="32-true")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    made = start(RetrievalCLI, [], [f"--config={tmp_path / 'config.yaml'}"], run=False)
    assert made.model.max_seq_len == made.datamodule.hparams.max_seq_len == values["data"]["max_seq_len"]
    monitors = {callback.monitor for callback in made.trainer.callbacks if getattr(callback, "monitor", None)}
    assert monitors == {"Recall@10_val"} and made.model.num_retrieved >= 10


def test_there_are_configurations() -> None:
    assert {"quickstart", "leandojo_random", "leandojo_novel_premises"} <= {path.stem for path in CONFIGS}


def test_the_table_marks_hits_and_names_what_was_missed(fitted: Fitted) -> None:
    corpus = Corpus(fitted[0] / "library" / "corpus.jsonl")
    assert premise_table(corpus, {1, 5}, [0, 1, -1], [0.9, 0.8, -float("inf")]).splitlines()[2:] == [
        "|  | 1 | 0.900 | `And.symm` | `First.lean` |",
        "| ✓ | 2 | 0.800 | `Or.symm` | `First.lean` |",
        "| ✓ |  |  | `Set.mem_univ` | `Second.lean` |",
    ]
