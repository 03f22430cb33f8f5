"""A domain in the words of symbolic mathematics that needs no sympy, and tiny models of both families for it."""

from __future__ import annotations

import random
from typing import Any, ClassVar

import pytest
import torch

from generator import domains
from generator.causal import CausalGenerator
from generator.domains.base import Domain, MalformedError
from generator.domains.datamodule import DomainDataModule
from generator.domains.symbolic.vocabulary import WORDS
from generator.model import RetrievalAugmentedGenerator
from tests.fakes import TINY
from tests.generator.causal_fakes import GPT2

_DRAWN = ("x", "pi", "sin", "mul", "INT+", "INT-", "1", "2", "3", "Y''", "exp", "a8")


class Backwards(Domain[list[str], list[str]]):
    """`sub Y' sin x` is answered by `x sin`: as short as an integral, and judged at once."""

    name: ClassVar[str] = "backwards"
    akin: ClassVar[tuple[str, ...]] = ("backwards_too",)

    def draw(self, rng: random.Random) -> tuple[list[str], list[str]]:
        words = rng.choices(_DRAWN, k=rng.randint(2, 9))
        return words, words[::-1]

    def write_spec(self, spec: list[str]) -> str:
        return " ".join(["sub", "Y'", *spec])

    def read_spec(self, text: str) -> list[str]:
        return text.split()[2:]

    def write_program(self, program: list[str]) -> str:
        return " ".join(program)

    def read_program(self, text: str) -> list[str]:
        if not set(text.split()) <= set(WORDS) - {"<SPECIAL_9>"}:
            raise MalformedError("an unknown word")
        return text.split()

    def refutation(self, spec: list[str], program: list[str]) -> str:
        return "" if program == spec[::-1] else "is another text"


class BackwardsToo(Backwards):
    """The same problems under another name, as those of several generators are."""

    name: ClassVar[str] = "backwards_too"
    akin: ClassVar[tuple[str, ...]] = ("backwards",)


def add_domains(patch: pytest.MonkeyPatch) -> None:
    """Let the two be chosen by their names."""
    for kind in (Backwards, BackwardsToo):
        patch.setitem(domains.DOMAINS, kind.name, f"{__name__}.{kind.__name__}")


ENCODER_DECODER = {**TINY, "d_model": 64, "num_layers": 1, "num_decoder_layers": 1, "tokenizer": "symbolic"}
DECODER_ONLY = {**GPT2, "n_positions": 64, "tokenizer": "symbolic"}
LIMITS: dict[str, dict[str, Any]] = {
    "encoder_decoder": {"max_inp_seq_len": 32, "max_oup_seq_len": 16},
    "decoder_only": {"template": "symbolic", "max_seq_len": 48, "max_completion_len": 16},
}


def build(family: str, **options: Any) -> Any:
    """A tiny model, with the same weights at each call."""
    torch.manual_seed(0)
    given = {"num_beams": 2, **LIMITS[family], **options}
    if family == "encoder_decoder":
        return RetrievalAugmentedGenerator({**ENCODER_DECODER, **given.pop("architecture", {})}, **given)
    return CausalGenerator({**DECODER_ONLY, **given.pop("architecture", {})}, **given)


def data(family: str, **options: Any) -> DomainDataModule:
    """Eight problems, the same in every epoch."""
    architecture = ENCODER_DECODER if family == "encoder_decoder" else DECODER_ONLY
    options = {"domain": "backwards", **LIMITS[family], **options}
    few = {"num_train": 8, "num_val": 4, "num_test": 4, "fresh": False, "num_proposals": 2, "batch_size": 8}
    return DomainDataModule(
        options.pop("domain", "backwards"), dict(architecture), **{**few, **LIMITS[family], **options}
    )
