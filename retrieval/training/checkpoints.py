"""Checkpoints, and folders made of them, that rebuild their module, read without running what is in them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from common import TOKENIZERS, ByteTokenizer, ConfigError, DataError, NextstepError
from retrieval.training.extras import import_extra
from retrieval.training.gguf_files import is_gguf
from retrieval.training.options import check_types, options_of
from retrieval.training.resume import ResumePoint

# Beside the weights and configuration of an exported model: how it is prompted and decoded.
SETTINGS_FILE = "nextstep.json"
_SETTINGS_VERSION = 1


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Return a checkpoint's contents, tensors memory-mapped on the CPU.

    Raises:
        DataError: if there is no such file or it is no checkpoint
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"checkpoint {path}: there is no such file; a run keeps its own under checkpoints/")
    checkpoint = _load(path, "a Lightning checkpoint")
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise DataError(f"checkpoint {path}: holds no state_dict, so it is no Lightning checkpoint")
    for key in ("state_dict", "hyper_parameters", "datamodule_hyper_parameters", "generator", "retriever"):
        if not isinstance(checkpoint.get(key, {}), Mapping):
            kind = type(checkpoint[key]).__name__
            raise DataError(f"checkpoint {path}: {key} is no mapping but of type {kind}; it is broken")
    return checkpoint


def unusable(path: str | Path, error: Exception) -> DataError:
    """Return an error that says in a line that no model can be made as a checkpoint describes it."""
    reason = " ".join(str(error).split())[:300]
    return DataError(
        f"checkpoint {path}: no model can be made with its architecture and options ({type(error).__name__}: {reason})"
    )


def check_weights(model: nn.Module, state_dict: Mapping[str, Any], path: str | Path) -> None:
    """Raise DataError in a line unless weights are those of a model."""
    own = model.state_dict()
    wrong = [f"it lacks {name}" for name in own if name not in state_dict]
    wrong += [f"it has {name} more" for name in state_dict if name not in own]
    for name in own.keys() & state_dict.keys():
        shape, expected = getattr(state_dict[name], "shape", None), own[name].shape
        if shape != expected:
            found = "no tensor" if shape is None else str(tuple(shape))
            wrong.append(f"{name} is {found} instead of {tuple(expected)}")
    if wrong:
        more = f", and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise DataError(
            f"{path}: its weights do not fit the model that it describes: {', '.join(wrong[:3])}{more}; it was "
            "changed, or written by another version"
        )


def _load(path: Path, kind: str) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # broken files end in any
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise DataError(f"checkpoint {path}: cannot be read as {kind} ({reason})") from error


def read_shards(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return what a checkpoint folder of DeepSpeed says beside its weights, and the weights, joined.

    Raises:
        DataError: if it is none, or broken
        ConfigError: if it is one of FSDP, or deepspeed is not installed
    """
    if (folder / ".metadata").is_file():
        raise ConfigError(
            f"ckpt_path {folder}: is a sharded checkpoint of FSDP; make one file of it first with "
            f"python -m pytorch_lightning.utilities.consolidate_checkpoint {folder}"
        )
    if not (folder / "latest").is_file():
        found = ", ".join(sorted(path.name for path in folder.iterdir())[:12]) or "nothing"
        raise DataError(
            f"ckpt_path {folder}: is neither a Hugging Face folder (config.json) nor a checkpoint of DeepSpeed "
            f"(latest); it holds {found}"
        )
    what = f"ckpt_path {folder}: is a checkpoint of DeepSpeed, which"
    deepspeed = import_extra("deepspeed.utils.zero_to_fp32", "deepspeed", what)
    for path in sorted(folder.rglob("*.pt")):
        _check_shard(path)
    described = _read_model_states(folder)
    state_dict = deepspeed.get_fp32_state_dict_from_zero_checkpoint(str(folder))
    # the wrapper of Lightning before 2.1
    return described, {key.removeprefix("_forward_module."): value for key, value in state_dict.items()}


# What DeepSpeed keeps in its files beside tensors; its own reader would call whatever else they name.
_DEEPSPEED_CLASSES = {
    "deepspeed.runtime.fp16.loss_scaler.DynamicLossScaler",
    "deepspeed.runtime.fp16.loss_scaler.LossScaler",
    "deepspeed.runtime.zero.config.ZeroStageEnum",
    "deepspeed.utils.tensor_fragment.fragment_address",
}


