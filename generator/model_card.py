"""The README.md of an exported model: what it is, and how to load it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from generator.prompts.templates import get_template

Library = Literal["transformers", "ctranslate2"]

_STATE = r"p q : Prop\nh : p ∧ q\n⊢ q ∧ p"

_TRANSFORMERS = """from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{name}")
model = AutoModelForSeq2SeqLM.from_pretrained("{name}")

state = "{state}"
inputs = tokenizer(state, return_tensors="pt", max_length={max_length}, truncation=True)
steps = model.generate(**inputs, {settings})
for step in tokenizer.batch_decode(steps, skip_special_tokens=True):
    print(step)
"""

_DECODER_ONLY = """from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{name}")
model = AutoModelForCausalLM.from_pretrained("{name}")

# {comment}
prompt = {prompt}
inputs = tokenizer(prompt, return_tensors="pt", add_special_tokens=False)
steps = model.generate(**inputs, {settings})
new_tokens = steps[:, inputs["input_ids"].shape[1] :]
for step in tokenizer.batch_decode(new_tokens, skip_special_tokens=True):
    print(step{stop})
"""

_CTRANSLATE2 = """import ctranslate2
from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{name}")
model = ctranslate2.Translator("{name}")

state = "{state}"
tokens = tokenizer.convert_ids_to_tokens(tokenizer.encode(state))
(found,) = model.translate_batch([tokens], beam_size=8, num_hypotheses=8, length_penalty=0, max_input_length=0)
for hypothesis in found.hypotheses:
    print(tokenizer.decode(tokenizer.convert_tokens_to_ids(hypothesis)))
"""


def model_card(
    name: str,
    config: Any,
    *,
    origin: str,
    num_parameters: int,
    weights: str,
    library: Library,
    options: Mapping[str, Any],
    begin: str = "",
) -> str:
    """Return the Markdown text.

    Args:
        name: of the folder
        config: the model's
        origin: name of the checkpoint or model that it was made from
        num_parameters: of the model
        weights: their type
        library: what loads it
        options: the generator's settings of prompting and decoding, as far as they are known
        begin: what stands in front of every prompt of a decoder-only model, such as its BOS token
    """
    kind = "encoder-decoder" if config.is_encoder_decoder else "decoder-only model"
    if library == "ctranslate2":
        usage = _CTRANSLATE2.format(name=name, state=_STATE)
    elif config.is_encoder_decoder:
        longest = options.get("max_inp_seq_len", 2300)
        usage = _TRANSFORMERS.format(name=name, state=_STATE, max_length=longest, settings=_settings(options))
    else:
        usage = _decoder_only(name, options, begin)
    return f"""---
library_name: {library}
tags: [nextstep, theorem-proving]
---

# {name}

A {config.model_type} {kind} of {num_parameters:,} parameters that writes the next formal step for a state.
Exported by nextstep from `{origin}`; weights in {weights}.

```python
{usage}```
"""


def _settings(options: Mapping[str, Any]) -> str:
    num_beams, longest = options.get("num_beams", 8), min(64, options.get("max_completion_len", 64))
    if num_beams == 1:
        return f"max_new_tokens={longest}"
    penalty = float(options.get("length_penalty", 0.0))
    beams = f"num_beams={num_beams}, num_return_sequences={num_beams}, length_penalty={penalty}"
    return f"{beams}, max_new_tokens={longest}"


def _decoder_only(name: str, options: Mapping[str, Any], begin: str) -> str:
    """The usage of a model that goes on from a prompt: the prompt as its template writes it, then new tokens alone."""
    state, stop = _STATE.replace(r"\n", "\n"), ""
    prompt, comment = state, "a whole prompt; the model was exported without a template that writes it from a state"
    if (template_name := options.get("template")) is not None:
        template = get_template(template_name)
        prompt, comment = template.format(state, full_name="and_swap"), f"template {template.name}, with a state in it"
        stop = "".join(f".partition({json.dumps(text)})[0]" for text in template.stop)
    prompt = json.dumps(begin + prompt, ensure_ascii=False)  # a literal of Python, too
    return _DECODER_ONLY.format(name=name, comment=comment, prompt=prompt, settings=_settings(options), stop=stop)
