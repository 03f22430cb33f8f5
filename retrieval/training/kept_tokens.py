"""What took long to find of the data, such as its tokens, kept beside it for the next run.

The name of a file tells what it was made from: the texts themselves, the settings, and for tokens the tokenizer and the
libraries that run it, each by a hash of its content, so that none is ever out of date. Whatever cannot be read is made
anew; a folder that cannot be written is left as it is.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy.typing as npt
import tokenizers
import transformers
from pytorch_lightning.utilities import rank_zero_info
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from common import DataError
from retrieval.training.files import one_at_a_time, writing_file

FOLDER = ".tokens"
MIN_BYTES = 4 << 20  # of text; less is tokenised in a second or two
MAX_FILES = 12  # of a folder; the oldest go
_VERSION = 1  # raise it when the same texts and settings give something else

Arrays = dict[str, npt.NDArray[Any]]
Kept = tuple[Arrays, dict[str, Any]]  # arrays, and plain values


def keep_beside(data: Path, num_bytes: int, key: Callable[[], list[object]], make: Callable[[], Kept]) -> Kept:
    """Return what `make` returns, or what it returned for the same key before.

    Several processes may ask at once: the first makes it, the others wait and read it.

    Args:
        data: a file of the data, beside which it is kept
        num_bytes: of text that `make` reads; for little nothing is kept
        key: all that the result depends on, of tokens `tokenizer_digest`; called only where something is kept
        make: finds it
    """
    if num_bytes < MIN_BYTES:
        return make()
    digest = hashlib.blake2b(digest_size=16)
    for part in (_VERSION, *key()):
        value = part if isinstance(part, bytes) else repr(part).encode()
        digest.update(len(value).to_bytes(8, "little") + value)
    path = data.parent / FOLDER / f"{data.name}-{digest.hexdigest()}.safetensors"
    found = _read(path)
    if found is not None:
        with suppress(OSError):
            path.touch()  # the files that are used longest ago go first
        return found
    try:
        path.parent.mkdir(exist_ok=True)
    except OSError:
        return make()
    with one_at_a_time(path):
        found = _read(path)
        if found is None:
            found = make()
            _write(path, *found)
    return found


def tokenizer_digest(tokenizer: Any) -> bytes:
    """Return a hash of all that tokens depend on: the files that a tokenizer saves, and the libraries that run it."""
    versions = f"{transformers.__version__} {tokenizers.__version__}"
    digest = hashlib.blake2b(f"{type(tokenizer).__name__} {versions}".encode())
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        for path in sorted(Path(folder).rglob("*")):
            if path.is_file():
                content = path.read_bytes()
                digest.update(f"{path.name} {len(content)} ".encode() + content)
    return digest.digest()


def _read(path: Path) -> Kept | None:
    try:
        with safe_open(path, framework="numpy") as file:
            values = json.loads(file.metadata()["values"])
            return {name: file.get_tensor(name) for name in file.keys()}, values
    except (OSError, SafetensorError, ValueError, KeyError, TypeError):
        return None  # not there, or broken


def _write(path: Path, arrays: Arrays, values: dict[str, Any]) -> None:
    try:
        with writing_file(path) as part:
            save_file(arrays, part, metadata={"values": json.dumps(values, ensure_ascii=False)})
    except DataError as error:
        rank_zero_info(f"what was found of the data is not kept for the next run: {error}")
        return
    with suppress(OSError):
        files = sorted(path.parent.glob("*.safetensors"), key=lambda file: file.stat().st_mtime)
        for old in files[:-MAX_FILES]:
            old.unlink()
