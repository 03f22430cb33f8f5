"""The answer is read behind all input, off the last positions, in the order of the bits."""

import pytest
import torch

from common import ConfigError
from generator.domains import make_domain
from generator.domains.bits.datamodule import BitEncoding, tensors_of
from generator.domains.bits.network import BitNetwork, LayerOptions
from tests.generator.domains.bits.bit_fakes import BODIES, build

SPEC = "0110 1010"


def inputs_of(*specs: str) -> torch.Tensor:
    task = make_domain("bit_xor")
    return torch.stack([torch.from_numpy(task.symbol_ids(spec)) for spec in specs])


@pytest.mark.parametrize("body", BODIES)
def test_the_body_is_causal_and_answers_behind_all_of_the_first_string(body):
    """Each bit of the first string, and of the last one up to its place, may change an answer; none behind it can."""
    model = build(body).eval()
    for parameter in model.network.body.parameters():  # so small a body hardly mixes anything
        parameter.data.mul_(3)
    text = SPEC.replace(" ", "")
    base = model(inputs_of(SPEC), 4)[0]
    for place in range(8):
        changed = text[:place] + "10"[int(text[place])] + text[place + 1 :]
        differs = (model(inputs_of(f"{changed[:4]} {changed[4:]}"), 4)[0] != base).any(dim=1).tolist()
        assert differs == [place <= 4 + i for i in range(4)]


def test_what_earlier_positions_answer_is_read_by_nobody():
    network = build().network
    states = torch.randn(2, 8, 32)
    changed = states.clone()
    changed[:, :4] += 1
    assert torch.equal(network.answer(states, 4), network.answer(changed, 4))
    assert (network.answer(states, 4) != network.answer(states + torch.eye(32)[0], 4)).all(dim=2).all()


@pytest.mark.parametrize("patch_size", [1, 2, 5])
@torch.no_grad()
def test_a_patch_answers_its_own_bits_in_their_order(patch_size):
    """The head's row 2 * i + b is class b of the patch's bit i: logits are not mixed between bits, patches or rows."""
    network = BitNetwork(
        build().network.body, make_domain("bit_xor"), LayerOptions(input_layer="linear", patch_size=patch_size)
    )
    states = torch.randn(3, 20 // patch_size, 32)
    logits = network.answer(states, 10)
    assert logits.shape == (3, 10, 2)
    for row in range(3):
        for i in range(10):
            patch, within = divmod(i, patch_size)
            state = states[row, 10 // patch_size + patch]
            for label in (0, 1):
                wanted = network.head.weight[2 * within + label] @ state + network.head.bias[2 * within + label]
                assert logits[row, i, label] == pytest.approx(wanted.item(), abs=1e-5)


def test_a_batch_answers_as_each_of_its_problems_alone():
    model = build("gpt2").eval()
    specs = ["0110 1010", "1111 0000", "0001 0111"]
    together = model(inputs_of(*specs), 4)
    for i, spec in enumerate(specs):
        torch.testing.assert_close(together[i], model(inputs_of(spec), 4)[0])


def test_the_linear_layer_reads_patches_of_the_tasks_values():
    memory = make_domain("bit_memory")
    layers = LayerOptions(input_layer="linear", patch_size=2)
    network = BitNetwork(build().network.body, memory, layers)
    assert torch.equal(network.input_layer.bias, torch.zeros(32))
    weight = network.input_layer.weight
    torch.testing.assert_close(weight.T @ weight, 1.41**2 * torch.eye(2))
    inputs = torch.from_numpy(memory.symbol_ids("01 11 ?1"))[None]
    embedded = network.embed(inputs, 2)
    assert embedded.shape == (1, 3, 32)
    torch.testing.assert_close(embedded[0, 0], weight @ torch.tensor([-1.0, 1.0]))
    torch.testing.assert_close(embedded[0, 2], weight @ torch.tensor([0.0, 1.0]))


def test_an_embedding_has_a_vector_for_each_symbol():
    assert build().network.input_layer.weight.shape == (2, 32)
    memory = build(domain="bit_memory", input_std=0.5).network.input_layer.weight
    assert memory.shape == (3, 32) and 0.4 < memory.std() < 0.6


def test_the_first_layers_attention_is_causal_and_sums_to_one():
    network = build("gpt2").network
    attention = network.first_attention(inputs_of(SPEC, "1111 0000"), 4)
    assert attention.shape == (8, 8) and torch.equal(attention, attention.tril())
    torch.testing.assert_close(attention.sum(dim=1), torch.ones(8))
    assert network.body.config._attn_implementation == "sdpa", "training goes on as before"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"input_layer": "conv"}, "input_layer is 'conv'; choose one of embedding, linear"),
        ({"patch_size": 2}, "patch_size is 2, but an embedding reads one symbol at a time"),
        ({"patch_size": 0}, "patch_size is 0; it must be greater than 0"),
        ({"input_std": 0.0}, "input_std is 0.0"),
        ({"input_dropout": 1.0}, "input_dropout is 1.0; it must be at least 0 and below 1"),
        ({"stop_at": 99.0}, "stop_at is 99.0; it must be a share of bits from 0 to 1"),
        ({"window": 0}, "window is 0"),
        ({"domain": "rectangle"}, "domain is 'rectangle'; BitModel is for bit_xor and bit_memory"),
        ({"engine": "vllm"}, "engine is 'vllm'; choose one of native"),
        ({"num_layers": 3}, "num_layers is 3, but the body has 2 layers"),
        ({"trained_groups": ["heads"]}, "trained_groups is 'heads'"),
        ({"trained_groups": [], "train_input": False, "train_output": False}, "no parameter would be trained"),
    ],
)
def test_options_that_cannot_be_used_are_named(options, reason):
    with pytest.raises(ConfigError, match=reason):
        build(**options)


def test_lengths_that_do_not_fit_are_named():
    model = build(input_layer="linear", patch_size=3)
    with pytest.raises(ConfigError, match="patch_size is 3, but the strings have 4 bits; it must divide n"):
        model(inputs_of(SPEC), 4)
    with pytest.raises(ConfigError, match="takes 80 positions, and the body has 64"):
        build("gpt2")(torch.zeros(1, 80, dtype=torch.long), 40)


def test_problems_of_other_lengths_make_no_batch():
    task = make_domain("bit_xor")
    with pytest.raises(ConfigError, match="problems of one batch differ in length"):
        tensors_of(task, ["01 10", "011 100"], ["11", "111"])
    lengths = BitEncoding(task).lengths([task.problem(0, "train", i) for i in range(3)])
    assert [each.tolist() for each in lengths] == [[10, 10, 10], [5, 5, 5]]
