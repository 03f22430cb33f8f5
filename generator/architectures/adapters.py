"""Low-rank adapters on decoder-only models: their settings, and how they are added, kept, compared and merged."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from common import ConfigError, DataError, check_positive
from retrieval.training.architectures import reason_of
from retrieval.training.extras import import_extra
from retrieval.training.gguf_files import read_config


@dataclass(frozen=True)
class Lora:
    """Settings of low-rank adapters: the model's weights stay, and few enough are trained to fit on one GPU.

    Source: arXiv:2106.09685.

    Attributes:
        r: rank
        alpha: the adapter's output is scaled by alpha / r
        dropout: of the adapter's input
        target_modules: names of the layers that get one; or, as one text, all-linear or a regular expression for the
            names; None leaves the choice to peft
    """

    r: int = 16
    alpha: float = 32.0
    dropout: float = 0.05
    target_modules: list[str] | str | None = None

    def __post_init__(self) -> None:
        check_positive(**{"lora.r": self.r, "lora.alpha": self.alpha})
        if int(self.r) != self.r:
            raise ConfigError(f"lora.r is {self.r}; it must be a whole number")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"lora.dropout is {self.dropout}; it must be at least 0 and below 1")
        targets: Any = self.target_modules
        if targets is None:
            return
        names = [targets] if isinstance(targets, str) else list(targets)
        if not names or not all(isinstance(name, str) and name for name in names):
            raise ConfigError(f"lora.target_modules is {targets!r}; give names of layers, or all-linear")
        if not isinstance(targets, str):
            object.__setattr__(self, "target_modules", names)

    @classmethod
    def of(cls, values: Mapping[str, Any] | Lora | None) -> Lora | None:
        """Return the settings that a checkpoint or a keyword gives as a mapping."""
        return cls(**values) if isinstance(values, Mapping) else values

    @property
    def without_dropout(self) -> dict[str, Any]:
        """The settings that trained adapters need to compute the same again; dropout acts in training alone."""
        targets = self.target_modules
        targets = sorted(targets) if isinstance(targets, list) else targets
        return {"r": self.r, "alpha": float(self.alpha)} | ({} if targets is None else {"target_modules": targets})


def add_lora(model: PreTrainedModel, lora: Lora) -> Any:
    """Return the model with adapters, the only weights that are trained.

    Raises:
        ConfigError: if peft is not installed, or does not know which layers to adapt
    """
    peft = import_extra("peft", "lora", "lora")
    options = {"r": lora.r, "lora_alpha": lora.alpha, "lora_dropout": lora.dropout}
    try:
        config = peft.LoraConfig(task_type="CAUSAL_LM", target_modules=lora.target_modules, **options)
        return peft.get_peft_model(model, config)
    except ValueError as error:
        layers = sorted({name.rpartition(".")[2] for name, layer in model.named_modules() if hasattr(layer, "weight")})
        raise ConfigError(f"lora: {error}; set lora.target_modules to some of {', '.join(layers)}") from error


def adapter_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the adapters' part of a state dict."""
    return {name: weight for name, weight in state.items() if "lora_" in name}


def merged_copy(model: Any) -> Any:
    """Return a copy of a model with the adapters added to its weights, in float32 on the CPU.

    In bf16, which the model may have, adding them would round most of an adapter away.
    """
    return copy.deepcopy(model).cpu().float().merge_and_unload()


def plain(lora: Lora | None) -> dict[str, Any] | None:
    """Return the plain values that a checkpoint keeps, for `Lora.of`."""
    return None if lora is None else asdict(lora)


def check_adapters(saved: Mapping[str, Any] | None, lora: Lora | None) -> None:
    """Raise ConfigError unless a model has the adapters that a checkpoint was trained with.

    Args:
        saved: what the checkpoint says of its adapters; None if it holds a whole model
        lora: of the model that is to load it

    Raises:
        ConfigError: if one has adapters and the other has none, or they differ in more than dropout
    """
    trained = Lora.of(saved)
    if trained is None and lora is None:
        return
    if trained is None:
        assert lora is not None
        raise ConfigError(
            f"the checkpoint holds a whole model, but this model has lora {_text(lora)}; leave out lora, or export the "
            "checkpoint and give the folder as model_name to train adapters on it"
        )
    if lora is not None and trained.without_dropout == lora.without_dropout:
        return
    own = "no lora" if lora is None else f"lora {_text(lora)}"
    raise ConfigError(
        f"the checkpoint holds adapters of lora {_text(trained)}, but this model has {own}; add the configuration or "
        f"overlay that it was trained with, or --model.init_args.lora '{_text(trained)}'"
    )


def _text(lora: Lora) -> str:
    """Return the settings as the command line takes them."""
    return str(lora.without_dropout).replace("'", "")


def check_base(path: str | Path, base: str) -> None:
    """Raise DataError, naming both, if the model that the adapters of a checkpoint belong to is not there."""
    try:
        read_config(base)
    except Exception as error:
        raise DataError(
            f"checkpoint {path}: holds adapters alone, and the model {base!r} that they were trained on cannot be "
            f"loaded: {reason_of(error)} Put it back where it was; a relative path begins where "
            "training was started"
        ) from error
