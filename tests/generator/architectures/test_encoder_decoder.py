"""Models from hub ids, folders and descriptions."""

import pytest
import torch
import transformers

from common import ConfigError
from generator.architectures.encoder_decoder import build_seq2seq, describe


def logits(model):
    with torch.no_grad():
        return model.eval()(input_ids=torch.tensor([[5, 6, 1]]), labels=torch.tensor([[7, 1]])).logits


def test_a_mapping_and_a_yaml_file_give_the_same_model(tiny_architecture, tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text("\n".join(f"{k}: {v}" for k, v in tiny_architecture.items()))
    torch.manual_seed(0)
    one = build_seq2seq(tiny_architecture)
    torch.manual_seed(0)
    two = build_seq2seq(path)
    assert torch.equal(logits(one), logits(two))
    assert one.config.vocab_size == 384 and one.config.is_gated_act and one.config.decoder_start_token_id == 0


def test_a_saved_folder_is_loaded_with_its_weights(tiny_architecture, tmp_path):
    model = build_seq2seq(tiny_architecture)
    model.save_pretrained(tmp_path)
    assert torch.equal(logits(build_seq2seq(str(tmp_path))), logits(model))


@pytest.mark.parametrize("untied", [False, True])
def test_a_description_rebuilds_what_the_state_dict_fits(tiny_architecture, untied):
    model = build_seq2seq({**tiny_architecture, "untied": untied})
    if untied:
        torch.nn.init.normal_(model.lm_head.weight)
    rebuilt = build_seq2seq(describe(model))
    rebuilt.load_state_dict(model.state_dict())
    assert torch.equal(logits(rebuilt), logits(model))
    assert (rebuilt.lm_head.weight is rebuilt.shared.weight) is not untied


@pytest.mark.parametrize(
    ("model_name", "message"),
    [
        ({"d_modle": 3}, "no key 'd_modle'; did you mean d_model"),
        ({"d_model": 0}, "d_model is 0"),
        ({"num_layers": "two"}, "num_layers is 'two'"),
        ("./no-such-folder", "no-such-folder.*google/byt5-small"),
    ],
)
def test_what_cannot_be_built_is_named(model_name, message):
    with pytest.raises(ConfigError, match=message):
        build_seq2seq(model_name)


def test_a_causal_model_is_refused(tmp_path):
    config = transformers.GPT2Config(n_layer=1, n_head=1, n_embd=8, vocab_size=16)
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="no encoder-decoder"):
        build_seq2seq(str(tmp_path))
