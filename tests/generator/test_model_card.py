"""The snippet of a decoder-only model's card runs, and prompts as the model was trained; test_export has the others."""

import re
from types import SimpleNamespace

import pytest
import torch
from tokenizers import Tokenizer, models, processors
from transformers import PreTrainedTokenizerFast

from generator.causal import CausalGenerator
from generator.engines import Decoding
from generator.export import Source, export
from generator.model_card import model_card
from generator.prompts.templates import get_template
from tests.fakes import save_checkpoint
from tests.generator.decoding_fakes import randomize

GPT2 = {"model_type": "gpt2", "n_embd": 24, "n_layer": 1, "n_head": 2, "n_positions": 400}
STATE = "p q : Prop\nh : p ∧ q\n⊢ q ∧ p"


def causal(template) -> CausalGenerator:
    torch.manual_seed(0)
    return CausalGenerator(GPT2, num_beams=3, template=template, max_seq_len=352, max_completion_len=40).eval()


def exported_card(model, folder) -> str:
    export(save_checkpoint(model, folder / "model.ckpt"), folder / "out")
    return (folder / "out" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("template", ["llmstep", "ntp-st", None])
def test_the_model_card_of_a_decoder_only_model_prompts_as_its_template_does(template, tmp_path, monkeypatch, capsys):
    model = causal(template)
    randomize(model.generator)
    with torch.no_grad():
        model.generator.get_input_embeddings().weight[3:35] = 0.0  # no line breaks, which would end a printed line
    card = exported_card(model, tmp_path)
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    names = {}
    exec(re.search(r"```python\n(.*?)```", card, re.DOTALL)[1], names)
    assert names["prompt"] == (STATE if template is None else get_template(template).format(STATE))
    (found,) = model.engine.propose([names["prompt"]], 3, Decoding(max_new_tokens=40))
    assert capsys.readouterr().out == "".join(text.partition("[/TAC]")[0] + "\n" for text, _ in found)
    assert ("[/TAC]" in card.partition("print(")[2]) == (template == "ntp-st"), "what ends a tactic is cut off"


def test_the_model_card_writes_the_bos_that_the_tokenizer_puts_in_front(tmp_path, monkeypatch):
    words = Tokenizer(models.WordLevel({"<s>": 0, "</s>": 1, "<unk>": 2}, unk_token="<unk>"))
    words.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    config = SimpleNamespace(is_encoder_decoder=False, model_type="llama")
    begin = Source(SimpleNamespace(config=config), tokenizer, "x").begin()
    options = {"template": "llmstep", "length_penalty": 0.5, "num_beams": 2}
    facts = {"origin": "x", "num_parameters": 1, "weights": "float32", "library": "transformers"}
    card = model_card("m", config, options=options, begin=begin, **facts)
    assert 'prompt = "<s>[GOAL]p q : Prop\\nh : p ∧ q' in card and "length_penalty=0.5" in card
    monkeypatch.setattr(Source, "begin", lambda self: "<bos>")
    assert 'prompt = "<bos>[GOAL]' in exported_card(causal("llmstep"), tmp_path)


def test_the_card_of_a_ctranslate2_folder_asks_its_translator():
    config = SimpleNamespace(is_encoder_decoder=True, model_type="t5")
    facts = {"origin": "x", "num_parameters": 1, "weights": "int8", "library": "ctranslate2", "options": {}}
    card = model_card("m", config, **facts)
    compile(re.search(r"```python\n(.*?)```", card, re.DOTALL)[1], "card", "exec")
    assert 'ctranslate2.Translator("m")' in card and "AutoModel" not in card
