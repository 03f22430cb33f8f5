"""Models in .gguf files, as llama.cpp and its relatives use them: how transformers reads one, and what it says.

Their weights are mostly quantised. transformers dequantises them at load, with the package gguf (extra `gguf`).
Whatever stands beside a file, such as another model's tokenizer, is not read: the file is all there is.

Each time that transformers reads all of a file, SmolLM2-135M's 49,152 tokens take it some 10 s (one thread of an Intel
Xeon with AMX, which others used too): once for the configuration, and once for the weights. A folder that
`generator.export` makes of the file is read in a second.
"""

from __future__ import annotations

import contextlib
import copy
import json
import struct
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any

from pytorch_lightning.utilities import rank_zero_info
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerFast
from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES
from transformers.utils import quantization_config

from common import ConfigError, DataError
from retrieval.training.architectures import reason_of
from retrieval.training.extras import import_extra

_MAGIC, _VERSIONS = b"GGUF", (2, 3)
_FORMATS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}  # by type
_STRING, _ARRAY = 8, 9
_ENCODER_DECODERS = ("t5", "t5encoder")  # transformers 5.23 reads a gated-gelu as a gated ReLU, and unties nothing
_MAX_TENSORS = 1_000_000


def is_gguf(model_name: object) -> bool:
    """Whether it names a .gguf file."""
    return isinstance(model_name, str | Path) and str(model_name).lower().endswith(".gguf")


def _checked(model_name: str | Path) -> Path:
    """Return where a .gguf file is.

    Raises:
        DataError: if there is no such .gguf file, or it is broken
        ConfigError: if the package gguf, which reads them, is not installed, or it is an encoder-decoder's
    """
    if read_header(model_name).architecture in _ENCODER_DECODERS:
        raise ConfigError(
            f"{model_name}: is of the T5 family, whose .gguf files do not tell the activation, so transformers makes "
            "another model of them; give the hub id or the folder that it was made from"
        )
    return Path(model_name).resolve()


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[dict[str, str]]:
    """Options of `from_pretrained` that name a .gguf file in a folder with nothing else.

    transformers takes settings of the folder before the file's: a tokenizer.json, an adapter_config.json.
    """
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / path.name).symlink_to(path)
        yield {"pretrained_model_name_or_path": folder, "gguf_file": path.name}


def read_config(model_name: str | Path) -> Any:
    """Return the configuration of a hub id, a folder or a .gguf file; errors are transformers', see `hub_errors`."""
    if not is_gguf(model_name):
        return AutoConfig.from_pretrained(str(model_name), trust_remote_code=False)
    path = _checked(model_name)
    found = path.stat()
    return copy.deepcopy(_config_of_file(path, found.st_size, found.st_mtime_ns))


@lru_cache(maxsize=4)
def _config_of_file(path: Path, size: int, mtime_ns: int) -> Any:
    with _alone(path) as where:
        config: Any = AutoConfig.from_pretrained(**where, trust_remote_code=False)
    config.name_or_path = str(path)
    return config


def read_tokenizer(path: str | Path) -> Any:
    """Return the tokenizer of a .gguf file; it decodes text as it is, and knows its file.

    Raises:
        DataError: if there is no such file, or it is broken
        ConfigError: if the package gguf is not installed, or transformers reads no tokenizer of such a model
    """
    file = _checked(path)
    found = file.stat()
    try:
        return copy.deepcopy(_tokenizer_of_file(file, found.st_size, found.st_mtime_ns))
    except Exception as error:  # other programs' files can end in any
        raise ConfigError(f"{path}: transformers reads no tokenizer in it: {reason_of(error)}") from error


@lru_cache(maxsize=4)
def _tokenizer_of_file(path: Path, size: int, mtime_ns: int) -> Any:
    # AutoTokenizer reads the whole file for the configuration once more, where all it finds is that no class is known
    is_plain = _config_of_file(path, size, mtime_ns).model_type not in TOKENIZER_MAPPING_NAMES
    kind: Any = PreTrainedTokenizerFast if is_plain else AutoTokenizer
    with _alone(path) as where:
        tokenizer: Any = kind.from_pretrained(**where, trust_remote_code=False)
    _leave_out_foreign_tokens(tokenizer, read_header(path).num_tokens)
    tokenizer.clean_up_tokenization_spaces = False
    tokenizer.name_or_path = str(path)
    return tokenizer


