"""Downloads from a server in this process: complete or not at all, and never outside the folder."""

import hashlib
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from common import DataError
from generator.data.download import ARCHIVE_NAME, MD5, URL, download_leandojo_benchmark_4
from tests.loopback import Server as LoopbackServer
from tests.loopback import left


def archive(**members: bytes | tarfile.TarInfo) -> bytes:
    """A .tar.gz of files; random/train.json is in it unless it is given."""
    files: dict[str, bytes | tarfile.TarInfo] = {"leandojo_benchmark_4/random/train.json": b"[]"}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in (files | members).items():
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
            else:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


class Server(LoopbackServer):
    """Serves one archive."""

    def __init__(self) -> None:
        super().__init__("application/gzip")
        self.url += "archive.tar.gz?download=1"
        self.content = b""

    @property
    def content(self) -> bytes:
        return self.files["archive.tar.gz"]

    @content.setter
    def content(self, content: bytes) -> None:
        self.files["archive.tar.gz"] = content

    @property
    def ranges_asked(self) -> list[str | None]:
        return [asked for _, asked in self.asked]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as server:
        yield server


def download(server: Server, output_dir: Path, content_md5: str | None = None) -> None:
    download_leandojo_benchmark_4(output_dir, url=server.url, md5=content_md5 or md5(server.content), progress=False)


def test_the_archive_is_downloaded_checked_and_unpacked(server: Server, tmp_path: Path) -> None:
    server.content = archive(**{"leandojo_benchmark_4/corpus.jsonl": b"{}\n"})
    download(server, tmp_path / "data" / "lean")
    assert (tmp_path / "data" / "lean" / "random" / "train.json").read_bytes() == b"[]"
    assert (tmp_path / "data" / "lean" / "corpus.jsonl").read_bytes() == b"{}\n"
    assert left(tmp_path / "data") == ["lean", ARCHIVE_NAME]


def test_an_archive_that_is_there_is_used(server: Server, tmp_path: Path) -> None:
    server.content = archive()
    (tmp_path / ARCHIVE_NAME).write_bytes(server.content)
    (tmp_path / "lean").mkdir()
    download(server, tmp_path / "lean")
    assert server.asked == [] and left(tmp_path / "lean") == ["random"]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_that_was_cut_off_goes_on(server: Server, tmp_path: Path, ranges: bool) -> None:
    server.content, server.ranges, server.limits = archive(), ranges, [50]
    download(server, tmp_path / "lean")
    assert server.ranges_asked == [None, "bytes=50-"]
    assert left(tmp_path / "lean") == ["random"]


def test_the_next_run_goes_on_too(server: Server, tmp_path: Path) -> None:
    server.content, server.limits = archive(), [50, 0]
    with pytest.raises(DataError, match="the connection ended after 50 bytes"):
        download(server, tmp_path / "lean")
    download(server, tmp_path / "lean")
    assert server.ranges_asked == [None, "bytes=50-", "bytes=50-"]


def test_a_complete_part_is_not_downloaded_again(server: Server, tmp_path: Path) -> None:
    server.content = archive()
    (tmp_path / f"{ARCHIVE_NAME}.part").write_bytes(server.content)
    download(server, tmp_path / "lean")
    assert left(tmp_path) == ["lean", ARCHIVE_NAME]


def test_another_file_is_refused_and_removed(server: Server, tmp_path: Path) -> None:
    server.content = archive()
    with pytest.raises(DataError, match=f"has md5 {md5(server.content)}, not 0000, and was removed. Run again"):
        download(server, tmp_path / "lean", "0000")
    assert left(tmp_path) == []


def test_another_archive_of_the_user_is_refused_and_kept(server: Server, tmp_path: Path) -> None:
    (tmp_path / ARCHIVE_NAME).write_bytes(b"mine")
    with pytest.raises(DataError, match="Remove it"):
        download(server, tmp_path / "lean", "0000")
    assert left(tmp_path) == [ARCHIVE_NAME]


@pytest.mark.parametrize("content_type", ["text/html", "application/gzip"])
def test_an_html_page_is_recognised(server: Server, tmp_path: Path, content_type: str) -> None:
    server.content, server.content_type = b"\n<!DOCTYPE html>Sign in", content_type
    with pytest.raises(DataError, match="HTML page"):
        download(server, tmp_path / "lean", MD5)
    assert left(tmp_path) == []


