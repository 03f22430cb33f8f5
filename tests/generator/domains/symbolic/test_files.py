"""Files in the published format: read as they are, whatever is wrong in them is counted, and split by rank."""

import gzip
import json
import math
from pathlib import Path

import numpy as np
import pytest

from common import ConfigError, DataError
from generator.domains.__main__ import main
from generator.domains.symbolic.files import LineError, held_out_lines, opened, read_line, split_lines

GOOD = "sub Y' pow x INT+ {0}\tmul div INT+ 1 INT+ {1} pow x INT+ {1}"


def good_line(number: int) -> str:
    digits = " ".join(str(number + 2))
    return GOOD.format(digits, " ".join(str(number + 3)))


def test_lines_are_read_with_and_without_a_count_and_with_any_end() -> None:
    expected = "sub Y' pow x INT+ 2"
    for text in (f"548021|{good_line(0)}\n", good_line(0), f"1|{good_line(0)}\r\n"):
        problem = read_line(text.encode(), "prim_fwd")
        assert (problem.spec, problem.program) == (expected, "mul div INT+ 1 INT+ 3 pow x INT+ 3")


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("many|" + good_line(0), "its count is no number"),
        ("-3|" + good_line(0), "its count is no number"),
        ("²|" + good_line(0), "its count is no number"),
        ("1|sub Y' x", "no tab"),
        ("1|sub Y' x\tx\tx", "more than one tab"),
        ("1|sub Y' x\t", "not whole"),
        ("1|sub Y' __import__('os')\tx", "unknown word"),
        ("1|sub Y' <s>\tx", "unknown word"),
        ("1|sub Y' 3\tx", "a digit stands alone"),
        ("1|sub Y' x x\tx", "words follow"),
        ("1|sub Y' x\tadd x", "not whole"),
        ("1|sub Y x\tx", "none of prim_fwd"),
        ("1|sub Y' Y\tx", "none of prim_fwd"),
        ("1|sub Y' x\t\xff", "unknown word"),
    ],
)
def test_what_is_wrong_with_a_line_is_said(line: str, kind: str) -> None:
    with pytest.raises(LineError, match=kind):
        read_line(line.encode("latin-1"), "prim_fwd")


def test_equations_are_told_from_integrals_by_their_words() -> None:
    first, second = "add Y' Y\tmul a8 exp mul INT- 1 x", "add Y'' Y\tadd mul a8 cos x mul a9 sin x"
    assert read_line(first.encode(), "ode1") and read_line(second.encode(), "ode2")
    for line, task in ((first, "ode2"), (second, "ode1"), (first, "prim_bwd")):
        with pytest.raises(LineError, match=f"none of {task}"):
            read_line(line.encode(), task)


def published(folder: Path, count: int, *, compressed: bool = False) -> Path:
    """A file with faults among its lines."""
    lines = [f"{count - number}|{good_line(number)}" for number in range(count)]
    lines[3:3] = ["7|sub Y' x", "seven|" + good_line(3), "", "1|sub Y' what\tx"]
    lines += [f"1|{good_line(count - 1)}", f"1|{good_line(1)}"]  # repeated problems
    content = "\r\n".join(lines).encode() + b"\r\n"
    path = folder / ("prim.data.gz" if compressed else "prim.data")
    path.write_bytes(gzip.compress(content) if compressed else content)
    return path


@pytest.mark.parametrize("compressed", [False, True])
def test_good_lines_are_found_by_number_and_bad_ones_are_named(tmp_path: Path, compressed: bool) -> None:
    path = published(tmp_path, 30, compressed=compressed)
    with opened(path, "prim_fwd") as lines:
        assert len(lines) == 32 and lines[29] == read_line(good_line(29).encode())
        assert dict(lines.faults.counts) == {
            "it has no tab": 1,
            "its count is no number": 1,
            "it has an unknown word": 1,
        }
        assert f"{path}:4" in "\n".join(lines.faults.lines())


def test_a_file_with_nothing_good_is_refused_with_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1|sub Y' x\n" * 5)
    for name, content, message in (
        ("a", b"1|sub Y' x\n" * 5, "5 lines, of which it has no tab"),
        ("b", b"", "is empty"),
        ("c.gz", b"no gzip", "gzip"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=message), opened(tmp_path / name, "prim_fwd"):
            pass
    with pytest.raises(DataError, match="No such file"), opened(tmp_path / "none"):
        pass


def test_held_out_lines_cover_frequent_and_rare_ones() -> None:
    total, size = 100_000, 500
    held_out = held_out_lines(total, size)
    alpha = math.log(total - 0.5) / math.log(2 * size)
    assert list(held_out["val"][:2]) == [1, math.floor(3**alpha)]
    assert list(held_out["test"][:2]) == [math.floor(2**alpha), math.floor(4**alpha)]
    everything = np.concatenate(list(held_out.values()))
    assert len(set(everything)) == 2 * size and everything.max() == total - 1
    decades = np.histogram(np.log(everything), bins=np.linspace(math.log(20), math.log(total), 5))[0]
    assert decades.max() <= 60 * decades.min()  # of lines taken evenly the last has 600 times as many as the first


def test_no_problem_is_in_two_splits_nor_twice_in_one_and_every_split_is_shuffled() -> None:
    rng = np.random.default_rng(0)
    marks = rng.integers(0, 700, 1000)
    parts = split_lines(marks, 40, None, seed=1)
    found = {split: list(marks[numbers]) for split, numbers in parts.lines.items()}
    together = sum(found.values(), [])
    assert len(set(together)) == len(together) and set(together) == set(marks)
    assert sum(map(len, found.values())) + parts.num_leaked + parts.num_repeated == 1000
    assert list(parts.lines["train"]) != sorted(parts.lines["train"])
    few = split_lines(marks, 40, 100, seed=1).lines["train"]
    assert len(few) == 100 and few.max() > 800  # not the head of the file
    assert list(few) != list(split_lines(marks, 40, 100, seed=2).lines["train"])
    for num_train in (921, 900):
        with pytest.raises(DataError, match="train"):
            split_lines(marks, 40, num_train, seed=1)


def test_a_folder_is_made_from_a_file_and_a_file_from_a_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = published(tmp_path, 200)
    told = ["--domain", "prim_fwd", "--path", str(path), "--output_dir", str(tmp_path / "made"), "--num_held_out", "20"]
    main(["import", *told])
    said = capsys.readouterr().out
    assert f"it has no tab: {path}:4" in said and "train: 1" in said
    card = json.loads((tmp_path / "made" / "domain.json").read_text())
    assert card["complete"] and sum(card["sizes"].values()) == 200 and card["sizes"]["val"] <= 20
    for name in ("back.data", "back.data.gz"):
        main(
            ["export", "--domain", "prim_fwd", "--data_path", str(tmp_path / "made"), "--output", str(tmp_path / name)]
            + ["--splits", '["train", "val", "test"]']
        )
        with opened(tmp_path / name, "prim_fwd") as lines:
            assert {lines[number].spec for number in range(len(lines))} == {
                read_line(good_line(number).encode()).spec for number in range(200)
            }
    assert (tmp_path / "back.data").read_bytes().startswith(b"1|sub Y' ")


def test_only_tasks_of_symbolic_mathematics_have_such_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="domain is rectangle"):
        main(["import", "--domain", "rectangle", "--path", "x", "--output_dir", str(tmp_path / "made")])
