"""`python -m generator.mix` fits weights, and writes a folder that is opened like a model."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest

from common import ConfigError, DataError
from generator import load_generator
from generator.mix import fit_to_topk, log_probs_of, main, num_found
from generator.nearest.__main__ import main as make_nearest
from generator.rank import main as rank
from generator.search.tactic_sources import GeneratorOptions, identity
from tests.generator.nearest.lookup_fakes import ADD, write_library

LOOKUP = [[("a", -0.1), ("b", -3.0)], [("c", -0.2)], [("d", -0.2)]]
MODEL = [[("x", -0.05), ("b", -1.0)], [("z", -0.5)], [("e", -0.1)]]
RIGHT = ["b", "z", "d"]


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    splits = write_library(tmp_path_factory.mktemp("library"))
    make_nearest(["--data_path", str(splits), "--output_dir", str(splits.parent / "lookup"), "--max_share", "1"])
    return splits


def mix(splits: Path, folder: Path, *more: str) -> Path:
    parts = [str(splits.parent / "lookup"), "majority"]
    main(["--parts", *parts, "--data_path", str(splits), "--output_dir", str(folder), *more])
    return folder


def test_weights_are_fitted_and_the_folder_answers_as_the_sum_of_its_parts(
    splits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = mix(splits, tmp_path / "mixture", "--split", "train")
    printed = capsys.readouterr().out
    assert "majority" in printed and "mixture" in printed
    options = json.loads((folder / "nextstep.json").read_text())["options"]
    assert sum(options["weights"]) == pytest.approx(1) and options["about"]["split"] == "train"
    request = {
        "state": ADD[0][0],
        "file_path": "N.v",
        "theorem_full_name": "t",
        "theorem_pos": (1, 1),
        "num_samples": 8,
    }
    mixture, lookup = load_generator(folder), load_generator(splits.parent / "lookup")
    found = dict(mixture.generate(**request))
    alone = dict(lookup.generate(**request))
    counts = {"auto": 2, "induction n": 1, "split": 1}
    for tactic, count in counts.items():
        expected = options["weights"][0] * math.exp(alone.get(tactic, -math.inf)) + options["weights"][1] * count / 6
        assert math.exp(found[tactic]) == pytest.approx(expected)


def test_given_weights_are_taken_as_they_are_and_options_reach_the_parts_that_have_them(
    splits: Path, tmp_path: Path
) -> None:
    folder = mix(splits, tmp_path / "mixture", "--weights", "3", "1")
    assert json.loads((folder / "nextstep.json").read_text())["options"]["weights"] == [0.75, 0.25]
    mixture = load_generator(folder, num_neighbors=1, cache_size=10)
    assert mixture.generator.generators[0].lookup.num_neighbors == 1  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="MixedTacticGenerator has no option length_penalty"):
        load_generator(folder, length_penalty=1.0)


def test_a_mixture_is_moved_with_its_parts(splits: Path, tmp_path: Path) -> None:
    shutil.copytree(splits.parent / "lookup", tmp_path / "here" / "lookup")
    parts = [str(tmp_path / "here" / "lookup"), "majority"]
    main(
        [
            "--parts",
            *parts,
            "--data_path",
            str(splits),
            "--output_dir",
            str(tmp_path / "here" / "mix"),
            "--weights",
            "1",
            "1",
        ]
    )
    shutil.move(tmp_path / "here", tmp_path / "there")
    assert load_generator(tmp_path / "there" / "mix").generate(ADD[0][0], "N.v", "t", (1, 1), 3)
    shutil.rmtree(tmp_path / "there" / "lookup")
    with pytest.raises(DataError, match="lookup"):
        load_generator(tmp_path / "there" / "mix")


def test_a_file_of_tactics_is_a_part_that_proposes_them_in_every_state(splits: Path, tmp_path: Path) -> None:
    file = tmp_path / "scripts.txt"
    file.write_text("lia\nfirstorder\n")
    parts = ["--parts", str(splits.parent / "lookup"), str(file), "--data_path", str(splits)]
    main([*parts, "--output_dir", str(tmp_path / "mixture"), "--weights", "3", "1"])
    file.unlink()  # the folder holds its tactics
    found = dict(load_generator(tmp_path / "mixture").generate(ADD[0][0], "N.v", "t", (1, 1), 8))
    assert found["lia"] == found["firstorder"] == pytest.approx(math.log(1 / 8)) and "auto" in found
    with pytest.raises(DataError, match=r"scripts\.txt: No such file or directory; give a file with a tactic in each"):
        main([*parts, "--output_dir", str(tmp_path / "other")])


def test_a_mixture_of_mixtures_and_wrong_options_are_refused(splits: Path, tmp_path: Path) -> None:
    folder = mix(splits, tmp_path / "mixture", "--weights", "1", "1")
    with pytest.raises(ConfigError, match="is a mixture, and cannot be a part"):
        main(["--parts", str(folder), "majority", "--data_path", str(splits), "--output_dir", str(tmp_path / "b")])
    with pytest.raises(ConfigError, match="2 parts and 1 weights"):
        mix(splits, tmp_path / "c", "--weights", "1")
    with pytest.raises(ConfigError, match="k is 0"):
        mix(splits, tmp_path / "c", "--k", "0")
    assert not (tmp_path / "b").exists() and not (tmp_path / "c").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [("parts", []), ("weights", [1.0]), ("weights", [1.0, -1.0]), ("parts", [{"path": 3}, 4]), ("num_asked", 0)],
)
def test_a_folder_that_is_broken_is_refused(splits: Path, tmp_path: Path, name: str, value: object) -> None:
    path = mix(splits, tmp_path / "mixture", "--weights", "1", "1") / "nextstep.json"
    settings = json.loads(path.read_text())
    settings["options"][name] = value
    path.write_text(json.dumps(settings))
    with pytest.raises(DataError, match="make the mixture again"):
        load_generator(path.parent)


def test_what_a_run_is_made_with_tells_mixtures_apart_by_their_parts(splits: Path, tmp_path: Path) -> None:
    folder = mix(splits, tmp_path / "mixture", "--weights", "1", "1")
    options = GeneratorOptions(ckpt_path=str(folder))
    before = identity(options, None)
    (splits.parent / "lookup" / "new").touch()
    after = identity(options, None)
    (splits.parent / "lookup" / "new").unlink()
    assert before["ckpt_path_hash"] != after["ckpt_path_hash"] and identity(options, None) == before


def test_right_tactics_are_found_in_each_part() -> None:
    found = log_probs_of([LOOKUP, MODEL], RIGHT)
    assert found.tolist() == [[-3.0, -1.0], [-math.inf, -0.5], [-0.2, -math.inf]]


def test_weights_for_topk_find_at_least_as_many_as_before_and_all_that_can_be() -> None:
    start = [0.5, 0.5]
    weights = fit_to_topk([LOOKUP, MODEL], RIGHT, 1, start)
    assert num_found([LOOKUP, MODEL], RIGHT, 1, weights) >= num_found([LOOKUP, MODEL], RIGHT, 1, start)
    assert num_found([LOOKUP, MODEL], RIGHT, 2, fit_to_topk([LOOKUP, MODEL], RIGHT, 2, start)) == 3
    assert fit_to_topk([LOOKUP, LOOKUP], ["none"] * 3, 1, start) == start  # nothing to gain: nothing changes


def test_rank_takes_a_mixture_a_lookup_and_a_baseline(
    splits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = mix(splits, tmp_path / "mixture", "--fit", "topk", "--k", "2", "--split", "train")
    for generator in (["--ckpt_path", str(folder)], ["--ckpt_path", str(splits.parent / "lookup")]):
        rank([*generator, "--data_path", str(splits)])
    rank(["--tactics", "majority", "--data_path", str(splits)])
    assert capsys.readouterr().out.count("of 3 steps") == 3
