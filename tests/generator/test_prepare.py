"""Instruct data from a server in this process: complete and checked, or not at all."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from common import DataError
from generator.data.instruct_records import find_split_files
from generator.prepare import BASE_URL, NUM_LINES, cli, main, prepare
from tests.loopback import Server, left

LINE = json.dumps({"prompt": "p", "prompt_name": "x", "completion": "c"}).encode() + b"\n"
NAMES = {"state_train.jsonl": 20, "state_dev.jsonl": 2}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server("text/plain") as server:
        server.files = {"state_train.jsonl": LINE * 20, "state_dev.jsonl": LINE * 3}
        yield server


def run(server: Server, folder: Path) -> list[Path]:
    return prepare(folder, base_url=server.url + "resolve/main/", num_lines=NAMES, progress=False)


def test_the_files_are_downloaded_checked_and_found_by_the_data_module(server: Server, tmp_path: Path) -> None:
    paths = run(server, tmp_path / "ntp")
    assert [path.read_bytes() for path in paths] == [LINE * 20, LINE * 3]
    assert find_split_files(str(tmp_path / "ntp"), "train") == [paths[0]]
    assert find_split_files(str(tmp_path / "ntp"), "val") == [paths[1]]


def test_files_that_are_there_are_checked_and_not_asked_for(server: Server, tmp_path: Path) -> None:
    (tmp_path / "state_train.jsonl").write_bytes(LINE * 20)
    run(server, tmp_path)
    assert server.asked == [("state_dev.jsonl", None)]


def test_a_download_that_was_cut_off_goes_on(server: Server, tmp_path: Path) -> None:
    server.limits = [30]
    run(server, tmp_path)
    assert server.asked[:2] == [("state_train.jsonl", None), ("state_train.jsonl", "bytes=30-")]
    assert (tmp_path / "state_train.jsonl").read_bytes() == LINE * 20


def test_the_next_run_goes_on_too(server: Server, tmp_path: Path) -> None:
    server.limits = [30, 0]
    with pytest.raises(DataError, match="the connection ended after 30 bytes. Run again"):
        run(server, tmp_path)
    assert left(tmp_path) == ["state_train.jsonl.part"]
    run(server, tmp_path)
    assert left(tmp_path) == ["state_dev.jsonl", "state_train.jsonl"]


@pytest.mark.parametrize("content_type", ["text/html", "text/plain"])
def test_a_page_in_place_of_the_file_is_recognised(server: Server, tmp_path: Path, content_type: str) -> None:
    server.files["state_train.jsonl"], server.content_type = b"<!doctype html>\n" * 30, content_type
    with pytest.raises(DataError, match="HTML page"):
        run(server, tmp_path)
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (LINE * 19, "it has 19 lines, of 20 that were published"),
        (b"", "it has 0 lines"),
        (b'{"text": 1}\n' + LINE * 19, "line 1: field 'prompt' must be a text, but there are only text"),
        (LINE * 20 + LINE[:10], "line 21: broken JSON"),
    ],
)
def test_another_content_is_refused_and_removed(server: Server, tmp_path: Path, content: bytes, problem: str) -> None:
    server.files["state_train.jsonl"] = content
    with pytest.raises(DataError, match=f"was removed: {problem}.*Run again"):
        run(server, tmp_path)
    assert left(tmp_path) == []


def test_a_file_of_the_user_is_refused_and_kept(server: Server, tmp_path: Path) -> None:
    (tmp_path / "state_train.jsonl").write_bytes(b"mine\n" * 30)
    with pytest.raises(DataError, match="line 1: broken JSON.* Remove it and run again"):
        run(server, tmp_path)
    assert left(tmp_path) == ["state_train.jsonl"]


def test_a_file_that_is_not_there_any_more_is_named(server: Server, tmp_path: Path) -> None:
    del server.files["state_dev.jsonl"]
    with pytest.raises(DataError, match="state_dev.jsonl answers 404"):
        run(server, tmp_path)
    assert left(tmp_path) == ["state_train.jsonl"]


def test_without_a_network_it_says_what_to_do_by_hand(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, path = server.url + "resolve/main/state_train.jsonl", tmp_path / "state_train.jsonl"
    server.stop()
    with pytest.raises(DataError) as caught:
        run(server, tmp_path)
    assert f"download {url} by hand, put it at {path}, and run again" in str(caught.value)


def test_the_addresses_give_files_and_the_counts_are_the_published_ones() -> None:
    assert "/resolve/main/" in BASE_URL and "/blob/" not in BASE_URL and "l3lab/ntp-mathlib-instruct-st" in BASE_URL
    assert NUM_LINES == {"state_tactic_train.jsonl": 291_262, "state_tactic_dev.jsonl": 7_735}


def test_the_command_line_names_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("generator.prepare.prepare", lambda output_dir: [output_dir / "a.jsonl"])
    main(["--output_dir", str(tmp_path)])
    assert capsys.readouterr().out == f"{tmp_path}/a.jsonl\n"


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(sys, "argv", ["prepare", "--output_dir", str(tmp_path / "file" / "ntp")])
    with pytest.raises(SystemExit) as stopped:
        cli()
    assert stopped.value.code == f"error: {tmp_path / 'file' / 'ntp'}: Not a directory"
