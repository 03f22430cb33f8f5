"""LeanDojo Benchmark 4 from its published archive: downloaded, checked, unpacked."""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import tarfile
import zlib
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from tqdm import tqdm

from common import DataError
from retrieval.training.files import writing_folder

# Zenodo record 12740403 (2024-07), made from mathlib4 29dcec07
URL = "https://zenodo.org/records/12740403/files/leandojo_benchmark_4.tar.gz?download=1"
MD5 = "25e1ee60cd8925b9d2e8673ddcc34b4c"
ARCHIVE_NAME = "leandojo_benchmark_4.tar.gz"

_BLOCK = 1 << 18  # bytes
_TIMEOUT_S = 30
_MAX_ATTEMPTS = 5
MAX_UNPACKED_BYTES = 16 << 30  # the benchmark has 1 GB: what claims more is no data, and would fill the disk


def download_leandojo_benchmark_4(
    output_dir: str | Path, *, url: str = URL, md5: str = MD5, progress: bool = True
) -> None:
    """Download the archive beside output_dir and unpack it, all of it or nothing.

    A download that was cut off goes on where it stopped. An archive that is there already is used, so one
    that was downloaded by hand is too.

    Args:
        output_dir: the folder to make, with random/ and novel_premises/ in it; it may exist if it is empty
        url: where the archive is
        md5: of the archive, hexadecimal
        progress: show progress bars

    Raises:
        NotEmptyError: if output_dir holds something
        DataError: if the archive cannot be had, is not the published one, or cannot be unpacked
    """
    output_dir = Path(output_dir)
    with writing_folder(output_dir) as folder:
        archive = output_dir.parent / ARCHIVE_NAME
        if archive.exists():
            if problem := _problem_with(archive, md5):
                raise DataError(f"{archive} {problem}. Remove it and run again to download it")
        else:
            _download_archive(url, md5, archive, progress)
        _unpack(archive, folder, progress)


def _download_archive(url: str, md5: str, archive: Path, progress: bool) -> None:
    """Download to a file that a later run can go on with, and give it the archive's name once it is the right one."""
    part = archive.with_name(f"{archive.name}.part")
    by_hand = f"Run again to try again, or download {url} by hand (md5 {md5}), put it at {archive}, and run again"
    _download(url, part, by_hand, progress)
    if problem := _problem_with(part, md5):
        part.unlink()  # nothing could be added to it that would make it right
        raise DataError(f"what {url} gave {problem}, and was removed. {by_hand}")
    part.replace(archive)  # one that another process has put there has the same md5


def _download(url: str, part: Path, by_hand: str, progress: bool) -> None:
    """Write what is at an address to a file, and go on where an earlier download of it stopped.

    Args:
        url: the address
        part: the file
        by_hand: ends the message of an error: what to do instead
        progress: show a progress bar

    Raises:
        DataError: if it cannot be downloaded
    """
    for attempt in range(1, _MAX_ATTEMPTS + 1):
        size_before = part.stat().st_size if part.exists() else 0
        try:
            if _download_rest(url, part, progress):
                return
            problem = f"the connection ended after {part.stat().st_size:,} bytes"
        except HTTPError as error:
            raise DataError(f"{url} answers {error.code} {error.reason}. {by_hand}") from error
        except (OSError, http.client.HTTPException) as error:
            problem = str(getattr(error, "reason", error))
        size = part.stat().st_size if part.exists() else 0
        if size <= size_before or attempt == _MAX_ATTEMPTS:
            raise DataError(f"{url} cannot be downloaded: {problem}. {by_hand}")


def _download_rest(url: str, part: Path, progress: bool) -> bool:
    """Append the missing part; return whether the file is complete then."""
    if part.is_symlink():  # its name can be foretold, so that someone may have pointed it elsewhere
        raise DataError(f"{part}: is a symbolic link, and the download is not written where it leads; remove it")
    size = part.stat().st_size if part.exists() else 0
    request = Request(url, headers={"User-Agent": "nextstep", **({"Range": f"bytes={size}-"} if size else {})})
    try:
        response = urlopen(request, timeout=_TIMEOUT_S)
    except HTTPError as error:
        if error.code != 416 or not size:
            raise
        return True  # nothing is missing; its md5 shows whether this is the archive
    with response:
        if response.headers.get_content_type() == "text/html":
            raise DataError(f"{url} gives an HTML page, not a file of data; open it in a browser to see what it says")
        if response.status != http.client.PARTIAL_CONTENT:
            size = 0  # the server starts from the beginning
        length = response.headers.get("Content-Length")
        total = None if length is None else size + int(length)
        bar = tqdm(
            initial=size, total=total, unit="B", unit_scale=True, desc=f"download {part.stem}", disable=not progress
        )
        with bar, open(part, "ab" if size else "wb", opener=_not_through_links) as file:
            while block := response.read(_BLOCK):
                file.write(block)
                bar.update(len(block))
        return total is None or part.stat().st_size >= total


def _not_through_links(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


def _problem_with(archive: Path, md5: str) -> str | None:
    """Say what is wrong with an archive that is not the published one."""
    if not archive.is_file():
        return "is no file"
    with open(archive, "rb") as file:
        start = file.read(64).lstrip()
        file.seek(0)
        found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found == md5:
        return None
    return "is an HTML page, not the archive" if start.startswith(b"<") else f"has md5 {found}, not {md5}"


def _unpack(archive: Path, folder: Path, progress: bool) -> None:
    """Fill the folder with what stands beside random/ in the archive, without the archive's folders above that."""
    unpacked = folder / ".unpacked"
    _extract(archive, unpacked, progress)
    splits = sorted(unpacked.glob("**/random/train.json"))
    if len(splits) != 1:
        raise DataError(f"{archive} holds {len(splits)} files random/train.json; one is expected")
    for path in list(splits[0].parent.parent.iterdir()):
        path.rename(folder / path.name)
    shutil.rmtree(unpacked)


def _extract(archive: Path, folder: Path, progress: bool) -> None:
    """Extract files and folders; an archive with anything else, or with paths that lead out, is refused."""
    bar = tqdm(
        total=archive.stat().st_size, unit="B", unit_scale=True, desc=f"unpack {archive.name}", disable=not progress
    )
    try:
        with open(archive, "rb") as file, bar, tarfile.open(fileobj=file, mode="r:gz") as tar:
            num_bytes = 0
            for member in tar:
                num_bytes += member.size
                if num_bytes > MAX_UNPACKED_BYTES:
                    raise DataError(
                        f"{archive} unpacks to more than {MAX_UNPACKED_BYTES:,} bytes, of which the benchmark has few; "
                        "download it again"
                    )
                if not (member.isreg() or member.isdir()):  # the benchmark has no links, so that none has to be judged
                    raise DataError(f"{archive} holds {member.name}, which is no plain file or folder")
                tar.extract(member, folder, filter="data")
                bar.update(file.tell() - bar.n)
    except tarfile.FilterError as error:
        raise DataError(f"{archive} holds {error.tarinfo.name}, which may not be unpacked: {error}") from error
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise DataError(f"{archive} cannot be unpacked: {error}") from error