def _leave_out_foreign_tokens(tokenizer: Any, num_tokens: int) -> None:
    """Drop what transformers adds to every byte-level BPE, GPT-2's <|endoftext|>; the model has no embedding for it."""
    if num_tokens and max(tokenizer.get_vocab().values()) >= num_tokens:
        described = json.loads(tokenizer.backend_tokenizer.to_str())
        described["added_tokens"] = [token for token in described["added_tokens"] if token["id"] < num_tokens]
        tokenizer._tokenizer = Tokenizer.from_str(json.dumps(described))


def read_model(kind: Any, model_name: str | Path, **options: Any) -> Any:
    """Return a model with its weights; those of a .gguf file are dequantised, and a line says from what.

    Args:
        kind: Auto class of transformers
        model_name: a hub id, a folder, or a .gguf file
        options: of `from_pretrained`
    """
    if not is_gguf(model_name):
        return kind.from_pretrained(str(model_name), trust_remote_code=False, **options)
    path = _checked(model_name)
    # else a GPU keeps some kinds packed: not to be trained
    if whole := getattr(quantization_config, "GgufConfig", None):
        options["quantization_config"] = whole(dequantize=True)
    with _alone(path) as where, _names_mapped_once():
        model = _without_quantization(kind.from_pretrained(**where, trust_remote_code=False, **options))
    model.name_or_path = model.config.name_or_path = str(path)
    header = read_header(model_name)
    num_bits = 8 * next(model.parameters()).element_size()
    rank_zero_info(f"{model_name}: {header.bits:.1f} bits a weight ({header.kinds}), dequantised to {num_bits}")
    return model


@contextlib.contextmanager
def _names_mapped_once() -> Iterator[None]:
    """Lets transformers make gguf's table of names once for a model, and not again for each of its modules.

    They are 397 in SmolLM2-135M, 16 s of the 27 that its weights took (one thread of an Intel Xeon with AMX).
    """
    package: Any = import_extra("gguf", "gguf", "a .gguf file")
    make = package.get_tensor_name_map
    package.get_tensor_name_map = lru_cache(make)
    try:
        yield
    finally:
        package.get_tensor_name_map = make


def _without_quantization(model: Any) -> Any:
    """Let a model whose weights are plain numbers be cast and saved as any other."""
    for name in ("hf_quantizer", "is_quantized", "quantization_method"):
        if name in vars(model):
            delattr(model, name)
    for config in (model.config, model.config.get_text_config(decoder=True)):
        if "quantization_config" in vars(config):
            del config.quantization_config
    return model


# ------------------------------------------------------------------------------------------------
# The header


@dataclass(frozen=True)
class Header:
    """What a .gguf file says before its weights.

    Attributes:
        architecture: of llama.cpp, such as llama
        bits: of a weight, on average, with the scales of its blocks
        kinds: how many tensors are stored how
        num_tokens: of its tokenizer; 0 if it has none
    """

    architecture: str
    bits: float
    kinds: str
    num_tokens: int


def read_header(path: str | Path) -> Header:
    """Return what a .gguf file says of itself, and see that all its weights are there.

    Raises:
        DataError: if there is no such file, it is none of GGUF, or it is truncated
        ConfigError: if the package gguf is not installed
    """
    path = Path(path).resolve()
    if not path.is_file():
        raise DataError(f"{path}: there is no such file; give a .gguf file, a folder or a hub id")
    found = path.stat()
    return _header(path, found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=8)
