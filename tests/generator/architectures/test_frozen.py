"""Bodies between new layers: the roles of parameters, what is frozen, what is taken of a trained model."""

from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from common import ConfigError
from generator.architectures.frozen import (
    BodyOptions,
    FreezePolicy,
    build_body,
    build_network,
    freeze,
    group_sizes,
    roles_of,
    table_of,
)

WORDS = {"vocab_size": 91, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 0}
GPT2 = {"model_type": "gpt2", "n_embd": 16, "n_layer": 3, "n_head": 2, "n_positions": 64}
SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "head_dim": 8,
    "max_position_embeddings": 64,
}
FURTHER = {
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "mixtral": {"num_local_experts": 2},
}
TYPES = ["llama", "gpt_neox", "gpt_neo", "opt", "bloom", "gemma3_text", "qwen3", "phi", "mixtral"]


def architecture(model_type: str) -> dict:
    default = AutoConfig.for_model(model_type)
    known, names = default.to_dict(), default.attribute_map
    sizes = {names.get(name, name): value for name, value in SIZES.items() if names.get(name, name) in known}
    return {"model_type": model_type, **sizes, **FURTHER.get(model_type, {})}


def trained_in(groups: list, **options) -> int:
    with torch.device("meta"):
        network = build_network({"model_type": "gpt2"}, WORDS)
    freeze(network, roles_of(network), FreezePolicy(groups, **options))
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


# ------------------------------------------------------------------------------------------ policy


def test_the_counts_of_gpt2_are_those_of_the_slides():
    assert trained_in([]) == 69_888 + 69_979
    assert trained_in(["norms", "positions"]) == 38_400 + 786_432 + 69_888 + 69_979 == 964_699
    assert trained_in(["norms", "positions", "attention"]) == 29_313_115
    assert trained_in([], train_input=False) == 69_979, "a linear probe"
    with torch.device("meta"):
        body = GPT2LMHeadModel(GPT2Config())
    roles = roles_of(body)
    assert sum(body.get_parameter(name).numel() for name in roles) == 124_439_808
    assert {name for name, role in roles.items() if role in ("norms", "positions")} == {
        name for name in roles if ".ln" in name or "wpe" in name
    }
    assert {name for name, role in roles.items() if role == "attention"} == {name for name in roles if "attn" in name}


@pytest.mark.parametrize("model_type", TYPES)
def test_every_part_of_a_decoder_only_model_has_a_role(model_type):
    network = build_network(architecture(model_type), WORDS)
    roles = roles_of(network)
    assert set(roles) == {name for name, _ in network.named_parameters()}
    found = {role: {name for name in roles if roles[name] == role} for role in set(roles.values())}
    assert "other" not in found and {"input", "norms", "attention", "feed_forward", "output"} <= set(found)
    assert ("positions" in found) == (model_type in ("gpt_neo", "opt"))
    assert all("norm" in name or "ln" in name for name in found["norms"])
    width = network.config.hidden_size
    assert sum(network.get_parameter(name).numel() for name in found["output"]) == 91 * width + 91
    freeze(network, roles, FreezePolicy(["norms"]))
    ids = torch.tensor([[5, 6, 7]])
    network(input_ids=ids, labels=ids).loss.backward()
    moved = {name for name, parameter in network.named_parameters() if parameter.grad is not None}
    assert moved == found["input"] | found["norms"] | found["output"]


def test_a_policy_that_trains_nothing_or_what_is_not_there_is_refused():
    network = build_network(GPT2, WORDS)
    roles = roles_of(network)
    with pytest.raises(ConfigError, match="no parameter would be trained"):
        freeze(network, roles, FreezePolicy([], train_input=False, train_output=False))
    with pytest.raises(ConfigError, match="names other, but .* it has norms, positions, attention, feed_forward"):
        freeze(network, roles, FreezePolicy(["other"]))
    llama = build_network(architecture("llama"), WORDS)
    freeze(llama, roles_of(llama), FreezePolicy())  # rotary positions have nothing to train
    with pytest.raises(ConfigError, match="trained_groups is 'ln'"):
        FreezePolicy(["ln"])
    with pytest.raises(ConfigError, match="give a list"):
        FreezePolicy("norms")


