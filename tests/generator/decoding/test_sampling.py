"""Samples follow the model's distribution, or the filtered part of it, whatever is drawn beside them."""

import pytest
import torch

from generator.decoding import Sampling, sample
from generator.decoding.sampling import MAX_WRITING_SHARE, filtered, pick
from tests.generator.decoding_fakes import (
    EOS,
    LENGTHS,
    MODELS,
    SAMPLES,
    assert_close,
    assert_log_probs_of,
    assert_same_alone,
    end_with,
    model_log_prob,
    one_state,
    watched_steps,
)


def test_a_batch_samples_what_its_states_would_alone(family, batch):
    together = family.sample(*batch, **SAMPLES, generator=torch.Generator().manual_seed(5))
    generator = torch.Generator().manual_seed(5)
    for state in range(len(LENGTHS)):
        alone = family.sample(*one_state(batch, state), **SAMPLES, generator=generator)
        assert_same_alone(together, alone, state)
    other = family.sample(*batch, **SAMPLES, generator=torch.Generator().manual_seed(6))
    assert not torch.equal(other.log_probs, together.log_probs)


def test_the_likeliest_only(family, batch):
    greedy = family.beam_search(*batch, num_beams=1, num_return_sequences=1, max_new_tokens=12)
    for options in ({"top_k": 1}, {"top_p": 1e-6}, {"temperature": 1e-4}):
        found = family.sample(*batch, num_samples=2, max_new_tokens=12, **options)
        assert_close(found, type(found)(greedy.sequences.expand(-1, 2, -1), greedy.log_probs.expand(-1, 2)))


@pytest.mark.parametrize("temperature", [1.0, 1.5])
def test_samples_carry_the_log_prob_of_the_model(family, batch, temperature):
    family.model.train()
    found = family.sample(*batch, **SAMPLES, temperature=temperature)
    family.model.eval()
    assert_log_probs_of(family.model, batch, found)


@pytest.mark.parametrize("name", MODELS)
def test_samples_follow_the_distribution(name):
    """Two tokens of a five-token vocabulary against the exact probability of each of their pairs."""
    model = MODELS[name](vocab_size=5)
    end_with(model, None)
    with torch.no_grad():
        model.lm_head.weight.mul_(0.5)
    prompt = torch.tensor([[3, 4, 2]])
    seeded = torch.Generator().manual_seed(0)
    found = sample(model, prompt, torch.ones_like(prompt), num_samples=4000, max_new_tokens=2, generator=seeded)
    pairs = found.sequences[0, :, 0] * 5 + found.sequences[0, :, 1]
    exact = torch.tensor([model_log_prob(model, prompt, [i, j]) for i in range(5) for j in range(5)]).exp()
    assert exact.sum() == pytest.approx(1.0, abs=1e-4) and (exact > 0.02).sum() > 5
    torch.testing.assert_close(pairs.bincount(minlength=25) / 4000, exact, atol=0.03, rtol=0)


def test_samples_that_have_ended_are_not_fed_again(family, batch):
    with watched_steps(family.decoder_class) as fed:
        found = family.sample(
            *one_state(batch, 0), num_samples=20, max_new_tokens=40, generator=torch.Generator().manual_seed(0)
        )
    has_ended = (found.sequences[0] == EOS).long().cumsum(1) > 0
    num_texts = [
        len(
            {
                tuple(row[: step + 1].tolist())
                for row, ended in zip(found.sequences[0], has_ended, strict=True)
                if not ended[step]
            }
        )
        for step in range(has_ended.shape[1] - 1)
    ]
    assert len(set(num_texts)) > 2 and num_texts[-1] < 5
    for (_, rows), texts in zip(fed[1:], num_texts, strict=True):
        assert MAX_WRITING_SHARE * rows < texts <= rows


def test_samples_share_a_row_as_long_as_they_have_written_the_same(family, batch):
    """The text of a sure model is computed once, however many samples write it."""
    with watched_steps(family.decoder_class) as fed:
        found = family.sample(*batch, num_samples=50, max_new_tokens=6, top_k=1)
    assert {rows for _, rows in fed} == {1}
    assert (found.sequences == found.sequences[:, :1]).all()
    with watched_steps(family.decoder_class) as fed:
        found = family.sample(
            *batch, num_samples=50, max_new_tokens=6, top_k=2, generator=torch.Generator().manual_seed(1)
        )
    for step, (_, rows) in enumerate(fed):
        most = max(len({tuple(row[:step].tolist()) for row in rows_of}) for rows_of in found.sequences)
        assert rows <= max(1, most) <= min(50, 2**step)
    assert_log_probs_of(family.model, batch, found)


def test_a_draw_by_halves_is_that_of_the_whole_distribution():
    generator = torch.Generator().manual_seed(0)
    for num_classes in (1, 2, 3, 7, 384):
        probabilities = torch.rand((3, 4, num_classes), generator=generator, dtype=torch.float64)
        probabilities[probabilities < 0.3] = 0.0
        probabilities[..., num_classes // 2] += 0.1
        rows = torch.randint(4, (3, 200), generator=generator)
        noise = torch.rand((3, 200), generator=generator, dtype=torch.float64)
        noise[:, :2] = torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64)
        copied = probabilities.gather(1, rows.unsqueeze(-1).expand(-1, -1, num_classes))
        assert torch.equal(pick(probabilities, noise, rows), pick(copied, noise))


def test_filters_apply_in_order():
    logits = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()

    def kept(**options):
        probabilities = filtered(logits, Sampling(**options))
        return (probabilities / probabilities.sum()).tolist()

    assert kept() == pytest.approx([0.4, 0.3, 0.2, 0.1])
    assert kept(top_k=2) == pytest.approx([4 / 7, 3 / 7, 0, 0])
    assert kept(top_k=9) == pytest.approx([0.4, 0.3, 0.2, 0.1])
    assert kept(top_p=0.6) == pytest.approx([4 / 7, 3 / 7, 0, 0])
    assert kept(top_k=2, top_p=0.5) == pytest.approx([1, 0, 0, 0])  # of the two left, the first reaches it
    assert kept(temperature=0.5) == pytest.approx([16 / 30, 9 / 30, 4 / 30, 1 / 30])


def test_pick_inverts_the_cumulative_distribution():
    probabilities = torch.tensor([[[0.0, 0.5, 0.0, 0.25, 0.0]]], dtype=torch.float64).expand(1, 4, 5)
    noise = torch.tensor([[0.0, 0.66, 0.67, 1 - 2**-53]], dtype=torch.float64)
    assert pick(probabilities, noise).tolist() == [[1, 1, 3, 3]]