def _header(path: Path, size: int, mtime_ns: int) -> Header:
    package = import_extra("gguf", "gguf", f"{path.name}, a .gguf file,")
    try:
        with path.open("rb") as file:
            reader = _Reader(file)
            if file.read(4) != _MAGIC:
                raise DataError(f"{path}: does not begin with GGUF, so it is no .gguf file")
            version, num_tensors, num_values = reader.numbers("IQQ")
            if version not in _VERSIONS:
                raise DataError(f"{path}: is version {version} of GGUF; {' and '.join(map(str, _VERSIONS))} are read")
            if num_tensors > _MAX_TENSORS or num_values > _MAX_TENSORS:
                raise ValueError("it has millions of tensors")
            values = {reader.text(): reader.value() for _ in range(num_values)}
            tensors = [reader.tensor() for _ in range(num_tensors)]
            start = file.tell()
    except (struct.error, ValueError, OverflowError, MemoryError) as error:
        raise DataError(f"{path}: its header is truncated or broken ({error}); copy the file again") from error
    return _summed(path, size, start, values, tensors, package.GGML_QUANT_SIZES)


def _summed(
    path: Path,
    size: int,
    start: int,
    values: Mapping[str, Any],
    tensors: list[tuple[Any, ...]],
    sizes: Mapping[Any, tuple[int, int]],
) -> Header:
    """Check that the weights are all there, and count their bits."""
    architecture = values.get("general.architecture")
    if not isinstance(architecture, str) or not tensors:
        raise DataError(f"{path}: names no general.architecture, or holds no weights; it is no model")
    by_number = {int(kind): (kind.name, *block) for kind, block in sizes.items()}
    kinds, num_weights, num_bytes, end = Counter[str](), 0, 0, 0
    for name, shape, number, offset in tensors:
        if number not in by_number:
            raise DataError(f"{path}: {name} is stored as type {number}, which the installed gguf does not know")
        kind, block, block_bytes = by_number[number]
        stored = prod(shape) // block * block_bytes
        kinds[kind], num_weights, num_bytes = kinds[kind] + 1, num_weights + prod(shape), num_bytes + stored
        end = max(end, offset + stored)
    if start + end > size:
        raise DataError(f"{path}: has {size:,} bytes of at least {start + end:,}, so it is truncated; copy it again")
    shown = ", ".join(f"{count} x {kind}" for kind, count in kinds.most_common())
    num_tokens = values.get("tokenizer.ggml.tokens", 0)
    return Header(architecture, 8 * num_bytes / max(1, num_weights), shown, num_tokens)


class _Reader:
    """Reads the parts of a header, little-endian."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def numbers(self, formats: str) -> tuple[Any, ...]:
        layout = struct.Struct("<" + formats)
        return layout.unpack(self.file.read(layout.size))

    def text(self) -> str:
        (length,) = self.numbers("Q")
        if length > 1 << 26:
            raise ValueError("a text of over 64 MB")
        found: bytes = self.file.read(length)
        if len(found) < length:
            raise ValueError("it ends within a text")
        return found.decode(errors="replace")

    def value(self, kind: int | None = None) -> Any:
        """Return a number or a text; of an array, how long it is."""
        (kind,) = self.numbers("I") if kind is None else (kind,)
        if kind == _STRING:
            return self.text()
        if kind in _FORMATS:
            return self.numbers(_FORMATS[kind])[0]
        if kind != _ARRAY:
            raise ValueError(f"a value of type {kind}")
        inner, count = self.numbers("IQ")
        if inner in _FORMATS:
            self.file.seek(count * struct.calcsize("<" + _FORMATS[inner]), 1)
        elif inner == _STRING:
            for _ in range(count):
                self.file.seek(self.numbers("Q")[0], 1)
        else:
            raise ValueError(f"an array of type {inner}")
        return count

    def tensor(self) -> tuple[str, tuple[int, ...], int, int]:
        """Return name, shape, type, and where its data begin behind the header."""
        name = self.text()
        (num_dimensions,) = self.numbers("I")
        if num_dimensions > 8:
            raise ValueError(f"a tensor of {num_dimensions} dimensions")
        shape = self.numbers(f"{num_dimensions}Q")
        kind, offset = self.numbers("IQ")
        return name, shape, kind, offset
