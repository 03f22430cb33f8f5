"""`load_generator`: one call from a checkpoint, a folder or a hub id to a generator that a prover can ask."""

from __future__ import annotations

import difflib
import inspect
import warnings
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from transformers import PreTrainedConfig

from common import ConfigError, DataError, check_choice
from generator.interface.filtering import without_placeholders
from generator.interface.mixture import MixedTacticGenerator
from generator.interface.mixture_files import read_mixture
from generator.interface.tactic_generator import TacticGenerator
from generator.interface.wrappers import CachingGenerator, FixedTacticGenerator
from generator.prompts.templates import TEMPLATES
from retrieval.training.architectures import hub_errors, reason_of
from retrieval.training.checkpoints import SETTINGS_FILE, is_checkpoint, read_checkpoint, read_settings
from retrieval.training.gguf_files import is_gguf, read_config
from retrieval.training.options import check_types, options_of

Dtype = Literal["float32", "bfloat16", "float16"]

_ENCODER_DECODER = "generator.model.RetrievalAugmentedGenerator"
_DECODER_ONLY = "generator.causal.CausalGenerator"
_FROZEN = "generator.frozen.FrozenTransformerGenerator"
_BITS = "generator.domains.bits.model.BitModel"
_NEAREST = "generator.nearest.generator.NearestTacticGenerator"
_MIXED = "generator.interface.mixture.MixedTacticGenerator"
# a checkpoint names its class, and no other is imported for it
_KNOWN = (_ENCODER_DECODER, _DECODER_ONLY, _FROZEN, _BITS)
_WITHOUT_MODEL = (_NEAREST, _MIXED)  # their folders have a nextstep.json, and no configuration of transformers
_KINDS = "a Lightning checkpoint (.ckpt), a Hugging Face folder (with config.json), a .gguf file or a hub id"
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")  # of transformers
_SHARDED = ("latest", "zero_to_fp32.py", ".metadata")  # of DeepSpeed, DeepSpeed and FSDP


def load_generator(
    path: str | Path,
    *,
    device: str | torch.device = "auto",
    dtype: Dtype = "float32",
    engine: str = "native",
    ret_ckpt_path: str | Path | None = None,
    corpus_path: str | Path | None = None,
    index_path: str | Path | None = None,
    sources_path: str | Path | None = None,
    cache_size: int = 0,
    allow_sorry: bool = True,
    **overrides: Any,
) -> TacticGenerator:
    """Return a trained generator, ready to be asked.

    Args:
        path: a Lightning checkpoint, a Hugging Face folder, a .gguf file, or a hub id such as
            kaiyuy/leandojo-lean4-tacgen-byt5-small; a checkpoint or a configuration says of which kind it is.
            Checkpoints, and folders of `generator.export`, bring their own template and lengths. Or a folder of
            `python -m generator.nearest` or `generator.mix`; the parts of a mixture take what they have of the options
        device: "auto" takes a GPU if there is one
        dtype: of the weights
        engine: what decodes, see `generator.engines`
        ret_ckpt_path: premise retriever: a checkpoint, an encoder's folder or hub id, a folder of retrieval.fuse or
            retrieval.neighbors, or bm25
        corpus_path: corpus.jsonl that it retrieves from
        index_path: embeddings of the corpus, from `python -m retrieval.index`; else the first call makes them
        sources_path: folder in which the file paths of requests begin, such as a checkout of Mathlib: what stands
            before the theorem is told in prompts that have a place for it, as those of template ntp-ctx have
        cache_size: requests whose answers are remembered, see `CachingGenerator`; 0 remembers none
        allow_sorry: False leaves out tactics with sorry or admit, see `without_placeholders`. Here models are shown
            as they are; search filters unless it is told otherwise
        overrides: other arguments of the generator's constructor, such as length_penalty, or the template of a
            decoder-only model

    Raises:
        DataError: if a checkpoint or folder is missing, broken, or of no known class
        ConfigError: if there is no such model on the hub, or an option is unknown or does not fit
    """
    check_choice("dtype", dtype, get_args(Dtype))
    if cache_size < 0:
        raise ConfigError(f"cache_size is {cache_size}; it must be at least 0")
    place = _device(device)
    path = _existing(path)
    class_name = _class_name(path)
    if class_name == _DECODER_ONLY and "template" not in overrides and _is_bare(path):
        warnings.warn(
            f"{path}: does not say how it is prompted, so each state is taken as a whole prompt; give the template "
            f"that it was trained with (template=None keeps whole prompts): {', '.join(TEMPLATES)}",
            stacklevel=2,
        )
    paths = {
        "ret_ckpt_path": ret_ckpt_path,
        "corpus_path": corpus_path,
        "index_path": index_path,
        "sources_path": sources_path,
    }
    options: dict[str, Any] = {name: str(value) for name, value in paths.items() if value is not None} | overrides
    if class_name == _MIXED:
        generator = _load_mixture(path, {"device": place, "dtype": dtype, "engine": engine}, options)
    elif class_name == _NEAREST:  # which has no weights, so that device, dtype and engine do not matter
        loaded = _import(_NEAREST)
        generator = loaded.load(path, **_accepted(loaded.__qualname__, _names_of(_NEAREST), options))
    else:
        generator = _load_model(path, class_name, place, dtype, {"engine": engine, **options})
    if not allow_sorry:
        generator = without_placeholders(generator)
    return CachingGenerator(generator, cache_size) if cache_size else generator


