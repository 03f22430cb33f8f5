"""A model as a writer: independent samples in the order in which they were drawn, or a beam's candidates."""

import pytest
import torch

from common import ConfigError
from generator.decoding.settings import Sampling
from generator.domains import make_domain
from generator.domains.model_writer import SampleWriter
from generator.domains.synthesize import Synthesizer
from generator.domains.writers import RankedWriter
from generator.interface.wrappers import CachingGenerator, FixedTacticGenerator
from tests.generator.families import DECODER_ONLY, ENCODER_DECODER, FAMILIES

SPECS = ["[11+50-]", "[34-]", "[00+]"]
DOMAIN = make_domain("rectangle")
SHORT = ("max_oup_seq_len", "max_completion_len")


@pytest.fixture(params=FAMILIES)
def model(request):
    family = FAMILIES[request.param]
    return family.build(**{name: 6 if name in SHORT else 64 for name in family.lengths}).eval()


def test_samples_are_the_same_however_many_are_asked_for_at_a_time(model):
    whole = SampleWriter(model, block_size=8).propose(SPECS, 0, 20)
    writer = SampleWriter(model, block_size=8)
    parts = [writer.propose(SPECS, first, count) for first, count in ((0, 3), (3, 9), (12, 8))]
    alone = SampleWriter(model, block_size=8).propose(SPECS[1:2], 0, 20)
    joined = [sum((part[i] for part in parts), []) for i in range(3)]
    for found, expected in zip([*joined, *alone], [*whole, whole[1]], strict=True):
        assert [text for text, _ in found] == [text for text, _ in expected] and len(found) == 20
        # sums of several inputs go another way
        assert [log_prob for _, log_prob in found] == pytest.approx([log_prob for _, log_prob in expected], abs=1e-4)


def test_samples_are_in_no_order_of_probability_and_blocks_differ(model):
    rows = SampleWriter(model, block_size=10).propose(SPECS[:1], 0, 30)[0]
    log_probs = [log_prob for _, log_prob in rows]
    assert log_probs[:10] != sorted(log_probs[:10], reverse=True)
    assert len({tuple(rows[k : k + 10]) for k in (0, 10, 20)}) == 3


def test_another_seed_draws_others(model):
    first, second = (SampleWriter(model, Sampling(seed=seed)).propose(SPECS[:1], 0, 10) for seed in (0, 1))
    assert first != second


def test_tells_probability_only_of_the_whole_distribution(model):
    assert SampleWriter(model).tells_probability and SampleWriter(model).is_independent
    assert not SampleWriter(model, Sampling(top_p=0.9)).tells_probability
    assert not SampleWriter(model, Sampling(temperature=0.7)).tells_probability


def test_the_log_probability_of_a_program_is_the_sum_over_its_tokens_and_eos():
    model = ENCODER_DECODER.build(max_inp_seq_len=64, max_oup_seq_len=12).eval()
    ids = torch.tensor([model.tokenizer.encode("[1,3,1,4]")])
    inputs = model.tokenizer(SPECS[:1], return_tensors="pt")
    with torch.no_grad():
        logits = model.generator(**inputs, labels=ids).logits
    expected = logits.log_softmax(-1).gather(-1, ids.unsqueeze(-1)).sum()
    assert ids.shape == (1, 10)
    assert SampleWriter(model).log_prob(SPECS[0], "[1,3,1,4]") == pytest.approx(float(expected), abs=1e-3)


def test_a_decoder_only_model_s_log_probability_is_of_the_program_alone_behind_its_prompt():
    model = DECODER_ONLY.build(template="spec-program", max_seq_len=64, max_completion_len=12).eval()
    prompt = model.tokenizer(f"[SPEC]{SPECS[0]}[PROGRAM]", add_special_tokens=False)["input_ids"]
    ids = torch.tensor(model.tokenizer.encode("[1,3,1,4]"))
    with torch.no_grad():
        logits = model.generator(input_ids=torch.tensor([[*prompt, *ids.tolist()]])).logits[0]
    expected = logits[len(prompt) - 1 : -1].log_softmax(-1).gather(-1, ids.unsqueeze(-1)).sum()
    assert len(ids) == 10
    assert SampleWriter(model).log_prob(SPECS[0], "[1,3,1,4]") == pytest.approx(float(expected), abs=1e-3)


def test_no_log_probability_where_a_part_of_the_distribution_is_drawn_from_or_no_prompt_has_room(model):
    assert SampleWriter(model, Sampling(top_p=0.5)).log_prob(SPECS[0], "[1,3,1,4]") is None
    short = DECODER_ONLY.build(max_seq_len=12, max_completion_len=6).eval()
    with pytest.warns(UserWarning, match="no candidates"):
        assert SampleWriter(short).log_prob(SPECS[0], "[1,3,1,4]") is None


def test_a_search_with_a_model_counts_alike_in_batches(model):
    def found(batch_size):
        writer = SampleWriter(model, block_size=5)
        return [(o.num_samples, o.tries) for o in Synthesizer(writer, DOMAIN, 12, batch_size=batch_size).solve(SPECS)]

    assert found(1) == found(5) == found(12)


def test_a_beam_gives_each_candidate_once_and_no_more_than_there_are(model):
    writer = RankedWriter(model, 6)
    rows = writer.propose(SPECS, 0, 6)
    for row in rows:
        texts = [text for text, _ in row]
        assert len(set(texts)) == len(texts) and [p for _, p in row] == sorted((p for _, p in row), reverse=True)
    assert writer.propose(SPECS, 6, 6) == [[], [], []] and not writer.is_independent
    asked = model.batch_generate(SPECS, [""] * 3, [""] * 3, [None] * 3, 6)
    assert rows == asked


def test_generate_answers_for_specifications_as_for_goals(model):
    found = model.generate(state=SPECS[0], file_path="", theorem_full_name="", theorem_pos=None, num_samples=3)
    assert found == RankedWriter(model, 3).propose(SPECS[:1], 0, 3)[0]


def test_what_gives_no_samples_is_refused():
    with pytest.raises(ConfigError, match="CachingGenerator gives no samples"):
        SampleWriter(CachingGenerator(FixedTacticGenerator("x")))
