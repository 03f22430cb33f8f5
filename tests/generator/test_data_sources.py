"""Where the data of both families comes from, what is said where there is none, and which options are refused."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Condition
from typing import Any

import pytest
import pytorch_lightning as pl
import yaml

from common import ConfigError, DataError
from generator.environments.propositional_benchmark import build_propositional_benchmark
from retrieval.training.commands import parse_arguments
from retrieval.training.options import options_of
from tests.generator.data_families import (
    DATA_FAMILIES,
    DECODER_ONLY_DATA,
    ENCODER_DECODER_DATA,
    DataFamily,
    write_leandojo,
)


@pytest.fixture(params=DATA_FAMILIES, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> DataFamily:
    """Each data module in turn."""
    return request.param  # type: ignore[no-any-return]


def test_it_is_a_data_module_of_lightning(kind: DataFamily) -> None:
    assert issubclass(kind.data_module, pl.LightningDataModule)


# --------------------------------------------------------------------------------- built-in datasets


def test_the_built_in_dataset_is_built_where_it_is_missing(kind: DataFamily, tmp_path: Path) -> None:
    data_path = tmp_path / "propositional" / "random"
    options = {"max_seq_len": 1024} if kind is DECODER_ONLY_DATA else {}
    module = kind.on(str(data_path), dataset="propositional", num_theorems=20, **options)
    module.prepare_data()
    module.setup()
    assert set(module.datasets) == {"train", "val", "test"}
    written = (data_path / "train.json").stat().st_mtime_ns
    module.prepare_data()
    assert (data_path / "train.json").stat().st_mtime_ns == written


def test_a_built_in_dataset_of_another_size_or_seed_is_refused(kind: DataFamily, tmp_path: Path) -> None:
    data_path = str(tmp_path / "propositional" / "random")
    kind.on(data_path, dataset="propositional", num_theorems=20, seed=1).prepare_data()
    with pytest.raises(
        ConfigError, match=r"num_theorems is 30, but .*/propositional was made with num_theorems 20\. "
    ) as e:
        kind.on(data_path, dataset="propositional", num_theorems=30, seed=1).prepare_data()
    assert "Remove" in str(e.value) and "give --data.num_theorems 20;" in str(e.value)
    with pytest.raises(ConfigError, match=r"and seed is 2, but .* with num_theorems 20 and seed 1\."):
        kind.on(data_path, dataset="propositional", num_theorems=30, seed=2).prepare_data()
    kind.on(data_path, num_theorems=30, seed=2).prepare_data()  # without `dataset`, whatever is there


@pytest.mark.parametrize(
    "metadata", [None, "{", "[]", '{"from_repo": {}}'], ids=["none", "broken", "no_object", "of_another_maker"]
)
def test_data_that_does_not_tell_how_it_was_made_is_taken(
    kind: DataFamily, tmp_path: Path, metadata: str | None
) -> None:
    data_path = write_leandojo(tmp_path / "random")
    if metadata is not None:
        data_path.with_name("metadata.json").write_text(metadata)
    kind.on(str(data_path), dataset="propositional", num_theorems=30).prepare_data()


def test_every_way_to_the_built_in_dataset_makes_the_quickstarts(kind: DataFamily) -> None:
    config = Path(__file__).resolve().parents[2] / "configs" / "quickstart.yaml"
    expected = yaml.safe_load(config.read_text(encoding="utf-8"))["data"]["num_theorems"]
    options = options_of(kind.data_module)
    command = parse_arguments(build_propositional_benchmark, ["--output_dir", "x"])
    assert options["num_theorems"].default == command["num_theorems"] == expected
    assert options["seed"].default == command["seed"]


def test_a_dataset_is_not_built_among_other_files(kind: DataFamily, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="has no splits, and .* not empty"):
        kind.on(str(tmp_path / "random"), dataset="propositional", num_theorems=20).prepare_data()
    with pytest.raises(ConfigError, match="one of random, novel_premises"):
        kind.on(str(tmp_path / "new" / "elsewhere"), dataset="leandojo_benchmark_4").prepare_data()


def test_the_benchmark_is_downloaded_beside_its_splits(
    kind: DataFamily, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []
    monkeypatch.setattr("generator.data.known_datasets.download_leandojo_benchmark_4", asked.append)
    kind.on(str(tmp_path / "lean" / "novel_premises"), dataset="leandojo_benchmark_4").prepare_data()
    assert asked == [tmp_path / "lean"]


# ------------------------------------------------------------------------------------- missing data


def test_a_folder_without_splits_says_what_is_there(kind: DataFamily, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no train.json.*; there is no such folder"):
        kind.on(str(tmp_path / "nowhere")).setup("fit")
    write_leandojo(tmp_path / "data" / "random")
    (tmp_path / "data" / "corpus.jsonl").touch()
    with pytest.raises(DataError, match=r"no test.json; it holds corpus.jsonl, random/. Set data_path to .*/random"):
        kind.on(str(tmp_path / "data")).setup("test")


def test_all_splits_that_a_stage_lacks_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no train.json, val.json; there is no such folder"):
        ENCODER_DECODER_DATA.make(str(tmp_path / "nowhere")).setup("fit")


def test_an_empty_split_is_refused(kind: DataFamily, tmp_path: Path) -> None:
    data_path = write_leandojo(tmp_path / "random")
    (data_path / "train.json").write_text("[]")
    with pytest.raises(DataError, match="0 steps; nothing is left to read"):
        kind.on(str(data_path)).setup("fit")


# ------------------------------------------------------------------------------------------ options


def test_options_are_saved_as_plain_values(kind: DataFamily, tmp_path: Path) -> None:
    module = kind.on(tmp_path / "random", corpus_path=tmp_path / "c", preds_path=tmp_path / "p", **PREMISES[kind])
    plain = (str, int, float, bool, dict, type(None))
    assert all(isinstance(value, plain) for value in module.hparams.values())
    assert module.hparams["data_path"] == str(tmp_path / "random")
    json.dumps(dict(module.hparams))


# with a place for premises in the prompt
PREMISES: dict[DataFamily, dict[str, str]] = {
    ENCODER_DECODER_DATA: {},
    DECODER_ONLY_DATA: {"template": "vllm-reprover"},
}

SHARED_MISTAKES = {
    "batch_size": ({"batch_size": 0}, "batch_size is 0"),
    "eval_batch_size": ({"eval_batch_size": -1}, "eval_batch_size is -1"),
    "max_tokens_per_batch": ({"max_tokens_per_batch": 0}, "max_tokens_per_batch is 0"),
    "p_drop": ({"p_drop": -0.1}, "p_drop is -0.1"),
    "num_workers": ({"num_workers": -1}, "num_workers is -1"),
    "num_theorems": ({"num_theorems": 3}, "num_theorems is 3; it must be at least 10"),
    "dataset": (
        {"dataset": "mathlib"},
        "dataset is 'mathlib'; choose one of None, propositional, leandojo_benchmark_4",
    ),
    "predict_split": ({"predict_split": "all"}, "predict_split is 'all'; choose one of train, val, test"),
    "corpus_path": ({"corpus_path": "corpus.jsonl"}, "give both or neither"),
}
MISTAKES: dict[DataFamily, dict[str, tuple[dict[str, Any], str]]] = {
    ENCODER_DECODER_DATA: {
        "max_inp_seq_len": ({"max_inp_seq_len": 0}, "max_inp_seq_len is 0"),
        "max_oup_seq_len": ({"max_oup_seq_len": 0}, "max_oup_seq_len is 0"),
    },
    DECODER_ONLY_DATA: {
        "max_seq_len": ({"max_seq_len": 0}, "max_seq_len is 0"),
        "max_completion_len": ({"max_completion_len": 180}, "leaves no room for a prompt"),
        "template": ({"template": "ntp"}, "template is 'ntp'; choose one of reprover"),
        "data_path": ({"data_path": ["a"], "dataset": "propositional"}, "dataset=propositional is made in one folder"),
    },
}


@pytest.mark.parametrize(
    ("of", "options", "message"),
    [
        pytest.param(of, *mistake, id=f"{of.name}-{option}")
        for of in DATA_FAMILIES
        for option, mistake in (SHARED_MISTAKES | MISTAKES[of]).items()
    ],
)
def test_an_option_out_of_range_is_named(of: DataFamily, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        of.make(**({"data_path": "anywhere"} | options))


@pytest.mark.parametrize("has_locks", [True, False])
def test_two_that_make_the_same_dataset_at_once_both_find_it(
    kind: DataFamily, tmp_path: Path, has_locks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(folder: Path, *args: Any) -> None:
        both_began.wait(timeout=20 if not has_locks else 0.5)
        build_propositional_benchmark(folder, *args, progress=False)

    def flock(*_: Any) -> None:
        raise OSError("no locks here")

    both_began = PatientBarrier(2)
    monkeypatch.setattr("generator.data.known_datasets.build_propositional_benchmark", build)
    if not has_locks:
        monkeypatch.setattr("fcntl.flock", flock)
    options = {"max_seq_len": 1024} if kind is DECODER_ONLY_DATA else {}
    data_path = str(tmp_path / "propositional" / "random")
    modules = [kind.on(data_path, dataset="propositional", num_theorems=20, **options) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda module: module.prepare_data(), modules))
    assert both_began.num_came == (1 if has_locks else 2)
    modules[0].setup("validate")
    assert [path.name for path in tmp_path.iterdir()] == ["propositional"], "neither parts nor locks stay"


class PatientBarrier:
    """Lets threads go on when all have come, or have had their time to."""

    def __init__(self, num_threads: int) -> None:
        self.num_came, self._wanted, self._changed = 0, num_threads, Condition()

    def wait(self, timeout: float) -> None:
        with self._changed:
            self.num_came += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: self.num_came == self._wanted, timeout)


# --------------------------------------------------------------------------------- how tactics are written


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "have h := by\n  exact  symm"),
        ({"tactic_names": "full"}, "have h := by\n  exact  And.symm"),
        ({"normalize_tactics": True}, "have h := by\n  exact  symm"),
        ({"tactic_names": "full", "normalize_tactics": True}, "have h := by\n  exact  And.symm"),
    ],
)
def test_tactics_are_learnt_as_written_unless_it_is_asked_for_otherwise(
    kind: DataFamily, tmp_path: Path, options: dict[str, Any], expected: str
) -> None:
    folder = write_leandojo(tmp_path / "data", 1)
    premise = {"full_name": "And.symm", "def_path": "L.lean", "def_pos": [1, 1]}
    step = {"state_before": "⊢ p", "tactic": "have h := by\n  exact  symm"}
    step["annotated_tactic"] = ["have h := by\n  exact  <a>symm</a>", [premise]]  # type: ignore[assignment]
    (theorem,) = json.loads((folder / "val.json").read_text(encoding="utf-8"))
    (folder / "val.json").write_text(json.dumps([{**theorem, "traced_tactics": [step]}]), encoding="utf-8")
    module = kind.on(str(folder), **options)
    module.setup("validate")
    (batch,) = module.val_dataloader()
    assert batch["tactic"] == [expected]
    assert {name: module.hparams[name] for name in options} == options


def test_a_way_of_writing_names_is_one_of_two(kind: DataFamily, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="tactic_names is 'short'; choose one of written, full"):
        kind.on(str(tmp_path), tactic_names="short")