def _load_model(
    path: str, class_name: str, place: torch.device, dtype: Dtype, options: Mapping[str, Any]
) -> TacticGenerator:
    loaded = _import(class_name)
    if (exported := read_settings(path)) is not None:
        check_types(loaded, exported["options"], str(Path(path) / SETTINGS_FILE))
    model: Any = loaded.load(path, device=place, **_accepted(loaded.__qualname__, _names_of(class_name), options))
    generator: TacticGenerator = model.to(getattr(torch, dtype))
    return generator


def _load_mixture(path: str, how: Mapping[str, Any], options: Mapping[str, Any]) -> TacticGenerator:
    """Open a mixture and its parts, each with the options that it has.

    Raises:
        ConfigError: if no part has an option
    """
    parts, weights, num_asked = read_mixture(path)
    kinds = [None if isinstance(part, list) else _kind_of_part(part) for part in parts]
    _accepted(_MIXED.rpartition(".")[2], set().union(*(_names_of(kind) for kind in kinds if kind is not None)), options)
    generators = [
        FixedTacticGenerator(part) if isinstance(part, list) else load_part(part, how, options) for part in parts
    ]
    return MixedTacticGenerator(generators, weights, num_asked)


def load_part(part: str, how: Mapping[str, Any], options: Mapping[str, Any]) -> TacticGenerator:
    """Open a part of a mixture.

    Args:
        part: a checkpoint, folder or hub id
        how: device, dtype and engine of `load_generator`
        options: further ones, of which it takes those that it has, and that are not None

    Raises:
        ConfigError: if it is a mixture, which might be one of itself
    """
    names = _names_of(_kind_of_part(part))
    taken = {name: value for name, value in options.items() if name in names and value is not None}
    return load_generator(part, **how, **taken)


def _kind_of_part(part: str) -> str:
    kind = _class_name(_existing(part))
    if kind == _MIXED:
        raise ConfigError(f"{part}: is a mixture, and cannot be a part of one; name its parts instead")
    return kind


def _device(device: str | torch.device) -> torch.device:
    has_gpu = torch.cuda.is_available()
    if device == "auto":
        return torch.device("cuda" if has_gpu else "cpu")
    try:
        place = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"device is {device!r}; give auto, cpu, cuda, or cuda:0") from error
    if place.type == "cuda" and not has_gpu:
        raise ConfigError(f"device is {str(device)!r}, but torch finds no GPU; give cpu or auto")
    return place


# ------------------------------------------------------------------------------------------------
# Which class


def _class_name(path: str) -> str:
    """The class that a checkpoint names, or that fits the configuration of a folder or hub id."""
    if is_checkpoint(path):
        return _class_of_checkpoint(read_checkpoint(path), path)
    if (name := (read_settings(path) or {}).get("class")) in _WITHOUT_MODEL:
        return str(name)
    config = _config(path)
    names = config.architectures if isinstance(config.architectures, list) else []
    encoders = [name for name in names if str(name).endswith("EncoderModel")]
    if encoders:
        raise ConfigError(f"{path}: is an encoder ({encoders[0]}), which writes nothing; give it as ret_ckpt_path")
    return _ENCODER_DECODER if config.is_encoder_decoder else _DECODER_ONLY


def _is_bare(path: str) -> bool:
    """Whether it is a model of transformers that this project has not exported."""
    return not is_checkpoint(path) and read_settings(path) is None