def _check_shard(path: Path) -> None:
    """Raise DataError if reading a file would call anything but what DeepSpeed writes into its checkpoints."""
    try:
        named = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception as error:  # broken files end in any
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise DataError(f"checkpoint {path}: cannot be read as one of DeepSpeed ({reason})") from error
    if foreign := sorted(set(named) - _DEEPSPEED_CLASSES):
        raise DataError(
            f"checkpoint {path}: would run {foreign[0]}, which is no part of a checkpoint of DeepSpeed; nothing of it "
            "was read. Use it only if you know who wrote it, and then convert it with DeepSpeed's own zero_to_fp32.py"
        )


def _read_model_states(folder: Path) -> dict[str, Any]:
    """What the first process wrote beside the weights: the module's own entries."""
    tag = (folder / "latest").read_text(encoding="utf-8").strip()
    files = sorted((folder / tag).glob("*model_states.pt"))
    if not files:
        raise DataError(f"ckpt_path {folder}: there is no *model_states.pt in {folder / tag}; the checkpoint is broken")
    states: dict[str, Any] = _load(files[0], "one of DeepSpeed")
    return states


def write_settings(folder: Path, class_name: str, options: Mapping[str, Any]) -> None:
    """Write into a folder that is being exported what its configuration has no place for; see `read_settings`."""
    settings = {"format_version": _SETTINGS_VERSION, "class": class_name, "options": dict(options)}
    (folder / SETTINGS_FILE).write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_settings(folder: str | Path) -> dict[str, Any] | None:
    """Return the `class` and the `options` that a folder was exported with; None if it does not say, or is a hub id.

    Raises:
        DataError: if its nextstep.json is broken, or of an unknown version
    """
    path = Path(folder) / SETTINGS_FILE
    if not path.is_file():
        return None
    hint = "export the model again, or remove the file and give its options yourself"
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({error}); {hint}") from error
    version = settings.get("format_version") if isinstance(settings, dict) else None
    if version is not None and version != _SETTINGS_VERSION:
        raise DataError(f"{path}: format_version is {version!r}, but this version reads {_SETTINGS_VERSION}; {hint}")
    is_whole = version is not None and isinstance(settings.get("class"), str)
    if not is_whole or not isinstance(settings.get("options"), dict):
        raise DataError(f"{path}: needs an object with format_version, class, and options as an object; {hint}")
    return dict(settings)


def absolute(model_name: Any) -> Any:
    """Return a model name, or an architecture, in which local models are found from anywhere; others as they are."""
    if isinstance(model_name, Mapping):
        return {key: absolute(value) if key in ("tokenizer", "body") else value for key, value in model_name.items()}
    if model_name is None:  # no tokenizer of its own
        return None
    is_local = model_name not in TOKENIZERS and (is_gguf(model_name) or Path(model_name).is_dir())
    return str(Path(model_name).resolve()) if is_local else model_name


def is_checkpoint(path: str | Path) -> bool:
    """Whether a path is meant as a Lightning checkpoint, and not as a folder, a hub id or a .gguf file."""
    return (Path(path).is_file() or Path(path).suffix == ".ckpt") and not is_gguf(path)


def class_path(kind: type) -> str:
    """Return the dotted name of a class, as checkpoints and configurations write it."""
    return f"{kind.__module__}.{kind.__qualname__}"


def check_class(checkpoint: Mapping[str, Any], expected: type, path: str | Path, key: str) -> None:
    """Raise DataError unless the checkpoint was written by the expected class.

    Args:
        checkpoint: its contents
        expected: the class that is to load it
        path: names it in the message
        key: where classes of this kind describe themselves, see `Restorable.checkpoint_key`
    """
    name = class_path(expected)
    saved = checkpoint.get(key, {}).get("class")
    if saved != name:
        what = f"of {saved}" if saved else "of another kind of module"
        raise DataError(f"{path}: is a checkpoint {what}, not of {name}; load it with the class that wrote it")


