"""Under autocast weights are cast once for all steps, and what is found is what autocast finds."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from generator.decoding import autocast, beam_search
from generator.decoding.autocast import weights_cast
from generator.engines import Decoding, Sampling, huggingface, make_engine, native
from tests.fakes import save_pretrained
from tests.generator.causal_fakes import build
from tests.generator.decoding_fakes import random_model, randomize
from tests.generator.families import FAMILIES, Family

STATES = ["p q : Prop\nh : p ∧ q\n⊢ q ∧ p", "⊢ True"]
ENGINES = ["native", "transformers"]
HALVES = [torch.bfloat16, torch.float16]


@pytest.fixture(params=FAMILIES.values(), ids=FAMILIES)
def family(request: pytest.FixtureRequest) -> Any:
    return request.param


class Casts(TorchDispatchMode):
    """Counts the casts of tensors as large as a weight from float32 to a half type."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.shapes = {tuple(p.shape) for p in model.parameters() if p.ndim >= 2}
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        # in inference mode `to` is not taken apart
        if func in (torch.ops.aten._to_copy.default, torch.ops.aten.to.dtype) and args[0].dtype != made.dtype in HALVES:
            self.count += any(tuple(shape) in self.shapes for shape in (made.shape, made.shape[::-1]))
        return made


def mixed(dtype: torch.dtype = torch.bfloat16) -> Any:
    """Autocast as Lightning has it: nothing is kept from one operation to the next."""
    return torch.autocast("cpu", dtype=dtype, cache_enabled=False)


def sharp(family: Family) -> Any:
    """A generator that writes many tokens, of which it is sure."""
    model = family.build()
    randomize(model.generator, eos_factor=0.0)
    return model


@contextlib.contextmanager
def autocast_alone() -> Iterator[None]:
    """Decoding as it is without casts ahead."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (native, huggingface):
            patch.setattr(module, "weights_cast", lambda model, kept=None: contextlib.nullcontext())
        patch.setattr("generator.decoding.ragged.weights_cast", lambda model, kept=None: contextlib.nullcontext())
        yield


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("sampling", [None, Sampling(seed=1)], ids=["beams", "samples"])
def test_casts_do_not_grow_with_the_steps(family: Family, engine: str, sampling: Sampling | None) -> None:
    model = sharp(family)
    made = make_engine(engine, model.generator, model.tokenizer, max_inp_seq_len=64)
    counts = []
    for num_steps in (2, 9):
        with mixed(), torch.no_grad(), Casts(model) as casts:
            made.propose(STATES[1:], 2, Decoding(num_steps, sampling=sampling))
        counts.append(casts.count)
    assert counts[0] == counts[1] > 0


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", HALVES)
def test_candidates_are_those_of_autocast_to_the_last_bit(family: Family, engine: str, dtype: torch.dtype) -> None:
    model = sharp(family)
    made, decoding = make_engine(engine, model.generator, model.tokenizer, max_inp_seq_len=64), Decoding(8)
    with mixed(dtype), torch.no_grad():
        found = made.propose(STATES, 3, decoding)
        with autocast_alone():
            assert found == made.propose(STATES, 3, decoding)
    assert found != made.propose(STATES, 3, decoding), "in float32 they differ in the last digits"


def test_adapters_are_cast_too(tmp_path: Any) -> None:
    pytest.importorskip("peft")
    saved = save_pretrained(sharp(FAMILIES["decoder_only"]), tmp_path / "base")
    model = build(str(saved), lora={"r": 2})
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    with mixed(), torch.no_grad():
        with Casts(model) as casts:
            found = model.engine.propose(STATES, 3, Decoding(8))
        adapted = sum("lora_" in name for name, _ in model.named_parameters())
        layers = [m for m in model.modules() if getattr(m, "weight", None) is not None and m.weight.ndim == 2]
        assert adapted < casts.count <= len(layers) + adapted
        with autocast_alone():
            assert found == model.engine.propose(STATES, 3, Decoding(8))


def test_a_search_without_an_engine_casts_once_too() -> None:
    model, counts = random_model("llama", eos_bonus=-1.0), []
    ids = torch.tensor([[5, 6, 7]])
    for num_steps in (2, 9):
        with mixed(), Casts(model) as casts:
            options = {"num_beams": 2, "num_return_sequences": 2, "max_new_tokens": num_steps}
            beam_search(model, ids, torch.ones_like(ids), **options)
        counts.append(casts.count)
    assert counts[0] == counts[1] > 0


def test_a_tied_head_is_cast_and_its_embedding_is_not(family: Family) -> None:
    model = family.build().generator
    head, table = model.get_output_embeddings(), model.get_input_embeddings()
    assert head.weight is table.weight
    with mixed(), weights_cast(model):
        assert head.weight.dtype == torch.bfloat16 and table.weight.dtype == torch.float32
    assert head.weight is table.weight


def test_experts_whose_products_autocast_leaves_alone_are_as_they_are() -> None:
    sizes = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 1, "num_attention_heads": 4}
    model = build({"model_type": "mixtral", **sizes, "num_key_value_heads": 2, "num_local_experts": 3}).generator
    ids = torch.tensor([[5, 6, 7, 9]])
    with mixed(), torch.no_grad():
        expected = model(ids).logits
        with weights_cast(model):
            assert torch.equal(model(ids).logits, expected)


def test_weights_are_themselves_again_after_an_error(family: Family) -> None:
    model = family.build().generator
    before = [(name, id(p)) for name, p in model.named_parameters(remove_duplicate=False)]
    with contextlib.suppress(KeyboardInterrupt), mixed(), weights_cast(model):
        raise KeyboardInterrupt
    assert [(name, id(p)) for name, p in model.named_parameters(remove_duplicate=False)] == before
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_without_autocast_nothing_is_copied(family: Family) -> None:
    model = family.build().generator
    with Casts(model) as casts, weights_cast(model):
        assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert casts.count == 0 and autocast.autocast_dtype(torch.device("cpu")) is None
