import math

import pytest
import torch
from torch.nn.functional import normalize

from common import ConfigError
from retrieval.losses import info_nce, similarity_mse

CONTEXTS = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
PREMISES = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, -1.0]])
POSITIVES = torch.tensor([[True, True, False], [False, True, False]])


def test_similarity_mse_by_hand() -> None:
    similarities = [[1.0, 0.6, 0.0], [0.0, 0.8, -1.0]]
    expected = (0.4**2 + 0.2**2 + 1.0) / 6
    assert torch.allclose(CONTEXTS @ PREMISES.T, torch.tensor(similarities))
    assert similarity_mse(CONTEXTS, PREMISES, POSITIVES).item() == pytest.approx(expected)


def test_info_nce_by_hand() -> None:
    """Premise 1 is positive for context 0 too, and left out where premise 0 is the target."""
    loss = info_nce(CONTEXTS, PREMISES, torch.tensor([0, 1]), POSITIVES, temperature=0.5)
    first = -math.log(math.exp(2) / (math.exp(2) + math.exp(0)))
    second = -math.log(math.exp(1.6) / (math.exp(0) + math.exp(1.6) + math.exp(-2)))
    assert loss.item() == pytest.approx((first + second) / 2)


def test_other_positives_get_no_gradient() -> None:
    premises = PREMISES.clone().requires_grad_()
    info_nce(CONTEXTS[:1], premises, torch.tensor([0]), POSITIVES[:1]).backward()
    assert premises.grad is not None
    assert premises.grad[1].tolist() == [0, 0] and premises.grad[2].abs().sum() > 0


@pytest.mark.parametrize("loss_name", ["mse", "info_nce"])
def test_training_on_the_loss_ranks_the_positives_first(loss_name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    contexts = torch.randn(4, 8, generator=generator, requires_grad=True)
    premises = torch.randn(12, 8, generator=generator, requires_grad=True)
    positives = torch.zeros(4, 12, dtype=torch.bool)
    positives[torch.arange(4), torch.tensor([3, 7, 0, 7])] = True
    optimizer = torch.optim.Adam([contexts, premises], lr=0.1)
    for _ in range(60):
        unit_contexts, unit_premises = normalize(contexts, dim=1), normalize(premises, dim=1)
        if loss_name == "mse":
            loss = similarity_mse(unit_contexts, unit_premises, positives)
        else:
            loss = info_nce(unit_contexts, unit_premises, torch.tensor([3, 7, 0, 7]), positives)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (normalize(contexts, dim=1) @ normalize(premises, dim=1).T).argmax(dim=1).tolist() == [3, 7, 0, 7]


def test_half_precision_and_wrong_temperature() -> None:
    loss = info_nce(CONTEXTS.bfloat16(), PREMISES.bfloat16(), torch.tensor([0, 1]), POSITIVES)
    assert loss.dtype == torch.float32 and loss.isfinite()
    for temperature in (0.0, -1.0):
        with pytest.raises(ConfigError, match="temperature is"):
            info_nce(CONTEXTS, PREMISES, torch.tensor([0, 1]), POSITIVES, temperature)