class Restorable(pl.LightningModule):
    """A module whose checkpoints say how to rebuild it, so that `load` needs neither its hub nor its folder.

    A subclass takes `model_name` in its constructor and sets it, with the tokenizer, as attributes.

    Attributes:
        checkpoint_key: where its checkpoints describe it, such as "generator"
        name: of the model, in tables and files
    """

    checkpoint_key: ClassVar[str]
    model_name: str | dict[str, Any]
    tokenizer: Any
    name: str

    def architecture(self) -> dict[str, Any]:
        """Return plain values that the constructor takes as `model_name` to build a model of the same shape."""
        raise NotImplementedError

    def kept_options(self) -> dict[str, Any]:
        """Return the constructor's options that `load` takes from a checkpoint beside its hyper-parameters."""
        return {}

    @classmethod
    def load(cls, path: str | Path, device: Any = "cpu", freeze: bool = True, **overrides: Any) -> Self:
        """Return a trained model, ready to use.

        Args:
            path: a Lightning checkpoint of this class (nothing is fetched for it); or a Hugging Face folder, a hub id
                or a .gguf file. A folder of `generator.export` brings the options of the checkpoint that it is made of
            device: where to put it
            freeze: evaluation mode, no gradients
            overrides: constructor arguments to change

        Raises:
            DataError: if the checkpoint is missing, broken, or of another class, or a folder's options are broken
            ConfigError: if there is no such folder or hub id
        """
        if is_checkpoint(path):
            checkpoint = read_checkpoint(path)
            check_class(checkpoint, cls, path, cls.checkpoint_key)
            model = cls._rebuild(checkpoint, path, overrides)
        else:
            model = cls(**{**cls._exported_options(path), **overrides, "model_name": str(path)})
        model.name = str(path)
        if freeze:
            model.eval().requires_grad_(False)
        return model.to(device)

    @classmethod
    def _rebuild(cls, checkpoint: Mapping[str, Any], path: str | Path, overrides: Mapping[str, Any]) -> Self:
        """The model that a checkpoint describes, with its weights."""
        saved = checkpoint[cls.checkpoint_key]
        for name, where in {"hyper_parameters": checkpoint, "architecture": saved, "options": saved}.items():
            if name not in where:
                raise DataError(f"checkpoint {path}: has no {name}, without which no model can be made of it")
        for kept in (checkpoint["hyper_parameters"], saved["options"]):
            if isinstance(kept, Mapping):
                if unknown := [name for name in kept if name not in options_of(cls)]:
                    raise DataError(
                        f"checkpoint {path}: says {unknown[0]}, which is no option of {cls.__name__}; it was changed, "
                        "or written by another version"
                    )
                check_types(cls, {name: kept[name] for name in kept if name != "model_name"}, f"checkpoint {path}")
        try:
            options = {**checkpoint["hyper_parameters"], **saved["options"], **overrides}
            model = cls(**{**options, "model_name": saved["architecture"]})
        except (NextstepError, OSError, ImportError) as error:
            if str(error).startswith("model_name"):  # the architecture, which is the checkpoint's
                raise unusable(path, error) from error
            raise
        except Exception as error:  # transformers raises all kinds for an architecture that is none
            if overrides and isinstance(error, TypeError):  # perhaps for what the caller gave
                raise
            raise unusable(path, error) from error
        if model.strict_loading:
            check_weights(model, checkpoint["state_dict"], f"checkpoint {path}")
        model.load_state_dict(checkpoint["state_dict"], strict=model.strict_loading)
        return model

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, *args: Any, **options: Any) -> Self:
        """See Lightning; with the options that checkpoints keep beside the hyper-parameters."""
        kept = read_checkpoint(checkpoint_path).get(cls.checkpoint_key, {}).get("options", {})
        loaded: Self = super().load_from_checkpoint(checkpoint_path, *args, **{**kept, **options})
        return loaded

    @classmethod
    def _exported_options(cls, path: str | Path) -> dict[str, Any]:
        """What a folder says of its options, as far as this class has them; nothing of a hub id."""
        settings = read_settings(path)
        options = {} if settings is None else settings["options"]
        known = options_of(cls)
        check_types(cls, options, str(Path(path) / SETTINGS_FILE))
        return {name: value for name, value in options.items() if name in known}

    def configure_callbacks(self) -> list[pl.Callback]:
        """See to it that checkpoints can be resumed from, whoever made the trainer."""
        callbacks: list[Any] = self.trainer.callbacks  # type: ignore[attr-defined]  # Lightning sets it from elsewhere
        return [] if any(isinstance(c, ResumePoint) for c in callbacks) else [ResumePoint()]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store what `load` needs."""
        # transformers' tokenizers know the folder or hub id that they are from; that of bytes is ours
        if isinstance(self.tokenizer, ByteTokenizer):
            extra_ids = self.tokenizer.extra_ids
            tokenizer = "bytes" if extra_ids == ByteTokenizer().extra_ids else f"bytes+{extra_ids}"
        else:
            tokenizer = absolute(self.tokenizer.name_or_path)
        checkpoint[self.checkpoint_key] = {
            "class": class_path(type(self)),
            "architecture": {**self.architecture(), "tokenizer": tokenizer},
            "options": self.kept_options(),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another class or shape, before its weights fail to fit."""
        check_class(checkpoint, type(self), "the checkpoint", self.checkpoint_key)
        if self.strict_loading and "state_dict" in checkpoint:  # strategies that shard weights load them elsewhere
            check_weights(self, checkpoint["state_dict"], "the checkpoint")
