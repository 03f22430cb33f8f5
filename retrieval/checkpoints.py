"""Lightning checkpoints that rebuild their module, read without running what is in them."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import pytorch_lightning as pl
import torch

from common import DataError


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Return a checkpoint's contents, tensors memory-mapped on the CPU.

    Raises:
        DataError: if there is no such file or it is no checkpoint
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"checkpoint {path}: there is no such file; a run keeps its own under checkpoints/")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise DataError(f"checkpoint {path}: cannot be read as a Lightning checkpoint ({reason})") from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise DataError(f"checkpoint {path}: holds no state_dict, so it is no Lightning checkpoint")
    return checkpoint


def check_class(checkpoint: Mapping[str, Any], expected: type, path: str | Path, key: str) -> None:
    """Raise DataError unless the checkpoint was written by the expected class.

    Args:
        checkpoint: its contents
        expected: the class that is to load it
        path: names it in the message
        key: where classes of this kind describe themselves: "generator" or "retriever"
    """
    name = f"{expected.__module__}.{expected.__qualname__}"
    saved = checkpoint.get(key, {}).get("class")
    if saved != name:
        what = f"of {saved}" if saved else "of another kind of module"
        raise DataError(f"{path}: is a checkpoint {what}, not of {name}; load it with the class that wrote it")


class Restorable(pl.LightningModule):
    """A module whose checkpoints say how to rebuild it, so that `load` needs neither its hub nor its folder.

    A subclass takes `model_name` in its constructor and sets it, with the tokenizer, as attributes.

    Attributes:
        checkpoint_key: where its checkpoints describe it: "generator" or "retriever"
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
            path: a Lightning checkpoint of this class (nothing is fetched for it); or a Hugging Face folder or hub id
            device: where to put it
            freeze: evaluation mode, no gradients
            overrides: constructor arguments to change

        Raises:
            DataError: if the checkpoint is missing, broken, or of another class
            ConfigError: if there is no such folder or hub id
        """
        if Path(path).is_file() or Path(path).suffix == ".ckpt":
            checkpoint = read_checkpoint(path)
            check_class(checkpoint, cls, path, cls.checkpoint_key)
            saved = checkpoint[cls.checkpoint_key]
            options = {**checkpoint["hyper_parameters"], **saved["options"], **overrides}
            model = cls(**{**options, "model_name": saved["architecture"]})
            model.load_state_dict(checkpoint["state_dict"], strict=model.strict_loading)
        else:
            model = cls(**{**overrides, "model_name": str(path)})
        model.name = str(path)
        if freeze:
            model.eval().requires_grad_(False)
        return model.to(device)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store what `load` needs."""
        tokenizer = self.model_name
        if isinstance(tokenizer, Mapping):
            tokenizer = tokenizer.get("tokenizer", "bytes")
        elif tokenizer.endswith((".yaml", ".yml")) or hasattr(self.tokenizer, "extra_ids"):
            tokenizer = "bytes"
        checkpoint[self.checkpoint_key] = {
            "class": f"{type(self).__module__}.{type(self).__qualname__}",
            "architecture": {**self.architecture(), "tokenizer": tokenizer},
            "options": self.kept_options(),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another class before its weights fail to fit."""
        check_class(checkpoint, type(self), "the checkpoint", self.checkpoint_key)