def test_the_table_tells_each_group_and_the_whole():
    network = build_network(GPT2, WORDS)
    roles = roles_of(network)
    freeze(network, roles, FreezePolicy(["norms"], train_input=False))
    sizes = group_sizes(network, roles)
    by_role = {size.role: (size.num_parameters, size.num_trained) for size in sizes}
    assert by_role["input"] == (91 * 16, 0) and by_role["norms"] == (7 * 32, 7 * 32)
    assert by_role["output"] == (91 * 17, 91 * 17) and by_role["positions"] == (64 * 16, 0)
    assert by_role["all"] == (sum(p.numel() for p in network.parameters()), 7 * 32 + 91 * 17)
    lines = table_of(sizes).splitlines()
    assert len({len(line) for line in lines}) == 1 and len(lines) == 2 + len(sizes)
    assert [cell.strip() for cell in lines[2].split("|")[1:-1]] == ["input", "1,456", "0"]


# -------------------------------------------------------------------------------------------- body


@pytest.fixture(params=["gpt2", "llama"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A model with a vocabulary of its own, whose input and output are tied."""
    torch.manual_seed(0)
    described = GPT2 if request.param == "gpt2" else {**architecture("llama"), "num_hidden_layers": 3}
    config = AutoConfig.for_model(**described, vocab_size=300, tie_word_embeddings=True, initializer_range=0.3)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    return tmp_path


def test_a_trained_body_keeps_its_weights_between_new_layers(folder):
    network = build_network(folder, WORDS)
    old = AutoModelForCausalLM.from_pretrained(folder)
    roles, weights = roles_of(network), old.state_dict()
    for name, parameter in network.named_parameters():
        if roles[name] not in ("input", "output"):
            assert torch.equal(parameter, weights[name]), name
    inputs, outputs = network.get_input_embeddings(), network.get_output_embeddings()
    assert inputs.weight.shape == outputs.weight.shape and inputs.weight is not outputs.weight
    assert len(inputs.weight) == 91 and outputs.bias.shape == (91,) and not network.config.tie_word_embeddings
    assert inputs.weight.std().item() == pytest.approx(old.get_input_embeddings().weight.std().item(), rel=0.1)
    assert (network.config.vocab_size, network.config.pad_token_id, network.config.eos_token_id) == (91, 1, 0)
    assert build_network(folder, WORDS, output_bias=False).get_output_embeddings().bias is None


def test_its_first_layers_are_those_of_the_whole(folder):
    old = AutoModelForCausalLM.from_pretrained(folder)
    body = build_body(folder, BodyOptions(num_layers=2, body_dropout=0.0)).eval()
    embedded = old.get_input_embeddings()(torch.tensor([[5, 6, 7, 8]]))
    assert body.config.num_hidden_layers == 2
    with torch.no_grad():
        found = body(inputs_embeds=embedded, output_hidden_states=True).hidden_states
        whole = old.eval()(inputs_embeds=embedded, output_hidden_states=True).hidden_states
    torch.testing.assert_close(found[1], whole[1])
    assert "input" not in roles_of(body).values() and "output" not in roles_of(body).values()
    with pytest.raises(ConfigError, match="num_layers is 4, but the body has 3 layers"):
        build_body(folder, BodyOptions(num_layers=4))


def test_a_random_body_has_the_same_shape_and_other_weights(folder):
    trained = build_network(folder, WORDS)
    torch.manual_seed(1)
    drawn = build_network(folder, WORDS, BodyOptions(pretrained=False))
    torch.manual_seed(1)
    again = build_network(folder, WORDS, BodyOptions(pretrained=False))
    shapes = {name: parameter.shape for name, parameter in trained.named_parameters()}
    assert {name: parameter.shape for name, parameter in drawn.named_parameters()} == shapes
    assert all(torch.equal(one, other) for one, other in zip(drawn.parameters(), again.parameters(), strict=True))
    matrices = [name for name, role in roles_of(drawn).items() if role == "feed_forward" and name.endswith("weight")]
    assert not any(torch.equal(drawn.get_parameter(name), trained.get_parameter(name)) for name in matrices)


def test_dropout_of_the_body_is_what_the_option_says():
    default, without = build_network(GPT2, WORDS), build_network(GPT2, WORDS, BodyOptions(body_dropout=0.0))
    kinds = [[m.p for m in network.modules() if isinstance(m, torch.nn.Dropout)] for network in (default, without)]
    assert set(kinds[0]) == {0.1} and set(kinds[1]) == {0.0} and without.config.attn_pdrop == 0.0
    with pytest.raises(ConfigError, match=r"body_dropout is 1\.0"):
        BodyOptions(body_dropout=1.0)


def test_what_is_no_decoder_only_model_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="cannot be loaded"):
        build_network(tmp_path, WORDS)
    with pytest.raises(ConfigError, match="needs model_type"):
        build_network({"n_layer": 2}, WORDS)
    AutoConfig.for_model("t5").save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="a t5 is an encoder-decoder"):
        build_network(tmp_path, WORDS)