def test_without_a_network_it_says_what_to_do_by_hand(server: Server, tmp_path: Path) -> None:
    server.stop()
    with pytest.raises(DataError) as caught:
        download_leandojo_benchmark_4(tmp_path / "lean", url=server.url, progress=False)
    for part in (server.url, "refused", f"by hand (md5 {MD5}), put it at {tmp_path / ARCHIVE_NAME}"):
        assert part in str(caught.value)


def test_an_answer_without_the_file_is_named(server: Server, tmp_path: Path) -> None:
    server.status = 404
    with pytest.raises(DataError, match=r"answers 404 Not Found. Run again .* by hand"):
        download(server, tmp_path / "lean")


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    "members",
    [
        {"../outside.txt": b"x"},
        {"leandojo_benchmark_4/../../outside.txt": b"x"},
        {"link": link("leandojo_benchmark_4/link", "/etc/passwd")},
        {"link": link("leandojo_benchmark_4/link", "random/train.json", tarfile.LNKTYPE)},
        {"pipe": link("leandojo_benchmark_4/pipe", "", tarfile.FIFOTYPE)},
        {"device": link("leandojo_benchmark_4/null", "", tarfile.CHRTYPE)},
        {"other/random/train.json": b"[]"},
    ],
    ids=["parent", "dots", "symlink", "hard link", "pipe", "device", "two roots"],
)
def test_an_archive_that_is_not_plain_files_below_one_folder_is_refused(
    server: Server, tmp_path: Path, members: dict[str, Any]
) -> None:
    server.content = archive(**members)
    with pytest.raises(DataError, match=ARCHIVE_NAME):
        download(server, tmp_path / "data" / "lean")
    assert left(tmp_path) == ["data"] and left(tmp_path / "data") == [ARCHIVE_NAME]


@pytest.mark.parametrize(
    ("name", "member"),
    [("../outside.txt", b"x"), ("link", link("link", "/etc/passwd")), ("null", link("null", "", tarfile.CHRTYPE))],
    ids=["parent", "symlink", "device"],
)
def test_the_refused_member_is_named(server: Server, tmp_path: Path, name: str, member: Any) -> None:
    server.content = archive(**{name: member})
    with pytest.raises(DataError, match=f"{ARCHIVE_NAME} holds {name}, which"):
        download(server, tmp_path / "lean")


def test_files_and_folders_get_ordinary_modes(server: Server, tmp_path: Path) -> None:
    info = tarfile.TarInfo("leandojo_benchmark_4/random/")
    info.type, info.mode = tarfile.DIRTYPE, 0o700
    server.content = archive(random=info)
    (tmp_path / "ordinary").mkdir()
    (tmp_path / "ordinary" / "file").touch()
    download(server, tmp_path / "lean")
    for made, ordinary in (("", ""), ("random", ""), ("random/train.json", "file")):
        mode = (tmp_path / "lean" / made).stat().st_mode
        assert mode == (tmp_path / "ordinary" / ordinary).stat().st_mode, made


def test_a_truncated_archive_with_the_right_md5_is_refused(server: Server, tmp_path: Path) -> None:
    server.content = archive(**{"big": bytes(range(256)) * 500})[:-200]
    with pytest.raises(DataError, match="cannot be unpacked"):
        download(server, tmp_path / "lean")
    assert left(tmp_path) == [ARCHIVE_NAME]


def test_nothing_is_written_over(server: Server, tmp_path: Path) -> None:
    (tmp_path / "lean").mkdir()
    (tmp_path / "lean" / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="not empty"):
        download(server, tmp_path / "lean")
    assert server.asked == []


def test_the_address_is_the_published_one() -> None:
    assert URL.startswith("https://zenodo.org/records/12740403/") and len(MD5) == 32


def test_an_archive_that_unpacks_without_measure_is_refused(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("generator.data.download.MAX_UNPACKED_BYTES", 1000)
    server.content = archive(**{"leandojo_benchmark_4/random/train.json": b"0" * 600, "b": b"0" * 600})
    with pytest.raises(DataError, match="unpacks to more than 1,000 bytes"):
        download(server, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_a_download_does_not_follow_a_link_that_waits_for_it(server: Server, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    (tmp_path / f"{ARCHIVE_NAME}.part").symlink_to(tmp_path / "precious")
    with pytest.raises(DataError, match="is a symbolic link"):
        download(server, tmp_path / "data")
    assert (tmp_path / "precious").read_text() == "mine"
