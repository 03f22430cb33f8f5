"""Inference engines behind one interface: `make_engine(name, ...)` returns what answers `propose`.

Each engine lives in a module of its own, which is imported when it is chosen.
"""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import Any

from common import ConfigError, check_choice
from generator.decoding.settings import Decoding, Sampling
from generator.engines.engine import Engine

__all__ = ["ENGINES", "Decoding", "Engine", "Sampling", "make_engine"]

ENGINES = {
    "native": "generator.engines.native.NativeEngine",
    "transformers": "generator.engines.huggingface.TransformersEngine",
    "ctranslate2": "generator.engines.ctranslate2.CTranslate2Engine",
    "vllm": "generator.engines.vllm.VLLMEngine",
}


def make_engine(name: str, model: Any, tokenizer: Any, *, max_inp_seq_len: int, **options: Any) -> Engine:
    """Return an engine for a live model.

    Nothing is converted or loaded before the engine's first call, so the model may still be moved or get its weights.

    Args:
        name: one of ENGINES
        model: what AutoModelForSeq2SeqLM or AutoModelForCausalLM loads
        tokenizer: its tokenizer
        max_inp_seq_len: tokens of an input, EOS included; a longer one is cut
        options: what else the engine's constructor takes, such as compute_type of "ctranslate2"

    Raises:
        ConfigError: for an unknown name or option, an extra that is not installed (named with the command that
            installs it), or a model that the engine cannot decode
    """
    check_choice("engine", name, tuple(ENGINES))
    module, _, class_name = ENGINES[name].rpartition(".")
    engine: Any = getattr(import_module(module), class_name)
    parameters = inspect.signature(engine).parameters
    accepted = [key for key, parameter in parameters.items() if parameter.kind is parameter.KEYWORD_ONLY]
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    for option in options:
        if option not in accepted and not takes_all:
            known = f"it takes {', '.join(accepted)}" if accepted else "it takes none"
            raise ConfigError(f"engine {name!r} has no option {option!r}; {known}")
    made: Engine = engine(model, tokenizer, max_inp_seq_len, **options)
    return made
