"""Body and head of a model, used one after the other, are the model; and the model stays as it is."""

from typing import Any

import pytest
import torch

from generator.architectures.halves import Halves
from tests.generator.decoding_fakes import DECODERS, ENCODER_DECODERS, VOCABULARY, random_model

IDS = torch.tensor([[5, 9, 3, 7, 4], [8, 2, 6, 11, 10]])
IN_PARTS = ("opt",)  # calls the decoder in its body, and not the body


def inputs_of(model: Any) -> dict[str, torch.Tensor]:
    is_encoder_decoder = model.config.is_encoder_decoder
    return {"input_ids": IDS} | ({"decoder_input_ids": IDS.flip(0)[:, :3]} if is_encoder_decoder else {})


@pytest.mark.parametrize("model_type", [*ENCODER_DECODERS, *(name for name in DECODERS if name not in IN_PARTS)])
def test_logits_of_some_positions_are_those_of_the_whole_model(model_type: str) -> None:
    model = random_model(model_type)
    halves, before = Halves(model), dict(model.named_modules())
    with torch.no_grad():
        states, whole = halves.read(**inputs_of(model)), model(**inputs_of(model)).logits
        assert states is not None
        some = torch.tensor([[True, False, True], [False, True, True]])
        found = halves.logits(states[:, :3][some])
    torch.testing.assert_close(found, whole[:, :3][some])
    assert found.shape[-1] == halves.num_classes == VOCABULARY
    assert dict(model.named_modules()) == before


@pytest.mark.parametrize("model_type", IN_PARTS)
def test_a_model_that_does_not_call_its_body_as_a_whole_says_so(model_type: str) -> None:
    model = random_model(model_type)
    halves = Halves(model)
    assert halves.read(**inputs_of(model)) is None and halves.read(**inputs_of(model)) is None


def test_hooks_of_the_model_are_for_the_model_as_a_whole() -> None:
    model, calls = random_model("llama"), list[int]()
    model.register_forward_hook(lambda *_: calls.append(1))
    halves = Halves(model)
    states = halves.read(**inputs_of(model))
    assert states is not None
    halves.logits(states[0])
    assert not calls