def _class_of_checkpoint(checkpoint: Mapping[str, Any], path: str) -> str:
    name = checkpoint.get("generator", {}).get("class")
    if name in _KNOWN:
        return str(name)
    if "retriever" in checkpoint:
        raise DataError(f"{path}: is a checkpoint of a premise retriever; give it as ret_ckpt_path")
    known = ", ".join(_KNOWN)
    if name is None:
        raise DataError(f"{path}: does not say which generator wrote it, so it is of none of {known}")
    raise DataError(f"{path}: is a checkpoint of {name}; known are {known}. Load it with that class's own `load`")


def _config(path: str) -> PreTrainedConfig:
    if Path(path).exists():
        with hub_errors(path, "model", option="the file" if is_gguf(path) else "the folder"):
            return read_config(path)  # type: ignore[no-any-return]
    try:
        config: PreTrainedConfig = read_config(path)
    except Exception as error:
        raise ConfigError(
            f"{path!r} is no file or folder, and as a model of the hub: {reason_of(error)} Give {_KINDS}"
        ) from error
    return config


def _import(class_name: str) -> Any:
    module, _, name = class_name.rpartition(".")
    return getattr(import_module(module), name)


def _names_of(class_name: str) -> set[str]:
    """The options that a class is loaded with: those of its constructor, or, without a model, of its `load`."""
    loaded = _import(class_name)
    if class_name == _NEAREST:
        return set(inspect.signature(loaded.load).parameters) - {"path"}
    return set(options_of(loaded)) - {"model_name"}


def _accepted(what: str, names: set[str], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options, or raise ConfigError for one that is not among the names."""
    for name in options:
        if name not in names:
            nearest = difflib.get_close_matches(name, sorted(names), n=1)
            hint = f"did you mean {nearest[0]}?" if nearest else f"there are {', '.join(sorted(names))}"
            raise ConfigError(f"{what} has no option {name}; {hint}")
    return dict(options)


# ------------------------------------------------------------------------------------------------
# Where it lies


def _existing(path: str | Path) -> str:
    """Return a checkpoint, a folder with config.json, or what may be a hub id.

    Raises:
        DataError: if it can be none of these, with what may have been meant
    """
    local = Path(path).expanduser()
    if local.is_dir():
        _check_folder(local)
        return str(local)
    if local.is_file():
        return str(local)
    nearest = _nearest(local)
    hint = f"did you mean {nearest}?" if nearest else f"give {_KINDS}"
    # a hub id is one name, or two with a slash
    if (
        local.suffix.lower() in (".ckpt", ".gguf")
        or local.is_absolute()
        or str(path)[:1] in (".", "~")
        or len(local.parts) not in (1, 2)
    ):
        raise DataError(f"{path}: there is no such file or folder; {hint}")
    if nearest and len(local.parts) == 2:  # asking the hub may take long
        raise DataError(f"{path}: there is no such file or folder; {hint}")
    return str(path)


def _check_folder(folder: Path) -> None:
    # before config.json, which CTranslate2 writes too
    if (folder / "model.bin").is_file() and not any(any(folder.glob(pattern)) for pattern in _WEIGHTS):
        raise ConfigError(
            f"{folder}: is a CTranslate2 folder, which holds no model for transformers; give the checkpoint or the "
            'Hugging Face folder that it was made from, with engine="ctranslate2", or use '
            "generator.engines.ctranslate2.CTranslate2Engine.from_folder"
        )
    if (folder / "config.json").is_file() or (read_settings(folder) or {}).get("class") in _WITHOUT_MODEL:
        return
    if any((folder / name).exists() for name in _SHARDED):
        raise DataError(
            f"{folder}: is a sharded checkpoint; make a folder of it with "
            f"python -m generator.export --ckpt_path {folder} --output_dir ..."
        )
    inside = sorted(folder.rglob("*.ckpt"), key=lambda found: (found.name != "last.ckpt", str(found)))
    hint = f"did you mean {inside[0]}?" if inside else f"give {_KINDS}"
    raise DataError(f"{folder}: has no config.json, so it is no Hugging Face folder; {hint}")


def _nearest(path: Path) -> Path | None:
    """What lies at a path that differs in one name, or as far of it as exists."""
    for part in [path, *path.parents]:
        if part.parent.is_dir() and part.name:
            names = [entry.name for entry in part.parent.iterdir()]
            matches = difflib.get_close_matches(part.name, names, n=1)
            if not matches:
                return None
            whole = part.parent / matches[0] / path.relative_to(part)
            return whole if whole.exists() else part.parent / matches[0]
    return None
