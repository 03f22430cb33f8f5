"""Instruct data from a server in this process that speaks as the Hugging Face hub does: complete and checked, or not
at all."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest

from common import DataError
from generator.data.instruct_records import find_split_files
from generator.prepare import FOLDER, NUM_LINES, REPO_ID, cli, main, prepare
from tests.loopback import Server, left

LINE = json.dumps({"prompt": "p", "prompt_name": "x", "completion": "c"}).encode() + b"\n"
NAMES = {"state_train.jsonl": 20, "state_dev.jsonl": 2}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    # read from HF_HUB_OFFLINE when the library is imported, and true where tests must not reach the hub
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between the library's attempts
    huggingface_hub.close_session()  # its connections remember the proxies of the environment
    with Server("text/plain") as server:
        server.headers = {"ETag": '"0123"', "X-Repo-Commit": "0" * 40}
        server.files = {"state_train.jsonl": LINE * 20, "state_dev.jsonl": LINE * 3}
        yield server
    huggingface_hub.close_session()


def run(server: Server, folder: Path) -> list[Path]:
    return prepare(folder, endpoint=server.url.rstrip("/"), num_lines=NAMES)


def test_the_files_are_downloaded_checked_and_found_by_the_data_module(server: Server, tmp_path: Path) -> None:
    paths = run(server, tmp_path / "ntp")
    assert [path.read_bytes() for path in paths] == [LINE * 20, LINE * 3]
    assert find_split_files(str(tmp_path / "ntp"), "train") == [paths[0]]
    assert find_split_files(str(tmp_path / "ntp"), "val") == [paths[1]]
    assert left(tmp_path / "ntp") == ["state_dev.jsonl", "state_train.jsonl"]


def test_the_files_are_those_of_the_published_repository(server: Server, tmp_path: Path) -> None:
    run(server, tmp_path)
    folder = "datasets/l3lab/ntp-mathlib-instruct-st/resolve/main/state_tactic_mathlib_only"
    assert server.paths == [f"/{folder}/{name}" for name in NAMES]
    assert NUM_LINES == {"state_tactic_train.jsonl": 291_262, "state_tactic_dev.jsonl": 7_735}


def test_modes_are_those_of_ordinary_files(server: Server, tmp_path: Path) -> None:
    (tmp_path / "ordinary").touch()
    modes = {path.stat().st_mode for path in (*run(server, tmp_path), tmp_path / "ordinary")}
    assert len(modes) == 1


def test_files_that_are_there_are_checked_and_not_asked_for(server: Server, tmp_path: Path) -> None:
    (tmp_path / "state_train.jsonl").write_bytes(LINE * 20)
    run(server, tmp_path)
    assert server.asked == [("state_dev.jsonl", None)]


def test_a_download_that_was_cut_off_goes_on(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 10)  # what is kept of a broken connection
    server.limits = [30]
    run(server, tmp_path)
    assert server.asked[:2] == [("state_train.jsonl", None), ("state_train.jsonl", "bytes=30-")]
    assert (tmp_path / "state_train.jsonl").read_bytes() == LINE * 20


def test_a_connection_that_keeps_breaking_leaves_nothing_and_the_next_run_starts_again(
    server: Server, tmp_path: Path
) -> None:
    server.limits = [30] + [0] * 5
    with pytest.raises(DataError, match="state_train.jsonl cannot be downloaded: peer closed connection.* Run again"):
        run(server, tmp_path)
    assert left(tmp_path) == []
    run(server, tmp_path)
    assert left(tmp_path) == ["state_dev.jsonl", "state_train.jsonl"]


def test_a_file_of_another_size_than_the_hub_tells_is_refused_in_one_line(server: Server, tmp_path: Path) -> None:
    server.headers["X-Linked-Size"] = "5000"
    with pytest.raises(DataError, match="state_train.jsonl cannot be downloaded: .*size 5000.* Run again") as caught:
        run(server, tmp_path)
    assert left(tmp_path) == [] and "\n" not in str(caught.value)


def test_a_page_with_the_headers_of_the_file_is_recognised(server: Server, tmp_path: Path) -> None:
    server.files["state_train.jsonl"] = b"<!doctype html>\n" * 30
    with pytest.raises(DataError, match="HTML page"):
        run(server, tmp_path)
    assert left(tmp_path) == []


def test_a_page_of_a_server_that_is_no_hub_is_refused(server: Server, tmp_path: Path) -> None:
    server.files["state_train.jsonl"], server.content_type, server.headers = b"<!doctype html>\n", "text/html", {}
    with pytest.raises(DataError, match="HF_ENDPOINT") as caught:
        run(server, tmp_path)
    assert left(tmp_path) == [] and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (LINE * 19, "it has 19 lines, of 20 that were published"),
        (b"", "it has 0 lines"),
        (b'{"text": 1}\n' + LINE * 19, "line 1: field 'prompt' must be a text, but there are only text"),
        (LINE * 20 + LINE[:10], "line 21: broken JSON"),
        (b"version https://git-lfs.github.com/spec/v1\n" * 20, "it is a Git LFS pointer"),
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


def test_a_server_that_is_down_is_named(server: Server, tmp_path: Path) -> None:
    server.status = 503
    with pytest.raises(DataError, match="state_train.jsonl answers 503. Run again"):
        run(server, tmp_path)


def test_without_a_network_it_says_what_to_do_by_hand(server: Server, tmp_path: Path) -> None:
    server.stop()
    with pytest.raises(DataError) as caught:
        run(server, tmp_path)
    url = f"{server.url}datasets/{REPO_ID}/resolve/main/{FOLDER}/state_train.jsonl"
    assert f"{url} cannot be downloaded: " in str(caught.value) and "refused" in str(caught.value)
    assert f"download {url} by hand, put it at {tmp_path / 'state_train.jsonl'}, and run again" in str(caught.value)


def test_where_the_hub_is_switched_off_it_says_so(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match="offline mode.*HF_HUB_OFFLINE.*by hand"):
        run(server, tmp_path)
    assert server.asked == []


def test_the_command_line_names_the_files(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, number in NUM_LINES.items():
        (tmp_path / name).write_bytes(LINE * number)
    main(["--output_dir", str(tmp_path)])
    assert capsys.readouterr().out == "".join(f"{tmp_path / name}\n" for name in NUM_LINES)


def test_a_folder_that_cannot_be_made_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(sys, "argv", ["prepare", "--output_dir", str(tmp_path / "file" / "ntp")])
    with pytest.raises(SystemExit) as stopped:
        cli()
    message = f"error: cannot write {tmp_path / 'file' / 'ntp' / 'state_tactic_train.jsonl'}: Not a directory; check"
    assert stopped.value.code == 2 and capsys.readouterr().err.startswith(message)
